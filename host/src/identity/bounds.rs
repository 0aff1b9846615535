//! The bounds of a token and its parts. Lengths are in bytes, times in seconds.

/// GitHub's tokens have about 2 KiB. A longer token is rejected unread, so that nobody can keep the
/// broker busy with decoding.
pub(super) const LONGEST_TOKEN: usize = 8192;
pub(super) const LONGEST_KEY_ID: usize = 256;
pub(super) const LONGEST_SUBJECT: usize = 255;
pub(super) const LONGEST_TOKEN_ID: usize = 128;
pub(super) const MOST_AUDIENCES: usize = 8;
/// How far the issuer's clock and ours may differ.
pub(super) const LEEWAY: i64 = 30;
/// The longest lifetime of a token unless the issuer's settings say otherwise. Kubernetes issues
/// tokens for a day.
pub(super) const LONGEST_LIFETIME: i64 = 24 * 60 * 60;

/// Whether `text` may be a `kid`.
pub(super) fn is_key_id(text: &str) -> bool {
    (1..=LONGEST_KEY_ID).contains(&text.len())
        && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// Whether `text` may be a `sub` or an `aud`.
pub(super) fn is_subject(text: &str) -> bool {
    (1..=LONGEST_SUBJECT).contains(&text.len()) && !text.contains(char::is_control)
}
