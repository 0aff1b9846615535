//! From the parts of a request to the headers and the body that are sent.
//!
//! **Invariant:** a secret enters a request here and nowhere else, and only if its origin may leave
//! by HTTP. No text that a provider wrote holds a configured secret.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::body::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use serde_json::Value;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::headers::{header_name, secret_value};
use super::{Authorization, Request, RequestBody, Text};
use crate::capability::http::echo;
use crate::capability::secrets::{SecretHandle, SecretOrigin};
use crate::capability::{Capabilities, printable};
use crate::domain::Secret;

const MOST_HEADERS: usize = 32;
const LARGEST_HEADERS: usize = 32 << 10;
const LARGEST_BODY: usize = 64 << 10;
/// The most fields of a form, or secrets of a JSON body. Checking each costs the host time.
const MOST_FIELDS: usize = 128;
/// The headers and the body of a request.
pub(crate) struct Composed {
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
    /// The names of the secrets in the request, for the log.
    pub secrets: BTreeSet<Arc<str>>,
}

/// Why a request is not sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// The provider asked for something that it must not do.
    Refused(String),
    /// The request is not valid: a bug in the provider.
    Failed(String),
    /// A configured secret cannot be sent in this place.
    Settings(String),
}

impl Request {
    /// Checks everything except where the URL leads, and inserts the secrets.
    pub(crate) fn compose(self, capabilities: &Capabilities) -> Result<Composed, NotSent> {
        if let Some(wrong) = self.wrong {
            return Err(NotSent::Failed(format!("a request with {wrong}")));
        }
        let mut composing = Composing { capabilities, secrets: BTreeSet::new() };
        composing.check_text("URL", &self.url)?;
        let mut headers = composing.headers(self.headers)?;
        if let Some(authorization) = self.authorization {
            headers.insert(AUTHORIZATION, composing.authorization(authorization)?);
        }
        let (body, content_type) = match self.body {
            RequestBody::None => (None, None),
            RequestBody::Json { text, secrets } => {
                (Some(composing.json(text, secrets)?), Some("application/json"))
            }
            RequestBody::Form(fields) => {
                // The host encodes the body, so it sets the type as well.
                headers.remove(CONTENT_TYPE);
                (Some(composing.form(fields)?), Some("application/x-www-form-urlencoded"))
            }
        };
        check_size(body.as_ref().map_or(0, |body| body.len()))?;
        if let Some(content_type) = content_type {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
        }
        let agent = concat!("rise-broker/", env!("CARGO_PKG_VERSION"));
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(agent));
        // Wiped when the client drops its last reference.
        let body = body.map(|body| Bytes::from_owner(Wiped(body)));
        Ok(Composed { headers, body, secrets: composing.secrets })
    }
}

/// Checks the size of a body, or of what becomes one: checking and copying 128 fields of 64 KiB and
/// more would take the host long.
fn check_size(bytes: usize) -> Result<(), NotSent> {
    if bytes > LARGEST_BODY {
        let text = format!("a request with a body of more than {LARGEST_BODY} bytes");
        return Err(NotSent::Refused(text));
    }
    Ok(())
}

impl Text {
    fn len(&self) -> usize {
        match self {
            Self::Written(text) => text.len(),
            Self::Secret(handle) => handle.secret.expose().len(),
        }
    }
}

struct Wiped(Zeroizing<String>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

struct Composing<'a> {
    capabilities: &'a Capabilities,
    secrets: BTreeSet<Arc<str>>,
}

