//! From what lies on disk now to the next generation, or to what is wrong with it.
//!
//! Settings and providers are tried together first, since a new provider may want new settings. If that does not work, each is
//! judged with the last good other: what is right is taken over.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Current;
use crate::app::App;
use crate::config::node::Problem;
use crate::config::{Config, Environment, ProvidersConfig, Written};
use crate::findings::{Found, RefusedFile};
use crate::provider::folder::{self, Stamps};
use crate::provider::{Before, Catalog, LoadError, Pins, Provider, RejectedFile, Scan};
use crate::registries::{ConnectAws, Registries};
use crate::state;

/// Where settings come from, and what lay there when they were read.
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
    /// To be made before the settings are loaded, so that no change falls in between.
    pub fn new(directory: PathBuf, environment: Environment) -> Self {
        let seen = Seen { settings: settings_stamps(&directory), ..Seen::default() };
        Self { directory, environment, seen }
    }

    /// Before the providers are loaded.
    #[must_use]
    pub fn with(mut self, providers: &ProvidersConfig) -> Self {
        self.seen.providers = folder::stamps(providers);
        self.seen.settings.insert(providers.lock_file.clone(), folder::stamp(&providers.lock_file));
        self
    }
}

/// Of the settings' files, and of a lock beside them.
fn settings_stamps(directory: &Path) -> Stamps {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let files = entries.filter_map(|it| Some(it.ok()?.path()));
    let ends = ["toml", "yaml", "lock"];
    let is_settings =
        |it: &PathBuf| it.extension().is_some_and(|it| ends.iter().any(|end| it == *end));
    files.filter(is_settings).map(|path| (path.clone(), folder::stamp(&path))).collect()
}

pub struct Reloader {
    current: Arc<Current>,
    source: Source,
    aws: Arc<dyn ConnectAws>,
    /// What serves was made of.
    config: Config,
    /// What the process was started with, and will not change.
    started: Config,
    /// Whether settings are waiting that could not be taken over.
    is_pending: bool,
    refused: Vec<RejectedFile>,
}

impl Reloader {
    /// `config` is what `current` was built from, `source` what that was loaded from.
    pub fn new(
        current: Arc<Current>,
        source: Source,
        config: Config,
        aws: Arc<dyn ConnectAws>,
    ) -> Self {
        let started = config.clone();
        Self { current, source, aws, config, started, is_pending: false, refused: Vec::new() }
    }

