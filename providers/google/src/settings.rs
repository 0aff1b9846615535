//! The settings of one registry at Google: their checks, and the addresses that follow.

use rise_provider::{Location, PrivateKeyName, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

/// One registry of type `google`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The Google Cloud project, such as `acme-images`.
    pub project_id: String,
    /// Location of the Artifact Registry repository, such as `europe-west1` or `europe`.
    pub region: Option<String>,
    /// The Artifact Registry repository, such as `docker`; or `{project}`: each project has one of
    /// its own, of the same name.
    pub repository: Option<String>,
    /// Host of the images in place of `region` and `repository`: `gcr.io`, `eu.gcr.io`,
    /// `us.gcr.io` or `asia.gcr.io`.
    pub registry_url: Option<String>,
    /// Workload identity pool provider that trusts this broker, as Google names it, from
    /// `//iam.googleapis.com/projects/` and the project's number to `/providers/` and a name. The
    /// broker logs in with a token that it signs itself.
    pub audience: Option<String>,
    /// JSON file of the service account that the broker logs in as, in place of `audience`.
    pub service_account_key: Option<PrivateKeyName>,
    /// Service account whose tokens pull. With `audience` and without service accounts, callers get
    /// tokens of the workload identity itself.
    pub pull_service_account: Option<String>,
    /// Service account whose tokens pull and push. Without one, no grant to push is issued.
    pub push_service_account: Option<String>,
    /// Whether a project owns everything below its repository.
    #[serde(default)]
    pub child_repositories: bool,
    /// Another address for Google's services, for tests.
    pub endpoint_url: Option<String>,
}

const TOKEN: &str = "https://oauth2.googleapis.com/token";
const STS: &str = "https://sts.googleapis.com/v1/token";
const IAM: &str = "https://iamcredentials.googleapis.com";
const PROVIDER_EXPECTED: &str = "`//iam.googleapis.com/projects/NUMBER/locations/global/\
    workloadIdentityPools/POOL/providers/PROVIDER`, with the number of the Google Cloud project; \
    `gcloud iam workload-identity-pools providers describe` prints the part behind \
    `//iam.googleapis.com/`";
const GCR: [&str; 4] = ["gcr.io", "eu.gcr.io", "us.gcr.io", "asia.gcr.io"];

impl Settings {
    pub(crate) fn host(&self) -> String {
        match (&self.registry_url, &self.region) {
            (Some(host), _) => host.clone(),
            (None, region) => format!("{}-docker.pkg.dev", region.as_deref().unwrap_or_default()),
        }
    }

    /// What stands before the project in a repository's name.
    pub(crate) fn prefix(&self) -> String {
        match &self.repository {
            Some(repository) if !self.has_repository_for_each() => {
                format!("{}/{repository}/", self.project_id)
            }
            Some(_) | None => format!("{}/", self.project_id),
        }
    }

    /// Whether each project is an Artifact Registry repository, on which Google gives rights.
    pub(crate) fn has_repository_for_each(&self) -> bool {
        self.repository.as_deref() == Some("{project}")
    }

    /// Whether callers get tokens of the workload identity, which names the project and the action.
    pub(crate) fn is_direct(&self) -> bool {
        self.audience.is_some() && self.accounts().next().is_none()
    }

    pub(crate) fn accounts(&self) -> impl Iterator<Item = &str> {
        let accounts = [self.pull_service_account.as_deref(), self.push_service_account.as_deref()];
        accounts.into_iter().flatten()
    }

    /// An Artifact Registry repository has one component.
    pub(crate) fn has_project(&self, project: &str) -> bool {
        !self.has_repository_for_each() || !project.contains('/')
    }

    /// The URL at which the broker logs in.
    pub(crate) fn token_url(&self) -> String {
        let (own, path) =
            if self.audience.is_some() { (STS, "/v1/token") } else { (TOKEN, "/token") };
        self.endpoint_url.as_ref().map_or_else(|| own.to_owned(), |url| format!("{url}{path}"))
    }

