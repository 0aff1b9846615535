//! Stands between a broker and its AWS, and does something at a chosen request: what happens
//! between a read and a write of the broker, or a kill at that moment.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const LONGEST: usize = 1 << 20;
const JSON: &str = "application/x-amz-json-1.1";

/// The side of the AWS at which a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It has come, and AWS does not know of it.
    Before,
    /// AWS has done it, and the broker does not know of that.
    After,
}

/// A request of ECR on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passing {
    /// Such as `CreateRepository`.
    pub action: String,
    /// Empty for a request that names none, such as the listing of an account.
    pub repository: String,
    /// How many of this action for this repository came before it.
    pub earlier: usize,
    pub moment: Moment,
}

/// An error that the broker gets in place of AWS's answer: its code.
pub type Instead = Option<&'static str>;

type Hook = Box<dyn Fn(Passing) -> Pin<Box<dyn Future<Output = Instead> + Send>> + Send + Sync>;

/// It runs on the test's runtime.
#[derive(Debug)]
pub struct Relay {
    endpoint: String,
    server: JoinHandle<()>,
}

struct Relaying {
    target: String,
    client: reqwest::Client,
    seen: Mutex<Vec<(String, String)>>,
    hook: Hook,
}

impl Relay {
    /// Passes everything on to `target`, and waits for `hook` at both moments of each request of
    /// ECR. What it returns before AWS knows of the request is the answer.
    pub async fn start<F>(target: &str, hook: impl Fn(Passing) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Instead> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let relaying = Relaying {
            target: target.to_owned(),
            client: reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap(),
            seen: Mutex::default(),
            hook: Box::new(move |passing| Box::pin(hook(passing))),
        };
        let router = Router::new().fallback(pass).with_state(Arc::new(relaying));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { endpoint, server }
    }

    /// The value for `endpoint_url`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(State(relaying): State<Arc<Relaying>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, LONGEST).await.unwrap();
    let target = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
    let action = target.and_then(|value| value.split_once('.')).map(|(_, name)| name.to_owned());
    let passing = action.map(|action| relaying.count(action, repository(&body)));
    if let Some(passing) = passing.clone()
        && let Some(code) = (relaying.hook)(passing).await
    {
        let body = json!({ "__type": code, "message": "as the test has it" }).to_string();
        let response = Response::builder().status(400).header(CONTENT_TYPE, JSON);
        return response.body(Body::from(body)).unwrap();
    }
    let mut headers = parts.headers;
    headers.remove(CONTENT_LENGTH);
    let url = format!("{}{}", relaying.target, parts.uri);
    let sent = relaying.client.request(parts.method, url).headers(headers);
    let answer = sent.body(body).send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    if let Some(kind) = answer.headers().get(CONTENT_TYPE) {
        response = response.header(CONTENT_TYPE, kind);
    }
    let body = answer.bytes().await.unwrap();
    if let Some(passing) = passing {
        (relaying.hook)(Passing { moment: Moment::After, ..passing }).await;
    }
    response.body(Body::from(body)).unwrap()
}

fn repository(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let named = body["repositoryName"].as_str().or(body["repositoryNames"][0].as_str());
    let by_arn = body["resourceArn"].as_str().and_then(|arn| arn.split_once(":repository/"));
    named.or(by_arn.map(|(_, name)| name)).unwrap_or_default().to_owned()
}

impl Relaying {
    fn count(&self, action: String, repository: String) -> Passing {
        let mut seen = self.seen.lock().unwrap();
        let same = (action.clone(), repository.clone());
        let earlier = seen.iter().filter(|one| **one == same).count();
        seen.push(same);
        Passing { action, repository, earlier, moment: Moment::Before }
    }
}
