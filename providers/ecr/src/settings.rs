//! The settings of one ECR registry: their checks, and the names that follow from them.
//!
//! The schema has the keys and their types. Every grammar is checked here, with a message.

use rise_provider::{Location, Problem, SecretName};
use schemars::JsonSchema;
use serde::Deserialize;

/// The longest repository name of ECR, less room for a project. The broker denies projects that are
/// too long for what is left.
const LONGEST_PREFIX: usize = 256 - 63;
/// The same of ECR Public.
const LONGEST_PUBLIC_PREFIX: usize = 205 - 63;
/// The only region that answers for ECR Public.
const PUBLIC_REGION: &str = "us-east-1";

/// One registry of type `ecr`: an AWS account in a region, or its part of ECR Public.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own")]
pub struct Settings {
    /// AWS region, such as `eu-west-1`.
    pub region: String,
    /// AWS account number: 12 digits, as text.
    pub account_id: String,
    /// Prefix of the project in every repository name. Empty, or with a `/` at the end.
    #[serde(default)]
    pub repo_prefix: String,
    /// Alias of the account's registry in ECR Public: its images are
    /// `public.ecr.aws/ALIAS/{repo_prefix}{project}`. Everybody may pull them; logins are for
    /// pushes. Needs `region` `us-east-1` and `push_role_arn`.
    pub public_alias: Option<String>,
    /// The broker's own role. The broker assumes it first, unless it has the role already.
    pub role_arn: Option<String>,
    /// Role for each credential, narrowed to one repository. Without it, credentials open the whole
    /// registry.
    pub push_role_arn: Option<String>,
    /// Whether the broker proves itself to AWS by tokens that it signs, and has no AWS keys. Needs
    /// `push_role_arn`, and `issuer` in `[signing]`.
    #[serde(default)]
    pub web_identity: bool,
    /// The audience of these tokens, if it is not `sts.amazonaws.com`.
    pub audience: Option<String>,
    /// Static access key, if the broker has no identity in AWS. Needs `secret_access_key`.
    pub access_key_id: Option<SecretName>,
    /// Static secret key, if the broker has no identity in AWS. Needs `access_key_id`.
    pub secret_access_key: Option<SecretName>,
    /// AWS partition, if it is not the one that the region's name states.
    pub partition: Option<Partition>,
    /// Whether a project also owns the repositories below its own: `{repo_prefix}{project}/…`. All
    /// projects then have exactly `project_depth` components, so that none lies below another.
    #[serde(default)]
    pub child_repositories: bool,
    /// Whether images are named by the host that IPv6 reaches too: `….dkr-ecr.….on.aws`.
    #[serde(default)]
    pub dual_stack: bool,
    /// Whether images are named by the host of the FIPS endpoint, and AWS is called at such
    /// endpoints.
    #[serde(default)]
    pub fips: bool,
    /// No effect yet: the broker removes no repository.
    #[serde(default)]
    pub auto_remove: bool,
    /// Endpoint of STS and ECR instead of AWS, for tests.
    pub endpoint_url: Option<String>,
}

/// A partition of AWS, with its own accounts, regions and names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Partition {
    Aws,
    AwsCn,
    AwsUsGov,
    AwsEusc,
    AwsIso,
    AwsIsoB,
    AwsIsoE,
    AwsIsoF,
}

impl Partition {
    fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::AwsCn => "aws-cn",
            Self::AwsUsGov => "aws-us-gov",
            Self::AwsEusc => "aws-eusc",
            Self::AwsIso => "aws-iso",
            Self::AwsIsoB => "aws-iso-b",
            Self::AwsIsoE => "aws-iso-e",
            Self::AwsIsoF => "aws-iso-f",
        }
    }

    fn domain(self) -> &'static str {
        match self {
            Self::Aws | Self::AwsUsGov => "amazonaws.com",
            Self::AwsCn => "amazonaws.com.cn",
            Self::AwsEusc => "amazonaws.eu",
            Self::AwsIso => "c2s.ic.gov",
            Self::AwsIsoB => "sc2s.sgov.gov",
            Self::AwsIsoE => "cloud.adc-e.uk",
            Self::AwsIsoF => "csp.hci.ic.gov",
        }
    }

    fn of_region(region: &str) -> Self {
        match region.split_once('-') {
            Some(("cn", _)) => Self::AwsCn,
            Some(("us", rest)) if rest.starts_with("gov-") => Self::AwsUsGov,
            Some(("eusc", _)) => Self::AwsEusc,
            Some((_, rest)) if rest.starts_with("iso-") => Self::AwsIso,
            Some((_, rest)) if rest.starts_with("isob-") => Self::AwsIsoB,
            Some((_, rest)) if rest.starts_with("isoe-") => Self::AwsIsoE,
            Some((_, rest)) if rest.starts_with("isof-") => Self::AwsIsoF,
            Some(_) | None => Self::Aws,
        }
    }
}

