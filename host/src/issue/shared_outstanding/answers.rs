//! The answers of the store, parsed strictly.

use redis::Value;

use super::entry::{self, SharedEntry};
use crate::domain::RevocationCause;
use crate::issue::ended::EndMark;

pub(super) type Marks<'a> = std::slice::Split<'a, u8, fn(&u8) -> bool>;

/// What the list has of a credential that is on this broker's own list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::issue) enum Compared {
    /// This broker ends it.
    Ours,
    /// This broker ends it, and now.
    OursNow(RevocationCause),
    /// Another broker ends it at its time.
    Theirs,
    /// Another broker ends it now.
    Leaving,
    /// It is not on the list.
    Missing,
    /// Another broker has ended it.
    Ended,
}

/// Whether this broker may end a credential now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::issue) enum Claimed {
    Ours,
    /// Another broker does at its time.
    Theirs,
    /// Another broker tries at this moment.
    Busy,
    /// Another broker has.
    Ended,
}

/// An entry of the list.
pub(in crate::issue) struct Found {
    pub(in crate::issue) entry: SharedEntry,
    pub(in crate::issue) holders: usize,
    /// Whether the subject that was asked for holds it.
    pub(in crate::issue) is_of: bool,
    /// Why it ends now.
    pub(in crate::issue) ending: Option<RevocationCause>,
}

/// What is due and what nobody ends.
pub(in crate::issue) struct Due {
    pub(in crate::issue) entries: Vec<Found>,
    /// How many to pass over next.
    pub(in crate::issue) over: usize,
    pub(in crate::issue) is_last: bool,
}

/// An entry as the store has it.
pub(super) struct SealedFound {
    pub(super) name: String,
    pub(super) body: Vec<u8>,
    pub(super) holders: usize,
    pub(super) is_of: bool,
    pub(super) ending: Option<RevocationCause>,
}

/// `read`: what marks say.
pub(super) fn compared<'a>(
    answer: &'a Value,
    read: impl FnOnce(Marks<'a>) -> Option<EndMark>,
) -> Option<Compared> {
    let Value::BulkString(word) = answer else { return None };
    if let Some(marks) = marks(word) {
        let has_ended = read(marks) == Some(EndMark::Ended);
        return Some(if has_ended { Compared::Ended } else { Compared::Missing });
    }
    match &**word {
        b"ours" => Some(Compared::Ours),
        b"theirs" => Some(Compared::Theirs),
        b"leaving" => Some(Compared::Leaving),
        b"missing" => Some(Compared::Missing),
        cause => entry::cause(std::str::from_utf8(cause).ok()?).map(Compared::OursNow),
    }
}

/// The marks that a script has found. `None`: it says something else.
pub(super) fn marks(word: &[u8]) -> Option<Marks<'_>> {
    let is_space: fn(&u8) -> bool = |byte| *byte == b' ';
    Some(word.strip_prefix(b"marks ")?.split(is_space))
}

pub(super) fn found(answer: &Value) -> Option<Vec<SealedFound>> {
    let Value::Array(entries) = answer else { return None };
    entries.iter().map(one).collect()
}

fn one(answer: &Value) -> Option<SealedFound> {
    let Value::Array(parts) = answer else { return None };
    let [
        Value::BulkString(name),
        Value::BulkString(body),
        Value::Int(holders),
        Value::Int(is_of),
        Value::BulkString(ending),
    ] = parts.as_slice()
    else {
        return None;
    };
    Some(SealedFound {
        name: String::from_utf8(name.clone()).ok()?,
        body: body.clone(),
        holders: usize::try_from(*holders).ok()?,
        is_of: *is_of == 1,
        ending: entry::cause(std::str::from_utf8(ending).ok()?),
    })
}
