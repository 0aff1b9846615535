//! What a command can reach, built once.

use crate::broker::Broker;
use crate::cache::Cache;
use crate::deadline::{Deadline, WHOLE};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::settings::{Flags, Settings};
use crate::terminal::Terminal;
use crate::token::Source;

pub struct App {
    pub environment: Environment,
    pub settings: Settings,
    pub terminal: Terminal,
    /// Of what ends by itself; `exec` and `login` make new ones as they go.
    pub deadline: Deadline,
    /// Seconds since 1970. Time is a parameter: tests say what it is.
    pub now: fn() -> u64,
}

impl App {
    pub fn new(flags: &Flags, environment: Environment) -> Result<Self, Failure> {
        let settings = Settings::load(flags, &environment)?;
        let terminal = Terminal::new(flags.quiet, &environment);
        let deadline = Deadline::after(WHOLE);
        Ok(Self { environment, settings, terminal, deadline, now: crate::deadline::now })
    }

    pub fn broker(&self) -> Result<Broker, Failure> {
        Broker::new(&self.settings, &self.environment, self.now)
    }

    /// The first source that has a token, or could get one.
    pub fn source(&self) -> Result<Source, Failure> {
        Source::find(&self.settings, &self.environment)
    }

    pub fn cache(&self) -> Cache {
        Cache::new(self.environment.cache_directory())
    }
}
