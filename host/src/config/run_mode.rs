//! The run mode, which names the layer between `default` and `local`: the variable, or else the
//! file `run-mode` in the folder of the settings. Every command that reads the folder then uses the
//! same layers as the server.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;

use super::layers::{Environment, unreadable};
use super::node::Problem;
use crate::files;

pub(super) const VARIABLE: &str = "RISE_CONFIG_RUN_MODE";
pub(super) const FILE: &str = "run-mode";
/// Longer than any name of a file.
const LONGEST: u64 = 256;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct RunMode {
    pub(super) name: String,
    /// The variable or the file, for messages.
    pub(super) source: String,
}

/// The variable goes first, so that a single run can have another mode.
pub(super) fn find(
    directory: &Path,
    environment: &Environment,
) -> Result<Option<RunMode>, Problem> {
    match of_variable(environment) {
        Some(stated) => checked(stated, VARIABLE.to_owned()).map(Some),
        None => of_file(directory),
    }
}

/// The warning about a file that is not used, because the variable has another mode.
pub(super) fn overridden(directory: &Path, environment: &Environment) -> Option<Problem> {
    let stated = of_variable(environment)?;
    let RunMode { name, source } = of_file(directory).ok()??;
    (name != stated).then(|| {
        let message = format!("names `{name}`, but {VARIABLE} is set to `{stated}` and applies");
        Problem::new(&source, "", message)
    })
}

fn of_variable(environment: &Environment) -> Option<String> {
    let stated = environment.get(&OsString::from(VARIABLE)).filter(|mode| !mode.is_empty());
    stated.map(|mode| mode.to_string_lossy().into_owned())
}

fn of_file(directory: &Path) -> Result<Option<RunMode>, Problem> {
    let path = directory.join(FILE);
    match files::read_text(&path, LONGEST) {
        Ok(text) => checked(text.trim().to_owned(), path.display().to_string()).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => Ok(None),
        Err(error) => Err(unreadable(&path, &error)),
    }
}

fn checked(name: String, source: String) -> Result<RunMode, Problem> {
    if is_mode(&name) {
        return Ok(RunMode { name, source });
    }
    let shown: String = name.escape_debug().take(80).collect();
    let message = format!(
        "`{shown}` is not the name of a settings file, which has letters, digits, `-` and `_` \
         only; write `production` for `production.toml`"
    );
    Err(Problem::new(&source, "", message))
}

/// Whether this can be the name of a run mode.
pub(super) fn is_mode(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !name.is_empty() && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_variable_goes_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let environment = |mode: &str| -> Environment { [(VARIABLE.into(), mode.into())].into() };
        let name = |environment: &Environment| {
            find(folder.path(), environment).map(|mode| mode.map(|mode| mode.name))
        };
        assert_eq!(name(&Environment::new()), Ok(None));
        fs::write(folder.path().join(FILE), "production\n").unwrap();
        assert_eq!(name(&Environment::new()), Ok(Some("production".to_owned())));
        assert_eq!(name(&environment("")), Ok(Some("production".to_owned())));
        assert_eq!(name(&environment("staging")), Ok(Some("staging".to_owned())));
        let warning = overridden(folder.path(), &environment("staging")).unwrap();
        assert!(warning.message.contains("names `production`"), "{}", warning.message);
        assert!(overridden(folder.path(), &environment("production")).is_none());
        for wrong in ["", "../etc/passwd", "a\nb", "production.toml", &"x y".repeat(200)] {
            fs::write(folder.path().join(FILE), wrong).unwrap();
            assert!(name(&Environment::new()).is_err(), "{wrong:?}");
        }
    }
}
