//! Logins of a registry or cloud that serve several grants, so that a provider does not log in
//! again for each of them.
//!
//! They are in the host's memory, for this registry alone, until they expire or until the
//! registry's settings change. Only a secret of
//! [`take_secret`](crate::http::Response::take_secret) can be kept, and what is kept never reaches
//! a caller: it opens more than one grant. Any call may find that an entry is gone. What is found
//! tells neither its expiry nor its claims: that would be a word from call to call.
//!
//! What a call keeps after it had an [identity token](crate::tokens::identity_token) signed is
//! found only by calls for the same project, and for pulls or for pushes like it: the cloud gave it
//! for them. The host sees to that, so one name is enough.
//!
//! ```
//! use rise_provider::http::Request;
//! use rise_provider::testing::{Answer, Host, NOW};
//! use rise_provider::{Error, Secret, kept};
//!
//! fn login() -> Result<Secret, Error> {
//!     if let Some(login) = kept::find("login")? {
//!         return Ok(login);
//!     }
//!     let answer = Request::post("https://login.example.com/token").send()?;
//!     answer.success()?;
//!     let login = answer.take_secret("/token").ok_or_else(|| Error::Failed("no token".into()))?;
//!     kept::keep("login", &login, NOW + 3600)?;
//!     Ok(login)
//! }
//!
//! let host = Host::new().http(|_| Ok(Answer::new(200).body(r#"{"token":"t0p"}"#)));
//! let (_, calls) = host.run(|| (login(), login()));
//! assert_eq!(calls.len(), 4, "one of them is a request: {calls:?}");
//! ```

use crate::{Error, Secret, host};

/// Keeps `value` under `name`, which has at most 64 bytes, until `expires_at`, in seconds since the
/// Unix epoch. If `value` is a JWT that expires earlier, its own expiry counts. Nothing is kept for
/// longer than a day. A name that is in use gets the new value.
///
/// # Errors
///
/// [`Error::Refused`] for a secret that did not come over `http`, and [`Error::Failed`] for a text
/// of less than 8 bytes, which is no login.
pub fn keep(name: &str, value: &Secret, expires_at: u64) -> Result<(), Error> {
    host::keep(name, &value.0, expires_at)
}

/// Returns what is kept under `name`, if it is valid for at least another minute.
///
/// # Errors
///
/// [`Error::Refused`] in a function without a grant.
pub fn find(name: &str) -> Result<Option<Secret>, Error> {
    Ok(host::find_kept(name)?.map(Secret))
}

/// Forgets what is kept under `name`, for example because the registry rejected it.
///
/// # Errors
///
/// [`Error::Refused`] in a function without a grant.
pub fn forget(name: &str) -> Result<(), Error> {
    host::forget(name)
}
