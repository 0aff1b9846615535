//! A caller with AWS keys, who proves what a session policy allows by really calling STS and ECR.

use std::fmt::Debug;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_ecr::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::types::ImageIdentifier;
use aws_smithy_types::Blob;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// An access key, with a session token if it is temporary. `Debug` prints it: it is for tests only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

/// The decision of the peer's authorization. A later failure of an allowed request (no such
/// repository …) does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// The error code: `AccessDenied` from STS, `AccessDeniedException` from ECR.
    Denied(String),
}

impl Verdict {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed)
    }
}

const SESSION: &str = "rise-test";

/// Calls one endpoint for STS and ECR with one set of keys, without retries.
#[derive(Clone, Debug)]
pub struct Caller {
    pub keys: Keys,
    endpoint: String,
    region: String,
    sts: aws_sdk_sts::Client,
    ecr: aws_sdk_ecr::Client,
}

impl Caller {
    pub fn new(endpoint: &str, region: &str, keys: Keys) -> Self {
        let credentials = Credentials::new(
            keys.access_key_id.clone(),
            keys.secret_access_key.clone(),
            keys.session_token.clone(),
            None,
            "test",
        );
        let timeouts = TimeoutConfig::builder().operation_timeout(Duration::from_secs(20)).build();
        let sts = aws_sdk_sts::Config::builder()
            .behavior_version(aws_sdk_sts::config::BehaviorVersion::latest())
            .region(aws_sdk_sts::config::Region::new(region.to_owned()))
            .endpoint_url(endpoint)
            .credentials_provider(credentials.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts.clone());
        let ecr = aws_sdk_ecr::Config::builder()
            .behavior_version(aws_sdk_ecr::config::BehaviorVersion::latest())
            .region(aws_sdk_ecr::config::Region::new(region.to_owned()))
            .endpoint_url(endpoint)
            .credentials_provider(credentials)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        Self {
            keys,
            endpoint: endpoint.into(),
            region: region.into(),
            sts: aws_sdk_sts::Client::from_conf(sts.build()),
            ecr: aws_sdk_ecr::Client::from_conf(ecr.build()),
        }
    }

    /// The client for calls that have no method here.
    pub fn sts(&self) -> &aws_sdk_sts::Client {
        &self.sts
    }

    /// For what has no method here.
    pub fn ecr(&self) -> &aws_sdk_ecr::Client {
        &self.ecr
    }

    /// The ARN that STS returns for the keys.
    pub async fn identity(&self) -> String {
        let answer = self.sts.get_caller_identity().send().await;
        answer.unwrap_or_else(|error| panic!("{}", DisplayErrorContext(error))).arn.unwrap()
    }

    /// Assumes `role_arn`. `Err` is the error's code.
    pub async fn assume(&self, role_arn: &str) -> Result<Self, String> {
        self.assume_session(role_arn, SESSION, None).await
    }

    /// The same with this session name.
    pub async fn assume_as(&self, role_arn: &str, session: &str) -> Result<Self, String> {
        self.assume_session(role_arn, session, None).await
    }

    /// The same as [`Caller::assume`], narrowed by a session policy.
    pub async fn assume_with_policy(&self, role_arn: &str, policy: &Value) -> Result<Self, String> {
        self.assume_session(role_arn, SESSION, Some(policy.to_string())).await
    }

    async fn assume_session(
        &self,
        role_arn: &str,
        session: &str,
        policy: Option<String>,
    ) -> Result<Self, String> {
        let request = self
            .sts
            .assume_role()
            .role_arn(role_arn)
            .role_session_name(session)
            .duration_seconds(900);
        let answer = request.set_policy(policy).send().await.map_err(|error| code(&error))?;
        let session = answer.credentials.unwrap();
        let keys = Keys {
            access_key_id: session.access_key_id,
            secret_access_key: session.secret_access_key,
            session_token: Some(session.session_token),
        };
        Ok(Self::new(&self.endpoint, &self.region, keys))
    }

    /// The decoded `user:password` of `GetAuthorizationToken`. `Err` is the error's code.
    pub async fn registry_password(&self) -> Result<String, String> {
        let answer =
            self.ecr.get_authorization_token().send().await.map_err(|error| code(&error))?;
        let token = answer.authorization_data.unwrap().remove(0).authorization_token.unwrap();
        Ok(String::from_utf8(STANDARD.decode(token).unwrap()).unwrap())
    }

    /// Performs `action` (`ecr:PutImage`, as policies write it) on `repository`, with the smallest
    /// request possible.
    ///
    /// Allowed writes take effect: `ecr:DeleteRepository` deletes. Use a repository that does not
    /// exist where that matters.
    ///
    /// # Panics
    /// If the keys are not accepted, or the answer is neither yes nor no.
    pub async fn tries(&self, action: &str, repository: &str) -> Verdict {
        match action {
            "ecr:PutImage"
            | "ecr:InitiateLayerUpload"
            | "ecr:UploadLayerPart"
            | "ecr:CompleteLayerUpload"
            | "ecr:BatchCheckLayerAvailability" => self.tries_push(action, repository).await,
            "ecr:BatchGetImage"
            | "ecr:GetDownloadUrlForLayer"
            | "ecr:GetAuthorizationToken"
            | "ecr:DescribeImages"
            | "ecr:DescribeRepositories"
            | "ecr:ListImages" => self.tries_read(action, repository).await,
            _ => self.tries_administration(action, repository).await,
        }
    }

