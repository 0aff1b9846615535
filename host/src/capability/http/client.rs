//! The `http` port on reqwest.
//!
//! Each registry has a client of its own: no registry can use a connection that only the settings
//! of another allow. The client uses no proxy from the environment, no redirects, no retries, no
//! cookies, no decompression, and HTTP/1.1 only.

use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use reqwest::{Certificate, Client, Proxy, redirect, retry};
use zeroize::Zeroizing;

use super::{Http, HttpAnswer, HttpError, LARGEST_BODY, Outgoing};
use crate::domain::Reach;
use crate::reachable::{OutOfReach, Reachable};

const CONNECT: Duration = Duration::from_secs(2);
/// Half of the default deadline of a call, so that a provider learns that a registry hangs and can
/// report it.
const ATTEMPT: Duration = Duration::from_secs(4);
const IDLE: Duration = Duration::from_secs(30);
const IDLE_CONNECTIONS: usize = 16;
const MOST_HEADERS: usize = 64;
const LARGEST_HEADERS: usize = 16 << 10;

pub struct ReqwestHttp {
    encrypted: Client,
    /// For `http://`, where the ceiling has it.
    plain: Option<Client>,
}

/// What a registry's client connects to, and how.
pub struct HttpConnections<'a> {
    pub reach: Reach,
    pub has_plain: bool,
    /// It resolves names. Requests without encryption do not use it.
    pub proxy: Option<Proxy>,
    /// The only authorities that count, in PEM.
    pub authorities: Option<&'a [u8]>,
}

impl ReqwestHttp {
    pub fn new(connections: HttpConnections<'_>) -> reqwest::Result<Self> {
        let HttpConnections { reach, has_plain, proxy, authorities } = connections;
        let plain = has_plain.then(|| client(Reach::Private).build()).transpose()?;
        let mut encrypted = match proxy {
            None => client(reach),
            Some(proxy) => client(Reach::Internal).proxy(proxy),
        };
        if let Some(pem) = authorities {
            encrypted = encrypted.tls_certs_only(Certificate::from_pem_bundle(pem)?);
        }
        Ok(Self { encrypted: encrypted.https_only(true).build()?, plain })
    }
}

fn client(reach: Reach) -> reqwest::ClientBuilder {
    Client::builder()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .referer(false)
        .http1_only()
        .http1_max_headers(MOST_HEADERS)
        .dns_resolver(Reachable { reach, setting: "ceiling.http.private" })
        .connect_timeout(CONNECT)
        .timeout(ATTEMPT)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
}

#[async_trait]
impl Http for ReqwestHttp {
    async fn send(&self, request: Outgoing) -> Result<HttpAnswer, HttpError> {
        let Outgoing { method, url, headers, body } = request;
        let client = match (url.scheme(), &self.plain) {
            ("http", Some(plain)) => plain,
            _ => &self.encrypted,
        };
        let mut request = client.request(method, url).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let mut answer = request.send().await.map_err(failure)?;
        let headers = std::mem::take(answer.headers_mut());
        check(&headers)?;
        // Memory that grows leaves a copy of the beginning behind that nobody wipes.
        let told = answer.content_length().and_then(|length| usize::try_from(length).ok());
        let room = told.map_or(LARGEST_BODY, |length| length.min(LARGEST_BODY));
        let mut body = Zeroizing::new(Vec::with_capacity(room));
        while let Some(chunk) = answer.chunk().await.map_err(failure)? {
            if body.len() + chunk.len() > LARGEST_BODY {
                return Err(HttpError::body_too_long());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(HttpAnswer { status: answer.status().as_u16(), headers, body })
    }
}

fn check(headers: &HeaderMap) -> Result<(), HttpError> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > LARGEST_HEADERS {
        let text = format!("an answer with more than {LARGEST_HEADERS} bytes of headers");
        return Err(HttpError::Nonsense(text));
    }
    // The host did not ask for compression, and could not find a secret in it.
    if headers.get_all(CONTENT_ENCODING).iter().any(|encoding| encoding != "identity") {
        return Err(HttpError::Nonsense(
            "an answer that is compressed, which was not asked for".to_owned(),
        ));
    }
    Ok(())
}

fn failure(error: reqwest::Error) -> HttpError {
    // The query may have a secret.
    let error = error.without_url();
    let mut causes = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(out) = source.downcast_ref::<OutOfReach>() {
            return HttpError::OutOfReach(out.to_string());
        }
        causes.push(source.to_string());
        cause = source.source();
    }
    let text = causes.join(": ");
    if error.is_timeout() { HttpError::TimedOut(text) } else { HttpError::Unavailable(text) }
}