    /// The folders in which something may change.
    pub(super) fn folders(&self) -> BTreeSet<PathBuf> {
        let lock = self.config.providers.lock_file.parent().map(PathBuf::from);
        let lock = lock.map(|it| if it.as_os_str().is_empty() { ".".into() } else { it });
        [Some(self.config.providers.directory.clone()), Some(self.source.directory.clone()), lock]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Looks at settings and providers, and makes the next generation of them if they have changed, or if somebody `asked`.
    pub async fn look(&mut self, asked: bool) {
        let (providers, restless) = folder::settled(&self.config.providers).await;
        let mut settings = settings_stamps(&self.source.directory);
        let lock_file = &self.config.providers.lock_file;
        settings.insert(lock_file.clone(), folder::stamp(lock_file));
        let seen = Seen { providers, settings };
        if seen == self.source.seen && !asked && restless.is_empty() {
            return;
        }
        let is_changed = asked || seen.settings != self.source.seen.settings;
        self.source.seen = seen;
        if is_changed {
            // Whatever was wrong with a file may have been mended there.
            self.refused.clear();
        }
        let mut found = Found::default();
        let wanted = if is_changed || self.is_pending { self.settings(&mut found) } else { None };
        let app = self.current.app();
        let taken = self.take(&app, wanted, &restless, &mut found).await;
        found.needs_restart = needs_restart(&self.started, taken.as_ref().unwrap_or(&self.config));
        self.is_pending = !found.settings.is_empty();
        self.config = taken.unwrap_or_else(|| self.config.clone());
        app.metrics.reloaded(found.is_nothing());
        app.findings.report(found, &app.metrics);
    }

    fn settings(&self, found: &mut Found) -> Option<Config> {
        let loaded = Config::load(&self.source.directory, &self.source.environment).and_then(
            |mut config| {
                config.providers.compiler = self.config.providers.compiler.clone();
                // Only what is there is looked at: it stays where it is until a restart.
                state::open(&self.started.state_directory, &config.providers.directory).map_err(
                    |message| vec![config.written.problem("/providers/directory", message)],
                )?;
                Ok(config)
            },
        );
        loaded.map_err(|problems| found.settings = texts(&problems)).ok()
    }

    /// Takes over what is right. The settings that serve from now on, if they are others.
    async fn take(
        &mut self,
        app: &App,
        wanted: Option<Config>,
        restless: &BTreeSet<PathBuf>,
        found: &mut Found,
    ) -> Option<Config> {
        let mut problems = Vec::new();
        if let Some(config) = &wanted {
            match self.attempt(app, config, restless).await {
                Ok((next, scan)) => {
                    self.swap(app, next, &config.warnings);
                    self.note(scan, found);
                    return wanted;
                }
                Err(wrong) => problems = wrong,
            }
        }
        let config = self.config.clone();
        let scan = match self.scan(app, &config, restless).await {
            Ok(scan) => self.judge(app, &config, scan).await,
            Err(problem) => {
                problems.push(problem);
                found.settings.extend(texts(&problems));
                return None;
            }
        };
        let catalog = scan.catalog.clone();
        self.note(scan, found);
        // The new settings without the providers that were at fault; else the old ones with those that were not.
        if let Some(config) = wanted {
            match self.with(app, &config, catalog.clone()).await {
                Ok(next) => {
                    self.swap(app, next, &config.warnings);
                    return Some(config);
                }
                Err(wrong) => problems = wrong,
            }
        }
        found.settings.extend(texts(&problems));
        if !catalog.is_same(&app.catalog) {
            match self.with(app, &config, catalog).await {
                Ok(next) => self.swap(app, next, &[]),
                Err(wrong) => found.settings.extend(texts(&wrong)),
            }
        }
        None
    }

    async fn attempt(
        &self,
        app: &App,
        config: &Config,
        restless: &BTreeSet<PathBuf>,
    ) -> Result<(App, Scan), Vec<Problem>> {
        let scan = self.scan(app, config, restless).await.map_err(|problem| vec![problem])?;
        Ok((self.with(app, config, scan.catalog.clone()).await?, scan))
    }

    async fn with(
        &self,
        app: &App,
        config: &Config,
        catalog: Catalog,
    ) -> Result<App, Vec<Problem>> {
        let registries = Registries::build(config.registries.clone(), &catalog, &*self.aws).await?;
        app.next(config.clone(), catalog, registries)
    }

    async fn scan(
        &self,
        app: &App,
        config: &Config,
        restless: &BTreeSet<PathBuf>,
    ) -> Result<Scan, Problem> {
        let needed = config.registries.values().map(|it| it.provider.clone()).collect();
        let pins = Arc::new(Pins::load(&config.providers)?);
        let before =
            Before { catalog: &app.catalog, needed: &needed, restless, refused: &self.refused };
        Catalog::load(&config.providers, pins, &app.loader, Some(&before)).await
    }

    /// Puts the last good one back in place of each provider that refuses the settings of a registry that uses it.
    async fn judge(&self, app: &App, config: &Config, mut scan: Scan) -> Scan {
        let is_new = |it: &&Arc<Provider>| !app.catalog.iter().any(|old| Arc::ptr_eq(old, it));
        let changed: Vec<Arc<Provider>> = scan.catalog.iter().filter(is_new).cloned().collect();
        for provider in changed {
            let mut registries = config.registries.clone();
            registries.retain(|_, it| provider.names().any(|name| name == it.provider));
            let Err(problems) = Registries::build(registries, &scan.catalog, &*self.aws).await
            else {
                continue;
            };
            let of_file = app.catalog.of_file(&provider.file);
            if let Some(old) = of_file.or_else(|| app.catalog.find(&provider.manifest.name)) {
                scan.catalog = scan.catalog.with(old);
            }
            scan.refused.push(RejectedFile {
                file: provider.file.clone(),
                digest: Some(Arc::clone(&provider.digest)),
                error: Arc::new(LoadError::Settings(texts(&problems).join("; "))),
            });
        }
        scan
    }

    fn note(&mut self, scan: Scan, found: &mut Found) {
        found.providers = scan.refused.iter().map(RefusedFile::from).collect();
        found.missing_files = scan.gone.iter().map(|it| it.file.display().to_string()).collect();
        self.refused = scan.refused;
    }

    fn swap(&self, app: &App, next: App, warnings: &[Problem]) {
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        for new in
            next.catalog.iter().filter(|it| !app.catalog.iter().any(|old| Arc::ptr_eq(old, it)))
        {
            let (provider, version) = (&new.manifest.name, &new.manifest.version);
            let (digest, file) = (&*new.digest, new.file.display());
            tracing::info!(provider, version, digest, %file, "a provider is in use");
        }
        next.identity.prefetch();
        self.current.replace(next);
        tracing::info!("reloaded");
    }
}

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// Keys that were changed since the start and are read at start only.
fn needs_restart(started: &Config, now: &Config) -> Vec<String> {
    let mut changed: Vec<String> = ["server", "audit", "log"]
        .iter()
        .flat_map(|table| Written::changes(&started.written, &now.written, table))
        .collect();
    let (had, wants) = (started.providers.widest(), now.providers.widest());
    // The pool has places of this size.
    for (key, is_larger) in [
        ("memory_mib", wants.memory > had.memory),
        ("table_elements", wants.table_elements > had.table_elements),
    ] {
        changed.extend(is_larger.then(|| format!("providers.limits.{key}")));
    }
    changed
}
