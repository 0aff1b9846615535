//! Everything that a command needs, built once per run.

use std::time::Duration;

use crate::broker::Broker;
use crate::cache::Cache;
use crate::deadline::Deadline;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::patience::{Patience, Setback};
use crate::settings::{Flags, Settings};
use crate::terminal::Terminal;
use crate::token::{Token, TokenSource};

/// Seconds. A token that expires sooner is replaced before the next attempt.
const LEAST: u64 = 10;

pub(crate) struct App {
    pub(crate) environment: Environment,
    pub(crate) settings: Settings,
    pub(crate) terminal: Terminal,
    /// The wait of a run that ends on its own. `exec` and `login` start further ones.
    pub(crate) patience: Patience,
    /// Returns the seconds since 1970. Tests replace it.
    pub(crate) now: fn() -> u64,
}

impl App {
    /// `wait` applies if the settings name none.
    pub(crate) fn new(
        flags: &Flags,
        environment: Environment,
        wait: Duration,
    ) -> Result<Self, Failure> {
        let settings = Settings::load(flags, &environment)?;
        let terminal = Terminal::new(flags.quiet, &environment);
        let wait = settings.wait.as_ref().map_or(wait, |stated| stated.value);
        let patience = Patience::new(wait, terminal);
        Ok(Self { environment, settings, terminal, patience, now: crate::deadline::now })
    }

    /// The same, but each request is tried once.
    pub(crate) fn without_waiting(self) -> Self {
        Self { patience: self.patience.once(), ..self }
    }

    pub(crate) fn broker(&self) -> Result<Broker, Failure> {
        Broker::new(&self.settings, &self.environment, self.now)
    }

    /// The first source that has a token or can request one.
    pub(crate) fn source(&self) -> Result<TokenSource, Failure> {
        TokenSource::find(&self.settings, &self.environment)
    }

    /// Sends a request with the caller's token, as often as the wait of this run allows.
    pub(crate) fn ask<T>(
        &self,
        request: impl Fn(&Broker, &Token, Deadline) -> Result<T, Setback>,
    ) -> Result<T, Failure> {
        self.ask_as(self.source()?, self.patience, request)
    }

    /// Sends a request with a token of `source`. A token that expires between two attempts is
    /// requested again where possible.
    pub(crate) fn ask_as<T>(
        &self,
        mut source: TokenSource,
        patience: Patience,
        request: impl Fn(&Broker, &Token, Deadline) -> Result<T, Setback>,
    ) -> Result<T, Failure> {
        let broker = self.broker()?;
        let mut token = source.token(&self.settings, &self.environment, patience)?;
        let mut is_first = true;
        patience.repeat("asking the broker", |deadline| {
            let ends = token.claims.time("exp").is_some_and(|end| end <= (self.now)() + LEAST);
            if !is_first && ends && source.is_renewable() {
                source = self.source()?;
                token = source.token(&self.settings, &self.environment, patience.quiet())?;
            }
            is_first = false;
            request(&broker, &token, deadline)
        })
    }

    pub(crate) fn cache(&self) -> Cache {
        Cache::new(self.environment.cache_directory())
    }
}
