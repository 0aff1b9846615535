//! Where the broker keeps what must not be lost, and whether it stays there.

use std::path::{Path, PathBuf};

use super::Config;
use super::node::Problem;
use crate::identity::KeyOrigin;

/// File systems in memory.
const IN_MEMORY: [&str; 2] = ["/dev/shm", "/run"];

/// `directory` is the folder of the settings.
pub(super) fn warnings(directory: &Path, config: &Config) -> Vec<Problem> {
    let (audit, state) = (&config.audit.directory, &config.state_directory);
    let mut warnings = Vec::new();
    let mut warn = |pointer: &str, message: Option<String>| {
        warnings.extend(message.map(|message| config.written.problem(pointer, message)));
    };
    for (pointer, path) in [("/audit/directory", audit), ("/server/state_directory", state)] {
        warn(pointer, relative(path, directory));
    }
    warn("/audit/directory", in_memory(audit, "the audit log"));
    if !audit.starts_with(state) {
        warn("/server/state_directory", in_memory(state, "the keys of the broker"));
    }
    for issuer in &config.identity.issuers {
        if let KeyOrigin::Local { key_file } = &issuer.keys
            && !key_file.starts_with(state)
        {
            // A mounted secret is a copy of one that is kept elsewhere.
            let is_made_here = !key_file.exists();
            warn("/auth/issuers", in_memory(key_file, "the key").filter(|_| is_made_here));
        }
    }
    warn("/audit/directory", among_providers(audit, &config.providers.directory));
    warnings
}

/// Settings that are found from everywhere must mean the same folder everywhere.
fn relative(path: &Path, directory: &Path) -> Option<String> {
    if path.as_os_str().is_empty() || path.is_absolute() || !directory.is_absolute() {
        return None;
    }
    let now = std::env::current_dir().unwrap_or_default().join(path);
    Some(format!(
        "{} is relative, so each command uses the folder of this name in its own working \
         directory, now {}; write the whole path, such as /var/lib/rise-broker",
        path.display(),
        now.display()
    ))
}

fn in_memory(path: &Path, what: &str) -> Option<String> {
    let path = real(path);
    let disk = IN_MEMORY.iter().find(|disk| path.starts_with(disk) && path != Path::new(disk))?;
    Some(format!(
        "{} is below {disk}, which is kept in memory: {what} is lost when this machine stops; name \
         a folder on a disk, such as /var/lib/rise-broker",
        path.display()
    ))
}

fn among_providers(audit: &Path, providers: &Path) -> Option<String> {
    real(audit).starts_with(real(providers)).then(|| {
        format!(
            "{} lies in `providers.directory`, which the broker's user should not be able to \
             write; name a folder outside it",
            audit.display()
        )
    })
}

/// The path without links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let existing = crate::files::existing(path);
    let rest = path.strip_prefix(existing).unwrap_or(path);
    existing.canonicalize().map_or_else(|_| path.to_owned(), |existing| existing.join(rest))
}
