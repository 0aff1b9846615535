//! A double of STS and ECR that knows its callers by the tokens of one OIDC issuer, and checks what
//! the emulators do not: the signature by the issuer's published keys, times, the audience of the
//! OIDC provider, and the role's trust policy with its conditions. boto3 drives it first
//! (`ecr_web_identity.rs` of the tests).

mod public;
mod trust;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::form_urlencoded;

use self::trust::{Refusal, Trust};

const MAX_POLICY: usize = 2048;

/// A session that STS gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederatedSession {
    pub role_arn: String,
    pub session_name: String,
    /// The `sub` of the token.
    pub subject: String,
    pub policy: Value,
    pub seconds: i64,
    pub tags: Value,
    pub source_identity: Value,
}

#[derive(Default)]
struct Shared {
    trust: Trust,
    tokens: Vec<String>,
    /// By access key.
    sessions: Vec<(String, FederatedSession)>,
    secrets: Vec<String>,
    /// Whether errors repeat the token.
    echoes: bool,
    /// Actions that the policies of every role lack.
    lacking: Vec<String>,
    /// Names of repositories in ECR Public.
    public_repositories: Vec<String>,
}

/// It runs on the test's runtime.
pub struct FederatedAws {
    endpoint: String,
    shared: Arc<Mutex<Shared>>,
    server: JoinHandle<()>,
}

impl FederatedAws {
    /// An account with an OIDC provider for this issuer and audience, and no role yet.
    pub async fn start(issuer: &str, audience: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Shared { trust: Trust::new(issuer, audience), ..Shared::default() };
        let shared = Arc::new(Mutex::new(shared));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { endpoint, shared, server }
    }

    /// The value for `endpoint_url`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The JSON Web Key Set of the issuer.
    pub fn publish(&self, keys: Value) {
        self.shared.lock().unwrap().trust.keys = keys;
    }

    /// Creates a role with this trust policy, or replaces it.
    pub fn role(&self, arn: &str, trust_policy: Value) {
        self.shared.lock().unwrap().trust.roles.insert(arn.to_owned(), trust_policy);
    }

    /// From now on errors repeat the token.
    pub fn echo(&self) {
        self.shared.lock().unwrap().echoes = true;
    }

    /// From now on the policies of every role lack this action.
    pub fn lacks(&self, action: &str) {
        self.shared.lock().unwrap().lacking.push(action.to_owned());
    }

    /// Creates a repository in ECR Public.
    pub fn public_repository(&self, name: &str) {
        self.shared.lock().unwrap().public_repositories.push(name.to_owned());
    }

    pub fn sessions(&self) -> Vec<FederatedSession> {
        let shared = self.shared.lock().unwrap();
        shared.sessions.iter().map(|(_, session)| session.clone()).collect()
    }

    /// Everything that no output may have: tokens, and the keys that it gave.
    pub fn secrets(&self) -> Vec<String> {
        let shared = self.shared.lock().unwrap();
        shared.tokens.iter().chain(&shared.secrets).cloned().collect()
    }
}

impl Drop for FederatedAws {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State(shared): State<Arc<Mutex<Shared>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut shared = shared.lock().unwrap();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(action) = header("x-amz-target").and_then(|it| it.strip_prefix(public::TARGET)) {
        return shared.public(action, &headers, &body);
    }
    if header("x-amz-target").is_some_and(|target| target.ends_with(".GetAuthorizationToken")) {
        return shared.login(&headers);
    }
    let fields: BTreeMap<_, _> = form_urlencoded::parse(&body).into_owned().collect();
    // A signature would mean that somebody had keys.
    let is_signed = header("authorization").is_some();
    match fields.get("Action").map(String::as_str) {
        Some("AssumeRoleWithWebIdentity") if !is_signed => shared.assume(&fields),
        other => error(&Refusal::new(400, "InvalidAction", format!("{other:?}"))),
    }
}

