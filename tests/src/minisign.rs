//! Signing packages with the real minisign.
//!
//! The one rule: whoever holds a [`Signer`] can sign; where that is not
//! possible [`Signer::new`] says why.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A key pair of its own.
#[derive(Debug)]
pub struct Signer {
    folder: TempDir,
}

/// How minisign makes a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Of a hash of the file, as it does since 0.10.
    Hashed,
    /// Of the file itself.
    Legacy,
}

impl Signer {
    /// Makes a key pair.
    ///
    /// # Errors
    /// Why nothing can be signed here.
    pub fn new() -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let signer = Self { folder };
        let arguments = [
            "-G".into(),
            "-W".into(),
            "-p".into(),
            signer.file("public"),
            "-s".into(),
            signer.file("secret"),
        ];
        signer.run(&arguments)?;
        Ok(signer)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[PathBuf]) -> Result<(), String> {
        let ran = Command::new("minisign").args(arguments).output();
        let output = ran.map_err(|error| format!("minisign cannot be run: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("minisign {arguments:?}: {said}")),
        }
    }

    /// The public key as `trusted_keys` has it.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn key(&self) -> String {
        let text = std::fs::read_to_string(self.file("public")).expect("a public key");
        text.lines().nth(1).expect("its second line").to_owned()
    }

    /// The `.minisig` of `bytes`.
    ///
    /// # Panics
    /// When minisign refuses.
    pub fn sign(&self, bytes: &[u8], comment: &str, way: Way) -> String {
        let (file, signature) = (self.file("package"), self.file("package.minisig"));
        std::fs::write(&file, bytes).expect("written");
        let mut arguments: Vec<PathBuf> = vec!["-S".into(), "-W".into()];
        if way == Way::Legacy {
            arguments.push("-l".into());
        }
        arguments.extend(["-s".into(), self.file("secret"), "-m".into(), file]);
        arguments.extend(["-x".into(), signature.clone(), "-t".into(), comment.into()]);
        self.run(&arguments).expect("minisign signs");
        std::fs::read_to_string(signature).expect("a signature")
    }
}