    async fn tries_push(&self, action: &str, repository: &str) -> Verdict {
        let ecr = &self.ecr;
        match action {
            "ecr:PutImage" => verdict(
                ecr.put_image()
                    .repository_name(repository)
                    .image_manifest(MANIFEST)
                    .image_tag("probe")
                    .send()
                    .await,
            ),
            "ecr:InitiateLayerUpload" => {
                verdict(ecr.initiate_layer_upload().repository_name(repository).send().await)
            }
            "ecr:UploadLayerPart" => verdict(
                ecr.upload_layer_part()
                    .repository_name(repository)
                    .upload_id(UPLOAD)
                    .part_first_byte(0)
                    .part_last_byte(0)
                    .layer_part_blob(Blob::new(*b"x"))
                    .send()
                    .await,
            ),
            "ecr:CompleteLayerUpload" => verdict(
                ecr.complete_layer_upload()
                    .repository_name(repository)
                    .upload_id(UPLOAD)
                    .layer_digests(DIGEST)
                    .send()
                    .await,
            ),
            "ecr:BatchCheckLayerAvailability" => verdict(
                ecr.batch_check_layer_availability()
                    .repository_name(repository)
                    .layer_digests(DIGEST)
                    .send()
                    .await,
            ),
            other => panic!("{other} is no push"),
        }
    }

    async fn tries_read(&self, action: &str, repository: &str) -> Verdict {
        let ecr = &self.ecr;
        match action {
            "ecr:BatchGetImage" => verdict(
                ecr.batch_get_image().repository_name(repository).image_ids(probe()).send().await,
            ),
            "ecr:GetDownloadUrlForLayer" => verdict(
                ecr.get_download_url_for_layer()
                    .repository_name(repository)
                    .layer_digest(DIGEST)
                    .send()
                    .await,
            ),
            "ecr:GetAuthorizationToken" => verdict(ecr.get_authorization_token().send().await),
            "ecr:DescribeImages" => {
                verdict(ecr.describe_images().repository_name(repository).send().await)
            }
            "ecr:DescribeRepositories" => {
                verdict(ecr.describe_repositories().repository_names(repository).send().await)
            }
            "ecr:ListImages" => verdict(ecr.list_images().repository_name(repository).send().await),
            other => panic!("{other} is no read"),
        }
    }

    async fn tries_administration(&self, action: &str, repository: &str) -> Verdict {
        let ecr = &self.ecr;
        match action {
            "ecr:CreateRepository" => {
                verdict(ecr.create_repository().repository_name(repository).send().await)
            }
            "ecr:DeleteRepository" => {
                verdict(ecr.delete_repository().repository_name(repository).send().await)
            }
            "ecr:BatchDeleteImage" => verdict(
                ecr.batch_delete_image()
                    .repository_name(repository)
                    .image_ids(probe())
                    .send()
                    .await,
            ),
            "ecr:SetRepositoryPolicy" => verdict(
                ecr.set_repository_policy()
                    .repository_name(repository)
                    .policy_text("{}")
                    .send()
                    .await,
            ),
            "ecr:GetRepositoryPolicy" => {
                verdict(ecr.get_repository_policy().repository_name(repository).send().await)
            }
            "ecr:PutLifecyclePolicy" => verdict(
                ecr.put_lifecycle_policy()
                    .repository_name(repository)
                    .lifecycle_policy_text("{}")
                    .send()
                    .await,
            ),
            other => panic!("{other} cannot be tried: add it here"),
        }
    }
}

const MANIFEST: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const UPLOAD: &str = "00000000-0000-0000-0000-000000000000";

fn probe() -> ImageIdentifier {
    ImageIdentifier::builder().image_tag("probe").build()
}

fn verdict<T, E>(answer: Result<T, SdkError<E>>) -> Verdict
where
    E: ProvideErrorMetadata + std::error::Error + Debug + 'static,
{
    let Err(error) = answer else { return Verdict::Allowed };
    let code = code(&error);
    match code.as_str() {
        "AccessDenied" | "AccessDeniedException" => Verdict::Denied(code),
        // This is no decision about the action: the keys are bad.
        "SignatureDoesNotMatch"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "InternalError" => panic!("{}", DisplayErrorContext(error)),
        _ => Verdict::Allowed,
    }
}

fn code<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + Debug + 'static,
{
    // There is no code without a connection, or in an answer that makes no sense.
    error.code().map_or_else(|| panic!("{}", DisplayErrorContext(error)), String::from)
}
