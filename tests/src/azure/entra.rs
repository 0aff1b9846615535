//! The login of an application: OAuth 2.0 client credentials, by a secret, by a certificate or by a
//! token of an issuer that the application trusts.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::federation::{Mistrust, Trust};

use super::{AUDIENCES, CLIENT_ID, CLIENT_SECRET, Shared, Step, StepRequest, TENANT};

/// The lifetime of its tokens, in seconds.
const LIFETIME: i64 = 3599;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/{tenant}/v2.0/.well-known/openid-configuration", get(configuration))
        .route("/{tenant}/oauth2/v2.0/token", post(token))
        .with_state(shared)
}

/// Microsoft's clients read it before they log in.
async fn configuration(
    State(shared): State<Arc<Shared>>,
    Path(tenant): Path<String>,
) -> Json<Value> {
    let origin = format!("https://{}", shared.entra);
    Json(json!({
        "issuer": format!("{origin}/{tenant}/v2.0"),
        "authorization_endpoint": format!("{origin}/{tenant}/oauth2/v2.0/authorize"),
        "token_endpoint": format!("{origin}/{tenant}/oauth2/v2.0/token"),
    }))
}

async fn token(
    State(shared): State<Arc<Shared>>,
    Path(tenant): Path<String>,
    uri: Uri,
    body: Bytes,
) -> Response {
    let (request, instead) = shared.receive(Step::Login, uri.path(), &body);
    if let Some(instead) = instead {
        return instead;
    }
    let one = |name: &str| request.all(name).first().copied().unwrap_or_default();
    let audience = one("scope").strip_suffix("/.default").unwrap_or_default();
    let refused = |status, code: u32, text: &str| refused(status, code, text).into_response();
    if tenant != TENANT {
        return refused(
            400,
            90_002,
            "Tenant not found. Check to make sure you have the right one.",
        );
    }
    if one("client_id") != CLIENT_ID {
        return refused(400, 700_016, "Application was not found in the directory.");
    }
    if one("grant_type") != "client_credentials" {
        return refused(400, 70_003, "The app requested an unsupported grant type.");
    }
    if request.all("client_assertion").is_empty() {
        if one("client_secret") != CLIENT_SECRET {
            return refused(401, 7_000_215, "Invalid client secret provided.");
        }
    } else if let Err((code, text)) = shared.check_assertion(&request).await {
        return refused(401, code, text);
    }
    if !AUDIENCES.contains(&audience) {
        return refused(400, 500_011, "The resource principal was not found in the tenant.");
    }
    let claims = json!({
        "aud": audience, "iss": format!("https://sts.windows.net/{tenant}/"), "appid": CLIENT_ID,
        "tid": tenant, "ver": "1.0",
    });
    let token = shared.make(Step::Login, LIFETIME, &claims);
    Json(json!({
        "token_type": "Bearer", "expires_in": LIFETIME, "ext_expires_in": LIFETIME,
        "access_token": token,
    }))
    .into_response()
}

impl Shared {
    /// Checks the login without a secret (RFC 7523). Fails with the error of Entra ID.
    async fn check_assertion(&self, request: &StepRequest) -> Result<(), (u32, &'static str)> {
        let one = |name: &str| request.all(name).first().copied().unwrap_or_default();
        if one("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        {
            return Err((900_144, "The request body must contain 'client_assertion_type'."));
        }
        let trust = self.trust.lock().unwrap().clone();
        match trust {
            Some(trust) => federated(&trust, one("client_assertion")).await,
            None => self.check_certificate(request),
        }
    }

    fn check_certificate(&self, request: &StepRequest) -> Result<(), (u32, &'static str)> {
        let one = |name: &str| request.all(name).first().copied().unwrap_or_default();
        let certificate = &self.certificate;
        let signed = certificate.key.try_verify(one("client_assertion"));
        let (header, claims) =
            signed.ok_or((700_027, "Client assertion failed signature validation."))?;
        // Microsoft's client pads its base64.
        let names = |member: &str, algorithm| {
            let named = header[member].as_str().unwrap_or_default().trim_end_matches('=');
            named == URL_SAFE_NO_PAD.encode(digest(algorithm, &certificate.der))
        };
        let is_named = names("x5t#S256", &SHA256) || names("x5t", &SHA1_FOR_LEGACY_USE_ONLY);
        if !is_named {
            return Err((700_027, "The certificate with identifier used was not found."));
        }
        // Microsoft's client writes fractions of seconds.
        let now = Timestamp::now().as_second() as f64;
        let is_now = claims["exp"].as_f64().is_some_and(|exp| (now..now + 3600.0).contains(&exp));
        if !is_now || claims["nbf"].as_f64().is_some_and(|nbf| nbf > now + 60.0) {
            return Err((700_024, "Client assertion is not within its valid time range."));
        }
        let audience = format!("https://{}{}", self.entra, request.path);
        let is_ours = claims["aud"] == *audience && claims["iss"] == CLIENT_ID;
        if !is_ours || claims["sub"] != CLIENT_ID || !claims["jti"].is_string() {
            return Err((700_021, "Client assertion application identifier doesn't match."));
        }
        Ok(())
    }
}

/// Checks a token of a foreign issuer against the federated credentials of the application.
async fn federated(trust: &Trust, token: &str) -> Result<(), (u32, &'static str)> {
    let none = "No matching federated identity record found for presented assertion";
    trust.verify(token).await.map(drop).map_err(|mistrust| match mistrust {
        Mistrust::Form | Mistrust::Signature => (50_013, "Assertion failed signature validation."),
        Mistrust::Keys => (90_061, "Request to External OIDC endpoint failed."),
        Mistrust::Expired => (700_024, "Client assertion is not within its valid time range."),
        Mistrust::Issuer => (700_211, none),
        Mistrust::Audience => (700_212, none),
        Mistrust::Subject => (700_213, none),
    })
}

fn refused(status: u16, code: u32, text: &str) -> (StatusCode, Json<Value>) {
    let description = format!("AADSTS{code}: {text} Trace ID: 7 Correlation ID: 8 Timestamp: 9");
    let error = if status == 401 { "invalid_client" } else { "invalid_request" };
    let body = json!({
        "error": error, "error_description": description, "error_codes": [code], "trace_id": "7",
    });
    (StatusCode::from_u16(status).unwrap(), Json(body))
}
