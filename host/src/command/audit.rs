//! `rise-broker audit`: reads the log that `serve` writes, and what was shipped of it. It changes
//! no record, and may run while the broker serves.

mod query;
mod shipped;
mod tail;
mod verify;

use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Outcome, print, texts};
use crate::audit::{CHECKPOINT_RECORDS, Fingerprints, Folder, any_segment_number};
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
    /// Make or change the tables of the database of `[audit.ship.postgres]`. May be run again.
    Migrate(shipped::MigrateArguments),
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
    /// After how many records the broker writes a checkpoint.
    checkpoint_records: u64,
    /// The command line named the folder.
    is_named: bool,
}

/// Whether the folder has a segment, or one that was packed.
fn has_segments(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str().and_then(any_segment_number)).count() > 0
}

impl LogArguments {
    /// With `--directory`, there need not be any settings.
    fn find(&self) -> Result<LogFolders, Vec<String>> {
        match (&self.directory, Config::load(&self.settings.path(), &environment())) {
            (Some(directory), settings) => {
                let audit = settings.ok().map(|config| config.audit);
                let records = audit.as_ref().map(|audit| audit.checkpoint_records);
                Ok(LogFolders {
                    segments: directory.clone(),
                    state: audit.map(|audit| audit.state),
                    checkpoint_records: records.unwrap_or(CHECKPOINT_RECORDS),
                    is_named: true,
                })
            }
            (None, Ok(Config { audit, .. })) => Ok(LogFolders {
                segments: audit.directory,
                state: Some(audit.state),
                checkpoint_records: audit.checkpoint_records,
                is_named: false,
            }),
            (None, Err(problems)) => Err(texts(problems)),
        }
    }
}

impl LogFolders {
    /// A folder without segments that `--directory` names is the wrong one: often the state folder,
    /// which has the log in `audit`.
    fn elsewhere(&self) -> Option<String> {
        if !self.is_named || has_segments(&self.segments) {
            return None;
        }
        let (shown, below) = (self.segments.display(), self.segments.join("audit"));
        Some(if has_segments(&below) {
            format!(
                "--directory {shown}: there are no segments in this folder, but in {below}; name \
                 that one",
                below = below.display()
            )
        } else {
            format!(
                "--directory {shown}: there are no segments (`audit-00000001.jsonl` and so on) in \
                 this folder; name the folder that has them"
            )
        })
    }

    fn disk(&self) -> Result<Folder, Vec<String>> {
        let shown = self.segments.display();
        match std::fs::metadata(&self.segments) {
            Ok(found) if found.is_dir() => match self.elsewhere() {
                Some(problem) => Err(vec![problem]),
                None => Ok(Folder::new(self.segments.clone())),
            },
            Ok(_) => Err(vec![format!("{shown} is not a folder")]),
            Err(error) => Err(vec![format!(
                "cannot read the audit log in {shown}: {error}; name another folder by --directory"
            )]),
        }
    }
}

pub(super) async fn run(arguments: &AuditArguments) -> Outcome {
    match &arguments.command {
        AuditCommand::Verify(arguments) => verify::run(arguments).await,
        AuditCommand::Query(arguments) => query::run(arguments).await,
        AuditCommand::Migrate(arguments) => shipped::migrate(arguments).await,
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
    let secret = secret.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(vec![
            "standard input is empty, expected a password or the `jti` of a token; an unset \
             variable has this effect"
                .to_owned(),
        ]);
    }
    let keys = Fingerprints::open(&state).map_err(|error| vec![error.to_string()])?;
    print(keys.of(secret));
    Ok(())
}

/// The problem of a failed read.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unreadable(error: std::io::Error) -> Vec<String> {
    vec![format!("cannot read the audit log: {error}")]
}
