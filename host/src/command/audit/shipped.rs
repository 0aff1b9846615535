//! `rise-broker audit migrate`, and `query` and `verify` on what was shipped.

use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rise_secret::Secret;

use super::super::{ConfigDirectory, Outcome, print, texts, warn};
use crate::audit::{Copies, CopiesReport, Kept};
use crate::config::{Config, environment, postgres_connection};
use crate::domain::{Clock, Renewable};
use crate::files;
use crate::ship::{Postgres, PostgresError, PostgresSettings, S3, Search, ShipSettings};

const LARGEST_PASSWORD: u64 = 64 << 10;

#[derive(clap::Args)]
pub(super) struct MigrateArguments {
    #[command(flatten)]
    settings: ConfigDirectory,
    /// Connect as the owner of the database instead of as the role of the settings, which is then
    /// allowed to ship: `postgresql://owner@db.example.com/audit`.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A file with the password of the owner.
    #[arg(long, value_name = "FILE", requires = "url")]
    password_file: Option<PathBuf>,
}

/// Where the records of every broker are.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ShippedTo {
    /// The database of `[audit.ship.postgres]`.
    Postgres,
    /// The bucket of `[audit.ship.s3]`.
    S3,
}

/// Where records can be searched.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SearchedIn {
    /// The database of `[audit.ship.postgres]`.
    Postgres,
}

pub(super) async fn migrate(arguments: &MigrateArguments) -> Outcome {
    let mut settings = settings(&arguments.settings)?;
    let mut shipper = None;
    if let Some(url) = &arguments.url {
        let elsewhere = "name a file with it by `--password-file`";
        let connection = postgres_connection(url, elsewhere);
        let connection = connection.map_err(|message| vec![format!("--url {message}")])?;
        shipper = settings.connection.get_user().map(ToOwned::to_owned);
        settings.connection = connection;
        let password = arguments.password_file.as_deref().map(password).transpose()?;
        settings.password = Renewable::new(password);
    }
    let migrated = Postgres::new(settings).migrate(Clock::system().now(), shipper.as_deref()).await;
    let migrated = migrated.map_err(|error| match (&arguments.url, &error) {
        (Some(_), PostgresError::NoPassword(_)) => {
            vec![format!("{error}; name a file with it by `--password-file`")]
        }
        (Some(_), _) => vec![error.to_string()],
        (None, _) => vec![format!("{error}; name the owner of the database by --url")],
    })?;
    let changed = match migrated.from {
        0 => format!("the schema rise_audit was created with version {}", migrated.to),
        from if from == migrated.to => format!("the schema rise_audit has version {from}"),
        from => format!("the schema rise_audit was changed from version {from} to {}", migrated.to),
    };
    print(format_args!("{changed}; {} monthly partitions were added", migrated.partitions));
    if let Some(role) = migrated.granted {
        print(format_args!("the role {role} may insert and read records"));
    }
    Ok(())
}

fn password(path: &Path) -> Result<Secret, Vec<String>> {
    let unreadable =
        |error: io::Error| vec![format!("--password-file {}: {error}", path.display())];
    let text = files::read_text(path, LARGEST_PASSWORD).map_err(unreadable)?;
    let mode = path.metadata().map_err(unreadable)?.mode() & 0o7777;
    if mode & 0o007 != 0 {
        let path = path.display();
        warn(format_args!(
            "warning: --password-file {path} can be read by other users (mode {mode:04o}): run \
             `chmod 600 {path}`"
        ));
    }
    Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn ship_settings(directory: &ConfigDirectory) -> Result<Arc<ShipSettings>, Vec<String>> {
    let config = Config::load(&directory.path(), &environment()).map_err(texts)?;
    Ok(config.ship)
}

fn settings(directory: &ConfigDirectory) -> Result<PostgresSettings, Vec<String>> {
    let missing = || vec!["the settings have no [audit.ship.postgres]; add it".to_owned()];
    ship_settings(directory)?.postgres.clone().ok_or_else(missing)
}

/// Prints what `show` makes of the records that match. Returns how many there were.
pub(super) async fn query(
    directory: &ConfigDirectory,
    search: &Search,
    show: impl Fn(&str) -> Option<String>,
) -> Result<u64, Vec<String>> {
    let postgres = Postgres::new(settings(directory)?);
    let (mut out, mut found, mut failed) = (std::io::stdout().lock(), 0, None);
    let searched = postgres.search(search, |line| {
        let Some(text) = show(line) else { return true };
        found += 1;
        match writeln!(out, "{text}") {
            Ok(()) => true,
            Err(error) => {
                // The reader, such as `| head`, has enough.
                failed = Some(error).filter(|it| it.kind() != std::io::ErrorKind::BrokenPipe);
                false
            }
        }
    });
    searched.await.map_err(|error| vec![error.to_string()])?;
    match failed {
        Some(error) => Err(vec![format!("cannot write to standard output: {error}")]),
        None => Ok(found),
    }
}

/// Checks every chain.
pub(super) async fn verify(
    directory: &ConfigDirectory,
    from: ShippedTo,
    kept: &[Kept],
) -> Result<CopiesReport, Vec<String>> {
    let mut copies = Copies::new(kept);
    match from {
        ShippedTo::Postgres => {
            let postgres = Postgres::new(settings(directory)?);
            postgres.check(&mut copies).await.map_err(|error| vec![error.to_string()])?;
        }
        ShippedTo::S3 => {
            let missing = || vec!["the settings have no [audit.ship.s3]; add it".to_owned()];
            let settings = ship_settings(directory)?.s3.clone().ok_or_else(missing)?;
            let s3 = S3::new(settings, Clock::system());
            s3.check(&mut copies).await.map_err(|error| vec![error.to_string()])?;
        }
    }
    Ok(copies.finish())
}
