//! Text with `{project}` in it, and what it stands for.
//!
//! **Invariant:** a pattern either compares to the last byte or stops right behind a delimiter. `{project}` is compared as
//! the requested project's own text; the grammar of a project has no delimiter and no `*`, so it cannot widen one.

use std::fmt;

use crate::domain::Project;

/// Where a prefix may end and what bounds a `*`. None of them occurs in a segment, which is what keeps `acme/` from
/// matching `acme-evil/…` and `*` from reaching across a path.
const DELIMITERS: [char; 3] = ['/', ':', '@'];
const PROJECT: &str = "{project}";
const LONGEST_TEXT: usize = 1024;

/// Text with `{project}` and, in a glob, `*` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Project,
    /// One or more of `A-Za-z0-9._-`.
    Segment,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidPattern {
    #[error("is empty: write what the claim must be, or remove it")]
    Empty,
    #[error("is longer than {LONGEST_TEXT} characters")]
    TooLong,
    #[error("has a `{{` or `}}` that is not part of `{{project}}`, the only placeholder there is")]
    Placeholder,
    #[error("must end in `/`, `:` or `@`: `acme` would match `acme-evil` too, write `acme/`")]
    OpenPrefix,
    #[error(
        "has a `*` that is not a whole segment: it must stand between `/`, `:`, `@` or the ends of the text"
    )]
    PartialSegment,
}

impl Pattern {
    pub(super) fn literal(text: &str) -> Result<Self, InvalidPattern> {
        if text.is_empty() {
            return Err(InvalidPattern::Empty);
        }
        if text.len() > LONGEST_TEXT {
            return Err(InvalidPattern::TooLong);
        }
        let mut pieces = Vec::new();
        for (index, part) in text.split(PROJECT).enumerate() {
            if part.contains(['{', '}']) {
                return Err(InvalidPattern::Placeholder);
            }
            if index > 0 {
                pieces.push(Piece::Project);
            }
            if !part.is_empty() {
                pieces.push(Piece::Text(part.to_owned()));
            }
        }
        Ok(Self(pieces))
    }

    pub(super) fn prefix(text: &str) -> Result<Self, InvalidPattern> {
        let pattern = Self::literal(text)?;
        if text.ends_with(DELIMITERS) { Ok(pattern) } else { Err(InvalidPattern::OpenPrefix) }
    }

    pub(super) fn glob(text: &str) -> Result<Self, InvalidPattern> {
        let mut pieces = Vec::new();
        for piece in Self::literal(text)?.0 {
            match piece {
                Piece::Text(text) => pieces.extend(split_stars(&text)),
                Piece::Project | Piece::Segment => pieces.push(piece),
            }
        }
        if stars_are_whole_segments(&pieces) {
            Ok(Self(pieces))
        } else {
            Err(InvalidPattern::PartialSegment)
        }
    }

    /// What is left of `text` behind the pattern, if it begins with it.
    ///
    /// There is nothing to try twice: what follows a `*` begins with a delimiter or is the end, and no segment holds a
    /// delimiter, so the longest run is the only possible one.
    pub(super) fn after<'a>(&self, text: &'a str, project: &Project) -> Option<&'a str> {
        self.0.iter().try_fold(text, |rest, piece| match piece {
            Piece::Text(text) => rest.strip_prefix(text.as_str()),
            Piece::Project => rest.strip_prefix(project.as_str()),
            Piece::Segment => {
                let after = rest.trim_start_matches(|c: char| {
                    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
                });
                (after.len() < rest.len()).then_some(after)
            }
        })
    }

    pub(super) fn is_all_of(&self, text: &str, project: &Project) -> bool {
        self.after(text, project) == Some("")
    }

    pub(super) fn has_project(&self) -> bool {
        self.0.contains(&Piece::Project)
    }

    /// Whether a `*` was written where it is only a character.
    pub(super) fn has_literal_star(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Text(text) if text.contains('*')))
    }

    /// Whether there is more in it than `*` and delimiters.
    pub(super) fn has_text(&self) -> bool {
        self.0.iter().any(|piece| match piece {
            Piece::Text(text) => !text.trim_matches(DELIMITERS).is_empty(),
            Piece::Project => true,
            Piece::Segment => false,
        })
    }
}

fn split_stars(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (index, part) in text.split('*').enumerate() {
        if index > 0 {
            pieces.push(Piece::Segment);
        }
        if !part.is_empty() {
            pieces.push(Piece::Text(part.to_owned()));
        }
    }
    pieces
}

fn stars_are_whole_segments(pieces: &[Piece]) -> bool {
    let ends_segment =
        |piece: &Piece| matches!(piece, Piece::Text(text) if text.ends_with(DELIMITERS));
    let begins_segment =
        |piece: &Piece| matches!(piece, Piece::Text(text) if text.starts_with(DELIMITERS));
    pieces.windows(2).all(|pair| match pair {
        [Piece::Segment, next] if !begins_segment(next) => false,
        [previous, Piece::Segment] => ends_segment(previous),
        _ => true,
    })
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Project => f.write_str(PROJECT),
            Piece::Segment => f.write_str("*"),
        })
    }
}
