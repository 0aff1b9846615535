//! Plain http to a peer on this machine. Any failure of the connection panics.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Method, RequestBuilder, redirect};
use serde_json::Value;

/// A client that uses no proxy and follows no redirect.
#[derive(Clone, Debug)]
pub struct Client(reqwest::Client);

/// The answer of a peer.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub location: Option<String>,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
}

impl Client {
    #[allow(clippy::new_without_default, reason = "nothing about it is a default")]
    pub fn new() -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(Duration::from_secs(20))
            // The client speaks http only: reading the machine's certificates would cost more than
            // the requests.
            .tls_certs_only([])
            .build();
        Self(client.unwrap())
    }

    pub async fn get(&self, url: &str) -> Answered {
        self.try_get(url).await.unwrap_or_else(|error| panic!("GET {url}: {error}"))
    }

    pub async fn get_with(&self, url: &str, headers: &[(&str, &str)]) -> Answered {
        let mut request = self.0.get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answered(request).await.unwrap_or_else(|error| panic!("GET {url}: {error}"))
    }

    pub(crate) async fn try_get(&self, url: &str) -> Result<Answered, reqwest::Error> {
        answered(self.0.get(url)).await
    }

    /// Sends a `GET` with a bearer token. It is an error if no whole answer comes.
    pub async fn get_as(&self, url: &str, token: &str) -> Result<Answered, reqwest::Error> {
        answered(self.0.get(url).bearer_auth(token)).await
    }

    /// The same with a login.
    pub(crate) async fn get_as_user(
        &self,
        url: &str,
        user: &str,
        password: &str,
    ) -> Result<Answered, reqwest::Error> {
        answered(self.0.get(url).basic_auth(user, Some(password))).await
    }

    /// Sends a `DELETE` with a bearer token.
    pub(crate) async fn delete_as(
        &self,
        url: &str,
        token: &str,
    ) -> Result<Answered, reqwest::Error> {
        answered(self.0.delete(url).bearer_auth(token)).await
    }

    pub async fn post_form(
        &self,
        url: &str,
        form: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answered {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.send(Method::POST, url, "application/x-www-form-urlencoded", body, headers).await
    }

    pub async fn post_json(
        &self,
        url: &str,
        kind: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Answered {
        self.send(Method::POST, url, kind, body.to_string(), headers).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        kind: &str,
        body: String,
        headers: &[(&str, &str)],
    ) -> Answered {
        let mut request = self.0.request(method, url).header(CONTENT_TYPE, kind).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answered(request).await.unwrap_or_else(|error| panic!("{url}: {error}"))
    }
}

impl Answered {
    /// # Panics
    /// Unless the status is 2xx or 3xx.
    #[allow(clippy::return_self_not_must_use, reason = "often only the check is wanted")]
    pub fn accepted(self) -> Self {
        assert!(self.status < 400, "answered {}: {}", self.status, self.text());
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

async fn answered(request: RequestBuilder) -> Result<Answered, reqwest::Error> {
    let response = request.send().await?;
    let header = |name| response.headers().get(name)?.to_str().ok().map(String::from);
    Ok(Answered {
        status: response.status().as_u16(),
        location: header(LOCATION),
        content_type: header(CONTENT_TYPE),
        body: response.bytes().await?.to_vec(),
    })
}
