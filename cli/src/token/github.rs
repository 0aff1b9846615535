//! GitHub Actions: a job with `id-token: write` requests a token for the broker's audience.

use serde::Deserialize;
use ureq::http::Method;

use crate::deadline::Deadline;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::secret::Secret;
use crate::settings::{BrokerUrl, Settings};
use crate::transport::{Authorization, Exchange, Transport, percent_encoded};

pub(crate) struct GithubJob {
    url: String,
    request_token: Secret,
}

#[derive(Deserialize)]
struct TokenAnswer {
    value: Secret,
}

impl GithubJob {
    pub(super) fn of(environment: &Environment) -> Option<Self> {
        let url = environment.text("ACTIONS_ID_TOKEN_REQUEST_URL")?.to_owned();
        let request_token = environment.secret("ACTIONS_ID_TOKEN_REQUEST_TOKEN")?;
        Some(Self { url, request_token: Secret::new(request_token.expose().to_owned()) })
    }

    /// The request token belongs to this job alone, so it identifies the job.
    pub(super) fn identity(&self, audience: &str) -> String {
        format!("github {audience} {} {}", self.url, self.request_token.expose())
    }

    pub(super) fn token(
        &self,
        settings: &Settings,
        environment: &Environment,
        deadline: Deadline,
    ) -> Result<Secret, Failure> {
        let setting = "ACTIONS_ID_TOKEN_REQUEST_URL";
        let (base, query) = self.url.split_once('?').unwrap_or((&self.url, ""));
        let base = BrokerUrl::parse(base, setting)?;
        // `RISE_CA_FILE` is for the broker alone.
        let settings = Settings { ca_file: None, ..settings.clone() };
        let audience = percent_encoded(&settings.audience.value);
        let joint = if query.is_empty() { "" } else { "&" };
        let url = format!("{base}?{query}{joint}audience={audience}");
        let transport = Transport::new(&base, &settings, environment)?;
        let reply = transport
            .send(&Exchange {
                method: Method::GET,
                url: &url,
                authorization: Authorization::Bearer(&self.request_token),
                body: None,
                deadline,
            })
            .map_err(|trouble| trouble.towards("GitHub's token service", setting))?;
        if !reply.status.is_success() {
            return Err(Failure::Token(format!(
                "GitHub answers {} to the request for a token: give the job `permissions: \
                 id-token: write`",
                reply.status.as_u16()
            )));
        }
        let answer: Result<TokenAnswer, _> = serde_json::from_slice(&reply.body);
        answer.map(|answer| answer.value).map_err(|_| {
            Failure::Untrusted(format!(
                "GitHub's token service did not answer with a token: check {setting}"
            ))
        })
    }
}
