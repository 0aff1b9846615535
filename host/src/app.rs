//! What a handler can reach: one generation. Built from settings and providers; tests build the same with doubles.
//!
//! An `App` does not change. A reload makes the next one ([`App::next`]), which shares with the last what must outlive a
//! generation: the record, the metrics, the engine, the counts of limits, the keys of issuers, the tokens that were used.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;

use crate::audit::{Audit, AuditError};
use crate::capability::aws::Aws;
use crate::capability::aws::ceiling::AwsSettings;
use crate::capability::aws::sdk::SdkAws;
use crate::config::node::Problem;
use crate::config::{Config, Draft, ProvidersConfig, RegistryConfig, Written};
use crate::domain::{Clock, RegistryName, Secret};
use crate::findings::Findings;
use crate::http::listen::Edge;
use crate::identity::{Identity, IdentitySettings, IssuerMemory, SetupError};
use crate::limits::Limits;
use crate::provider::{Catalog, Engine, Loader, Pins, Scan};
use crate::registries::{ConnectAws, Registries};
use crate::rules::Rules;
use crate::state;
use crate::telemetry::{Metrics, Step};

pub struct App {
    pub clock: Clock,
    pub identity: Identity,
    pub rules: Rules,
    pub limits: Limits,
    pub edge: Edge,
    pub catalog: Catalog,
    pub registries: Registries,
    pub audit: Audit,
    pub engine: Engine,
    pub metrics: Metrics,
    pub loader: Arc<Loader>,
    /// What the last reload found wrong.
    pub findings: Arc<Findings>,
    draining: Arc<AtomicBool>,
    /// What outlives a reload of the issuers.
    issuers: Arc<IssuerMemory>,
}

/// The real AWS.
pub struct Sdk;

#[async_trait]
impl ConnectAws for Sdk {
    async fn connect(
        &self,
        settings: AwsSettings,
        keys: Option<(Arc<Secret>, Arc<Secret>)>,
    ) -> Arc<dyn Aws> {
        let keys = keys.as_ref().map(|(id, secret)| (&**id, &**secret));
        Arc::new(SdkAws::connect(&settings, keys).await)
    }
}

impl App {
    /// Loads every provider and checks every registry with it. Nothing outside this machine is asked.
    pub async fn build(
        config: Config,
        clock: Clock,
        aws: &dyn ConnectAws,
    ) -> Result<Self, Vec<Problem>> {
        let written = &config.written;
        let checked = check(
            &config.providers,
            &config.state_directory,
            config.registries,
            written,
            &clock,
            aws,
        );
        let (checked, mut problems) = match checked.await {
            Ok(checked) => (Some(checked), vec![]),
            Err(problems) => (None, problems),
        };
        let issuers = Arc::new(IssuerMemory::default());
        let identity = identity(config.identity, written, &issuers, &clock);
        problems.extend(identity.as_ref().err().into_iter().flatten().cloned());
        // Nothing is written there as long as something else is wrong.
        let (Some((engine, loader, catalog, registries)), Ok(identity)) = (checked, identity)
        else {
            return Err(problems);
        };
        let limits = Limits::new(&config.limits, limited(&registries), &clock);
        let audit = Audit::open(config.audit, clock.clone())
            .map_err(|message| vec![written.problem("/audit/directory", message)])?;
        Ok(Self {
            clock,
            identity,
            rules: config.rules,
            limits,
            edge: config.edge,
            catalog,
            registries,
            audit,
            metrics: engine.metrics.clone(),
            engine,
            loader: Arc::new(loader),
            findings: Arc::default(),
            draining: Arc::default(),
            issuers,
        })
    }

