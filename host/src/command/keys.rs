//! `rise-broker keys`: the keys that sign tokens, and the other private keys of this broker.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use jiff::SignedDuration;

use super::{ConfigDirectory, Outcome, print, texts, warn};
use crate::config::{Config, SigningConfig, environment};
use crate::domain::Clock;
use crate::keys::KeySet;

/// The longest a token is valid: the longest lifetime of a credential, and what clocks differ.
const OVERLAP: SignedDuration = SignedDuration::from_mins(12 * 60 + 5);

#[derive(clap::Args)]
pub(super) struct KeysArguments {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// List the keys that sign tokens, with their state.
    List(KeysPlace),
    /// Let the next key sign, and make another next one. A running broker notices by itself.
    Rotate(RotateArguments),
    /// Print the certificates of all keys, for the `rootcertbundle` of a registry.
    Certificate(CertificateArguments),
}

#[derive(clap::Args)]
struct KeysPlace {
    #[command(flatten)]
    directory: ConfigDirectory,
    /// The file of the keys, if it is not that of the settings: a copy of a Secret, for example.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

#[derive(clap::Args)]
struct RotateArguments {
    #[command(flatten)]
    place: KeysPlace,
    /// Rotate although tokens of the previous key may still be valid.
    #[arg(long)]
    now: bool,
    /// Make every key anew, because one has leaked: the broker rejects what they signed, and so do
    /// registries as soon as they have the new certificates alone.
    #[arg(long, conflicts_with = "now")]
    leaked: bool,
}

#[derive(clap::Args)]
struct CertificateArguments {
    #[command(flatten)]
    place: KeysPlace,
    /// Write them to this file, which is replaced as a whole, instead of printing them.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: KeysArguments) -> Outcome {
    match arguments.command {
        KeysCommand::List(place) => list(&open(&place)?),
        KeysCommand::Rotate(arguments) => rotate(&arguments)?,
        KeysCommand::Certificate(arguments) => {
            certificate(&open(&arguments.place)?, arguments.output.as_deref())?;
        }
    }
    Ok(())
}

/// The settings of the keys, with the file that the arguments name.
fn settings(place: &KeysPlace) -> Result<SigningConfig, Vec<String>> {
    let config = Config::load(&place.directory.path(), &environment()).map_err(texts)?;
    let Some(mut signing) = config.signing else {
        let message = "missing; this broker signs no tokens, so it has no keys for them: set \
                       `issuer` in [signing]";
        return Err(texts(vec![config.written.problem("/signing", message)]));
    };
    if let Some(path) = &place.key_file {
        signing.key_file.clone_from(path);
    }
    Ok(signing)
}

fn open(place: &KeysPlace) -> Result<KeySet, Vec<String>> {
    let path = settings(place)?.key_file;
    let keys = KeySet::open(&path).map_err(|error| vec![error.to_string()])?;
    keys.ok_or_else(|| {
        vec![format!(
            "there is no key file {} yet: `serve` creates it at its first start",
            path.display()
        )]
    })
}

fn list(keys: &KeySet) {
    print(format_args!("{:<9} {:<10} {:<21} KEY", "STATE", "ALGORITHM", "SINCE"));
    for (state, key) in keys.keys() {
        let (algorithm, kid) = (key.key.algorithm(), key.key.kid());
        print(format_args!("{:<9} {algorithm:<10} {:<21} {kid}", state.as_str(), key.since));
    }
}

fn rotate(arguments: &RotateArguments) -> Outcome {
    let SigningConfig { key_file, kind, .. } = settings(&arguments.place)?;
    // Keys that are not there yet cannot be rotated.
    open(&arguments.place)?;
    let now = Clock::system().now();
    let keys = if arguments.leaked {
        KeySet::replace(&key_file, kind, now)
    } else {
        KeySet::rotate(&key_file, kind, now, OVERLAP, arguments.now)
    };
    list(&keys.map_err(|error| vec![error.to_string()])?);
    warn(if arguments.leaked {
        "give registries the new certificates instead of the old ones, now: until then they reject \
         everybody, or still accept the leaked key: `rise-broker keys certificate`"
    } else {
        "give registries that have these keys in a file the new certificates, before the next \
         rotation: `rise-broker keys certificate`"
    });
    Ok(())
}

fn certificate(keys: &KeySet, output: Option<&Path>) -> Outcome {
    if keys.keys().any(|(_, key)| key.key.algorithm() == "EdDSA") {
        warn("warning: Distribution 2.8 does not start with a certificate of an Ed25519 key");
    }
    let certificates = keys.certificates();
    match output {
        None => print(certificates.trim_end()),
        Some(path) => replace(path, &certificates)
            .map_err(|error| vec![format!("cannot write {}: {error}", path.display())])?,
    }
    Ok(())
}

/// A registry that starts meanwhile reads the old certificates or the new ones. It is another user.
fn replace(path: &Path, certificates: &str) -> io::Result<()> {
    let mut new = path.to_owned().into_os_string();
    new.push(".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Never through a link that somebody has put there meanwhile.
    let mut file = File::options().write(true).create_new(true).open(&new)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(certificates.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}
