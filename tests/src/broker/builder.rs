//! The settings and surroundings from which a broker in process is built.

use std::sync::Arc;

use rise_broker::broker::Broker;
use rise_broker::config::Environment;
use rise_broker::config::node::Problem;
use rise_broker::domain::Clock;
use rise_broker::process::Surroundings;
use rise_broker::provider::compile::{Bounds, Compiler};
use rise_broker::registries::ConnectAws;

use super::{TestBroker, lines};
use crate::built::binary;
use crate::{FakeDisk, Settings, logs};

/// Builds a [`TestBroker`]. Made by [`TestBroker::with_registries`] and
/// [`TestBroker::with_settings`].
#[must_use]
pub struct BrokerBuilder {
    settings: Settings,
    environment: Environment,
    surroundings: Surroundings,
}

impl BrokerBuilder {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, environment: Environment::new(), surroundings: surroundings() }
    }

    /// Adds components of `tests/guests` to the providers.
    pub fn guests(mut self, names: &[&str]) -> Self {
        self.settings = self.settings.guests(names);
        self
    }

    /// Adds providers of this repository to `ecr` and `oci`.
    pub fn providers(mut self, names: &[&str]) -> Self {
        self.settings = self.settings.providers(names);
        self
    }

    /// Sets the variables that the settings read.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    pub fn clock(mut self, clock: Clock) -> Self {
        self.surroundings.clock = clock;
        self
    }

    pub fn aws(mut self, aws: impl ConnectAws + 'static) -> Self {
        self.surroundings.aws = Arc::new(aws);
        self
    }

    /// Writes the audit log to `disk`.
    pub fn disk(mut self, disk: &FakeDisk) -> Self {
        self.surroundings.disk = Some(Box::new(disk.clone()));
        self
    }

    /// # Panics
    /// With everything that is wrong with the settings.
    pub async fn start(self) -> TestBroker {
        self.try_start().await.unwrap_or_else(|problems| panic!("{}", lines(&problems)))
    }

    /// Starts the broker, or returns everything that is wrong with the settings.
    pub async fn try_start(self) -> Result<TestBroker, Vec<Problem>> {
        logs::start();
        let config = self.settings.config(&self.environment)?;
        let broker = Box::pin(Broker::build(config.clone(), self.surroundings)).await?;
        Ok(TestBroker::new(broker, self.settings, config))
    }
}

/// The real surroundings, except for the program that compiles: this program is a test.
fn surroundings() -> Surroundings {
    let compiler = Compiler::Program(binary(), Bounds::default());
    Surroundings { compiler, ..Surroundings::real() }
}