    /// The generation behind this one. What has a life of its own goes on: `[server]`, `[audit]` and `[log]` of `config` are not
    /// looked at.
    pub fn next(
        &self,
        config: Config,
        catalog: Catalog,
        registries: Registries,
    ) -> Result<Self, Vec<Problem>> {
        let identity = identity(config.identity, &config.written, &self.issuers, &self.clock)?;
        Ok(Self {
            clock: self.clock.clone(),
            identity,
            rules: config.rules,
            limits: self.limits.next(&config.limits, limited(&registries), &self.clock),
            edge: self.edge.clone(),
            catalog,
            registries,
            audit: self.audit.clone(),
            engine: self.engine.clone(),
            metrics: self.metrics.clone(),
            loader: Arc::clone(&self.loader),
            findings: Arc::clone(&self.findings),
            draining: Arc::clone(&self.draining),
            issuers: Arc::clone(&self.issuers),
        })
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Measures the writing of one audit record.
    pub async fn record(
        &self,
        step: Step,
        event: &'static str,
        recording: impl Future<Output = Result<(), AuditError>>,
    ) -> Result<(), AuditError> {
        let started = Instant::now();
        let recorded = step.measure(&self.metrics, recording).await;
        self.metrics.audit_record(event, recorded.is_ok(), started.elapsed());
        recorded
    }

    /// A denial stands whether or not it could be recorded; that it could not is the operator's business.
    pub async fn record_denial(&self, recording: impl Future<Output = Result<(), AuditError>>) {
        if let Err(error) = self.record(Step::AuditDenial, "authz.denied", recording).await {
            tracing::error!(%error, "a denial could not be recorded");
        }
    }
}

/// Everything wrong with a draft: what its text has wrong, and what its providers and registries would have wrong if the rest
/// were mended. Needs a draft with problems.
pub async fn examine(draft: Draft, clock: Clock, aws: &dyn ConnectAws) -> Vec<Problem> {
    let can_look = !draft.is_broken("server") && !draft.is_broken("providers");
    let Draft { config, mut problems, .. } = draft;
    if can_look {
        let Config { providers, state_directory, registries, written, .. } = config;
        let checked = check(&providers, &state_directory, registries, &written, &clock, aws);
        problems.extend(checked.await.err().into_iter().flatten());
    }
    problems
}

/// Each registry's name, and whether it calls AWS, which throttles whole accounts.
fn limited(registries: &Registries) -> impl Iterator<Item = (&RegistryName, bool)> {
    registries.iter().map(|it| (&it.name, it.provider.imports.contains(&"aws")))
}

fn identity(
    settings: IdentitySettings,
    written: &Written,
    memory: &IssuerMemory,
    clock: &Clock,
) -> Result<Identity, Vec<Problem>> {
    let names: Vec<String> = settings.issuers.iter().map(|issuer| issuer.name.clone()).collect();
    let place = |error: SetupError| {
        let mut indexes =
            (0..names.len()).filter(|index| names.get(*index) == error.issuer.as_ref());
        let pointer = match (indexes.next(), indexes.next()) {
            (Some(index), None) => format!("/auth/issuers/{index}"),
            (Some(_), Some(_)) => "/auth/issuers".to_owned(),
            (None, _) => "/auth".to_owned(),
        };
        written.problem(&pointer, error.to_string())
    };
    Identity::build(settings, memory, clock.clone())
        .map_err(|setup| setup.into_iter().map(place).collect())
}

async fn check(
    providers: &ProvidersConfig,
    state_directory: &Path,
    mut registries: BTreeMap<RegistryName, RegistryConfig>,
    written: &Written,
    clock: &Clock,
    aws: &dyn ConnectAws,
) -> Result<(Engine, Loader, Catalog, Registries), Vec<Problem>> {
    let (engine, loader) = loader(providers, state_directory, written, clock)?;
    let pins = Pins::load(providers).map_err(|problem| vec![problem])?;
    let scan = Catalog::load(providers, Arc::new(pins), &loader, None).await;
    let Scan { catalog, refused, .. } = scan.map_err(|problem| vec![problem])?;
    let mut problems: Vec<Problem> = refused.iter().map(Problem::from).collect();
    if !problems.is_empty() {
        // A provider that is missing now may be one of those that could not be loaded.
        registries.retain(|_, registry| catalog.find(&registry.provider).is_some());
    }
    match Registries::build(registries, &catalog, aws).await {
        Ok(registries) if problems.is_empty() => Ok((engine, loader, catalog, registries)),
        built => {
            problems.extend(built.err().into_iter().flatten());
            Err(problems)
        }
    }
}

/// What loads providers, and runs them.
pub fn loader(
    providers: &ProvidersConfig,
    state_directory: &Path,
    written: &Written,
    clock: &Clock,
) -> Result<(Engine, Loader), Vec<Problem>> {
    let cache = state::open(state_directory, &providers.directory)
        .map_err(|message| vec![written.problem("/server/state_directory", message)])?;
    let own = |what: &str, error: wasmtime::Error| {
        vec![Problem::new("this program", "", format!("cannot {what}: {error}"))]
    };
    let engine = Engine::new(&providers.widest(), Metrics::new())
        .map_err(|error| own("start its WebAssembly engine", error))?;
    let loader = Loader::new(&engine, cache, clock, providers.compiler.clone())
        .map_err(|error| own("link its own capabilities, please report it", error))?;
    Ok((engine, loader))
}
