//! HTTP requests to a URL that the operator set: the audit log and traces are sent with them.
//!
//! A provider's requests are another thing: `capability/http` bounds where they go.

mod client;

use std::path::PathBuf;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, Request};
use url::Url;

use crate::domain::{Renewable, Secret};
pub(crate) use client::{client, send, shown};

/// A few words about what was sent.
const LARGEST_ANSWER: usize = 64 << 10;

/// A URL to which something is posted.
#[derive(Clone)]
pub struct PostSettings {
    pub url: Url,
    /// Sent as `Authorization: Bearer …`.
    pub token: Renewable,
    /// The only authorities that may sign the server's certificate.
    pub ca_file: Option<PathBuf>,
}

/// Why a request did not work.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct PostError {
    /// A word for metrics: `unavailable`, `timed-out`, `denied`, `full` or `rejected`.
    pub(crate) reason: &'static str,
    pub(crate) text: String,
}

/// Posts to one URL.
pub(crate) struct Poster {
    settings: PostSettings,
    /// It is made anew after a failure, because `ca_file` may have changed.
    client: Option<Client>,
}

impl PostSettings {
    /// Takes over the token of `newer`, unless that is for another server.
    pub(crate) fn renew_token(&self, newer: &Self) {
        if (&self.url, &self.ca_file) == (&newer.url, &newer.ca_file) {
            self.token.renew_from(&newer.token);
        }
    }
}

impl PostError {
    fn new(reason: &'static str, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}

impl Poster {
    pub(crate) fn new(settings: PostSettings) -> Self {
        Self { settings, client: None }
    }

    /// The host and port that it posts to.
    pub(crate) fn authority(&self) -> &str {
        self.settings.url.authority()
    }

    /// Returns the body of the answer. `name`: the same content has the same name.
    pub(crate) async fn post(
        &mut self,
        kind: &'static str,
        name: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, PostError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => client::client(self.settings.ca_file.as_deref())?,
        };
        let mut request = Request::new(Method::POST, self.settings.url.clone());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(name) = name {
            headers.insert("idempotency-key", header(name)?);
        }
        let token = self.settings.token.current();
        if let Some(token) = &token {
            let mut value = header(&format!("Bearer {}", token.expose()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        *request.body_mut() = Some(body.into());
        let answer = client::send(&client, request, LARGEST_ANSWER)
            .await
            .map_err(|error| without_token(error, token.as_deref()))?;
        self.client = Some(client);
        Ok(answer)
    }
}

/// A server may repeat what it got.
fn without_token(error: PostError, token: Option<&Secret>) -> PostError {
    if token.is_some_and(|token| token.is_in(&error.text)) {
        PostError::new(error.reason, "its answer has the token, and is withheld")
    } else {
        error
    }
}

fn header(text: &str) -> Result<HeaderValue, PostError> {
    HeaderValue::from_str(text).map_err(|_| {
        PostError::new("rejected", "the token has a character that no header can have")
    })
}
