//! ECR Public: the calls of a login, and those that show a permission on one repository. It has one
//! region, checks the session policy, and takes a request only if it was signed for the service.

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Shared, denied, signature};

/// How the service is named in `x-amz-target`.
pub(super) const TARGET: &str = "SpencerFrontendService.";
const SCOPE: &str = "/us-east-1/ecr-public/aws4_request";
const ACCOUNT: &str = "123456789012";
/// A login needs both: the service asks STS in the name of the caller.
const LOGIN: [&str; 2] = ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"];

impl Shared {
    pub(super) fn public(&mut self, action: &str, headers: &HeaderMap, body: &Bytes) -> Response {
        if !signature(headers).contains(SCOPE) {
            return denied("a request of another region or service");
        }
        let Some(session) = self.signer(headers).cloned() else {
            return denied("without a session");
        };
        if action == "GetAuthorizationToken" {
            let lacking = LOGIN.into_iter().find(|it| !self.allows(&session, it, "*"));
            return lacking.map_or_else(|| self.public_login(), denied);
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let repository = body["repositoryName"].as_str().unwrap_or_default();
        let arn = format!("arn:aws:ecr-public::{ACCOUNT}:repository/{repository}");
        let action = format!("ecr-public:{action}");
        if body["registryId"] != ACCOUNT || !self.allows(&session, &action, &arn) {
            return denied(&action);
        }
        if !self.public_repositories.iter().any(|known| known == repository) {
            let text = format!("The repository with name '{repository}' does not exist");
            let body = json!({ "__type": "RepositoryNotFoundException", "message": text });
            return (StatusCode::BAD_REQUEST, axum::Json(body)).into_response();
        }
        answer(&json!({ "uploadId": "probe", "partSize": 20_971_520, "layers": [] }))
    }

    fn public_login(&mut self) -> Response {
        let password = format!("public-registry-password-{}-canary", self.secrets.len());
        let ends = Timestamp::now() + SignedDuration::from_hours(12);
        // An object, where ECR has a list, and no `proxyEndpoint`.
        let body = answer(&json!({ "authorizationData": {
            "authorizationToken": BASE64_STANDARD.encode(format!("AWS:{password}")),
            "expiresAt": ends.as_second(),
        } }));
        self.secrets.push(password);
        body
    }
}

fn answer(body: &Value) -> Response {
    ([("content-type", "application/x-amz-json-1.1")], body.to_string()).into_response()
}
