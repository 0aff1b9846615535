//! Why a run ends without what was asked for: one line, what to do, and the exit code that scripts see.
//!
//! Variants are grouped by what happens next. Texts are in lower case, without a full stop, and name what to change.

use std::process::ExitCode;

/// The longest part of a line that somebody else wrote.
const LONGEST: usize = 400;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Something else ended, and its words stand on the stream already.
    #[error("{0}")]
    Other(String),
    /// Change the command line or the settings.
    #[error("{0}")]
    Settings(String),
    /// Get a token, or another one.
    #[error("{0}")]
    Token(String),
    /// Ask the operator for a rule, or for another project.
    #[error("{0}")]
    Denied(String),
    /// Try again later.
    #[error("{0}")]
    Unavailable(String),
    /// Find out who answered: the certificate is unknown, or a broker would not say that.
    #[error("{0}")]
    Untrusted(String),
    /// Files or programs of this machine stand in the way.
    #[error("{0}")]
    Files(String),
}

impl Failure {
    /// As `docs/client.md` and `rise-registry --help` list them.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Other(_) => 1,
            Self::Settings(_) => 2,
            Self::Token(_) => 3,
            Self::Denied(_) => 4,
            Self::Unavailable(_) => 5,
            Self::Untrusted(_) => 6,
            Self::Files(_) => 7,
        }
    }

    /// On one line, whatever it consists of.
    pub(crate) fn line(&self) -> String {
        one_line(&self.to_string(), 2_000)
    }
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> Self {
        failure.exit_code().into()
    }
}

/// What somebody else wrote, fit for a line of ours: no control characters, which a terminal obeys, and not long.
pub(crate) fn shown(text: &str) -> String {
    one_line(text.trim(), LONGEST)
}

fn one_line(text: &str, longest: usize) -> String {
    let harmless = |c: char| if c.is_control() || is_invisible(c) { ' ' } else { c };
    let mut line: String = text.chars().take(longest).map(harmless).collect();
    if text.chars().nth(longest).is_some() {
        line.push('…');
    }
    line
}

/// Marks that reorder or hide what stands around them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_obeys_nobody() {
        let failure = Failure::Denied("no\r\n\u{1b}[2Jrule\u{202e}".into());
        assert_eq!(failure.line(), "no   [2Jrule ");
        assert_eq!(shown(&"x".repeat(401)).chars().count(), 401);
        assert!(shown(&"x".repeat(401)).ends_with('…'));
    }
}
