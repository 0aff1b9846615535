//! Turns changed settings and providers into the next generation, or into a list of what is wrong.
//!
//! Settings and providers are tried together first, since a new provider may need new settings. If
//! that does not work, each is tried with the last good other, and what is right is activated.
//!
//! Settings that are read at start only are compared with those of the start. Their secrets are
//! not: with the settings that are activated the process gets theirs (`Config::renew_secrets`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Current;
use crate::broker::Broker;
use crate::config::node::Problem;
use crate::config::{Config, Environment, Written};
use crate::findings::{Found, RefusedFile};
use crate::generation::Generation;
use crate::process::Process;
use crate::provider::folder::{self, Stamps};
use crate::provider::{Before, Catalog, LoadError, Pins, Provider, RejectedFile, Scan};
use crate::registries::{Means, Registries};
use crate::state;

/// Where settings come from, and the state of the files when they were read.
pub struct Source {
    directory: PathBuf,
    environment: Environment,
    seen: Seen,
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Seen {
    providers: Stamps,
    settings: Stamps,
}

impl Source {
    /// Must be made before the settings are loaded, so that no change is missed.
    pub fn new(directory: PathBuf, environment: Environment) -> Self {
        let seen = Seen { settings: settings_stamps(&directory), ..Seen::default() };
        Self { directory, environment, seen }
    }

    /// The stamps of the settings' files and of those that the settings name.
    fn settings_stamps(&self, config: &Config) -> Stamps {
        let mut stamps = settings_stamps(&self.directory);
        stamps.extend(named_stamps(config));
        stamps
    }

    /// Notes the files of the providers, and those that the settings name. Must be called before
    /// the providers are loaded.
    #[must_use]
    pub fn and_files_of(mut self, config: &Config) -> Self {
        self.seen.providers = folder::stamps(&config.providers);
        self.seen.settings.extend(named_stamps(config));
        self
    }
}

/// The stamps of the settings' files and of a lock file beside them.
fn settings_stamps(directory: &Path) -> Stamps {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let ends = ["toml", "yaml", "lock"];
    let is_settings =
        |path: &PathBuf| path.extension().is_some_and(|own| ends.iter().any(|end| own == *end));
    files.filter(is_settings).map(|path| (path.clone(), folder::stamp(&path))).collect()
}

/// The stamps of the files outside the settings folder that are part of the settings.
fn named_stamps(config: &Config) -> Stamps {
    let named = config.files.iter().chain([&config.providers.lock_file]);
    named.map(|path| (path.clone(), folder::stamp(path))).collect()
}

/// Turns what lies on disk into the next generation.
pub struct Reloader {
    current: Arc<Current>,
    source: Source,
    /// The settings of the generation that serves.
    config: Config,
    /// The settings that the process was started with. Its secrets are the ones in use.
    started: Config,
    /// Whether there are settings that could not be activated.
    is_pending: bool,
    refused: Vec<RejectedFile>,
}

impl Reloader {
    /// `config` is what `current` was built from, and `source` what `config` was loaded from.
    pub fn new(current: Arc<Current>, source: Source, config: Config) -> Self {
        let started = config.clone();
        Self { current, source, config, started, is_pending: false, refused: Vec::new() }
    }

    pub(super) fn current(&self) -> &Arc<Current> {
        &self.current
    }

    /// The folders in which something may change.
    pub(super) fn folders(&self) -> BTreeSet<PathBuf> {
        let named = self.config.files.iter().chain([&self.config.providers.lock_file]);
        let parents = named.filter_map(|file| file.parent()).map(|folder| {
            if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() }
        });
        let own = [self.config.providers.directory.clone(), self.source.directory.clone()];
        own.into_iter().chain(parents).collect()
    }

