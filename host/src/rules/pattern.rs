//! Text with the placeholder `{project}`.
//!
//! **Invariant:** a pattern compares up to the last byte or up to a delimiter. `{project}` stands
//! for the exact text of the requested project. A project contains no `*`, and no delimiter but the
//! `/` between its components, so it cannot widen a pattern.

use std::fmt;

use crate::domain::Project;
use crate::domain::project::LONGEST_PROJECT;

/// A prefix must end in one of these, and they bound a `*`. No segment contains one. Therefore
/// `acme/` does not match `acme-evil/…`, and `*` does not match several segments.
pub(super) const DELIMITERS: [char; 3] = ['/', ':', '@'];
const PROJECT: &str = "{project}";
const LONGEST_TEXT: usize = 1024;

/// Text with `{project}` and, in a glob, `*`.
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
    #[error("is empty; write the value that the claim must have, or remove the claim")]
    Empty,
    #[error("is longer than {LONGEST_TEXT} characters; shorten it")]
    TooLong,
    #[error(
        "has a `{{` or `}}` outside `{{project}}`, which is the only placeholder, and not around a \
         UUID; remove it"
    )]
    Placeholder,
    #[error("is a number beyond 2^53, which programs round; compare it as text, or another claim")]
    InexactNumber,
    #[error(
        "must end in `/`, `:` or `@`: write `acme/`, because `acme` would also match `acme-evil`, \
         and `refs/tags/` for all tags"
    )]
    OpenPrefix,
    #[error("has no `{{project}}`; write the text as the issuer does, in upper and lower case")]
    NoProject,
    #[error("is compared with the claim in lower case, so it must be in lower case: `{0}`")]
    UpperCase(String),
    #[error(
        "has a `*` that is not a whole segment; put it between `/`, `:`, `@` or the ends of the \
         text; a part of a segment cannot be compared, so write `refs/tags/*` for `refs/tags/v*`"
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
            if !braces_hold_uuids(part) {
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

    /// Text for claims that are compared in lower case.
    pub(super) fn lower(text: &str) -> Result<Self, InvalidPattern> {
        let pattern = Self::literal(text)?;
        let lower = text.to_ascii_lowercase();
        if lower != text {
            return Err(InvalidPattern::UpperCase(lower));
        }
        if pattern.has_project() { Ok(pattern) } else { Err(InvalidPattern::NoProject) }
    }

    /// Returns every project that `text` can name at the first `{project}`. It may name more than
    /// match.
    pub(super) fn projects_in(&self, text: &str) -> Vec<Project> {
        let Some(at) = self.0.iter().position(|piece| *piece == Piece::Project) else {
            return Vec::new();
        };
        let before = Self(self.0.iter().take(at).cloned().collect());
        let Some(rest) = before.rest(text, "") else { return Vec::new() };
        let ends = (1..=rest.len().min(LONGEST_PROJECT)).filter_map(|end| rest.get(..end));
        ends.filter_map(|name| name.parse().ok()).collect()
    }

    /// Returns the rest of `text` after the pattern, if `text` begins with the pattern.
    ///
    /// No backtracking is necessary. A delimiter or the end of the pattern follows each `*`, and no
    /// segment contains a delimiter, so only the longest run can match.
    pub(super) fn after<'a>(&self, text: &'a str, project: &Project) -> Option<&'a str> {
        self.rest(text, project.as_str())
    }

    fn rest<'a>(&self, text: &'a str, project: &str) -> Option<&'a str> {
        self.0.iter().try_fold(text, |rest, piece| match piece {
            Piece::Text(text) => rest.strip_prefix(text.as_str()),
            Piece::Project => rest.strip_prefix(project),
            Piece::Segment => {
                let after = rest.trim_start_matches(|c: char| {
                    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
                });
                (after.len() < rest.len()).then_some(after)
            }
        })
    }

    pub(super) fn matches(&self, text: &str, project: &Project) -> bool {
        self.after(text, project) == Some("")
    }

    /// Returns whether the pattern is this text, without a placeholder.
    pub(super) fn is_text(&self, text: &str) -> bool {
        matches!(self.0.as_slice(), [Piece::Text(own)] if own == text)
    }

    /// Returns a text with which everything that matches begins. It ends in a delimiter, or it is
    /// the whole pattern.
    pub(super) fn anchor(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Text(text)] => Some(text),
            [Piece::Text(text), ..] => text.get(..=text.rfind(DELIMITERS)?),
            [] | [Piece::Project | Piece::Segment, ..] => None,
        }
    }

    pub(super) fn has_project(&self) -> bool {
        self.0.contains(&Piece::Project)
    }

    /// Returns whether it contains a `*` that is a literal character.
    pub(super) fn has_literal_star(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Text(text) if text.contains('*')))
    }

    /// Returns whether it contains more than `*` and delimiters.
    pub(super) fn has_text(&self) -> bool {
        self.0.iter().any(|piece| match piece {
            Piece::Text(text) => !text.trim_matches(DELIMITERS).is_empty(),
            Piece::Project => true,
            Piece::Segment => false,
        })
    }
}

/// Bitbucket writes UUIDs in braces. No placeholder looks like one.
fn braces_hold_uuids(text: &str) -> bool {
    let mut parts = text.split('{');
    let is_plain = |text: &str| !text.contains('}');
    parts.next().is_none_or(is_plain)
        && parts.all(|part| {
            part.split_once('}').is_some_and(|(inside, after)| is_uuid(inside) && is_plain(after))
        })
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
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
