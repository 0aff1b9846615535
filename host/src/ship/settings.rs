//! The settings of shipping, as plain values.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use url::Url;

use crate::domain::{Renewable, Secret};
use crate::posting::PostSettings;

/// `[audit.ship]`.
#[derive(Clone, Default)]
pub struct ShipSettings {
    /// The broker is not ready while a target is further behind.
    pub required_lag: Option<Duration>,
    /// Segments that every target has are deleted when they are older. `None`: never.
    pub delete_after: Option<Duration>,
    pub postgres: Option<PostgresSettings>,
    pub s3: Option<S3Settings>,
    /// `[audit.ship.https]`.
    pub https: Option<PostSettings>,
    /// `[audit.ship.otlp]`.
    pub otlp: Option<PostSettings>,
}

impl ShipSettings {
    /// Whether there is a target.
    pub fn is_used(&self) -> bool {
        self.postgres.is_some() || self.s3.is_some() || self.https.is_some() || self.otlp.is_some()
    }

    /// Takes over the secrets of `newer` for the next connections, each only for a target that is
    /// reached as before.
    pub(crate) fn renew_secrets(&self, newer: &Self) {
        if let (Some(postgres), Some(newer)) = (&self.postgres, &newer.postgres)
            && (&postgres.connection, postgres.tls, &postgres.ca_file)
                == (&newer.connection, newer.tls, &newer.ca_file)
        {
            postgres.password.renew_from(&newer.password);
        }
        if let (Some(s3), Some(newer)) = (&self.s3, &newer.s3)
            && (&s3.url, &s3.ca_file) == (&newer.url, &newer.ca_file)
        {
            s3.keys.renew_from(&newer.keys);
        }
        for (post, newer) in [(&self.https, &newer.https), (&self.otlp, &newer.otlp)] {
            if let (Some(post), Some(newer)) = (post, newer) {
                post.renew_token(newer);
            }
        }
    }
}

/// `[audit.ship.s3]`.
#[derive(Clone)]
pub struct S3Settings {
    /// The URL of the bucket, with a `/` at its end.
    pub url: Url,
    pub region: String,
    /// What the names of all objects begin with.
    pub prefix: String,
    /// `None`: those that AWS's tools find.
    pub keys: Renewable<(Secret, Secret)>,
    pub ca_file: Option<PathBuf>,
    pub part_bytes: usize,
    pub part_after: Duration,
    pub lock: Option<ObjectLock>,
}

/// How long nobody can delete an object.
#[derive(Clone, Copy)]
pub struct ObjectLock {
    /// `GOVERNANCE` or `COMPLIANCE`.
    pub mode: &'static str,
    pub days: u32,
}

/// `[audit.ship.postgres]`.
#[derive(Clone)]
pub struct PostgresSettings {
    /// Without a password.
    pub connection: Config,
    pub password: Renewable,
    /// Whether connections over TCP are encrypted, and the server's certificate is checked.
    pub tls: bool,
    /// The only authorities that may sign the server's certificate.
    pub ca_file: Option<PathBuf>,
}
