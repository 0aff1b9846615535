//! Temporary AWS access. The keys stay in the host, and a provider has a session.

use crate::{Error, Secret, host};

/// One `Allow` statement of a session policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// IAM actions, such as `ecr:PutImage`.
    pub actions: Vec<String>,
    /// ARNs of the resources.
    pub resources: Vec<String>,
}

/// Calls STS `AssumeRole` with an inline session policy of exactly `statements`.
///
/// The host sets the session name, duration, source identity and tags.
///
/// # Errors
///
/// [`Error::Refused`] for a role or a statement outside the registry's ceiling, for a policy of
/// more than 2048 characters, and for too many calls. Otherwise the error that AWS returned.
///
/// ```
/// use rise_provider::aws::{self, Statement};
/// use rise_provider::testing::{Call, Host};
///
/// let (login, calls) = Host::new().run(|| {
///     let statement = Statement {
///         actions: vec!["ecr:GetAuthorizationToken".to_owned()],
///         resources: vec!["*".to_owned()],
///     };
///     let session = aws::assume_role("arn:aws:iam::123456789012:role/push", vec![statement])?;
///     session.ecr_login("eu-west-1")
/// });
/// assert_eq!(login?.username, "AWS");
/// assert!(matches!(&calls[1], Call::EcrLogin { region } if region == "eu-west-1"));
/// # Ok::<(), rise_provider::Error>(())
/// ```
pub fn assume_role(role_arn: &str, statements: Vec<Statement>) -> Result<Session, Error> {
    host::assume_role(role_arn, statements).map(Session)
}

/// Returns a session of the registry's own AWS identity, which no session policy narrows.
///
/// # Errors
///
/// [`Error::Refused`] unless the operator accepts credentials that are wider than one repository.
pub fn unscoped() -> Result<Session, Error> {
    host::unscoped().map(Session)
}

/// An AWS session, whose keys stay in the host.
pub struct Session(host::Session);

impl Session {
    /// Calls ECR `GetAuthorizationToken` in `region` and decodes the answer.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for a region that is not the registry's. Otherwise the error that AWS
    /// returned.
    pub fn ecr_login(&self, region: &str) -> Result<RegistryLogin, Error> {
        host::ecr_login(&self.0, region)
    }

    /// Calls `GetAuthorizationToken` of ECR Public and decodes the answer. A statement of the
    /// session needs `ecr-public:GetAuthorizationToken` and `sts:GetServiceBearerToken` on `*`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] unless the settings have `public_alias`. Otherwise the error that AWS
    /// returned.
    pub fn ecr_public_login(&self) -> Result<RegistryLogin, Error> {
        host::ecr_public_login(&self.0)
    }
}

/// The credentials of ECR for `docker login`.
#[derive(Debug)]
pub struct RegistryLogin {
    /// `https://{account}.dkr.ecr.{region}.amazonaws.com`, or `https://public.ecr.aws`.
    pub endpoint: String,
    /// Always `AWS`.
    pub username: String,
    /// A handle on the password.
    pub password: Secret,
    /// Seconds since the Unix epoch.
    pub expires_at: u64,
}
