//! What is printed: answers on stdout, everything else on stderr.
//!
//! A stream that nobody reads any more is no error: `rise-registry registries | head -1`.

mod waiting;

use std::io::{self, IsTerminal as _, Write as _};

pub(crate) use self::waiting::Waiting;

use crate::environment::Environment;

/// How this run speaks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terminal {
    pub(crate) quiet: bool,
    /// Of stdout. `NO_COLOR` and anything but a terminal say no.
    pub(crate) colours: bool,
    /// Of stderr: progress is for people only.
    pub(crate) progress: bool,
}

impl Terminal {
    pub(crate) fn new(quiet: bool, environment: &Environment) -> Self {
        let dumb = environment.text("TERM") == Some("dumb");
        let colours = io::stdout().is_terminal() && !dumb && environment.text("NO_COLOR").is_none();
        Self { quiet, colours, progress: io::stderr().is_terminal() && !quiet && !dumb }
    }

    /// One line for people, unless `--quiet`.
    pub(crate) fn note(self, line: &str) {
        if !self.quiet {
            error_line(line);
        }
    }

    /// Says so on stderr after a second, for people, until what is returned is dropped.
    pub(crate) fn waiting(self, what: &'static str) -> Waiting {
        Waiting::start(self.progress, what)
    }

    /// ` ✓ ` in green, ` ✗ ` in red.
    pub(crate) fn mark(self, good: bool) -> &'static str {
        match (good, self.colours) {
            (true, true) => "\u{1b}[32m✓\u{1b}[0m",
            (true, false) => "✓",
            (false, true) => "\u{1b}[31m✗\u{1b}[0m",
            (false, false) => "✗",
        }
    }
}

/// To stdout, as it is.
pub(crate) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// To stdout, as a line.
pub(crate) fn line(text: &str) {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(b"\n"));
    let _ = written.and_then(|()| stdout.flush());
}

/// To stderr, as a line.
pub(crate) fn error_line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
