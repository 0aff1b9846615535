//! The capabilities that the settings of one registry allow its provider.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::kept::Kept;
use super::{Observer, Unobserved, aws, ecr_repositories, http, tokens};
use crate::domain::Secret;

/// The capabilities of one registry, opened within its ceilings.
#[derive(Clone)]
pub struct Capabilities {
    /// The registry's name, for the log.
    pub registry: String,
    /// The registry's own secrets, by the name of their setting.
    pub secrets: BTreeMap<String, Arc<Secret>>,
    pub aws: Option<aws::AwsAccess>,
    pub http: Option<http::HttpAccess>,
    pub kept: Arc<Kept>,
    pub tokens: Option<tokens::TokenAccess>,
    /// `None`: the broker manages no repositories of this registry.
    pub repositories: Option<ecr_repositories::RepositoryAccess>,
    /// [`Unobserved`] in a broker that serves.
    pub observer: Arc<dyn Observer>,
}

impl Capabilities {
    /// The capabilities of a call that belongs to no registry: `describe`.
    pub fn none() -> Self {
        Self {
            registry: String::new(),
            secrets: BTreeMap::new(),
            aws: None,
            http: None,
            kept: Arc::default(),
            tokens: None,
            repositories: None,
            observer: Arc::new(Unobserved),
        }
    }

    /// Whether `text` holds a configured secret, which must not leave in a user name, a log line or
    /// an error.
    pub fn reveals_secret(&self, text: &str) -> bool {
        self.secrets.values().any(|secret| secret.is_in(text))
    }
}
