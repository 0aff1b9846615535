//! Output: answers on stdout, everything else on stderr.
//!
//! A closed stream is not an error, as in `rise-registry registries | head -1`.

mod waiting;

use std::io::{self, IsTerminal as _, Write as _};

pub(crate) use self::waiting::Waiting;

use crate::environment::Environment;

/// How this run prints.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terminal {
    pub(crate) quiet: bool,
    /// Whether stdout gets colours: only a terminal does, and not with `NO_COLOR`.
    pub(crate) colours: bool,
    /// Whether stderr is a terminal, which shows progress.
    pub(crate) progress: bool,
}

impl Terminal {
    pub(crate) fn new(quiet: bool, environment: &Environment) -> Self {
        let dumb = environment.text("TERM") == Some("dumb");
        let colours = io::stdout().is_terminal() && !dumb && environment.text("NO_COLOR").is_none();
        Self { quiet, colours, progress: io::stderr().is_terminal() && !quiet && !dumb }
    }

    /// Prints one line on stderr, unless `--quiet` is set.
    pub(crate) fn note(self, line: &str) {
        if !self.quiet {
            error_line(line);
        }
    }

    /// After a second, shows `what` on stderr until the returned value is dropped.
    pub(crate) fn waiting(self, what: &str) -> Waiting {
        Waiting::start(self.progress, what)
    }

    /// `✓` in green or `✗` in red.
    pub(crate) fn mark(self, good: bool) -> &'static str {
        match (good, self.colours) {
            (true, true) => "\u{1b}[32m✓\u{1b}[0m",
            (true, false) => "✓",
            (false, true) => "\u{1b}[31m✗\u{1b}[0m",
            (false, false) => "✗",
        }
    }
}

/// Prints the text on stdout.
pub(crate) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Prints a line on stdout.
pub(crate) fn line(text: &str) {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(b"\n"));
    let _ = written.and_then(|()| stdout.flush());
}

/// Prints a line on stderr.
pub(crate) fn error_line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
