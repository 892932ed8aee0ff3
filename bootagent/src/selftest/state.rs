//! What is kept: the metafile and the journal.
//!
//! The one rule: a damaged file is described and left exactly as it is.

use std::os::unix::fs::PermissionsExt;

use super::{Check, chain};
use crate::journal::{self, Inspection};
use crate::metafile::{Metafile, Origin};
use crate::paths::Paths;

/// Reads the metafile as the daemon would at its start.
pub(super) fn metafile(paths: &Paths) -> (Vec<Check>, Option<Metafile>) {
    let path = paths.metafile();
    let shown = path.display();
    let (metafile, origin) = match Metafile::load(&path) {
        Ok(loaded) => loaded,
        Err(error) => return (vec![Check::fail("metafile", chain(error))], None),
    };
    let mut checks = vec![match (&metafile, origin) {
        (Some(_), Origin::Previous(damage)) => {
            let text = format!(
                "{shown} cannot be used ({damage}); its previous copy is good and will be used, \
                 identity and token are kept"
            );
            Check::warn("metafile", text)
        }
        (Some(metafile), _) => {
            let standing = if metafile.confirmed {
                "registered"
            } else {
                "not registered yet"
            };
            let text = format!(
                "host {}, {standing}, {} children, a status every {} s",
                metafile.agentsn,
                metafile.children.len(),
                metafile.step
            );
            Check::ok("metafile", text)
        }
        (None, _) => Check::ok(
            "metafile",
            format!("there is no {shown}: this would be a first start"),
        ),
    }];
    let is_seen = |mode: u32| mode & 0o007 != 0;
    if std::fs::metadata(&path).is_ok_and(|found| is_seen(found.permissions().mode())) {
        let text =
            format!("{shown} holds the host's token and others may read it; chmod 600 {shown}");
        checks.push(Check::warn("metafile", text));
    }
    (checks, metafile)
}

/// Reads the journal without cutting off what is damaged.
pub(super) fn journal(subject: &super::Subject<'_>) -> Vec<Check> {
    let folder = subject.paths.journal();
    // A daemon that runs may be in the middle of a line: then a second look
    // finds it whole.
    let first = journal::inspect(&folder);
    let found = match first {
        Ok(Some(Inspection {
            damaged_bytes: 1.., ..
        })) => journal::inspect(&folder),
        other => other,
    };
    vec![match found {
        Ok(None) => Check::ok(
            "journal",
            format!("there is none in {} yet", folder.display()),
        ),
        Ok(Some(Inspection {
            records,
            damaged_bytes: 0,
        })) => Check::ok("journal", format!("{records} records can be read")),
        Ok(Some(Inspection {
            records,
            damaged_bytes,
        })) => {
            let text = format!(
                "{records} records can be read, {damaged_bytes} bytes are damaged; the \
                 next start sets them aside in {}",
                folder.join("journal.damaged").display()
            );
            Check::warn("journal", text)
        }
        Err(error) => Check::fail("journal", chain(error)),
    }]
}
