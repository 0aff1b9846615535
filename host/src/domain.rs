//! The terms of the product as types: pure, parsed once, no I/O.
//!
//! Text from outside is parsed into one of these types before any decision. A check and the action
//! after it therefore use the same value.

pub mod actions;
pub mod address;
pub mod claim_path;
pub mod clock;
pub mod credentials;
pub mod deadline;
pub mod location;
pub mod name;
pub mod problem_type;
pub mod project;
pub mod reach;
pub mod renewable;
pub mod repository;
pub mod request;
pub mod revocation;
pub mod rights;
pub mod scope;
pub mod subject;
pub mod token_scope;

pub use actions::{Action, Actions};
pub use address::{ClientAddress, ClientNetwork, TrustedProxies};
pub use claim_path::{ClaimPath, InvalidClaimPath};
pub use clock::Clock;
pub use credentials::{AwsAccount, AwsSession, Credential, Credentials, EndedBy};
pub use deadline::Deadline;
pub use location::{Host, ImageReference, Location};
pub use name::RegistryName;
pub use problem_type::ProblemType;
pub use project::{Project, ProjectShape};
pub use reach::Reach;
pub use renewable::Renewable;
pub use repository::{Ownership, RepositoryChange, RepositoryState};
pub use request::{IssueRequest, Lifetime, Target};
pub use revocation::RevocationCause;
pub use rights::{RepositoryOperation, Right, Rights};
pub use rise_secret::Secret;
pub use scope::{EnforcedBy, Scope};
pub use subject::{COMMANDS, Claims, Subject, SubjectDigest, hash_of_sub};
