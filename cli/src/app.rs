//! Everything that a command needs, built once per run.

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
    /// The end of a run that ends on its own. `exec` and `login` set their own deadlines.
    pub(crate) deadline: Deadline,
    /// Returns the seconds since 1970. Tests replace it.
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

    /// The first source that has a token or can request one.
    pub(crate) fn source(&self) -> Result<TokenSource, Failure> {
        TokenSource::find(&self.settings, &self.environment)
    }

    pub(crate) fn cache(&self) -> Cache {
        Cache::new(self.environment.cache_directory())
    }
}
