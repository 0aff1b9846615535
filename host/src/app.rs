//! What a handler can reach. Built once from the settings; tests build the same with doubles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use crate::audit::{Audit, AuditError};
use crate::capability::aws::Aws;
use crate::capability::aws::ceiling::AwsSettings;
use crate::capability::aws::sdk::SdkAws;
use crate::config::Config;
use crate::config::node::Problem;
use crate::domain::{Clock, Secret};
use crate::identity::Identity;
use crate::provider::{Catalog, Engine};
use crate::registries::{ConnectAws, Registries};
use crate::rules::Rules;
use crate::state;

pub struct App {
    pub clock: Clock,
    pub identity: Identity,
    pub rules: Rules,
    pub catalog: Catalog,
    pub registries: Registries,
    pub audit: Audit,
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
        let cache = state::open(&config.state_directory, &config.providers.directory)
            .map_err(|problem| vec![problem])?;
        let engine = Engine::new(&config.providers.widest()).map_err(|error| {
            vec![Problem::new(
                "this program",
                "",
                format!("cannot start its WebAssembly engine: {error}"),
            )]
        })?;
        let catalog = Catalog::load(&config.providers, &engine, &cache, &clock).await?;
        let registries = Registries::build(config.registries, &catalog, aws).await;
        let identity = Identity::build(config.identity, clock.clone());
        let (registries, identity) =
            match (registries, identity) {
                (Ok(registries), Ok(identity)) => (registries, identity),
                (registries, identity) => {
                    let mut problems = registries.err().unwrap_or_default();
                    let setup = identity.err().into_iter().flatten();
                    problems.extend(setup.map(|error| {
                        Problem::new("the settings", "auth.issuers", error.to_string())
                    }));
                    return Err(problems);
                }
            };
        let audit = Audit::open(&config.audit_directory, clock.clone())
            .map_err(|message| vec![Problem::new("the settings", "audit.directory", message)])?;
        Ok(Self {
            clock,
            identity,
            rules: config.rules,
            catalog,
            registries,
            audit,
            draining: AtomicBool::new(false),
        })
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// A denial stands whether or not it could be recorded; that it could not is the operator's business.
    pub fn record_denial(&self, recorded: Result<(), AuditError>) {
        if let Err(error) = recorded {
            tracing::error!(%error, "a denial could not be recorded");
        }
    }
}
