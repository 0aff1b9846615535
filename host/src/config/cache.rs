//! `[cache]` and `[registries.NAME.cache]`: how many issued credentials are kept for reuse, and who
//! may share one.

use schemars::JsonSchema;
use serde::Deserialize;

use super::RegistryKeys;
use super::node::{Node, Problem, dotted};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CacheFile {
    /// Credentials kept at most.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub entries: u32,
    /// Their size together.
    #[schemars(range(min = 1, max = 65_536))]
    pub mib: u32,
}

impl Default for CacheFile {
    fn default() -> Self {
        Self { entries: 10_000, mib: 64 }
    }
}

/// How many issued credentials the broker keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    pub entries: u32,
    pub bytes: u64,
}

impl CacheFile {
    pub(super) fn config(&self) -> CacheConfig {
        CacheConfig { entries: self.entries, bytes: u64::from(self.mib) << 20 }
    }
}

/// The cache of one registry.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryCacheFile {
    pub share: Share,
}

/// The callers that may get a credential that was issued to somebody else's request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    // These are no doc comments: with them, the schema could not list the words in an error.
    // Requests of the same issuer and `sub`, for the same project and actions.
    #[default]
    Subject,
    // Everybody who is granted the same actions on the same project.
    Project,
    // Nobody: each request gets a credential of its own.
    Off,
}

/// `SourceIdentity` names one subject in the records of AWS. If several subjects shared the
/// credential, those records would name the wrong one.
pub(super) fn contradiction(keys: &RegistryKeys, written: &Node, key: &str) -> Option<Problem> {
    let is_shared = keys.cache.share == Share::Project;
    (keys.source_identity && is_shared).then(|| {
        let origin = &written.nearest("/cache/share").origin;
        let message = "`project` lets several subjects use one credential, and `source_identity` \
            names one of them in AWS's records; set `share = \"subject\"` or `\"off\"`, or remove \
            `source_identity`";
        Problem::at(origin, dotted(key, "/cache/share"), message)
    })
}
