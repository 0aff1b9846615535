//! The place of a claim in a token.

use std::fmt;

use serde_json::Value;

use super::Claims;

/// The name of a claim, or a JSON Pointer (RFC 6901) if it begins with `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimPath {
    name: String,
    /// A plain name has one segment.
    segments: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClaimPath {
    #[error("has `{{` or `}}` in its name; use `{{project}}` in values only")]
    Placeholder,
    #[error("must have a name of 1 to 256 characters")]
    Length,
    #[error(
        "is not a JSON Pointer; no segment may be empty, and inside a name write `~0` for `~` \
         and `~1` for `/`"
    )]
    Pointer,
}

impl ClaimPath {
    pub fn parse(name: &str) -> Result<Self, InvalidClaimPath> {
        if name.contains(['{', '}']) {
            return Err(InvalidClaimPath::Placeholder);
        }
        if name.is_empty() || name.len() > 256 {
            return Err(InvalidClaimPath::Length);
        }
        let segments = match name.strip_prefix('/') {
            None => vec![name.to_owned()],
            Some(pointer) => pointer
                .split('/')
                .map(unescape)
                .collect::<Option<_>>()
                .ok_or(InvalidClaimPath::Pointer)?,
        };
        Ok(Self { name: name.to_owned(), segments })
    }

    /// Returns the text from the settings.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Returns the first segment, a top-level claim of the token.
    pub fn first(&self) -> &str {
        self.segments.first().map(String::as_str).unwrap_or_default()
    }

    /// Returns the member of the first segment's value that the path goes through, if any.
    pub fn second(&self) -> Option<&str> {
        self.segments.get(1).map(String::as_str)
    }

    /// Returns whether both name the same claim; `/sub` and `sub` do.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.segments == other.segments
    }

    pub fn find<'a>(&self, claims: &'a Claims) -> Option<&'a Value> {
        let (first, rest) = self.segments.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |value, segment| match value {
            Value::Object(members) => members.get(segment),
            Value::Array(elements) => elements.get(index(segment)?),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        })
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn unescape(segment: &str) -> Option<String> {
    let without = segment.replace("~0", "").replace("~1", "");
    if segment.is_empty() || without.contains('~') {
        return None;
    }
    Some(segment.replace("~1", "/").replace("~0", "~"))
}

/// Parses an array index of RFC 6901, which has no sign and no leading zero.
fn index(segment: &str) -> Option<usize> {
    let canonical = segment == "0" || !segment.starts_with(['0', '+']);
    if canonical { segment.parse().ok() } else { None }
}
