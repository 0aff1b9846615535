//! Failures of a run: one line that names the remedy, and the exit code for scripts.
//!
//! Variants are grouped by what the caller does next. Texts are in lower case, without a full stop.

use std::process::ExitCode;

/// Characters of foreign text that are shown on one line.
const LONGEST: usize = 400;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A failure of any other kind.
    #[error("{0}")]
    Other(String),
    /// The caller changes the command line or the settings.
    #[error("{0}")]
    Settings(String),
    /// The caller gets a token, or a different one.
    #[error("{0}")]
    Token(String),
    /// The caller asks the operator for a rule, or uses another project.
    #[error("{0}")]
    Denied(String),
    /// The caller tries again later.
    #[error("{0}")]
    Unavailable(String),
    /// The caller finds out which server answered: its certificate is unknown, or its answer is not
    /// one that a broker gives.
    #[error("{0}")]
    Untrusted(String),
    /// The caller changes files or programs of this machine.
    #[error("{0}")]
    Files(String),
}

impl Failure {
    /// `docs/client.md` and `rise-registry --help` list the codes.
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

    /// The same failure with more text at its end.
    pub(crate) fn with(self, more: &str) -> Self {
        let add = |text: String| text + more;
        match self {
            Self::Other(text) => Self::Other(add(text)),
            Self::Settings(text) => Self::Settings(add(text)),
            Self::Token(text) => Self::Token(add(text)),
            Self::Denied(text) => Self::Denied(add(text)),
            Self::Unavailable(text) => Self::Unavailable(add(text)),
            Self::Untrusted(text) => Self::Untrusted(add(text)),
            Self::Files(text) => Self::Files(add(text)),
        }
    }

    /// The text on one line without control characters.
    pub(crate) fn line(&self) -> String {
        one_line(&self.to_string(), 2_000)
    }
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> Self {
        failure.exit_code().into()
    }
}

/// Foreign text in a form that is safe to print: short, and without the control characters that a
/// terminal obeys.
pub(crate) fn shown(text: &str) -> String {
    one_line(text.trim(), LONGEST)
}

fn one_line(text: &str, longest: usize) -> String {
    let harmless =
        |letter: char| if letter.is_control() || is_invisible(letter) { ' ' } else { letter };
    let mut line: String = text.chars().take(longest).map(harmless).collect();
    if text.chars().nth(longest).is_some() {
        line.push('…');
    }
    line
}

/// Marks that reorder or hide the text around them.
fn is_invisible(letter: char) -> bool {
    matches!(
        letter,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
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
