//! The bounds of a token and its parts. Lengths are in bytes, times in seconds.
//!
//! Every bound is well above what issuers send today (the numbers in the comments), and each text
//! that reports a bound names it with its number.

/// GitHub's tokens have about 2 KiB, GitLab's up to 11 (200 groups), and directories that list each
/// group of a user reach 20. A longer token is rejected unread, so that nobody can keep the broker
/// busy with decoding.
pub(super) const LONGEST_TOKEN: usize = 32 * 1024;
pub(super) const LONGEST_KEY_ID: usize = 256;
/// GitHub's `sub` with a `job_workflow_ref` has about 600, that of a Kubernetes service account up
/// to 341.
pub(super) const LONGEST_SUBJECT: usize = 1024;
pub(super) const LONGEST_TOKEN_ID: usize = 1024;
/// A Keycloak realm names each client that a user has a role in.
pub(super) const MOST_AUDIENCES: usize = 64;
/// How far the issuer's clock and ours may differ.
pub(super) const LEEWAY: i64 = 30;
/// A day: the longest lifetime of a token unless the preset or the settings of the issuer say
/// otherwise.
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
