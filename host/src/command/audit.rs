//! `rise-broker audit`: reads the log that `serve` writes. It changes nothing, and may run while
//! the broker serves.

mod query;
mod tail;
mod verify;

use std::io::Read;
use std::path::PathBuf;

use super::{Outcome, print, texts};
use crate::audit::{Fingerprints, Folder};
use crate::config::{Config, environment};

#[derive(clap::Args)]
pub(super) struct AuditArguments {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(clap::Subcommand)]
enum AuditCommand {
    /// Check every record, link and checkpoint. Exits 1 at the first that was changed, and names
    /// it.
    Verify(verify::VerifyArguments),
    /// Print the records that match every filter given, oldest first.
    Query(query::QueryArguments),
    /// Print the last records, and with --follow also new ones.
    Tail(tail::TailArguments),
    /// Print the fingerprint by which records name a secret: a password, or a token's `jti`. Reads
    /// the secret from standard input.
    Fingerprint(LogArguments),
}

#[derive(clap::Args)]
struct LogArguments {
    #[command(flatten)]
    settings: super::ConfigDirectory,
    /// Read the segments in this folder, such as one from a backup, instead of those that the
    /// settings name.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Where the log and its keys are.
struct LogFolders {
    segments: PathBuf,
    /// The folder of the keys; `None` if there are no settings.
    state: Option<PathBuf>,
}

impl LogArguments {
    /// With `--directory`, there need not be any settings.
    fn find(&self) -> Result<LogFolders, Vec<String>> {
        match (&self.directory, Config::load(&self.settings.path(), &environment())) {
            (Some(directory), settings) => Ok(LogFolders {
                segments: directory.clone(),
                state: settings.ok().map(|config| config.audit.state),
            }),
            (None, Ok(config)) => {
                Ok(LogFolders { segments: config.audit.directory, state: Some(config.audit.state) })
            }
            (None, Err(problems)) => Err(texts(problems)),
        }
    }
}

impl LogFolders {
    fn disk(&self) -> Result<Folder, Vec<String>> {
        let shown = self.segments.display();
        match std::fs::metadata(&self.segments) {
            Ok(found) if found.is_dir() => Ok(Folder::new(self.segments.clone())),
            Ok(_) => Err(vec![format!("{shown} is not a folder")]),
            Err(error) => Err(vec![format!(
                "cannot read the audit log in {shown}: {error}; name another folder by --directory"
            )]),
        }
    }
}

pub(super) fn run(arguments: &AuditArguments) -> Outcome {
    match &arguments.command {
        AuditCommand::Verify(arguments) => verify::run(arguments),
        AuditCommand::Query(arguments) => query::run(arguments),
        AuditCommand::Tail(arguments) => tail::run(arguments),
        AuditCommand::Fingerprint(log) => fingerprint(log),
    }
}

fn fingerprint(log: &LogArguments) -> Outcome {
    let missing =
        || vec!["only the settings say where the key is; name them by --config-dir".to_owned()];
    let state = log.find()?.state.ok_or_else(missing)?;
    let mut secret = zeroize::Zeroizing::new(String::new());
    std::io::stdin()
        .take(64 << 10)
        .read_to_string(&mut secret)
        .map_err(|error| vec![format!("cannot read standard input: {error}")])?;
    let keys = Fingerprints::open(&state).map_err(|error| vec![error.to_string()])?;
    print(keys.of(secret.trim_end_matches(['\r', '\n'])));
    Ok(())
}

/// The problem of a failed read.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unreadable(error: std::io::Error) -> Vec<String> {
    vec![format!("cannot read the audit log: {error}")]
}