impl Composing<'_> {
    /// Checks text that the provider wrote.
    fn check_text(&self, place: &str, text: &str) -> Result<(), NotSent> {
        if text.len() > LARGEST_BODY {
            return Err(NotSent::Refused(format!(
                "a request with more than {LARGEST_BODY} bytes in its {place}"
            )));
        }
        if echo::reveals(self.capabilities, text) {
            return Err(NotSent::Refused(format!(
                "a request that has a configured secret in its {place} as text"
            )));
        }
        Ok(())
    }

    /// Returns a secret, if its origin allows that it leaves by HTTP.
    fn secret(&mut self, handle: &SecretHandle) -> Result<Arc<Secret>, NotSent> {
        match handle.origin {
            SecretOrigin::Configured
            | SecretOrigin::Http
            | SecretOrigin::Kept
            | SecretOrigin::Assertion
            | SecretOrigin::Random
            | SecretOrigin::RegistryToken
            | SecretOrigin::IdentityToken => {}
            SecretOrigin::Guest => self.check_text("secrets", handle.secret.expose())?,
            SecretOrigin::Aws(_) => {
                return Err(NotSent::Refused(
                    "a request with a secret from AWS, which goes to the caller only".to_owned(),
                ));
            }
        }
        self.secrets.insert(Arc::clone(&handle.name));
        Ok(Arc::clone(&handle.secret))
    }

    fn headers(&mut self, all: Vec<(String, Text)>) -> Result<HeaderMap, NotSent> {
        if all.len() > MOST_HEADERS {
            return Err(NotSent::Refused(format!(
                "a request with more than {MOST_HEADERS} headers"
            )));
        }
        let (mut headers, mut bytes) = (HeaderMap::new(), 0);
        for (name, value) in all {
            self.check_text("header names", &name)?;
            let name = header_name(&name)?;
            let value = match value {
                Text::Written(text) => {
                    self.check_text("headers", &text)?;
                    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| {
                        let text =
                            format!("a header `{name}` with line breaks or control characters");
                        NotSent::Refused(text)
                    })?
                }
                Text::Secret(handle) => secret_value(&handle, self.secret(&handle)?.expose())?,
            };
            bytes += name.as_str().len() + value.len();
            if bytes > LARGEST_HEADERS {
                return Err(NotSent::Refused(format!(
                    "a request with more than {LARGEST_HEADERS} bytes of headers"
                )));
            }
            headers.append(name, value);
        }
        Ok(headers)
    }

    fn authorization(&mut self, authorization: Authorization) -> Result<HeaderValue, NotSent> {
        match authorization {
            Authorization::Bearer(handle) => {
                let secret = self.secret(&handle)?;
                secret_value(&handle, &Zeroizing::new(format!("Bearer {}", secret.expose())))
            }
            Authorization::Basic(username, handle) => {
                self.check_text("user name", &username)?;
                if username.contains(|char: char| char == ':' || char.is_control()) {
                    return Err(NotSent::Refused(
                        "a user name with `:` or control characters".to_owned(),
                    ));
                }
                let secret = self.secret(&handle)?;
                let pair = Zeroizing::new(format!("{username}:{}", secret.expose()));
                let pair = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
                secret_value(&handle, &Zeroizing::new(format!("Basic {}", *pair)))
            }
        }
    }

    fn json(
        &mut self,
        text: String,
        secrets: Vec<(String, SecretHandle)>,
    ) -> Result<Zeroizing<String>, NotSent> {
        let secret_bytes = |(pointer, handle): &(String, SecretHandle)| {
            pointer.len() + handle.secret.expose().len()
        };
        check_size(text.len() + secrets.iter().map(secret_bytes).sum::<usize>())?;
        self.check_text("body", &text)?;
        let mut body: Value = serde_json::from_str(&text)
            .map_err(|_| NotSent::Failed("a request with a body that is not JSON".to_owned()))?;
        if secrets.is_empty() {
            return Ok(Zeroizing::new(text));
        }
        if secrets.len() > MOST_FIELDS {
            let text = format!("a request with more than {MOST_FIELDS} secrets in its body");
            return Err(NotSent::Refused(text));
        }
        for (pointer, handle) in secrets {
            self.check_text("body", &pointer)?;
            let place = body.pointer_mut(&pointer).ok_or_else(|| {
                let place = printable(&pointer, 128);
                NotSent::Failed(format!(
                    "a secret for `{place}`, which its JSON body does not have"
                ))
            })?;
            *place = Value::String(self.secret(&handle)?.expose().to_owned());
        }
        let text = written(&body);
        wipe(body);
        text
    }

    fn form(&mut self, fields: Vec<(String, Text)>) -> Result<Zeroizing<String>, NotSent> {
        if fields.len() > MOST_FIELDS {
            let text = format!("a request with more than {MOST_FIELDS} fields in its body");
            return Err(NotSent::Refused(text));
        }
        let bytes = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        check_size(bytes)?;
        // Encoding makes at most three bytes of one, and each field has two separators. A text that
        // grows leaves a copy behind that nobody wipes.
        let mut body = Zeroizing::new(String::with_capacity(bytes * 3 + fields.len() * 2));
        for (name, value) in fields {
            self.check_text("body", &name)?;
            let value = match value {
                Text::Written(text) => {
                    self.check_text("body", &text)?;
                    Zeroizing::new(text)
                }
                Text::Secret(handle) => Zeroizing::new(self.secret(&handle)?.expose().to_owned()),
            };
            let separator = if body.is_empty() { "" } else { "&" };
            body.push_str(separator);
            body.extend(form_urlencoded::byte_serialize(name.as_bytes()));
            body.push('=');
            body.extend(form_urlencoded::byte_serialize(value.as_bytes()));
        }
        Ok(body)
    }
}

