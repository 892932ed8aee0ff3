//! The file of enrolled hosts, so that many runs use one fleet.
//!
//! Binary, because there are a million: a mark, the seed, the count, then 16
//! bytes of agentsn and 32 of secret for each. Only its owner may read it.

use std::io::{BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, ensure};
use uuid::Uuid;

use crate::machine::{Machine, Secret};

const MARK: &[u8; 16] = b"bootserver-sim 1";
const RECORD: usize = 16 + 32;
/// Most hosts of a fleet.
pub(crate) const MAX_HOSTS: usize = 16_000_000;

/// A fleet that is enrolled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identities {
    /// What its machine ids are made of.
    pub(crate) seed: u64,
    pub(crate) machines: Vec<Machine>,
}

/// Reads the file; none if it is not there.
pub(crate) fn load(path: &Path) -> anyhow::Result<Option<Identities>> {
    let shown = path.display();
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.with_context(|| format!("--identities: opening {shown}"))?,
    };
    let most = (32 + MAX_HOSTS * RECORD) as u64;
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("--identities: reading {shown}"))?;
    let identities = read(&bytes)
        .with_context(|| format!("--identities: {shown} was not written by this program"))?;
    Ok(Some(identities))
}

fn read(bytes: &[u8]) -> Option<Identities> {
    let rest = bytes.strip_prefix(MARK)?;
    let (seed, rest) = rest.split_first_chunk::<8>()?;
    let (count, rest) = rest.split_first_chunk::<8>()?;
    let (records, odd) = rest.as_chunks::<RECORD>();
    if !odd.is_empty() || u64::from_le_bytes(*count) != records.len() as u64 {
        return None;
    }
    let machines = records.iter().map(|record| {
        let (agentsn, secret) = record.split_first_chunk::<16>()?;
        let secret = Secret(secret.try_into().ok()?);
        Some(Machine::new(Uuid::from_bytes(*agentsn), secret))
    });
    Some(Identities {
        seed: u64::from_le_bytes(*seed),
        machines: machines.collect::<Option<_>>()?,
    })
}

/// Writes the file, all of it or nothing.
pub(crate) fn save(path: &Path, seed: u64, machines: &[Machine]) -> anyhow::Result<()> {
    let shown = path.display();
    ensure!(!machines.is_empty(), "there is no host to be saved");
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let written = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        file.as_file()
            .set_permissions(std::fs::Permissions::from_mode(0o600))?;
        let mut out = BufWriter::new(&mut file);
        out.write_all(MARK)?;
        out.write_all(&seed.to_le_bytes())?;
        out.write_all(&(machines.len() as u64).to_le_bytes())?;
        for machine in machines {
            out.write_all(machine.agentsn.as_bytes())?;
            out.write_all(&machine.secret.0)?;
        }
        out.flush()?;
        drop(out);
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    written().with_context(|| format!("--identities: writing {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_anything_else_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("fleet");
        assert_eq!(load(&path).expect("no file is no error"), None);
        let machines: Vec<_> = (0..3)
            .map(|n| Machine::new(Uuid::from_u128(n), Secret([7; 32])))
            .collect();
        save(&path, 9, &machines).expect("written");
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let loaded = load(&path).expect("valid").expect("there");
        assert_eq!((loaded.seed, &loaded.machines), (9, &machines));
        let whole = std::fs::read(&path).expect("there");
        for cut in [0, 10, 31, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).expect("written");
            let error = load(&path).expect_err("not whole");
            assert!(format!("{error:#}").contains("--identities"), "{error:#}");
        }
    }
}
