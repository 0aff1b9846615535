//! The HTTP client of what the broker posts.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, Request, Response, redirect, retry};

use super::PostError;
use crate::files;

const CONNECT: Duration = Duration::from_secs(5);
/// Less than a follower waits for one attempt.
const ANSWER: Duration = Duration::from_secs(25);
const LARGEST_CA_FILE: u64 = 1 << 20;
const LONGEST_SHOWN: usize = 200;

/// Makes a client without redirects, retries and proxies. `ca_file` has the only authorities that
/// count.
pub(crate) fn client(ca_file: Option<&Path>) -> Result<Client, PostError> {
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .referer(false)
        .http1_only()
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .pool_max_idle_per_host(1);
    if let Some(path) = ca_file {
        let wrong = |error: String| {
            PostError::new("unavailable", format!("cannot use {}: {error}", path.display()))
        };
        let pem = files::read(path, LARGEST_CA_FILE).map_err(|error| wrong(error.to_string()))?;
        let authorities =
            Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
        if authorities.is_empty() {
            return Err(wrong("it has no certificate in PEM".to_owned()));
        }
        builder = builder.tls_certs_only(authorities);
    }
    builder.build().map_err(|error| failure(&error))
}

/// Sends a request. Returns the body of an answer that says it worked, of at most `most` bytes.
pub(crate) async fn send(
    client: &Client,
    request: Request,
    most: usize,
) -> Result<Vec<u8>, PostError> {
    let host = request.url().authority().to_owned();
    let answer = client.execute(request).await.map_err(|error| failure(&error.without_url()))?;
    let status = answer.status();
    let body = read(answer, most).await?;
    if status.is_success() {
        return Ok(body);
    }
    let reason = match status.as_u16() {
        401 | 403 | 407 => "denied",
        408 | 504 => "timed-out",
        507 => "full",
        429 | 500..=599 => "unavailable",
        _ => "rejected",
    };
    Err(PostError::new(reason, format!("{host} answers {status}{}", shown(&body))))
}

/// Reads a body of at most `most` bytes.
async fn read(mut answer: Response, most: usize) -> Result<Vec<u8>, PostError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| failure(&error.without_url()))? {
        if body.len() + chunk.len() > most {
            let text = format!("an answer of more than {most} bytes");
            return Err(PostError::new("rejected", text));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The beginning of what a server says, on one line. Of an error of S3, its code and its message.
pub(crate) fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = match (element(&text, "Code"), element(&text, "Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => text.into_owned(),
    };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text: String = text.chars().take(LONGEST_SHOWN).collect();
    if text.is_empty() { String::new() } else { format!(": {}", text.escape_debug()) }
}

/// The text of the first such element. XML of S3 has no attributes.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, behind) = xml.split_once(&format!("<{name}>"))?;
    Some(behind.split_once(&format!("</{name}>"))?.0)
}

fn failure(error: &reqwest::Error) -> PostError {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        texts.push(cause.to_string());
        source = cause.source();
    }
    texts.dedup();
    let reason = if error.is_timeout() { "timed-out" } else { "unavailable" };
    PostError::new(reason, texts.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_one_short_line() {
        let s3 = "<?xml version=\"1.0\"?>\n<Error>\n  <Code>NoSuchBucket</Code>\n  <Message>The \
                  specified bucket does not exist</Message>\n</Error>";
        let long = "x".repeat(300);
        for (body, expected) in [
            (s3, ": NoSuchBucket: The specified bucket does not exist"),
            ("<html>\n<Code>\n", ": <html> <Code>"),
            (" busy,\r\n\ttry\u{1b} later\n", ": busy, try\\u{1b} later"),
            (&long, &format!(": {}", "x".repeat(LONGEST_SHOWN))),
            (" \n", ""),
        ] {
            assert_eq!(shown(body.as_bytes()), expected);
        }
    }
}