    /// Reads settings and providers if they have changed, or if somebody `asked`, and activates
    /// what is right with them.
    pub async fn check_for_changes(&mut self, asked: bool) {
        let (providers, restless) = folder::settled(&self.config.providers).await;
        let (settings, unfinished) = self.settled_settings(asked).await;
        let seen = Seen { providers, settings };
        if seen == self.source.seen && !asked && restless.is_empty() {
            return;
        }
        let is_changed = asked || seen.settings != self.source.seen.settings;
        self.source.seen = seen;
        if is_changed {
            // A change of the settings may be what a rejected file was waiting for.
            self.refused.clear();
        }
        let mut found = Found { settings: still_written(&unfinished), ..Found::default() };
        let is_wanted = unfinished.is_empty() && (is_changed || self.is_pending);
        let wanted = if is_wanted { self.load_settings(&mut found) } else { None };
        let broker = self.current.broker();
        let activated = self.activate_changes(&broker, wanted, &restless, &mut found).await;
        if let Some(config) = &activated {
            self.started.renew_secrets(config);
        }
        let now = activated.as_ref().unwrap_or(&self.config);
        found.needs_restart = needs_restart(&self.started, now);
        self.is_pending = !found.settings.is_empty();
        self.config = activated.unwrap_or_else(|| self.config.clone());
        // The same file is read with the new and with the old settings.
        let mut known = BTreeSet::new();
        found.settings.retain(|problem| known.insert(problem.clone()));
        let Process { metrics, findings, .. } = &*broker.process;
        metrics.reloaded(!found.was_rejected());
        findings.report(found, asked, metrics);
    }

    /// Reports that a check panicked. The next change makes the broker read everything again.
    pub(super) fn report_panic(&mut self) {
        self.is_pending = true;
        let broker = self.current.broker();
        let Process { metrics, findings, .. } = &*broker.process;
        let problem = "reading the settings and providers failed because of a bug in the broker; \
                       please report it with the log line that has `panicked`";
        let settings = vec![problem.to_owned()];
        metrics.reloaded(false);
        findings.report(Found { settings, ..Found::clone(&findings.last()) }, false, metrics);
    }

    /// Waits until nobody writes settings, unless somebody `asked` to read them now. Returns the
    /// files that somebody writes without end.
    async fn settled_settings(&self, asked: bool) -> (Stamps, BTreeSet<PathBuf>) {
        let look = || self.source.settings_stamps(&self.config);
        let now = look();
        if asked || now == self.source.seen.settings {
            return (now, BTreeSet::new());
        }
        folder::settled_settings(look).await
    }

    fn load_settings(&self, found: &mut Found) -> Option<Config> {
        let loaded =
            Config::load(&self.source.directory, &self.source.environment).and_then(|config| {
                // The state directory stays where it is until a restart.
                state::open(&self.started.state_directory, &config.providers.directory).map_err(
                    |message| vec![config.written.problem("/providers/directory", message)],
                )?;
                Ok(config)
            });
        loaded.map_err(|problems| found.settings = texts(&problems)).ok()
    }

    /// Activates what is right. Returns the settings that serve from now on, if they are others.
    async fn activate_changes(
        &mut self,
        broker: &Broker,
        wanted: Option<Config>,
        restless: &BTreeSet<PathBuf>,
        found: &mut Found,
    ) -> Option<Config> {
        let mut problems = Vec::new();
        if let Some(config) = &wanted {
            match self.build_with_scan(broker, config, restless).await {
                Ok((next, scan)) => {
                    self.activate(broker, next, &config.warnings);
                    self.remember_refused(scan, found);
                    return wanted;
                }
                Err(wrong) => problems = wrong,
            }
        }
        let config = self.config.clone();
        let scan = match self.scan(broker, &config, restless).await {
            Ok(scan) => restore_misfits(broker, &config, scan).await,
            Err(problem) => {
                problems.push(problem);
                found.settings.extend(texts(&problems));
                return None;
            }
        };
        let catalog = scan.catalog.clone();
        self.remember_refused(scan, found);
        // The new settings without the providers that were at fault; else the old settings with
        // those that were not.
        if let Some(config) = wanted {
            match build(broker, &config, catalog.clone()).await {
                Ok(next) => {
                    self.activate(broker, next, &config.warnings);
                    return Some(config);
                }
                Err(wrong) => problems = wrong,
            }
        }
        found.settings.extend(texts(&problems));
        if !catalog.is_same(&broker.generation.catalog) {
            match build(broker, &config, catalog).await {
                Ok(next) => self.activate(broker, next, &[]),
                Err(wrong) => found.settings.extend(texts(&wrong)),
            }
        }
        None
    }

    async fn build_with_scan(
        &self,
        broker: &Broker,
        config: &Config,
        restless: &BTreeSet<PathBuf>,
    ) -> Result<(Generation, Scan), Vec<Problem>> {
        let scan = self.scan(broker, config, restless).await.map_err(|problem| vec![problem])?;
        Ok((build(broker, config, scan.catalog.clone()).await?, scan))
    }

