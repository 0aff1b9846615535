//! What a handler can reach: the process and one generation.
//!
//! Tests build a [`Broker`] with doubles in its [`Surroundings`] and drive its router in process.

use std::path::PathBuf;
use std::sync::Arc;

use crate::audit::{self, Audit, Folder};
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
        let foundation = open(&config, &surroundings)?;
        let generation = Generation::first(&foundation, &config).await?;
        // Opening creates the folder and its keys, so it comes after everything else was right.
        let Surroundings { clock, disk, .. } = surroundings;
        let metrics = foundation.engine.metrics.clone();
        let audit = match disk {
            Some(disk) => Audit::on(disk, config.audit.clone(), clock, metrics),
            None => Audit::open(config.audit.clone(), clock, metrics),
        };
        let audit = audit.map_err(|message| vec![of_audit(&config, message)])?;
        let process = Process::new(foundation, audit, config.edge.clone(), config.cache);
        process.issuing.serve(&generation.registries);
        if let Some(shared) = &process.foundation.shared {
            shared.start().await;
        }
        Ok(Self { process: Arc::new(process), generation: Arc::new(generation) })
    }

    /// Reads from the audit log in `directory` which credentials of an earlier process are still to
    /// be ended.
    pub async fn recover(&self, directory: PathBuf) {
        let (registries, longest) = self.generation.registries.that_revoke();
        let read = tokio::task::spawn_blocking(move || {
            audit::outstanding(&Folder::new(directory), &registries, longest)
        });
        let why = match read.await {
            Ok(Ok(past)) => {
                return self.process.issuing.recover(past, &self.generation.registries);
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(
            error = why,
            "the audit log cannot be read back: credentials that were issued before this start and \
             that only the broker ends are not ended; correct this and start again"
        );
    }

    /// The same process with another generation.
    #[must_use]
    pub fn with_generation(&self, generation: Generation) -> Self {
        self.process.issuing.serve(&generation.registries);
        Self { process: Arc::clone(&self.process), generation: Arc::new(generation) }
    }
}

/// Everything that [`Broker::build`] checks. Creates nothing: the user who checks the settings may
/// be another one than the broker's.
pub async fn check(config: &Config) -> Result<(Foundation, Generation), Vec<Problem>> {
    let foundation = open(config, &Surroundings::reading())?;
    let generation = Generation::first(&foundation, config).await?;
    Audit::examine(&config.audit).map_err(|message| vec![of_audit(config, message)])?;
    Ok((foundation, generation))
}

/// The foundation. If it cannot be opened, the problems of the issuers are returned too.
fn open(config: &Config, surroundings: &Surroundings) -> Result<Foundation, Vec<Problem>> {
    let Config { providers, state_directory, written, shared, .. } = config;
    let opened = Foundation::open(providers, state_directory, written, surroundings);
    let opened = opened.and_then(|mut foundation| match shared {
        None => Ok(foundation),
        Some(settings) => match foundation.share(settings, written, surroundings.only_reads) {
            Ok(()) => Ok(foundation),
            Err(problem) => Err(vec![problem]),
        },
    });
    opened.map_err(|problems| {
        let memory = IssuerMemory::new(true);
        let issuers = generation::identity(config, &surroundings.clock, &memory);
        problems.into_iter().chain(issuers.err().into_iter().flatten()).collect()
    })
}

fn of_audit(config: &Config, message: String) -> Problem {
    config.written.problem("/audit/directory", message)
}

/// Everything that is wrong with a draft that has problems, including what its providers and
/// registries would have wrong if those problems were solved. Creates nothing.
pub async fn examine(draft: Draft) -> Vec<Problem> {
    if draft.is_broken("server") || draft.is_broken("providers") {
        return draft.problems;
    }
    let Config { providers, state_directory, written, .. } = &draft.config;
    match Foundation::open(providers, state_directory, written, &Surroundings::reading()) {
        Ok(foundation) => generation::examine(draft, &foundation).await,
        Err(problems) => draft.problems.into_iter().chain(problems).collect(),
    }
}
