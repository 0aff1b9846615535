//! The settings of shipping, as plain values.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rise_secret::Secret;
use tokio_postgres::Config;

/// `[audit.ship]`.
#[derive(Clone, Default)]
pub struct ShipSettings {
    /// The broker is not ready while a target is further behind.
    pub required_lag: Option<Duration>,
    /// Segments that every target has are deleted when they are older. `None`: never.
    pub delete_after: Option<Duration>,
    pub postgres: Option<PostgresSettings>,
}

/// `[audit.ship.postgres]`.
#[derive(Clone)]
pub struct PostgresSettings {
    /// Without a password.
    pub connection: Config,
    pub password: Option<Arc<Secret>>,
    /// Whether connections over TCP are encrypted, and the server's certificate is checked.
    pub tls: bool,
    /// The only authorities that may sign the server's certificate.
    pub ca_file: Option<PathBuf>,
}
