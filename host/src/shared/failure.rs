//! Why there is no connection, and what an error of the store means.

use redis::RedisError;

use super::Reason;
use super::settings::StoreAddress;

/// Why there is no connection. The text is for the operator.
pub(super) struct ConnectFailure {
    pub(super) reason: Reason,
    pub(super) text: String,
}

pub(super) fn nonsense(text: &str) -> ConnectFailure {
    ConnectFailure { reason: Reason::Nonsense, text: text.to_owned() }
}

/// The node that a Cluster sends the broker to.
pub(super) fn moved(failure: &CheckFailure) -> Option<StoreAddress> {
    let CheckFailure::Store(error) = failure else { return None };
    let (node, _slot) = error.redirect_node()?;
    let (host, port) = node.rsplit_once(':')?;
    Some(StoreAddress { host: host.to_owned(), port: port.parse().ok()? })
}

pub(super) enum CheckFailure {
    Store(RedisError),
    Other(ConnectFailure),
}

impl From<RedisError> for CheckFailure {
    fn from(error: RedisError) -> Self {
        Self::Store(error)
    }
}

impl From<ConnectFailure> for CheckFailure {
    fn from(failure: ConnectFailure) -> Self {
        Self::Other(failure)
    }
}

impl From<CheckFailure> for ConnectFailure {
    fn from(failure: CheckFailure) -> Self {
        match failure {
            CheckFailure::Store(error) => Self::from(&error),
            CheckFailure::Other(failure) => failure,
        }
    }
}

impl From<RedisError> for ConnectFailure {
    fn from(error: RedisError) -> Self {
        Self::from(&error)
    }
}

impl From<&RedisError> for ConnectFailure {
    fn from(error: &RedisError) -> Self {
        Self { reason: Reason::of(error), text: error.to_string() }
    }
}

impl Reason {
    pub(super) fn of(error: &RedisError) -> Self {
        match error.code() {
            Some("READONLY") => return Self::ReadOnly,
            Some("OOM") => return Self::Full,
            Some(_) => return Self::Refusing,
            None => {}
        }
        if error.is_timeout() {
            Self::Slow
        } else if error.is_io_error() {
            Self::Away
        } else if error.kind() == redis::ErrorKind::AuthenticationFailed {
            Self::Refusing
        } else {
            Self::Nonsense
        }
    }
}
