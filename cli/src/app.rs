//! What a command can reach, built once.

use crate::broker::Broker;
use crate::cache::Cache;
use crate::deadline::{Deadline, WHOLE};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::settings::{Flags, Settings};
use crate::terminal::Terminal;
use crate::token::TokenSource;

pub(crate) struct App {
    pub(crate) environment: Environment,
    pub(crate) settings: Settings,
    pub(crate) terminal: Terminal,
    /// Of what ends by itself; `exec` and `login` make new ones as they go.
    pub(crate) deadline: Deadline,
    /// Seconds since 1970. Time is a parameter: tests say what it is.
    pub(crate) now: fn() -> u64,
}

impl App {
    pub(crate) fn new(flags: &Flags, environment: Environment) -> Result<Self, Failure> {
        let settings = Settings::load(flags, &environment)?;
        let terminal = Terminal::new(flags.quiet, &environment);
        let deadline = Deadline::after(WHOLE);
        Ok(Self { environment, settings, terminal, deadline, now: crate::deadline::now })
    }

    pub(crate) fn broker(&self) -> Result<Broker, Failure> {
        Broker::new(&self.settings, &self.environment, self.now)
    }

    /// The first source that has a token, or could get one.
    pub(crate) fn source(&self) -> Result<TokenSource, Failure> {
        TokenSource::find(&self.settings, &self.environment)
    }

    pub(crate) fn cache(&self) -> Cache {
        Cache::new(self.environment.cache_directory())
    }
}
