//! The settings of a registry that the host itself reads for AWS, and the names that follow from
//! them.

use crate::domain::AwsAccount;

/// The host of all images in ECR Public. Each registry has an alias there.
pub(crate) const PUBLIC_HOST: &str = "public.ecr.aws";

/// The settings of a registry that the host itself reads for AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own")]
pub struct AwsSettings {
    pub region: String,
    pub account_id: String,
    pub partition: Option<String>,
    pub repo_prefix: String,
    pub public_alias: Option<String>,
    pub role_arn: Option<String>,
    pub push_role_arn: Option<String>,
    pub web_identity: bool,
    pub audience: Option<String>,
    pub child_repositories: bool,
    pub dual_stack: bool,
    pub fips: bool,
    pub auto_remove: bool,
    pub endpoint_url: Option<String>,
}

impl AwsSettings {
    pub fn partition(&self) -> &str {
        self.partition.as_deref().unwrap_or_else(|| partition_of(&self.region))
    }

    /// Whether the registry is one of Amazon ECR Public, a service of its own.
    pub fn is_public(&self) -> bool {
        self.public_alias.is_some()
    }

    /// The service in ARNs and in the names of actions.
    pub(crate) fn service(&self) -> &'static str {
        if self.is_public() { "ecr-public" } else { "ecr" }
    }

    /// Whose calls AWS counts: those of the role that makes the last one, or of the broker's own
    /// identity.
    pub fn calling_account(&self) -> AwsAccount {
        let role = self.push_role_arn.as_deref().or(self.role_arn.as_deref());
        let account = role.and_then(account_of).unwrap_or(&self.account_id).to_owned();
        AwsAccount { service: self.service(), account, region: self.region.clone() }
    }

    /// The ARN of a repository. Public ones have no region.
    pub fn repository_arn(&self, repository: &str) -> String {
        let (partition, service, account_id) = (self.partition(), self.service(), &self.account_id);
        let region = if self.is_public() { "" } else { &self.region };
        format!("arn:{partition}:{service}:{region}:{account_id}:repository/{repository}")
    }

    /// The host name of ECR in this account and region, or of ECR Public.
    pub fn registry_host(&self) -> String {
        if self.is_public() {
            return PUBLIC_HOST.to_owned();
        }
        let (service, suffix) = match (self.dual_stack, self.partition()) {
            (true, "aws-cn") => ("dkr-ecr", "on.amazonwebservices.com.cn"),
            (true, _) => ("dkr-ecr", "on.aws"),
            (false, "aws-cn") => ("dkr.ecr", "amazonaws.com.cn"),
            (false, "aws-eusc") => ("dkr.ecr", "amazonaws.eu"),
            (false, "aws-iso") => ("dkr.ecr", "c2s.ic.gov"),
            (false, "aws-iso-b") => ("dkr.ecr", "sc2s.sgov.gov"),
            (false, "aws-iso-e") => ("dkr.ecr", "cloud.adc-e.uk"),
            (false, "aws-iso-f") => ("dkr.ecr", "csp.hci.ic.gov"),
            (false, _) => ("dkr.ecr", "amazonaws.com"),
        };
        let fips = if self.fips { "-fips" } else { "" };
        format!("{}.{service}{fips}.{}.{suffix}", self.account_id, self.region)
    }
}

/// The partition that the name of a region states.
fn partition_of(region: &str) -> &'static str {
    match region.split_once('-') {
        Some(("cn", _)) => "aws-cn",
        Some(("eusc", _)) => "aws-eusc",
        Some(("us", rest)) if rest.starts_with("gov-") => "aws-us-gov",
        Some((_, rest)) if rest.starts_with("iso-") => "aws-iso",
        Some((_, rest)) if rest.starts_with("isob-") => "aws-iso-b",
        Some((_, rest)) if rest.starts_with("isoe-") => "aws-iso-e",
        Some((_, rest)) if rest.starts_with("isof-") => "aws-iso-f",
        Some(_) | None => "aws",
    }
}

/// The account in the ARN of a role.
pub fn account_of(role_arn: &str) -> Option<&str> {
    role_arn.split(':').nth(4)
}
