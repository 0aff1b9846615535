//! What a handler can reach: the process and one generation.
//!
//! Tests build a [`Broker`] with doubles in its [`Surroundings`] and drive its router in process.

use std::sync::Arc;

use crate::audit::Audit;
use crate::config::node::Problem;
use crate::config::{Config, Draft};
use crate::generation::{self, Generation};
use crate::identity::IssuerMemory;
use crate::process::{Foundation, Process, Surroundings};

/// The state of every handler.
#[derive(Clone)]
pub struct Broker {
    pub process: Arc<Process>,
    pub generation: Arc<Generation>,
}

impl Broker {
    /// Loads every provider, checks every registry with it, and opens the audit log.
    pub async fn build(config: Config, surroundings: Surroundings) -> Result<Self, Vec<Problem>> {
        let Config { providers, state_directory, written, .. } = &config;
        let opened = Foundation::open(providers, state_directory, written, &surroundings);
        let foundation = opened.map_err(|problems| {
            let memory = IssuerMemory::default();
            let issuers = generation::identity(&config, &surroundings.clock, &memory);
            problems.into_iter().chain(issuers.err().into_iter().flatten()).collect::<Vec<_>>()
        })?;
        let generation = Generation::first(&foundation, &config).await?;
        // Opening creates the folder and its keys, so it comes after everything else was right.
        let Surroundings { clock, disk, .. } = surroundings;
        let metrics = foundation.engine.metrics.clone();
        let audit = match disk {
            Some(disk) => Audit::on(disk, config.audit.clone(), clock, metrics),
            None => Audit::open(config.audit.clone(), clock, metrics),
        };
        let audit = audit.map_err(|message| vec![written.problem("/audit/directory", message)])?;
        let process = Process::new(foundation, audit, config.edge.clone(), config.cache);
        process.issuing.serve(&generation.registries);
        Ok(Self { process: Arc::new(process), generation: Arc::new(generation) })
    }

    /// The same process with another generation.
    #[must_use]
    pub fn with_generation(&self, generation: Generation) -> Self {
        self.process.issuing.serve(&generation.registries);
        Self { process: Arc::clone(&self.process), generation: Arc::new(generation) }
    }
}

/// Everything that is wrong with a draft that has problems, including what its providers and
/// registries would have wrong if those problems were solved.
pub async fn examine(draft: Draft, surroundings: &Surroundings) -> Vec<Problem> {
    if draft.is_broken("server") || draft.is_broken("providers") {
        return draft.problems;
    }
    let Config { providers, state_directory, written, .. } = &draft.config;
    match Foundation::open(providers, state_directory, written, surroundings) {
        Ok(foundation) => generation::examine(draft, &foundation).await,
        Err(problems) => draft.problems.into_iter().chain(problems).collect(),
    }
}
