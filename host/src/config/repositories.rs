//! `[registries.NAME.repositories]`: what a repository looks like that the broker makes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The managed repositories of a registry. Without this table the broker manages none.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RepositoriesFile {
    pub create: CreateRepositories,
    pub image_tag_mutability: TagMutability,
    pub scan_on_push: bool,
    /// `AES256`, `KMS` for AWS's own key, or the ARN of a KMS key.
    pub encryption: String,
    /// The newest images with a tag that begins with `v`; 0 keeps all.
    #[schemars(range(max = 1000))]
    pub keep_tagged: u32,
    /// The age at which an image without a tag goes; 0 keeps all.
    #[schemars(range(max = 3650))]
    pub expire_untagged_days: u32,
    /// With `auto_remove`: how long an orphan is kept before it is deleted with its images.
    #[schemars(range(min = 1, max = 3650))]
    pub grace_days: u32,
    /// Tags of each repository besides those of ownership.
    pub tags: BTreeMap<String, String>,
    /// The value of the tag `rise:owner`. Brokers that share an account need different ones.
    #[schemars(length(min = 1, max = 128))]
    pub owner: String,
}

/// When a repository that does not exist is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CreateRepositories {
    #[default]
    Never,
    /// When a caller who may `create` asks for it.
    OnRequest,
    /// When somebody who may push gets credentials, and on request.
    OnPush,
}

/// Whether a tag of an image can move to another image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TagMutability {
    #[default]
    Mutable,
    Immutable,
}

impl TagMutability {
    /// The word of ECR.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mutable => "MUTABLE",
            Self::Immutable => "IMMUTABLE",
        }
    }
}

impl Default for RepositoriesFile {
    fn default() -> Self {
        Self {
            create: CreateRepositories::default(),
            image_tag_mutability: TagMutability::default(),
            scan_on_push: true,
            encryption: "AES256".to_owned(),
            keep_tagged: 10,
            expire_untagged_days: 7,
            grace_days: 30,
            tags: BTreeMap::new(),
            owner: "rise-broker".to_owned(),
        }
    }
}