    /// The URL that makes tokens of a service account.
    pub(crate) fn account_url(&self, account: &str) -> String {
        let iam = self.endpoint_url.as_deref().unwrap_or(IAM);
        format!("{iam}/v1/projects/-/serviceAccounts/{account}:generateAccessToken")
    }

    /// Everything that is wrong with the settings.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut expect = |is_right: bool, path: &str, expected: &str| {
            if !is_right {
                problems.push(Problem::new(path, expected));
            }
        };
        let is_name = |text: &str| Location::is_repository(text) && !text.contains('/');
        expect(
            is_name(&self.project_id),
            "/project_id",
            "expected the id of a Google Cloud project, such as `acme-images`",
        );
        match (&self.registry_url, &self.region, &self.repository) {
            (Some(host), None, None) => expect(
                GCR.contains(&host.as_str()),
                "/registry_url",
                "expected `gcr.io`, `eu.gcr.io`, `us.gcr.io` or `asia.gcr.io`",
            ),
            (Some(_), _, _) => expect(
                false,
                "/registry_url",
                "remove it, or `region` and `repository`: they name a host of their own",
            ),
            (None, region, repository) => {
                let region = region.as_deref().unwrap_or_default();
                expect(is_region(region), "/region", "expected a location such as `europe-west1`");
                let repository = repository.as_deref().unwrap_or_default();
                expect(
                    is_name(repository) || self.has_repository_for_each(),
                    "/repository",
                    "expected the name of an Artifact Registry repository, such as `docker`, or \
                     `{project}`",
                );
            }
        }
        expect(
            !self.has_repository_for_each() || self.child_repositories,
            "/child_repositories",
            "set it to true: a project that is an Artifact Registry repository owns the images in \
             it, such as `my-app/web`",
        );
        problems.extend(self.login_problems());
        problems
    }

    fn login_problems(&self) -> Vec<Problem> {
        let problem = |path: &str, message: &str| Some(Problem::new(path, message));
        let login = match (&self.audience, &self.service_account_key) {
            (Some(audience), None) => (!is_provider(audience)).then(|| {
                let text = format!("`{audience}` is not a workload identity pool provider");
                Problem::new("/audience", format!("{text}; expected {PROVIDER_EXPECTED}"))
            }),
            (None, Some(_)) => None,
            (None, None) => Some(Problem::new(
                "/audience",
                format!("missing, and so is `service_account_key`; expected {PROVIDER_EXPECTED}"),
            )),
            (Some(_), Some(_)) => problem(
                "/service_account_key",
                "remove it, or `audience`: with that, the broker logs in without a key",
            ),
        };
        let account = "expected the address of a service account, such as \
            `puller@acme-images.iam.gserviceaccount.com`";
        let (pull, push) = (&self.pull_service_account, &self.push_service_account);
        let of_pull = match pull {
            Some(pull) => problem("/pull_service_account", account).filter(|_| !is_account(pull)),
            None if self.is_direct() => None,
            None => problem(
                "/pull_service_account",
                "missing; only with `audience`, and without `push_service_account`, callers get \
                 tokens of the workload identity itself",
            ),
        };
        let of_push = push.as_ref().and_then(|own| {
            if !is_account(own) {
                return problem("/push_service_account", account);
            }
            problem(
                "/push_service_account",
                "expected another account than `pull_service_account`: a grant to pull must not \
                 push",
            )
            .filter(|_| push == pull)
        });
        [login, of_pull, of_push].into_iter().flatten().collect()
    }
}

/// Google compares the whole name.
fn is_provider(text: &str) -> bool {
    let is_id = |part: &str| {
        let is_letter =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (4..=32).contains(&part.len()) && part.bytes().all(is_letter)
    };
    let Some(rest) = text.strip_prefix("//iam.googleapis.com/projects/") else { return false };
    let parts: Vec<&str> = rest.split('/').collect();
    let [number, "locations", "global", "workloadIdentityPools", pool, "providers", provider] =
        parts[..]
    else {
        return false;
    };
    !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && is_id(pool)
        && is_id(provider)
}

fn is_region(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_letter)
}

