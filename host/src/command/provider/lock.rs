//! `rise-broker provider lock`: loads every provider of the folder as `serve` would, shows what
//! each imports, and writes the lock.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use super::super::{ConfigDirectory, Outcome, print, texts, warn};
use crate::capability;
use crate::config::node::Problem;
use crate::config::{Config, Draft, Require, environment};
use crate::process::{Foundation, Surroundings};
use crate::provider::lock::{Lock, Locked};
use crate::provider::{Catalog, Pins, Provider, Scan};
use crate::{state, user};

#[derive(clap::Args)]
pub(super) struct LockArguments {
    #[command(flatten)]
    directory: ConfigDirectory,
    /// Write without asking.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(arguments: &LockArguments) -> Outcome {
    let config = load_settings(&arguments.directory.path())?;
    let path = config.providers.lock_file.clone();
    let lock = load_providers(&config).await?;
    let before = Lock::load(&path).map_err(|error| vec![format!("{}: {error}", path.display())])?;
    if before.as_ref() == Some(&lock) {
        print(format_args!("{} is up to date", path.display()));
        print_effect(config.providers.require);
        return Ok(());
    }
    show_changes(&before.unwrap_or_default(), &lock);
    if !arguments.yes && !agrees(&path)? {
        return Err(vec!["nothing was written".to_owned()]);
    }
    lock.store(&path).map_err(|error| {
        vec![format!(
            "cannot write {} as {}: {error}; run this command as a user that may write there, \
             usually root: the broker only reads the lock",
            path.display(),
            user::own_name()
        )]
    })?;
    print(format_args!("wrote {}", path.display()));
    print_effect(config.providers.require);
    Ok(())
}

/// Only `[providers]` has to be right. Secrets, which root may not have before the broker runs,
/// are not needed.
fn load_settings(directory: &Path) -> Result<Config, Vec<String>> {
    let draft = Draft::load(directory, &environment()).map_err(texts)?;
    draft.unread.iter().for_each(|file| warn(format_args!("warning: {file}")));
    if draft.is_broken("providers") {
        let concerns = |problem: &Problem| problem.key.starts_with("providers");
        return Err(texts(draft.problems.into_iter().filter(concerns).collect()));
    }
    Ok(draft.config)
}

fn print_effect(require: Require) {
    print(match require {
        Require::Locked => "`require = \"locked\"` is set: the broker loads nothing else",
        Require::Signed => {
            "`require = \"signed\"` is set: the broker also loads other files with a signature; a \
             provider in the lock may import only what the lock lists"
        }
        Require::Any => {
            "`require` is \"any\": the broker also loads files that are not in the lock; set \
             `require = \"locked\"` in [providers] to prevent that"
        }
    });
}

/// Loads every provider and prints what each imports.
async fn load_providers(config: &Config) -> Result<Lock, Vec<String>> {
    let providers = &config.providers;
    // Code is compiled into a folder of the user who runs this, because the state folder is for
    // the broker's user alone.
    let cache = state::user_cache(&environment()).map_err(|error| vec![error])?;
    let foundation =
        Foundation::with_cache(providers, Some(cache), &Surroundings::real()).map_err(texts)?;
    let pins = Arc::new(Pins::none(providers));
    let scan = Catalog::load(providers, pins, &foundation.loader, None).await;
    let Scan { catalog, refused, .. } = scan.map_err(|problem| texts(vec![problem]))?;
    if !refused.is_empty() {
        return Err(texts(refused.iter().map(Problem::from).collect()));
    }
    catalog.iter().for_each(|provider| show(provider));
    let mut providers: Vec<Locked> = catalog.iter().map(|provider| locked(provider)).collect();
    providers.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Lock { providers })
}

fn locked(provider: &Provider) -> Locked {
    Locked {
        name: provider.manifest.name.clone(),
        version: provider.manifest.version.clone(),
        sha256: provider.digest.to_string(),
        capabilities: provider.imports.iter().map(|import| (*import).to_owned()).collect(),
    }
}

fn show(provider: &Provider) {
    print(format_args!("{} {}", provider.manifest.name, provider.manifest.version));
    print(format_args!("  file    {}", provider.file.display()));
    print(format_args!("  sha256  {}", provider.digest));
    for import in &provider.imports {
        print(format_args!("  may     {}", capability::in_words(import)));
    }
    if provider.guest.repositories.is_some() {
        print("  manages repositories, if [registries.NAME.repositories] says so");
    }
    if provider.ends_credentials() {
        print("  ends    each credential that it makes, when its grant is over or you say so");
    }
    for import in &provider.wasi {
        print(format_args!("  sees    an empty {import}"));
    }
}

/// Prints the differences from the existing lock.
fn show_changes(before: &Lock, after: &Lock) {
    for new in &after.providers {
        match before.named(&new.name) {
            None => print(format_args!("+ {} {}", new.name, new.version)),
            Some(old) if old == new => {}
            Some(old) => {
                print(format_args!("~ {} {} -> {}", new.name, old.version, new.version));
                for name in old.missing(new) {
                    print(format_args!("    now also may {}", capability::in_words(name)));
                }
                for name in new.missing(old) {
                    print(format_args!("    no longer needs to {}", capability::in_words(name)));
                }
            }
        }
    }
    for gone in before.providers.iter().filter(|old| after.named(&old.name).is_none()) {
        print(format_args!("- {} {}", gone.name, gone.version));
    }
}

fn agrees(path: &Path) -> Result<bool, Vec<String>> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(vec![
            "standard input is not a terminal: review the above, then run this with --yes"
                .to_owned(),
        ]);
    }
    print(format_args!("Write this to {}? Type yes:", path.display()));
    let mut answer = String::new();
    let read = stdin.read_line(&mut answer);
    read.map_err(|error| vec![format!("cannot read the answer: {error}")])?;
    Ok(answer.trim() == "yes")
}
