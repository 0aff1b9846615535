//! The target `https`: batches of records are posted to a URL, one JSON line each.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, Request};

use super::settings::PostSettings;
use super::{Batch, BatchLimits, ShipError, Target, client};

const RECORDS: usize = 1000;
const BYTES: usize = 1 << 20;
/// A few words about a batch.
const LARGEST_ANSWER: usize = 64 << 10;
const GATHER: Duration = Duration::from_millis(500);

pub(super) struct Https {
    pub(super) poster: Poster,
}

#[async_trait]
impl Target for Https {
    fn name(&self) -> &'static str {
        "https"
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits { records: RECORDS, bytes: BYTES, gather: GATHER }
    }

    async fn send(&mut self, batch: &Batch) -> Result<usize, ShipError> {
        let lines = batch.records.iter().flat_map(|record| [record.line.as_str(), "\n"]);
        let body: String = lines.collect();
        self.poster.post("application/x-ndjson", batch, body.into_bytes()).await?;
        Ok(0)
    }
}

/// Posts to one URL.
pub(super) struct Poster {
    settings: PostSettings,
    /// It is made anew after a failure, because `ca_file` may have changed.
    client: Option<Client>,
}

impl Poster {
    pub(super) fn new(settings: PostSettings) -> Self {
        Self { settings, client: None }
    }

    /// Returns the body of the answer.
    pub(super) async fn post(
        &mut self,
        kind: &'static str,
        batch: &Batch,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, ShipError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => client::client(self.settings.ca_file.as_deref())?,
        };
        let mut request = Request::new(Method::POST, self.settings.url.clone());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(name) = batch.name() {
            headers.insert("idempotency-key", header(&name)?);
        }
        if let Some(token) = &self.settings.token {
            let mut value = header(&format!("Bearer {}", token.expose()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        *request.body_mut() = Some(body.into());
        let answer = client::send(&client, request, LARGEST_ANSWER)
            .await
            .map_err(|error| self.without_token(error))?;
        self.client = Some(client);
        Ok(answer)
    }

    /// A server may repeat what it got.
    fn without_token(&self, error: ShipError) -> ShipError {
        let is_in = self.settings.token.as_ref().is_some_and(|token| token.is_in(&error.text));
        if is_in {
            ShipError::new(error.reason, "its answer has the token, and is withheld")
        } else {
            error
        }
    }
}

fn header(text: &str) -> Result<HeaderValue, ShipError> {
    HeaderValue::from_str(text).map_err(|_| {
        ShipError::new("rejected", "the token has a character that no header can have")
    })
}
