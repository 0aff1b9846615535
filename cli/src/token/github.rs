//! GitHub Actions: a job with `id-token: write` requests a token for the broker's audience.

use serde::Deserialize;
use ureq::http::Method;

use crate::environment::Environment;
use crate::failure::Failure;
use crate::patience::{Patience, Setback};
use crate::settings::{BrokerUrl, Settings};
use crate::transport::{Authorization, Exchange, Reply, Transport, percent_encoded};
use rise_secret::Secret;

const SETTING: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";

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
        patience: Patience,
    ) -> Result<Secret, Failure> {
        let (base, query) = self.url.split_once('?').unwrap_or((&self.url, ""));
        let base = BrokerUrl::parse(base, SETTING)?;
        // `RISE_CA_FILE` is for the broker alone.
        let settings = Settings { ca_file: None, ..settings.clone() };
        let audience = percent_encoded(&settings.audience.value);
        let joint = if query.is_empty() { "" } else { "&" };
        let url = format!("{base}?{query}{joint}audience={audience}");
        let transport = Transport::new(&base, &settings, environment)?;
        patience.repeat("asking GitHub for a token", |deadline| {
            let reply = transport.send(&Exchange {
                method: Method::GET,
                url: &url,
                authorization: Authorization::Bearer(&self.request_token),
                body: None,
                deadline,
            });
            self.read(&reply.map_err(|error| error.setback("GitHub's token service", SETTING))?)
        })
    }

    /// Only 401 and 403 are about the job's permissions. Other statuses are GitHub's own trouble.
    fn read(&self, reply: &Reply) -> Result<Secret, Setback> {
        let status = reply.status.as_u16();
        let words = reply.words(&self.request_token);
        if reply.status.is_success() {
            let answer: Result<TokenAnswer, _> = serde_json::from_slice(&reply.body);
            return answer.map(|answer| answer.value).map_err(|_| {
                let what = "GitHub's token service did not answer with a token";
                Failure::Untrusted(format!("{what}: check {SETTING}")).into()
            });
        }
        if matches!(status, 401 | 403) {
            return Err(Failure::Token(format!(
                "GitHub answers {status} to the request for a token{words}: give the job \
                 `permissions: id-token: write`"
            ))
            .into());
        }
        if reply.is_passing() {
            let failure = Failure::Unavailable(format!(
                "GitHub's token service answers {status}{words}: try again"
            ));
            return Err(Setback { failure, repeat: reply.repeat() });
        }
        let what = format!("GitHub's token service answers {status}{words}");
        Err(Failure::Untrusted(format!("{what}: check {SETTING}")).into())
    }
}
