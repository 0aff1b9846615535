//! The recorded requests, the next answers, and how an answer is written.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::Answer;
use crate::aws::request::Request;

const ACCOUNT: &str = "123456789012";
const XML: &str = "text/xml";
const JSON: &str = "application/x-amz-json-1.1";
/// The password that ECR returns for every session.
const REGISTRY_PASSWORD: SignedDuration = SignedDuration::from_hours(12);

/// An answer before it becomes one of hyper.
#[derive(Debug)]
pub(super) struct Reply {
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
    retry_after: Option<Duration>,
    /// How many bytes are announced and not sent.
    missing: usize,
}

#[derive(Debug, Default)]
pub(super) struct Script {
    always: BTreeMap<String, Answer>,
    next: BTreeMap<String, VecDeque<Answer>>,
    pub(super) heard: Vec<Request>,
    pub(super) secrets: Vec<String>,
    /// Access key of a session → the ARN of the assumed role.
    sessions: BTreeMap<String, String>,
    pace: Option<Pace>,
    /// Calls left of each action, and when they were last counted.
    buckets: BTreeMap<String, (f64, Instant)>,
    pub(super) throttled: usize,
    /// Passwords of ECR are at least this long.
    pub(super) password_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    per_second: f64,
    burst: f64,
}

impl Script {
    pub(super) fn always(&mut self, action: &str, answer: Answer) {
        self.always.insert(action.into(), answer);
    }

    pub(super) fn next(&mut self, action: &str, answers: impl IntoIterator<Item = Answer>) {
        self.next.entry(action.into()).or_default().extend(answers);
    }

    pub(super) fn pace(&mut self, per_second: u32, burst: u32) {
        let (per_second, burst) = (per_second.into(), burst.into());
        self.pace = Some(Pace { per_second, burst });
    }

    /// Whether one more call of this action is too much now.
    fn is_too_much(&mut self, action: &str) -> bool {
        let Some(Pace { per_second, burst }) = self.pace else { return false };
        let now = Instant::now();
        let (left, counted) = self.buckets.entry(action.to_owned()).or_insert((burst, now));
        let refilled = now.duration_since(*counted).as_secs_f64() * per_second;
        *left = (*left + refilled).min(burst);
        *counted = now;
        let is_too_much = *left < 1.0;
        if is_too_much {
            self.throttled += 1;
        } else {
            *left -= 1.0;
        }
        is_too_much
    }

    /// Records the request. Returns the delay and the answer; `None` closes the connection.
    pub(super) fn hear(&mut self, request: &Request) -> (Duration, Option<Reply>) {
        let next = self.next.get_mut(&request.action).and_then(VecDeque::pop_front);
        let mut answer =
            next.or_else(|| self.always.get(&request.action).cloned()).unwrap_or(Answer::Usual);
        self.heard.push(request.clone());
        if self.is_too_much(&request.action) {
            answer = Answer::throttled(None);
        }
        let mut delay = Duration::ZERO;
        while let Answer::After(more, then) = answer {
            delay += more;
            answer = *then;
        }
        (delay, self.reply(request, answer))
    }

    fn reply(&mut self, request: &Request, answer: Answer) -> Option<Reply> {
        match answer {
            Answer::Usual => Some(self.usual(request, None)),
            Answer::Expires(lifetime) => Some(self.usual(request, Some(lifetime))),
            Answer::Huge(bytes) => {
                let mut usual = self.usual(request, None);
                usual.body.resize(usual.body.len() + bytes, b' ');
                Some(usual)
            }
            Answer::Cut => Some(Reply { missing: 100, ..self.usual(request, None) }),
            Answer::Error { status, code, retry_after } => {
                Some(error(request, status, code, retry_after))
            }
            Answer::Raw { status, content_type, body } => Some(reply(status, content_type, body)),
            Answer::After(_, then) => self.reply(request, *then),
            Answer::Close => None,
        }
    }

    fn usual(&mut self, request: &Request, lifetime: Option<SignedDuration>) -> Reply {
        match request.action.as_str() {
            "AssumeRole" | "AssumeRoleWithWebIdentity" => self.assume_role(request, lifetime),
            "GetCallerIdentity" => self.caller_identity(request),
            "GetAuthorizationToken" => self.authorization_token(request, lifetime),
            _ => error(request, 400, "InvalidAction", None),
        }
    }

