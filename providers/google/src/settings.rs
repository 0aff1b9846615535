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
    /// The Artifact Registry repository, such as `docker`.
    pub repository: Option<String>,
    /// Host of the images in place of `region` and `repository`: `gcr.io`, `eu.gcr.io`,
    /// `us.gcr.io` or `asia.gcr.io`.
    pub registry_url: Option<String>,
    /// JSON file of the service account that the broker logs in as.
    pub service_account_key: PrivateKeyName,
    /// Service account whose tokens pull.
    pub pull_service_account: String,
    /// Service account whose tokens pull and push. Without one, no grant to push is issued.
    pub push_service_account: Option<String>,
    /// Another address for Google's services, for tests.
    pub endpoint_url: Option<String>,
}

const TOKEN: &str = "https://oauth2.googleapis.com/token";
const IAM: &str = "https://iamcredentials.googleapis.com";
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
            Some(repository) => format!("{}/{repository}/", self.project_id),
            None => format!("{}/", self.project_id),
        }
    }

    pub(crate) fn token_url(&self) -> String {
        self.endpoint_url.as_ref().map_or_else(|| TOKEN.to_owned(), |url| format!("{url}/token"))
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
                    is_name(repository),
                    "/repository",
                    "expected the name of an Artifact Registry repository, such as `docker`",
                );
            }
        }
        let account = "expected the address of a service account, such as \
            `puller@acme-images.iam.gserviceaccount.com`";
        expect(is_account(&self.pull_service_account), "/pull_service_account", account);
        if let Some(push) = &self.push_service_account {
            expect(is_account(push), "/push_service_account", account);
            expect(
                *push != self.pull_service_account,
                "/push_service_account",
                "expected another account than `pull_service_account`: a grant to pull must not \
                 push",
            );
        }
        problems
    }
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
        ] {
            assert_eq!(paths(&changes), [path], "{changes}");
        }
    }
}
