//! Calls of ECR on one repository: those of the registry's managing identity, and those that show a
//! permission.
//!
//! **Invariant:** a managing call names no other repository than its [`RepositoryPlace`], which the
//! host composes from a grant and the registry's settings. Only a page of a listing has others.

use std::collections::BTreeMap;

use crate::config::TagMutability;

/// One repository of one account in one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryPlace {
    pub partition: String,
    pub region: String,
    pub account_id: String,
    pub repository: String,
}

impl RepositoryPlace {
    pub fn arn(&self) -> String {
        let Self { partition, region, account_id, repository } = self;
        format!("arn:{partition}:ecr:{region}:{account_id}:repository/{repository}")
    }
}

/// A request of ECR for one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepositoryCall {
    Describe,
    Tags,
    Lifecycle,
    Create(NewRepository),
    PutLifecycle(String),
    PutScanning(bool),
    PutMutability(TagMutability),
    Tag(BTreeMap<String, String>),
    Untag(Vec<String>),
    /// With its images.
    Delete,
}

impl RepositoryCall {
    /// The name of the request, as AWS and metrics have it.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Describe => "DescribeRepositories",
            Self::Tags => "ListTagsForResource",
            Self::Lifecycle => "GetLifecyclePolicy",
            Self::Create(_) => "CreateRepository",
            Self::PutLifecycle(_) => "PutLifecyclePolicy",
            Self::PutScanning(_) => "PutImageScanningConfiguration",
            Self::PutMutability(_) => "PutImageTagMutability",
            Self::Tag(_) => "TagResource",
            Self::Untag(_) => "UntagResource",
            Self::Delete => "DeleteRepository",
        }
    }
}

/// Everything that `CreateRepository` sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRepository {
    pub mutability: TagMutability,
    pub scan_on_push: bool,
    pub encryption: Encryption,
    pub tags: BTreeMap<String, String>,
}

/// How ECR encrypts the images of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    Aes256,
    /// With this key, or with AWS's own.
    Kms(Option<String>),
}

/// What ECR answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepositoryAnswer {
    Done,
    /// There is no such repository.
    Absent,
    /// There is one already.
    Exists,
    Description(RepositoryDescription),
    Tags(BTreeMap<String, String>),
    /// `None`: it has no policy.
    Lifecycle(Option<String>),
}

/// The settings of a repository that `DescribeRepositories` returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryDescription {
    /// In the words of ECR, which may have more of them later.
    pub mutability: String,
    pub scan_on_push: bool,
    pub encryption: Encryption,
}

/// An action of a pull or a push that can be tried without changing an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryAction {
    BatchGetImage,
    BatchCheckLayerAvailability,
    /// It begins an upload, which ECR discards because nothing follows.
    InitiateLayerUpload,
    PublicCheckLayer,
    PublicInitiateUpload,
}

impl RepositoryAction {
    /// A registry has those of one service: its ceiling has no others.
    pub const ALL: [Self; 5] = [
        Self::BatchGetImage,
        Self::BatchCheckLayerAvailability,
        Self::InitiateLayerUpload,
        Self::PublicCheckLayer,
        Self::PublicInitiateUpload,
    ];

    /// The name in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BatchGetImage => "ecr:BatchGetImage",
            Self::BatchCheckLayerAvailability => "ecr:BatchCheckLayerAvailability",
            Self::InitiateLayerUpload => "ecr:InitiateLayerUpload",
            Self::PublicCheckLayer => "ecr-public:BatchCheckLayerAvailability",
            Self::PublicInitiateUpload => "ecr-public:InitiateLayerUpload",
        }
    }
}

/// The action to try, and where.
#[derive(Clone, Debug)]
pub struct RepositoryTry {
    pub action: RepositoryAction,
    pub region: String,
    pub account_id: String,
    pub repository: String,
}

/// A part of the listing of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepositoryPage {
    /// By name.
    pub repositories: Vec<(String, RepositoryDescription)>,
    /// For the next page. `None`: this is the last one.
    pub token: Option<String>,
}