    fn assume_role(&mut self, request: &Request, lifetime: Option<SignedDuration>) -> Reply {
        let (Some(role_arn), Some(session_name)) =
            (request.parameter("RoleArn"), request.parameter("RoleSessionName"))
        else {
            return error(request, 400, "ValidationError", None);
        };
        let asked =
            request.parameter("DurationSeconds").map_or(3600, |seconds| seconds.parse().unwrap());
        let expiration = Timestamp::now() + lifetime.unwrap_or(SignedDuration::from_secs(asked));
        let number = self.sessions.len() + 1;
        let access_key_id = format!("ASIASTUB{number:08}");
        let secret = self.secret(format!("stub-secret-access-key-{number:08}-canary"));
        let token = self.secret(format!("stub-session-token-{number:08}-canary"));
        // arn:aws:iam::ACCOUNT:role/path/name → arn:aws:sts::ACCOUNT:assumed-role/name/session
        let account = role_arn.split(':').nth(4).unwrap_or(ACCOUNT);
        let partition = role_arn.split(':').nth(1).unwrap_or("aws");
        let name = role_arn.rsplit('/').next().unwrap_or("");
        let arn = format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session_name}");
        let result = format!(
            "<Credentials><AccessKeyId>{access_key_id}</AccessKeyId>\
             <SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>{token}</SessionToken>\
             <Expiration>{expiration:.0}</Expiration></Credentials>\
             <AssumedRoleUser><AssumedRoleId>AROASTUB:{session_name}</AssumedRoleId>\
             <Arn>{arn}</Arn></AssumedRoleUser>\
             <PackedPolicySize>6</PackedPolicySize>"
        );
        self.sessions.insert(access_key_id, arn);
        query(&request.action, &result)
    }

    fn caller_identity(&self, request: &Request) -> Reply {
        let arn = self.arn(request);
        let account = arn.split(':').nth(4).unwrap_or(ACCOUNT);
        query(
            "GetCallerIdentity",
            &format!("<Arn>{arn}</Arn><UserId>AIDASTUB</UserId><Account>{account}</Account>"),
        )
    }

    fn authorization_token(
        &mut self,
        request: &Request,
        lifetime: Option<SignedDuration>,
    ) -> Reply {
        let expires_at = (Timestamp::now() + lifetime.unwrap_or(REGISTRY_PASSWORD)).as_second();
        let password = format!("stub-ecr-password-{:08}-canary", self.heard.len());
        let password = self.secret(format!("{password:p<0$}", self.password_bytes));
        let token = self.secret(STANDARD.encode(format!("AWS:{password}")));
        let arn = self.arn(request);
        let account = arn.split(':').nth(4).unwrap_or(ACCOUNT);
        let proxy_endpoint = format!("https://{account}.dkr.ecr.{}.amazonaws.com", request.region);
        if request.service == "ecr-public" {
            let data = json!({ "authorizationToken": token, "expiresAt": expires_at });
            return reply(200, JSON, json!({ "authorizationData": data }).to_string().into());
        }
        let data = json!({
            "authorizationToken": token, "expiresAt": expires_at, "proxyEndpoint": proxy_endpoint,
        });
        reply(200, JSON, json!({ "authorizationData": [data] }).to_string().into())
    }

    /// The caller: the role of a session that was made here, else a user.
    fn arn(&self, request: &Request) -> String {
        let user = || format!("arn:aws:iam::{ACCOUNT}:user/stub");
        self.sessions.get(&request.access_key_id).cloned().unwrap_or_else(user)
    }

    fn secret(&mut self, secret: String) -> String {
        self.secrets.push(secret.clone());
        secret
    }
}

fn query(action: &str, result: &str) -> Reply {
    let body = format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>{REQUEST_ID}</RequestId></ResponseMetadata>\
         </{action}Response>"
    );
    reply(200, XML, body.into())
}

fn error(request: &Request, status: u16, code: &str, retry_after: Option<Duration>) -> Reply {
    let is_json = request.headers.contains_key("x-amz-target");
    let mut answer = if is_json {
        reply(status, JSON, json!({ "__type": code, "message": MESSAGE }).to_string().into())
    } else {
        let side = if status < 500 { "Sender" } else { "Receiver" };
        let body = format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>{side}</Type>\
             <Code>{code}</Code><Message>{MESSAGE}</Message></Error>\
             <RequestId>{REQUEST_ID}</RequestId></ErrorResponse>"
        );
        reply(status, XML, body.into())
    };
    answer.retry_after = retry_after;
    answer
}

fn reply(status: u16, content_type: &'static str, body: Vec<u8>) -> Reply {
    Reply { status, content_type, body, retry_after: None, missing: 0 }
}

impl From<Reply> for Response<Full<Bytes>> {
    fn from(reply: Reply) -> Self {
        let mut response = Response::builder()
            .status(reply.status)
            .header("content-type", reply.content_type)
            .header("x-amzn-requestid", REQUEST_ID);
        if let Some(wait) = reply.retry_after {
            response = response.header("retry-after", wait.as_secs());
            response = response.header("x-amz-retry-after", wait.as_millis().to_string());
        }
        if reply.missing > 0 {
            response = response.header("content-length", reply.body.len() + reply.missing);
        }
        response.body(Full::new(reply.body.into())).unwrap()
    }
}

const REQUEST_ID: &str = "00000000-0000-0000-0000-00000000stub";
/// A text in the answer, so that tests can tell whether AWS's own words reached a caller.
const MESSAGE: &str = "the stub was told to say this";
