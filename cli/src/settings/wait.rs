//! A duration in settings: `90s`, `2m`, or seconds without a unit.

use std::time::Duration;

use crate::failure::{Failure, shown};

/// Seconds. Longer waits are mistakes: a job that waits for an hour is a job that hangs.
const LONGEST: u64 = 3_600;

pub(super) fn parse(text: &str, origin: &str) -> Result<Duration, Failure> {
    let text = text.trim();
    match seconds(text).filter(|seconds| *seconds <= LONGEST) {
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err(Failure::Settings(format!(
            "{origin}: {:?} is not a wait: use seconds or minutes up to an hour, as in 90s or 2m, \
             or 0 to try once",
            shown(text)
        ))),
    }
}

/// The lifetime of a credential, in seconds. The broker accepts the same bounds.
pub(crate) fn lifetime(text: &str) -> Result<u32, String> {
    let bounds = 60..=43_200;
    let found = seconds(text.trim()).and_then(|seconds| u32::try_from(seconds).ok());
    found
        .filter(|seconds| bounds.contains(seconds))
        .ok_or_else(|| "use 60 seconds to 12 hours, as in 900, 900s, 15m or 1h".to_owned())
}

/// Seconds, minutes or hours as seconds. A number without a unit is in seconds.
fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((number, "s")) => (number, 1),
        Some((number, "m")) => (number, 60),
        Some((number, "h")) => (number, 3_600),
        _ => (text, 1),
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_has_a_unit_and_a_limit() {
        for (text, expected) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("60s", Some(60)),
            (" 2m ", Some(120)),
            ("60m", Some(3_600)),
            ("90", Some(90)),
            ("61m", None),
            ("3601", None),
            ("99999999999999999999m", None),
            ("-1", None),
            ("+1s", None),
            ("1.5s", None),
            ("1h", Some(3_600)),
            ("2h", None),
            ("s", None),
            ("", None),
            ("2 m", None),
            ("soon", None),
        ] {
            let found = parse(text, "RISE_WAIT").ok().map(|wait| wait.as_secs());
            assert_eq!(found, expected, "{text:?}");
        }
        let failure = parse("2h", "RISE_WAIT").unwrap_err();
        assert!(failure.line().starts_with("RISE_WAIT: \"2h\" is not a wait"), "{failure}");
        for (text, expected) in [
            ("60", Some(60)),
            ("1h", Some(3_600)),
            ("15m", Some(900)),
            ("12h", Some(43_200)),
            ("59s", None),
            ("13h", None),
            ("", None),
            ("1d", None),
        ] {
            assert_eq!(lifetime(text).ok(), expected, "{text}");
        }
    }
}