    async fn scan(
        &self,
        broker: &Broker,
        config: &Config,
        restless: &BTreeSet<PathBuf>,
    ) -> Result<Scan, Problem> {
        let needed = config.registries.values().map(|registry| registry.provider.clone()).collect();
        let pins = Arc::new(Pins::load(&config.providers)?);
        let before = Before {
            catalog: &broker.generation.catalog,
            needed: &needed,
            restless,
            refused: &self.refused,
        };
        let loader = &broker.process.foundation.loader;
        Catalog::load(&config.providers, pins, loader, Some(&before)).await
    }

    fn remember_refused(&mut self, scan: Scan, found: &mut Found) {
        found.providers = scan.refused.iter().map(RefusedFile::from).collect();
        let shown = |provider: &Arc<Provider>| provider.file.display().to_string();
        found.missing_files = scan.gone.iter().map(shown).collect();
        self.refused = scan.refused;
    }

    fn activate(&self, broker: &Broker, next: Generation, warnings: &[Problem]) {
        for warning in warnings.iter().chain(&next.warnings) {
            tracing::warn!("{warning}");
        }
        for provider in new_providers(broker, &next.catalog) {
            let (name, version) = (&provider.manifest.name, &provider.manifest.version);
            let (digest, file) = (&*provider.digest, provider.file.display());
            tracing::info!(provider = name, version, digest, %file, "a provider is in use");
        }
        next.identity.prefetch();
        self.current.replace(broker.with_generation(next));
        tracing::info!("reloaded");
    }
}

async fn build(
    broker: &Broker,
    config: &Config,
    catalog: Catalog,
) -> Result<Generation, Vec<Problem>> {
    Generation::with_catalog(&broker.process.foundation, config, catalog).await
}

/// Puts the last good provider back in place of each new one that rejects the settings of a
/// registry that uses it.
async fn restore_misfits(broker: &Broker, config: &Config, mut scan: Scan) -> Scan {
    let before = &broker.generation.catalog;
    let new: Vec<Arc<Provider>> = new_providers(broker, &scan.catalog).cloned().collect();
    for provider in new {
        let mut registries = config.registries.clone();
        registries.retain(|_, registry| provider.names().any(|name| name == registry.provider));
        let clients = &broker.process.foundation.clients;
        let means = Means { clients, signing: broker.generation.signing.as_ref() };
        let Err(problems) = Registries::build(registries, &scan.catalog, means).await else {
            continue;
        };
        let of_file = before.of_file(&provider.file);
        if let Some(old) = of_file.or_else(|| before.find(&provider.manifest.name)) {
            scan.catalog = scan.catalog.reverted_to(old);
        }
        scan.refused.push(RejectedFile {
            file: provider.file.clone(),
            digest: Some(Arc::clone(&provider.digest)),
            error: Arc::new(LoadError::Settings(texts(&problems).join("; "))),
        });
    }
    scan
}

/// The providers of `catalog` that do not serve yet.
fn new_providers<'a>(
    broker: &'a Broker,
    catalog: &'a Catalog,
) -> impl Iterator<Item = &'a Arc<Provider>> {
    let before = &broker.generation.catalog;
    catalog.iter().filter(|provider| !before.iter().any(|old| Arc::ptr_eq(old, provider)))
}

fn still_written(unfinished: &BTreeSet<PathBuf>) -> Vec<String> {
    let problem = |path: &PathBuf| {
        let message = "is still being written, so it was not read; to install it atomically, \
                       write it under another name and rename it, or send SIGHUP once it is \
                       complete";
        Problem::new(&path.display().to_string(), "", message).to_string()
    };
    unfinished.iter().map(problem).collect()
}

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// The tables that are read at start only, except for their secrets.
pub const READ_AT_START: [&str; 6] = ["server", "audit", "cache", "shared", "log", "traces"];

/// Settings that were changed since the start and are read at start only.
fn needs_restart(started: &Config, now: &Config) -> Vec<String> {
    let mut changed: Vec<String> = READ_AT_START
        .iter()
        .flat_map(|table| Written::changes(&started.written, &now.written, table))
        .collect();
    let (had, wants) = (started.providers.widest(), now.providers.widest());
    // The pool of instances was sized at start.
    for (key, is_larger) in [
        ("memory_mib", wants.memory > had.memory),
        ("table_elements", wants.table_elements > had.table_elements),
    ] {
        changed.extend(is_larger.then(|| format!("providers.limits.{key}")));
    }
    changed
}
