//! What of a provider's list is a leftover.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use ulid::Ulid;

use super::FoundLeftover;
use crate::capability::CallState;
use crate::capability::wit::leftovers::exports::rise::registry::leftovers::Leftover;

/// No broker grants a credential for longer than twelve hours (`Lifetime`), and an hour is for
/// clocks and for requests that wait. Names do not say which broker made a credential: to end a
/// younger one could end what callers of another broker use. This must grow before grants may.
const OLD_ENOUGH: SignedDuration = SignedDuration::from_hours(13);
/// The most that one search looks at. What is ended makes room for the others.
const MOST: usize = 1_000;

/// What of a list counts.
pub(super) struct Judged {
    /// The oldest first, each once.
    pub leftovers: Vec<FoundLeftover>,
    /// How many can be no leftovers.
    pub ignored: usize,
    /// Why the first of those is none.
    pub wrong: Option<String>,
}

/// `is_known`: the broker has it on its list.
pub(super) fn judge(
    listed: Vec<Leftover>,
    state: &CallState,
    now: Timestamp,
    is_known: impl Fn(Ulid) -> bool,
) -> Judged {
    let (mut leftovers, mut ignored, mut wrong) = (BTreeSet::new(), 0, None);
    for Leftover { id, note } in listed.into_iter().take(MOST) {
        match state.wrong_note(&note).map_or_else(|| parse(&id), Err) {
            Ok(id) if is_old(id, now) && !is_known(id) => {
                leftovers.insert(FoundLeftover { id, note });
            }
            Ok(_) => {}
            Err(text) => {
                ignored += 1;
                wrong.get_or_insert(text);
            }
        }
    }
    Judged { leftovers: leftovers.into_iter().collect(), ignored, wrong }
}

/// Only the one spelling that names have, so that no two texts are one id.
fn parse(text: &str) -> Result<Ulid, String> {
    let upper = text.to_ascii_uppercase();
    let id = Ulid::from_string(&upper).ok().filter(|id| id.to_string() == upper);
    id.ok_or_else(|| "an id that no grant has".to_owned())
}

fn is_old(id: Ulid, now: Timestamp) -> bool {
    let made = i64::try_from(id.timestamp_ms()).ok();
    let made = made.and_then(|made| Timestamp::from_millisecond(made).ok());
    made.is_some_and(|made| now.duration_since(made) > OLD_ENOUGH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Lifetime;

    const NOW: i64 = 1_790_000_000;

    fn id_of(seconds_ago: i64) -> Ulid {
        Ulid::from_parts(u64::try_from((NOW - seconds_ago) * 1000).unwrap(), 7)
    }

    #[test]
    fn only_the_spelling_of_names_is_an_id() {
        let id = id_of(0);
        for text in [id.to_string(), id.to_string().to_lowercase()] {
            assert_eq!(parse(&text), Ok(id));
        }
        for text in [
            "",
            "admin",
            "01ARZ3NDEKTSV4RRFFQ69G5FA",
            "01ARZ3NDEKTSV4RRFFQ69G5FAVX",
            "01ARZ3NDEKTSV4RRFFQ69G5FAU",
            "81ARZ3NDEKTSV4RRFFQ69G5FAV",
            "ZZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "O1ARZ3NDEKTSV4RRFFQ69G5FAV",
            "01ARZ3NDEKTSV4RRFFQ69G5FA\n",
            "../../users/administrator0",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_any_broker_may_have_out_is_no_leftover() {
        let longest = u32::try_from(OLD_ENOUGH.as_secs()).unwrap() - 3600;
        assert!(Lifetime::try_from(longest).is_ok() && Lifetime::try_from(longest + 1).is_err());
        let now = Timestamp::from_second(NOW).unwrap();
        for (seconds_ago, expected) in
            [(-3600, false), (0, false), (12 * 3600, false), (13 * 3600, false), (46_801, true)]
        {
            assert_eq!(is_old(id_of(seconds_ago), now), expected, "{seconds_ago}");
        }
        assert!(is_old(Ulid::nil(), now));
        assert!(!is_old(Ulid(u128::MAX), now));
    }
}
