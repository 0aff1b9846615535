//! Times in the requests and answers of registries.

/// Reads a time of RFC 3339, such as `2027-01-15T08:15:00Z`, as seconds since the Unix epoch. It
/// drops fractions of a second.
///
/// ```
/// use rise_provider::time;
///
/// assert_eq!(time::rfc3339("2027-01-15T08:15:00Z"), Some(1_800_000_900));
/// assert_eq!(time::rfc3339("2027-01-15T09:15:00.25+01:00"), Some(1_800_000_900));
/// assert_eq!(time::rfc3339("tomorrow"), None);
/// ```
pub fn rfc3339(text: &str) -> Option<u64> {
    let (date, clock) = text.split_once(['T', 't', ' '])?;
    let (year, rest) = date.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let number = |text: &str, digits: usize, most: u64| {
        let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|number| is_number && *number <= most)
    };
    let (year, month, day) = (number(year, 4, 9999)?, number(month, 2, 12)?, number(day, 2, 31)?);
    let (hours, rest) = (number(clock.get(..2)?, 2, 23)?, clock.get(2..)?);
    let (minutes, rest) = (number(rest.get(1..3)?, 2, 59)?, rest.get(3..)?);
    let (seconds, rest) = (number(rest.get(1..3)?, 2, 60)?, rest.get(3..)?);
    let is_clock = clock.get(2..3) == Some(":") && clock.get(5..6) == Some(":");
    let zone = rest
        .strip_prefix('.')
        .map_or(rest, |rest| rest.trim_start_matches(|letter: char| letter.is_ascii_digit()));
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let offset = number(hours, 2, 23)? * 3600 + number(minutes, 2, 59)? * 60;
            let offset = i64::try_from(offset).ok()?;
            if zone.starts_with('-') { offset } else { zone.strip_prefix('+').map(|_| -offset)? }
        }
    };
    if !is_clock || month == 0 || day == 0 {
        return None;
    }
    let days = days(year, month, day)?;
    (days * 86_400 + hours * 3600 + minutes * 60 + seconds).checked_add_signed(offset)
}

/// Writes seconds since the Unix epoch as a time of RFC 3339.
///
/// ```
/// use rise_provider::time;
///
/// assert_eq!(time::to_rfc3339(1_800_000_900), "2027-01-15T08:15:00Z");
/// ```
pub fn to_rfc3339(seconds: u64) -> String {
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hours, minutes, seconds) = (clock / 3600, clock % 3600 / 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}Z")
}

/// Year, month and day of a number of days since the Unix epoch: the inverse of [`days`].
fn date(days: u64) -> (u64, u64, u64) {
    // 400 years have 146,097 days, 100 years 36,524, and four years 1,461: each without its leap
    // day, which is the last one.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (year * 365 + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    // A year that begins in March ends with its leap day.
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// Days since the Unix epoch.
pub(crate) fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    // A year that begins in March ends with its leap day.
    let (year, month) =
        if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    days.checked_sub(719_469)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_seconds() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2027-01-15T08:00:00Z", Some(1_800_000_000)),
            ("2027-01-15T08:00:00.999999999Z", Some(1_800_000_000)),
            ("2027-01-15t03:30:00-04:30", Some(1_800_000_000)),
            ("2027-01-15 09:00:00+01:00", Some(1_800_000_000)),
            ("1969-12-31T23:59:59Z", None),
            ("2027-13-15T08:00:00Z", None),
            ("2027-00-15T08:00:00Z", None),
            ("2027-01-15T24:00:00Z", None),
            ("2027-01-15T08:00:00", None),
            ("2027-01-15T08-00-00Z", None),
            ("2027-01-15", None),
            ("2027-01-15T08:00:00+1:00", None),
            ("2027-01-15T08:0é:00Z", None),
            ("", None),
        ] {
            assert_eq!(rfc3339(text), expected, "{text}");
        }
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        for seconds in [0, 951_825_600, 1_800_000_900, 253_402_300_799] {
            assert_eq!(rfc3339(&to_rfc3339(seconds)), Some(seconds), "{}", to_rfc3339(seconds));
        }
        for day in 0..200_000 {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), Some(day), "{year}-{month}-{of_month}");
        }
    }
}