impl Settings {
    fn partition(&self) -> Partition {
        self.partition.unwrap_or_else(|| Partition::of_region(&self.region))
    }

    pub(crate) fn is_public(&self) -> bool {
        self.public_alias.is_some()
    }

    /// `123456789012.dkr.ecr.eu-west-1.amazonaws.com`, or `public.ecr.aws`.
    pub(crate) fn host(&self) -> String {
        if self.is_public() {
            return "public.ecr.aws".to_owned();
        }
        let (service, domain) = match (self.dual_stack, self.partition()) {
            (false, partition) => ("dkr.ecr", partition.domain()),
            (true, Partition::AwsCn) => ("dkr-ecr", "on.amazonwebservices.com.cn"),
            (true, _) => ("dkr-ecr", "on.aws"),
        };
        let fips = if self.fips { "-fips" } else { "" };
        format!("{}.{service}{fips}.{}.{domain}", self.account_id, self.region)
    }

    /// What stands before the project in an image's name.
    pub(crate) fn path(&self) -> String {
        let alias = self.public_alias.as_ref().map(|alias| format!("{alias}/"));
        alias.unwrap_or_default() + &self.repo_prefix
    }

    /// The ARNs of exactly the project's repositories: `{project}*` would include `{project}-2`.
    /// Those of ECR Public have no region and no alias.
    pub(crate) fn repository_arns(&self, project: &str) -> Vec<String> {
        let Self { account_id, repo_prefix, .. } = self;
        let (service, region) =
            if self.is_public() { ("ecr-public", "") } else { ("ecr", self.region.as_str()) };
        let registry = format!("arn:{}:{service}:{region}:{account_id}", self.partition().name());
        let own = format!("{registry}:repository/{repo_prefix}{project}");
        if self.child_repositories { vec![format!("{own}/*"), own] } else { vec![own] }
    }