/// The text of a document that has secrets, in memory that does not grow: that would leave a copy
/// behind that nobody wipes.
fn written(body: &Value) -> Result<Zeroizing<String>, NotSent> {
    let mut length = Length(0);
    let _ = write!(length, "{body}");
    check_size(length.0)?;
    let mut text = Zeroizing::new(String::with_capacity(length.0));
    let _ = write!(text, "{body}");
    Ok(text)
}

/// Counts what is written.
struct Length(usize);

impl fmt::Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

/// Wipes the strings of a document that has secrets.
fn wipe(value: Value) {
    match value {
        Value::String(text) => drop(Zeroizing::new(text)),
        Value::Array(items) => items.into_iter().for_each(wipe),
        Value::Object(members) => members.into_iter().for_each(|(_, value)| wipe(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::wit::rise::registry::http::Method;
    use crate::domain::AwsSession;

    const SECRET: &str = "configured-secret/+1";

    fn capabilities() -> Capabilities {
        let secrets = [("token".to_owned(), Arc::new(Secret::new(SECRET.to_owned())))].into();
        Capabilities { secrets, ..Capabilities::none() }
    }

    fn handle(origin: SecretOrigin, text: &str) -> SecretHandle {
        let secret = Arc::new(Secret::new(text.to_owned()));
        SecretHandle { secret, origin, name: "token".into(), expires_at: None }
    }

    fn token() -> SecretHandle {
        handle(SecretOrigin::Configured, SECRET)
    }

    fn request() -> Request {
        Request::new(Method::Post, "https://r.example.com/t".to_owned())
    }

    fn composed(fill: impl FnOnce(&mut Request)) -> Result<Composed, NotSent> {
        let mut request = request();
        fill(&mut request);
        request.compose(&capabilities())
    }

    fn body(composed: &Composed) -> &str {
        std::str::from_utf8(composed.body.as_ref().unwrap()).unwrap()
    }

    fn refused(fill: impl FnOnce(&mut Request)) -> String {
        match composed(fill).err().expect("refused") {
            NotSent::Refused(text) => text,
            other @ (NotSent::Failed(_) | NotSent::Settings(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_host_writes_authorization() {
        let bearer = composed(|it| it.bearer(token())).unwrap();
        assert_eq!(bearer.headers[AUTHORIZATION], format!("Bearer {SECRET}"));
        assert!(bearer.headers[AUTHORIZATION].is_sensitive());
        assert!(bearer.secrets.contains("token"));
        let basic = composed(|it| it.basic("ci".into(), token())).unwrap();
        let expected = format!("Basic {}", BASE64_STANDARD.encode(format!("ci:{SECRET}")));
        assert_eq!(basic.headers[AUTHORIZATION], expected);
        assert!(refused(|it| it.basic("a:b".into(), token())).contains("user name"));
    }

    #[test]
    fn secrets_stand_in_bodies_where_they_were_wanted() {
        let json = composed(|it| {
            it.json(r#"{"a":{"b":null},"c":1}"#.into());
            it.json_secret("/a/b".into(), token());
        });
        let json = json.unwrap();
        assert_eq!(body(&json), format!(r#"{{"a":{{"b":"{SECRET}"}},"c":1}}"#));
        assert_eq!(json.headers[CONTENT_TYPE], "application/json");

        let form = composed(|it| {
            it.form("grant type".into(), "a&b".into());
            it.form_secret("secret".into(), token());
        });
        let form = form.unwrap();
        assert_eq!(body(&form), "grant+type=a%26b&secret=configured-secret%2F%2B1");
        assert_eq!(form.headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
    }

    #[test]
    fn what_goes_not_together_fails() {
        type Fill = fn(&mut Request);
        let fills: [Fill; 5] = [
            |it| {
                it.json("{}".into());
                it.form("a".into(), "b".into());
            },
            |it| it.json("not json".into()),
            |it| it.json_secret("/a".into(), token()),
            |it| {
                it.json("{}".into());
                it.json_secret("/a".into(), token());
            },
            |it| {
                it.json("{}".into());
                it.json("{}".into());
            },
        ];
        for (index, fill) in fills.into_iter().enumerate() {
            assert!(matches!(composed(fill), Err(NotSent::Failed(_))), "{index}");
        }
    }

    #[test]
    fn headers_of_the_hosts_own_and_broken_ones_are_refused() {
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "Connection",
            "Accept-Encoding",
            "Cookie",
            "Proxy-Authorization",
            "proxy-x",
            "Authorization",
            "Range",
            "X-HTTP-Method-Override",
            "X_HTTP_Method_Override",
            "X-Forwarded-Host",
            "Upgrade",
            "a b",
            "a:b",
            "",
            "a\r\nb",
        ] {
            let text = refused(|it| it.header(name.into(), "x".into()));
            assert!(text.contains("header"), "{name}: {text}");
            assert!(!refused(|it| it.header_secret(name.into(), token())).contains(SECRET));
        }
        for value in ["a\r\nHost: evil", "a\nb", "a\rb", "a\0b"] {
            assert!(refused(|it| it.header("x-a".into(), value.into())).contains("line breaks"));
        }
        assert!(composed(|it| it.header("x-a".into(), "tab\tand \u{e9}".into())).is_ok());
    }

    #[test]
    fn a_secret_that_no_header_can_hold_is_the_operators_to_mend() {
        let broken = composed(|it| it.bearer(handle(SecretOrigin::Configured, "two\nlines")));
        let Err(NotSent::Settings(text)) = broken else { panic!("expected a problem of settings") };
        assert!(text.contains("`token`") && !text.contains("two"), "{text}");
        let answered = composed(|it| it.bearer(handle(SecretOrigin::Http, "two\nlines")));
        assert!(matches!(answered, Err(NotSent::Failed(_))));
    }

    #[test]
    fn requests_have_bounds() {
        let many = |it: &mut Request| (0..33).for_each(|_| it.header("a".into(), "b".into()));
        assert!(refused(many).contains("more than 32 headers"));
        assert!(
            refused(|it| it.header("a".into(), "b".repeat(LARGEST_HEADERS)))
                .contains("bytes of headers")
        );
        assert!(
            refused(|it| it.json(format!("\"{}\"", "x".repeat(LARGEST_BODY))))
                .contains("body of more")
        );
        assert!(
            refused(|it| it.form("a".into(), "x".repeat(LARGEST_BODY))).contains("body of more")
        );
        // Encoding makes it longer than it is.
        assert!(
            refused(|it| it.form("a".into(), "/".repeat(LARGEST_BODY / 2)))
                .contains("body of more")
        );
        let many = |it: &mut Request| (0..129).for_each(|_| it.form("a".into(), "b".into()));
        assert!(refused(many).contains("more than 128 fields"));
        let long = "x".repeat(LARGEST_BODY + 1);
        for place in ["URL", "headers", "user name", "secrets"] {
            let text = refused(|it| match place {
                "URL" => it.url.clone_from(&long),
                "headers" => it.header("a".into(), long.clone()),
                "user name" => it.basic(long.clone(), token()),
                _ => it.bearer(handle(SecretOrigin::Guest, &long)),
            });
            assert!(text.contains(&format!("bytes in its {place}")), "{place}: {text}");
        }
    }

    #[test]
    fn what_becomes_no_body_is_not_searched() {
        // A name has a configured secret, and the size is what is wrong with the request.
        let many = |it: &mut Request| {
            it.form(SECRET.into(), "x".into());
            (0..127).for_each(|_| it.form("a".into(), "x".repeat(1 << 10)));
        };
        assert!(refused(many).contains("body of more"));
        let pointers = |it: &mut Request| {
            it.json("{}".into());
            let long = format!("/{SECRET}{}", "x".repeat(1 << 10));
            (0..128).for_each(|_| it.json_secret(long.clone(), token()));
        };
        assert!(refused(pointers).contains("body of more"));
        // Escaping makes it longer than it is.
        let escaped = |it: &mut Request| {
            it.json(r#"{"a":null}"#.into());
            it.json_secret("/a".into(), handle(SecretOrigin::Http, &"\n".repeat(40 << 10)));
        };
        assert!(refused(escaped).contains("body of more"));
    }

    #[test]
    fn a_body_with_secrets_does_not_grow() {
        let json = composed(|it| {
            it.json(r#"{"a":null,"b":1e5,"c":"\u00e4"}"#.into());
            it.json_secret("/a".into(), handle(SecretOrigin::Http, &"\"".repeat(1 << 10)));
        });
        assert_eq!(
            body(&json.unwrap()).len(),
            2 * (1 << 10) + r#"{"a":"","b":100000.0,"c":"ä"}"#.len()
        );
        let document = serde_json::json!({ "a": "\"".repeat(1 << 10), "b": 1e5 });
        let text = written(&document).unwrap();
        assert_eq!((text.len(), &*text), (text.capacity(), &document.to_string()));
    }

    #[test]
    fn a_secret_leaves_by_its_origin_only() {
        let session = AwsSession {
            session_name: "rise-1".to_owned(),
            role_arn: "arn:aws:iam::123456789012:role/push".to_owned(),
            access_key_id: "ASIAEXAMPLE".to_owned(),
            web_identity: None,
        };
        for (origin, leaves) in [
            (SecretOrigin::Configured, true),
            (SecretOrigin::Http, true),
            (SecretOrigin::Kept, true),
            (SecretOrigin::Assertion, true),
            (SecretOrigin::Random, true),
            (SecretOrigin::Guest, true),
            (SecretOrigin::Aws(Some(session)), false),
            (SecretOrigin::Aws(None), false),
        ] {
            let secret = || handle(origin.clone(), "some text");
            assert_eq!(composed(|it| it.bearer(secret())).is_ok(), leaves, "{origin:?}");
            assert_eq!(composed(|it| it.form_secret("a".into(), secret())).is_ok(), leaves);
        }
    }

    #[test]
    fn text_with_a_configured_secret_is_refused_wherever_it_stands() {
        type Fill = Box<dyn Fn(&mut Request)>;
        let secret = || SECRET.to_owned();
        let fills: [Fill; 9] = [
            Box::new(move |it| it.url = format!("https://r.example.com/{}", secret())),
            Box::new(|it| it.url = "https://r.example.com/?q=configured-secret%2f%2b1".into()),
            Box::new(move |it| it.header("x-a".into(), secret())),
            Box::new(move |it| it.basic(secret(), handle(SecretOrigin::Guest, "x"))),
            Box::new(move |it| it.json(format!("{{\"a\": \"{SECRET}\"}}"))),
            Box::new(|it| it.json("{\"configured-secret\\/+1\": 1}".into())),
            Box::new(move |it| it.form("a".into(), secret())),
            Box::new(move |it| it.form(secret(), "a".into())),
            Box::new(|it| it.bearer(handle(SecretOrigin::Guest, SECRET))),
        ];
        for (index, fill) in fills.into_iter().enumerate() {
            let text = refused(|it| fill(it));
            assert!(text.contains("configured secret") && !text.contains(SECRET), "{index} {text}");
        }
    }
}
