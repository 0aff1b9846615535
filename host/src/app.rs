//! What a handler can reach. Built once from the settings; tests build the same with doubles.

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
use crate::http::listen::Edge;
use crate::identity::Identity;
use crate::limits::Limits;
use crate::provider::{Catalog, Engine};
use crate::registries::{ConnectAws, Registries, Registry};
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
    draining: AtomicBool,
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
        let names: Vec<String> =
            config.identity.issuers.iter().map(|issuer| issuer.name.clone()).collect();
        let identity = Identity::build(config.identity, clock.clone()).map_err(|setup| {
            problems.extend(setup.into_iter().map(|error| {
                let mut indexes =
                    (0..names.len()).filter(|index| names.get(*index) == error.issuer.as_ref());
                let pointer = match (indexes.next(), indexes.next()) {
                    (Some(index), None) => format!("/auth/issuers/{index}"),
                    (Some(_), Some(_)) => "/auth/issuers".to_owned(),
                    (None, _) => "/auth".to_owned(),
                };
                written.problem(&pointer, error.to_string())
            }));
        });
        // Nothing is written there as long as something else is wrong.
        let (Some((engine, catalog, registries)), Ok(identity)) = (checked, identity) else {
            return Err(problems);
        };
        let throttled = |it: &Arc<Registry>| it.provider.imports.contains(&"aws");
        let limited = registries.iter().map(|it| (&it.name, throttled(it)));
        let limits = Limits::new(&config.limits, limited, &clock);
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
            draining: AtomicBool::new(false),
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

async fn check(
    providers: &ProvidersConfig,
    state_directory: &Path,
    mut registries: BTreeMap<RegistryName, RegistryConfig>,
    written: &Written,
    clock: &Clock,
    aws: &dyn ConnectAws,
) -> Result<(Engine, Catalog, Registries), Vec<Problem>> {
    let cache = state::open(state_directory, &providers.directory)
        .map_err(|message| vec![written.problem("/server/state_directory", message)])?;
    let engine = Engine::new(&providers.widest(), Metrics::new()).map_err(|error| {
        let message = format!("cannot start its WebAssembly engine: {error}");
        vec![Problem::new("this program", "", message)]
    })?;
    let (catalog, mut problems) = Catalog::load(providers, &engine, &cache, clock).await;
    if !problems.is_empty() {
        // A provider that is missing now may be one of those that could not be loaded.
        registries.retain(|_, registry| catalog.find(&registry.provider).is_some());
    }
    match Registries::build(registries, &catalog, aws).await {
        Ok(registries) if problems.is_empty() => Ok((engine, catalog, registries)),
        built => {
            problems.extend(built.err().into_iter().flatten());
            Err(problems)
        }
    }
}
