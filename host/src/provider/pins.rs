//! Which files may be loaded: those in `providers.lock`, those with an accepted signature, or any.
//!
//! **Invariant:** the bytes that are checked here are the bytes that are compiled. No file is read
//! twice.
//! **Invariant:** in every mode, a provider that is in the lock imports only what the lock allows.

use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};

use super::load::LoadError;
use super::lock::Lock;
use crate::config::node::Problem;
use crate::config::{ProvidersConfig, Require};
use crate::files;

/// A signature is four lines of base64 and comments.
const MAX_SIGNATURE: u64 = 4 << 10;

pub struct Pins {
    require: Require,
    keys: Vec<PublicKey>,
    lock: Lock,
    lock_file: PathBuf,
}

impl Pins {
    pub fn load(config: &ProvidersConfig) -> Result<Self, Problem> {
        let shown = config.lock_file.display();
        let problem =
            |message: String| Problem::at(&config.lock_origin, "providers.lock_file", message);
        let lock = match Lock::load(&config.lock_file) {
            Ok(Some(lock)) => lock,
            Ok(None) if config.require == Require::Locked => {
                return Err(problem(format!(
                    "{shown} does not exist, and `require = \"locked\"` needs it; write it with \
                    `rise-broker provider lock`"
                )));
            }
            Ok(None) => Lock::default(),
            Err(error) => {
                return Err(problem(format!(
                    "{shown}: {error}; write it again with `rise-broker provider lock`"
                )));
            }
        };
        let (require, lock_file) = (config.require, config.lock_file.clone());
        Ok(Self { require, keys: config.signing_keys.clone(), lock, lock_file })
    }

    /// Accepts every digest: for commands that write the lock or inspect a file.
    pub fn none(config: &ProvidersConfig) -> Self {
        let (keys, lock_file) = (config.signing_keys.clone(), config.lock_file.clone());
        // A signature is required all the same: a lock does not replace it.
        let require =
            if config.require == Require::Signed { Require::Signed } else { Require::Any };
        Self { require, keys, lock: Lock::default(), lock_file }
    }

    /// Checks digest or signature, before anything parses the file.
    pub(super) fn admit(&self, file: &Path, bytes: &[u8], digest: &str) -> Result<(), LoadError> {
        match self.require {
            Require::Any => Ok(()),
            Require::Locked if self.is_locked(digest) => Ok(()),
            Require::Locked => Err(LoadError::NotLocked(self.lock_file.display().to_string())),
            Require::Signed => self.signed(file, bytes).map_err(LoadError::NotSigned),
        }
    }

    /// Checks the imports, after `describe` returned the name.
    pub(super) fn allow(
        &self,
        name: &str,
        digest: &str,
        imports: &[&'static str],
    ) -> Result<(), LoadError> {
        let Some(locked) = self.lock.find(digest).or_else(|| self.lock.named(name)) else {
            return Ok(());
        };
        let is_more =
            |import: &&&str| !locked.capabilities.iter().any(|allowed| allowed == **import);
        let more: Vec<&str> = imports.iter().filter(is_more).copied().collect();
        if more.is_empty() {
            return Ok(());
        }
        Err(LoadError::AsksForMore {
            more: more.join(", "),
            lock: self.lock_file.display().to_string(),
        })
    }

    /// Whether the lock has exactly these bytes.
    pub fn is_locked(&self, digest: &str) -> bool {
        self.lock.find(digest).is_some()
    }

    pub(super) fn lock(&self) -> &Lock {
        &self.lock
    }

    fn signed(&self, file: &Path, bytes: &[u8]) -> Result<(), String> {
        let mut beside = file.as_os_str().to_owned();
        beside.push(".minisig");
        let beside = PathBuf::from(beside);
        let shown = beside.display();
        let text = files::read_text(&beside, MAX_SIGNATURE)
            .map_err(|error| format!("its signature {shown} cannot be read: {error}"))?;
        let signature = Signature::decode(&text)
            .map_err(|error| format!("its signature {shown} is not one of minisign: {error}"))?;
        // The old kind signs the bytes themselves; `minisign` no longer makes it.
        let is_good = self.keys.iter().any(|key| key.verify(bytes, &signature, false).is_ok());
        is_good.then_some(()).ok_or_else(|| {
            format!("its signature {shown} is by none of the `signing_keys`, or for other bytes")
        })
    }
}