    /// Everything that is wrong with the settings.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let keys = match (&self.access_key_id, &self.secret_access_key) {
            (Some(_), None) => {
                Some(Problem::new("/secret_access_key", "missing: `access_key_id` needs it"))
            }
            (None, Some(_)) => {
                Some(Problem::new("/access_key_id", "missing: `secret_access_key` needs it"))
            }
            (None, None) | (Some(_), Some(_)) => None,
        };
        let role = self.role_arn.as_deref().and_then(|arn| self.role_problem("/role_arn", arn));
        let push_role =
            self.push_role_arn.as_deref().and_then(|arn| self.role_problem("/push_role_arn", arn));

        [
            self.region_problem(),
            self.account_problem(),
            self.prefix_problem(),
            self.dual_stack_problem(),
            role,
            push_role,
            keys,
            self.web_identity_problem(),
        ]
        .into_iter()
        .chain([self.endpoint_problem()])
        .flatten()
        .chain(self.public_problems())
        .collect()
    }

    /// Whether the region has the name of a place and of a direction.
    pub(crate) fn has_known_region(&self) -> bool {
        const PLACES: [&str; 16] = [
            "af", "ap", "ca", "cn", "eu", "eu-isoe", "eusc-de", "il", "me", "mx", "sa", "us",
            "us-gov", "us-iso", "us-isob", "us-isof",
        ];
        const DIRECTIONS: [&str; 9] = [
            "central",
            "east",
            "north",
            "northeast",
            "northwest",
            "south",
            "southeast",
            "southwest",
            "west",
        ];
        let mut parts = self.region.rsplitn(3, '-').skip(1);
        let (direction, place) = (parts.next().unwrap_or_default(), parts.next());
        DIRECTIONS.contains(&direction) && place.is_some_and(|place| PLACES.contains(&place))
    }

    fn region_problem(&self) -> Option<Problem> {
        let region = &self.region;
        if !is_region(region) {
            return Some(Problem::new("/region", "expected an AWS region such as `eu-west-1`"));
        }
        let partition = Partition::of_region(region);
        (partition != self.partition()).then(|| {
            let name = partition.name();
            Problem::new("/partition", format!("region `{region}` is in partition `{name}`"))
        })
    }

    fn account_problem(&self) -> Option<Problem> {
        (!is_account(&self.account_id))
            .then(|| Problem::new("/account_id", "expected 12 digits, in quotes"))
    }

    fn prefix_problem(&self) -> Option<Problem> {
        let prefix = &self.repo_prefix;
        let expected = match prefix.strip_suffix('/') {
            None if prefix.is_empty() => return None,
            None => "expected a `/` at the end, so that prefix and project stay apart",
            Some(path) if !Location::is_repository(path) => {
                "expected path segments of lower-case letters and digits, separated by `.`, `_`, \
                `__` or `-`"
            }
            Some(_) if self.is_public() && prefix.len() > LONGEST_PUBLIC_PREFIX => {
                "expected at most 142 characters, to leave room for a project"
            }
            Some(_) if prefix.len() > LONGEST_PREFIX => {
                "expected at most 193 characters, to leave room for a project"
            }
            Some(_) => return None,
        };
        Some(Problem::new("/repo_prefix", expected))
    }

    /// AWS documents dual-stack hosts of these partitions only.
    fn dual_stack_problem(&self) -> Option<Problem> {
        let is_known =
            matches!(self.partition(), Partition::Aws | Partition::AwsCn | Partition::AwsUsGov);
        (self.dual_stack && !is_known).then(|| {
            let name = self.partition().name();
            Problem::new(
                "/dual_stack",
                format!("partition `{name}` has no dual-stack host; remove it"),
            )
        })
    }

    fn role_problem(&self, path: &str, arn: &str) -> Option<Problem> {
        let expected = self.partition().name();
        match role_partition(arn) {
            Some(partition) if partition == expected => None,
            Some(partition) => {
                let message =
                    format!("is in partition `{partition}`, and this registry is in `{expected}`");
                Some(Problem::new(path, message))
            }
            None => {
                let message = format!(
                    "expected the ARN of an IAM role, `arn:{expected}:iam::123456789012:role/name`"
                );
                Some(Problem::new(path, message))
            }
        }
    }

    /// Without keys there is one identity only: that of a session of `push_role_arn`.
    fn web_identity_problem(&self) -> Option<Problem> {
        if !self.web_identity {
            let message = "belongs to `web_identity = true`; set that, or remove this";
            return self.audience.as_ref().map(|_| Problem::new("/audience", message));
        }
        let unused = "is not used with `web_identity = true`, which needs no keys; remove it";
        if self.push_role_arn.is_none() {
            let message = "needs `push_role_arn`: the role that trusts the broker's tokens";
            return Some(Problem::new("/web_identity", message));
        }
        if self.role_arn.is_some() {
            let message = "is not used with `web_identity = true`: the broker has no keys to \
                           assume it with, and goes straight to `push_role_arn`; remove it";
            return Some(Problem::new("/role_arn", message));
        }
        if self.access_key_id.is_some() {
            return Some(Problem::new("/access_key_id", unused));
        }
        let is_audience = |text: &String| {
            (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let message = "expected 1 to 255 printable characters without blanks";
        let wrong = self.audience.as_ref().is_some_and(|text| !is_audience(text));
        wrong.then(|| Problem::new("/audience", message))
    }

    /// ECR Public has one region and one host, and its logins do not say whose they are: only a
    /// session policy names the account.
    fn public_problems(&self) -> Vec<Problem> {
        let Some(alias) = &self.public_alias else { return Vec::new() };
        let region = format!(
            "`{}`: ECR Public, which `public_alias` names, answers in `{PUBLIC_REGION}` alone; set \
             that",
            self.region
        );
        let form = format!(
            "`{alias}` is no alias; expected 2 to 50 lower-case letters and digits, with a single \
             `.`, `_` or `-` between them, such as `a1b2c3d4`; `aws ecr-public describe-registries \
             --region {PUBLIC_REGION}` prints it"
        );
        let one_host = "ECR Public, which `public_alias` names, has one host; remove this";
        let role = "missing: `public_alias` needs it, because the broker cannot know otherwise \
                    which account a login is of";
        [
            (!is_alias(alias), "/public_alias", form.as_str()),
            (is_region(&self.region) && self.region != PUBLIC_REGION, "/region", &region),
            (self.push_role_arn.is_none(), "/push_role_arn", role),
            (self.dual_stack, "/dual_stack", one_host),
            (self.fips, "/fips", one_host),
        ]
        .into_iter()
        .filter(|(is_wrong, _, _)| *is_wrong)
        .map(|(_, path, message)| Problem::new(path, message))
        .collect()
    }

    fn endpoint_problem(&self) -> Option<Problem> {
        let url = self.endpoint_url.as_deref()?;
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let is_origin = rest.is_some_and(|it| {
            !it.trim_end_matches('/').is_empty() && !it.contains(['@', '?', '#'])
        });
        (!is_origin).then(|| {
            Problem::new("/endpoint_url", "expected a URL such as `http://localhost:4566`")
        })
    }
}

/// `us-east-1`, `us-gov-west-1`, `eusc-de-east-1`: letters, words, a number.
fn is_region(region: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let Some((words, number)) = region.rsplit_once('-') else { return false };

    is_digits(number) && words.contains('-') && words.split('-').all(is_word)
}

/// An alias of ECR Public, as its API takes them: `a1b2c3d4`, `acme-images`.
fn is_alias(text: &str) -> bool {
    (2..=50).contains(&text.len())
        && text.starts_with(|letter: char| letter.is_ascii_lowercase())
        && Location::is_repository(text)
        && !text.contains('/')
        && !text.contains("__")
        && !text.contains("--")
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && is_digits(text)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The partition of a role's ARN, `None` if it is not the ARN of a role.
fn role_partition(arn: &str) -> Option<&str> {
    let [arn, partition, service, region, account, resource] =
        arn.split(':').collect::<Vec<_>>().try_into().ok()?;
    let name = resource.strip_prefix("role/")?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-/".contains(&byte);

    let is_role = (arn, service, region) == ("arn", "iam", "")
        && is_account(account)
        && !name.ends_with('/')
        && !name.is_empty()
        && name.bytes().all(is_name);
    is_role.then_some(partition)
}

#[cfg(test)]
mod tests {
    use rise_provider::{Scope, testing};
    use serde_json::{Value, json};

    use super::*;
    use crate::Ecr;

    fn with(more: Value) -> Value {
        let mut all = json!({ "region": "us-east-1", "account_id": "123456789012" });
        let Value::Object(more) = more else { panic!("expected an object") };
        all.as_object_mut().unwrap().extend(more);
        all
    }

    /// Settings without keys.
    fn by_token(more: Value) -> Value {
        let mut all = json!({
            "push_role_arn": "arn:aws:iam::123456789012:role/push", "web_identity": true,
        });
        let Value::Object(more) = more else { panic!("expected an object") };
        all.as_object_mut().unwrap().extend(more);
        all
    }

    /// Settings of a registry in ECR Public.
    fn public(more: Value) -> Value {
        let role = "arn:aws:iam::123456789012:role/push";
        let mut all = json!({ "public_alias": "acme", "push_role_arn": role });
        let Value::Object(more) = more else { panic!("expected an object") };
        all.as_object_mut().unwrap().extend(more);
        all
    }

    fn paths(settings: &Value) -> Vec<String> {
        let problems = testing::check::<Ecr>(settings).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn the_documented_settings_are_right() {
        let rise = json!({
            "repo_prefix": "rise/",
            "role_arn": "arn:aws:iam::123456789012:role/rise-backend",
            "push_role_arn": "arn:aws:iam::123456789012:role/rise-backend-ecr-push",
            "auto_remove": false,
        });
        assert_eq!(testing::check::<Ecr>(&with(rise)), Ok(Scope::Repository));

        for more in [json!({}), json!({ "audience": "sts.amazonaws.com.cn" })] {
            assert_eq!(testing::check::<Ecr>(&with(by_token(more))), Ok(Scope::Repository));
        }

        for alias in ["a1b2c3d4", "acme-images", "acme.images_2"] {
            let settings = with(public(json!({ "public_alias": alias, "repo_prefix": "rise/" })));
            assert_eq!(testing::check::<Ecr>(&settings), Ok(Scope::Repository), "{alias}");
        }
        assert_eq!(
            testing::check::<Ecr>(&with(public(by_token(json!({}))))),
            Ok(Scope::Repository)
        );

        let keys =
            json!({ "access_key_id": "access_key_id", "secret_access_key": "secret_access_key" });
        assert_eq!(testing::check::<Ecr>(&with(keys)), Ok(Scope::Registry));
    }

    #[test]
    fn each_fault_is_found_where_it_is() {
        for (settings, path) in [
            (json!({ "region": "Frankfurt" }), "/region"),
            (json!({ "region": "us-east-1/../x-1" }), "/region"),
            (json!({ "region": "us-1" }), "/region"),
            (json!({ "account_id": "12345" }), "/account_id"),
            (json!({ "account_id": "12345678901x" }), "/account_id"),
            (json!({ "repo_prefix": "rise" }), "/repo_prefix"),
            (json!({ "repo_prefix": "/" }), "/repo_prefix"),
            (json!({ "repo_prefix": "Rise/" }), "/repo_prefix"),
            (json!({ "repo_prefix": "a/*/" }), "/repo_prefix"),
            (json!({ "repo_prefix": "a//" }), "/repo_prefix"),
            (json!({ "repo_prefix": format!("{}/", "a".repeat(193)) }), "/repo_prefix"),
            (json!({ "role_arn": "rise-backend" }), "/role_arn"),
            (json!({ "role_arn": "arn:aws:iam::123456789012:user/rise" }), "/role_arn"),
            (json!({ "push_role_arn": "arn:aws:iam::123456789012:role/" }), "/push_role_arn"),
            (json!({ "push_role_arn": "arn:aws:iam::12:role/x" }), "/push_role_arn"),
            (json!({ "push_role_arn": "arn:aws:iam::123456789012:role/*" }), "/push_role_arn"),
            (json!({ "push_role_arn": "arn:aws-cn:iam::123456789012:role/x" }), "/push_role_arn"),
            (json!({ "access_key_id": "access_key_id" }), "/secret_access_key"),
            (json!({ "secret_access_key": "secret_access_key" }), "/access_key_id"),
            (json!({ "region": "cn-north-1", "partition": "aws" }), "/partition"),
            (json!({ "region": "eusc-de-east-1", "partition": "aws-cn" }), "/partition"),
            (json!({ "region": "us-isob-east-1", "partition": "aws-iso" }), "/partition"),
            (json!({ "partition": "aws-us-gov" }), "/partition"),
            (
                json!({ "region": "us-iso-east-1", "partition": "aws-iso", "dual_stack": true }),
                "/dual_stack",
            ),
            (json!({ "web_identity": true }), "/web_identity"),
            (json!({ "audience": "sts.example.com" }), "/audience"),
            (by_token(json!({ "role_arn": "arn:aws:iam::123456789012:role/x" })), "/role_arn"),
            (by_token(json!({ "access_key_id": "a", "secret_access_key": "b" })), "/access_key_id"),
            (by_token(json!({ "audience": "" })), "/audience"),
            (by_token(json!({ "audience": "a b" })), "/audience"),
            (json!({ "endpoint_url": "localhost:4566" }), "/endpoint_url"),
            (json!({ "endpoint_url": "http://user@localhost" }), "/endpoint_url"),
            (public(json!({ "public_alias": "Acme" })), "/public_alias"),
            (public(json!({ "public_alias": "a/b" })), "/public_alias"),
            (public(json!({ "public_alias": "a" })), "/public_alias"),
            (public(json!({ "public_alias": "1a" })), "/public_alias"),
            (public(json!({ "public_alias": "a--b" })), "/public_alias"),
            (public(json!({ "public_alias": "a-" })), "/public_alias"),
            (public(json!({ "public_alias": "" })), "/public_alias"),
            (public(json!({ "region": "eu-west-1" })), "/region"),
            (public(json!({ "push_role_arn": null })), "/push_role_arn"),
            (public(json!({ "dual_stack": true })), "/dual_stack"),
            (public(json!({ "fips": true })), "/fips"),
            (public(json!({ "repo_prefix": format!("{}/", "a".repeat(142)) })), "/repo_prefix"),
            (json!({ "region_": "x" }), ""),
            (json!({ "partition": "mars" }), ""),
        ] {
            assert_eq!(paths(&with(settings.clone())), [path], "{settings}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let settings = with(
            json!({ "account_id": "1", "repo_prefix": "x", "role_arn": "y", "access_key_id": "z" }),
        );
        assert_eq!(
            paths(&settings),
            ["/account_id", "/repo_prefix", "/role_arn", "/secret_access_key"]
        );
    }

    #[test]
    fn a_registry_has_a_host_for_each_kind_of_network() {
        for (more, host) in [
            (json!({}), "123456789012.dkr.ecr.us-east-1.amazonaws.com"),
            (json!({ "dual_stack": true }), "123456789012.dkr-ecr.us-east-1.on.aws"),
            (json!({ "fips": true }), "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com"),
            (
                json!({ "dual_stack": true, "fips": true }),
                "123456789012.dkr-ecr-fips.us-east-1.on.aws",
            ),
        ] {
            let mut settings = json!({ "region": "us-east-1", "account_id": "123456789012" });
            settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let settings: Settings = serde_json::from_value(settings).unwrap();
            assert_eq!(settings.host(), host);
        }
    }

    #[test]
    fn names_follow_the_partition() {
        for (region, partition, host, arn) in [
            (
                "eu-west-1",
                "aws",
                "1.dkr.ecr.eu-west-1.amazonaws.com",
                "arn:aws:ecr:eu-west-1:1:repository/p",
            ),
            (
                "cn-north-1",
                "aws-cn",
                "1.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "arn:aws-cn:ecr:cn-north-1:1:repository/p",
            ),
            (
                "us-gov-west-1",
                "aws-us-gov",
                "1.dkr.ecr.us-gov-west-1.amazonaws.com",
                "arn:aws-us-gov:ecr:us-gov-west-1:1:repository/p",
            ),
            (
                "eusc-de-east-1",
                "aws-eusc",
                "1.dkr.ecr.eusc-de-east-1.amazonaws.eu",
                "arn:aws-eusc:ecr:eusc-de-east-1:1:repository/p",
            ),
            (
                "us-iso-east-1",
                "aws-iso",
                "1.dkr.ecr.us-iso-east-1.c2s.ic.gov",
                "arn:aws-iso:ecr:us-iso-east-1:1:repository/p",
            ),
            (
                "us-isob-east-1",
                "aws-iso-b",
                "1.dkr.ecr.us-isob-east-1.sc2s.sgov.gov",
                "arn:aws-iso-b:ecr:us-isob-east-1:1:repository/p",
            ),
            (
                "eu-isoe-west-1",
                "aws-iso-e",
                "1.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk",
                "arn:aws-iso-e:ecr:eu-isoe-west-1:1:repository/p",
            ),
            (
                "us-isof-south-1",
                "aws-iso-f",
                "1.dkr.ecr.us-isof-south-1.csp.hci.ic.gov",
                "arn:aws-iso-f:ecr:us-isof-south-1:1:repository/p",
            ),
        ] {
            let settings = json!({ "region": region, "account_id": "1", "partition": partition });
            let settings: Settings = serde_json::from_value(settings).unwrap();
            assert_eq!(Some(Partition::of_region(region)), settings.partition);
            assert_eq!(settings.host(), host);
            assert_eq!(settings.repository_arns("p"), [arn]);
        }
    }

    #[test]
    fn children_are_below_a_slash() {
        let settings: Settings =
            serde_json::from_value(with(json!({ "child_repositories": true }))).unwrap();
        let arn = "arn:aws:ecr:us-east-1:123456789012:repository/my-app";
        assert_eq!(settings.repository_arns("my-app"), [format!("{arn}/*"), arn.to_owned()]);
    }
}