impl Shared {
    fn assume(&mut self, fields: &BTreeMap<String, String>) -> Response {
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let token = field("WebIdentityToken");
        self.tokens.push(token.clone());
        let session = match self.session(&field, &token) {
            Ok(session) => session,
            Err(refusal) if self.echoes => {
                let text = format!("{} {token}", refusal.message);
                return error(&Refusal { message: text, ..refusal });
            }
            Err(refusal) => return error(&refusal),
        };
        let number = self.sessions.len() + 1;
        let access_key = format!("ASIAFEDERATED{number:07}");
        let secret = format!("federated-secret-{number:08}-canary");
        let session_token = format!("federated-session-token-{number:08}-canary");
        let ends = Timestamp::now() + SignedDuration::from_secs(session.seconds);
        let xml = format!(
            "<AssumeRoleWithWebIdentityResponse \
             xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult>\
             <SubjectFromWebIdentityToken>{}</SubjectFromWebIdentityToken>\
             <Credentials><AccessKeyId>{access_key}</AccessKeyId>\
             <SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>{session_token}</SessionToken><Expiration>{ends:.0}</Expiration>\
             </Credentials></AssumeRoleWithWebIdentityResult>\
             </AssumeRoleWithWebIdentityResponse>",
            session.subject
        );
        self.secrets.extend([secret, session_token]);
        self.sessions.push((access_key, session));
        (StatusCode::OK, [("content-type", "text/xml")], xml).into_response()
    }

    fn session(
        &self,
        field: &impl Fn(&str) -> String,
        token: &str,
    ) -> Result<FederatedSession, Refusal> {
        let invalid = |text: &str| Refusal::new(400, "ValidationError", text.to_owned());
        let (role_arn, policy) = (field("RoleArn"), field("Policy"));
        let claims = self.trust.verify(token, &role_arn)?;
        if policy.len() > MAX_POLICY {
            return Err(invalid("policy of more than 2048 characters"));
        }
        let policy = serde_json::from_str(&policy);
        let policy = policy.map_err(|_| Refusal::new(400, "MalformedPolicyDocument", ""))?;
        let seconds = field("DurationSeconds").parse().unwrap_or(3600);
        if !(900..=3600).contains(&seconds) {
            return Err(invalid("DurationSeconds exceeds the MaxSessionDuration of this role"));
        }
        Ok(FederatedSession {
            role_arn,
            session_name: field("RoleSessionName"),
            subject: claims["sub"].as_str().unwrap_or_default().to_owned(),
            policy,
            seconds,
            tags: claims[trust::TAGS]["principal_tags"].clone(),
            source_identity: claims[trust::SOURCE_IDENTITY].clone(),
        })
    }

    fn login(&mut self, headers: &HeaderMap) -> Response {
        let signed = signature(headers);
        let session = self.signer(headers);
        let action = "ecr:GetAuthorizationToken";
        let Some(session) = session.filter(|it| self.allows(it, action, "*")) else {
            return denied(action);
        };
        let account = session.role_arn.split(':').nth(4).unwrap_or_default();
        let region = signed.split('/').nth(2).unwrap_or_default();
        let password = BASE64_STANDARD.encode("AWS:federated-registry-password");
        let ends = Timestamp::now() + SignedDuration::from_hours(12);
        let data = json!({
            "authorizationToken": password,
            "expiresAt": ends.as_second(),
            "proxyEndpoint": format!("https://{account}.dkr.ecr.{region}.amazonaws.com"),
        });
        let body = json!({ "authorizationData": [data] }).to_string();
        ([("content-type", "application/x-amz-json-1.1")], body).into_response()
    }
}

impl Shared {
    /// The session whose keys signed the request.
    fn signer(&self, headers: &HeaderMap) -> Option<&FederatedSession> {
        let signed = signature(headers);
        let is_of = |key: &str| signed.contains(&format!("Credential={key}/"));
        self.sessions.iter().find(|(key, _)| is_of(key)).map(|(_, session)| session)
    }

    /// Whether the role and the session policy allow this, letter by letter.
    fn allows(&self, session: &FederatedSession, action: &str, resource: &str) -> bool {
        let has = |list: &Value, text: &str| {
            list.as_array().is_some_and(|list| list.contains(&json!(text)))
        };
        let statements = session.policy["Statement"].as_array().cloned().unwrap_or_default();
        !self.lacking.iter().any(|lacking| lacking == action)
            && statements.iter().any(|statement| {
                has(&statement["Action"], action) && has(&statement["Resource"], resource)
            })
    }
}

fn signature(headers: &HeaderMap) -> &str {
    headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn denied(action: &str) -> Response {
    let message = format!("not authorized to perform: {action}");
    let body = json!({ "__type": "AccessDeniedException", "message": message });
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}

fn error(refusal: &Refusal) -> Response {
    let Refusal { status, code, message } = refusal;
    let xml = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
         <Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
         <RequestId>federated</RequestId></ErrorResponse>"
    );
    let status = StatusCode::from_u16(*status).unwrap();
    (status, [("content-type", "text/xml")], xml).into_response()
}
