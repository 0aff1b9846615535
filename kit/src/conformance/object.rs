//! The one credential that a double of a registry has made.

use serde::Deserialize;

use rise_broker::capability::http::Outgoing;

/// Whether the credential of a double exists.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Existence {
    Made,
    /// It has ended, or was never made.
    Gone,
}

/// A credential at a double. By default none was made.
#[derive(Clone, Default)]
pub(super) struct RegistryObject {
    /// The body of the request that made it.
    pub request: Option<Vec<u8>>,
    /// The id of the grant that it was made for.
    pub made_for: String,
    exists: bool,
    /// The request that ended it for another grant.
    pub ended_for_other: Option<String>,
}

impl RegistryObject {
    pub(super) fn exists(&self) -> bool {
        self.exists
    }

    pub(super) fn make(&mut self, request: &Outgoing, grant: &str) {
        *self = Self {
            request: Some(request.body.as_deref().unwrap_or_default().to_vec()),
            made_for: grant.to_owned(),
            exists: true,
            ended_for_other: None,
        };
    }

    pub(super) fn end(&mut self, request: &Outgoing, grant: &str) {
        self.exists = false;
        if self.made_for != grant {
            self.ended_for_other = Some(format!("{} {}", request.method, request.url.path()));
        }
    }

    /// Whether it exists for this request. A request that names the id of another grant asks for
    /// something else, which nobody has made.
    pub(super) fn existence(&self, request: &Outgoing, grant: &str) -> Existence {
        let is_named = || {
            let id = grant.to_ascii_lowercase();
            let body = request.body.as_deref().unwrap_or_default();
            let body = String::from_utf8_lossy(body).to_ascii_lowercase();
            request.url.as_str().to_ascii_lowercase().contains(&id) || body.contains(&id)
        };
        if self.exists && (self.made_for == grant || !is_named()) {
            Existence::Made
        } else {
            Existence::Gone
        }
    }
}