/// The address goes into a URL as it is.
fn is_account(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str, more: &[u8]| {
        !part.is_empty() && part.bytes().all(|byte| is_letter(byte) || more.contains(&byte))
    };
    let is_host = |host: &str| is_part(host, b"-.") && host.ends_with(".gserviceaccount.com");
    text.split_once('@').is_some_and(|(name, host)| is_part(name, b"-") && is_host(host))
}

#[cfg(test)]
pub(crate) mod tests {
    use rise_provider::testing;
    use serde_json::{Value, json};

    use crate::Google;

    pub(crate) const AUDIENCE: &str = "//iam.googleapis.com/projects/123456789012/locations/global/\
        workloadIdentityPools/rise/providers/broker";

    /// Without a key and without service accounts.
    pub(crate) fn direct(changes: &Value) -> Value {
        let mut all = json!({
            "audience": AUDIENCE, "service_account_key": null, "pull_service_account": null,
            "push_service_account": null,
        });
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        all
    }

    pub(crate) fn settings(changes: &Value) -> Value {
        let mut settings = json!({
            "project_id": "acme-images",
            "region": "europe-west1",
            "repository": "docker",
            "service_account_key": "service_account_key",
            "pull_service_account": "puller@acme-images.iam.gserviceaccount.com",
            "push_service_account": "pusher@acme-images.iam.gserviceaccount.com",
        });
        for (key, value) in changes.as_object().unwrap() {
            settings[key] = value.clone();
        }
        settings.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        settings
    }

    #[test]
    fn each_fault_is_found_where_it_is() {
        let paths = |changes: &Value| -> Vec<String> {
            let problems = testing::check::<Google>(&settings(changes)).err().unwrap_or_default();
            problems.into_iter().map(|problem| problem.path).collect()
        };
        let none = Vec::<String>::new();
        for right in [
            json!({}),
            json!({ "push_service_account": null }),
            json!({ "audience": AUDIENCE, "service_account_key": null }),
            direct(&json!({})),
            direct(&json!({ "repository": "{project}", "child_repositories": true })),
            json!({ "registry_url": "eu.gcr.io", "region": null, "repository": null }),
        ] {
            assert_eq!(paths(&right), none, "{right}");
        }
        for (changes, path) in [
            (json!({ "project_id": "Acme" }), "/project_id"),
            (json!({ "project_id": "a/b" }), "/project_id"),
            (json!({ "region": "europe_west1" }), "/region"),
            (json!({ "region": null }), "/region"),
            (json!({ "repository": "a/b" }), "/repository"),
            (json!({ "repository": null }), "/repository"),
            (json!({ "registry_url": "gcr.io" }), "/registry_url"),
            (
                json!({ "registry_url": "evil.io", "region": null, "repository": null }),
                "/registry_url",
            ),
            (json!({ "pull_service_account": "puller" }), "/pull_service_account"),
            (json!({ "pull_service_account": "a@evil.com" }), "/pull_service_account"),
            (
                json!({ "pull_service_account": "a@b/x.iam.gserviceaccount.com" }),
                "/pull_service_account",
            ),
            (
                json!({ "push_service_account": "puller@acme-images.iam.gserviceaccount.com" }),
                "/push_service_account",
            ),
            (json!({ "key": "x" }), ""),
            (json!({ "service_account_key": null }), "/audience"),
            (json!({ "audience": AUDIENCE }), "/service_account_key"),
            (direct(&json!({ "audience": "//iam.googleapis.com/projects/acme" })), "/audience"),
            (direct(&json!({ "audience": format!("https:{AUDIENCE}") })), "/audience"),
            (direct(&json!({ "audience": AUDIENCE.replace("123456789012", "acme") })), "/audience"),
            (json!({ "pull_service_account": null }), "/pull_service_account"),
            (
                json!({
                    "audience": AUDIENCE, "service_account_key": null, "pull_service_account": null,
                }),
                "/pull_service_account",
            ),
            (json!({ "repository": "{project}" }), "/child_repositories"),
            (json!({ "repository": "{project}-docker" }), "/repository"),
        ] {
            assert_eq!(paths(&changes), [path], "{changes}");
        }
    }
}
