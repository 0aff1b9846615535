//! HTTPS to the origins that the operator allows this registry, and to no others.
//!
//! The host writes `Authorization`, `Host` and lengths itself, follows no redirects and shows no
//! cookies. By default a call of `issue` may send eight requests. Each may take four seconds, and
//! have a body of 64 KiB and an answer of 256 KiB.
//!
//! The host inserts secrets: [`bearer`](Request::bearer), [`basic`](Request::basic),
//! [`header_secret`](Request::header_secret), [`json_secret`](Request::json_secret) and
//! [`form_secret`](Request::form_secret). If an answer repeats one of the configured secrets, the
//! host withholds it: [`send`](Request::send) fails. Call [`take_secret`](Response::take_secret)
//! before you read the rest of an answer: then a credential that the registry made is never in the
//! provider's memory.
//!
//! ```
//! use rise_provider::http::Request;
//! use rise_provider::testing::{Answer, Host, Origin, origin};
//! use serde_json::json;
//!
//! let body = r#"{"token": "t0p", "expires_in": 300}"#;
//! let host = Host::new().http(move |_| Ok(Answer::new(200).body(body)));
//! let (token, _) = host.run(|| {
//!     let request = Request::post("https://registry.example.com/tokens");
//!     let response = request.json(&json!({"scope": "pull"})).send()?;
//!     response.success()?;
//!     let token = response.take_secret("/token");
//!     assert_eq!(response.text(), r#"{"expires_in":300,"token":null}"#);
//!     Ok::<_, rise_provider::Error>(token)
//! });
//! assert!(token?.is_some_and(|token| origin(&token) == &Origin::Http("/token".to_owned())));
//! # Ok::<(), rise_provider::Error>(())
//! ```

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Secret, host};

/// Encodes `text` as one segment of a path. A `/` becomes `%2F`, as in APIs that name a project by
/// its whole path.
///
/// The host rejects a segment that is empty, `.` or `..`, also between two encoded slashes.
///
/// ```
/// use rise_provider::http::segment;
///
/// let url = format!("https://gitlab.example.com/api/v4/projects/{}", segment("group/my-app"));
/// assert_eq!(url, "https://gitlab.example.com/api/v4/projects/group%2Fmy-app");
/// assert_eq!(segment("a b+c.d"), "a%20b%2Bc.d");
/// ```
pub fn segment(text: &str) -> String {
    let encode = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(encode).collect()
}

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the methods of RFC 9110")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

/// A request. [`send`](Request::send) checks it as a whole.
pub struct Request(host::Request);

impl Request {
    /// Begins a request to an absolute URL.
    pub fn new(method: Method, url: &str) -> Self {
        Self(host::request(method, url))
    }

    /// Begins a `GET` of an absolute URL.
    pub fn get(url: &str) -> Self {
        Self::new(Method::Get, url)
    }

    /// Begins a `POST` to an absolute URL.
    pub fn post(url: &str) -> Self {
        Self::new(Method::Post, url)
    }

    /// Begins a `DELETE`.
    pub fn delete(url: &str) -> Self {
        Self::new(Method::Delete, url)
    }

    /// Adds a header. The host refuses line breaks, and headers that it writes itself or that
    /// mislead a server: `Authorization`, `Host`, `Cookie`, `Content-Length`, `Transfer-Encoding`,
    /// `Connection`, `Accept-Encoding`, `Range`, `Proxy-…`, `X-Forwarded-…`,
    /// `X-HTTP-Method-Override` and similar ones.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.0.header(name, value);
        self
    }

    /// Adds a header whose value is a secret, such as an API key.
    #[must_use]
    pub fn header_secret(self, name: &str, value: &Secret) -> Self {
        self.0.header_secret(name, &value.0);
        self
    }

    /// Sets `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(self, token: &Secret) -> Self {
        self.0.bearer(&token.0);
        self
    }

    /// Sets `Authorization: Basic`.
    #[must_use]
    pub fn basic(self, username: &str, password: &Secret) -> Self {
        self.0.basic(username, &password.0);
        self
    }

    /// Sets a JSON body. A request has either a JSON body or fields of a form.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.0.json(&body.to_string());
        self
    }

    /// Replaces the value at this JSON Pointer by a secret. [`json`](Request::json) sets the body
    /// before, with any value in this place, such as `null`.
    ///
    /// ```
    /// use rise_provider::testing::{Answer, Body, Call, Host};
    /// use rise_provider::{Error, http::Request, secrets};
    /// use serde_json::json;
    ///
    /// let host = Host::new().secret("password").http(|_| Ok(Answer::new(204)));
    /// let (sent, calls) = host.run(|| {
    ///     let login = json!({"username": "ci", "password": null});
    ///     let request = Request::post("https://registry.example.com/login").json(&login);
    ///     request.json_secret("/password", &secrets::get("password")?).send()?.success()
    /// });
    /// assert_eq!(sent, Ok(()));
    /// let Some(Call::Send(sent)) = calls.last() else { panic!("nothing was sent") };
    /// let expected = json!({"username": "ci", "password": "<configured password>"});
    /// assert_eq!(sent.body, Body::Json(expected));
    /// ```
    #[must_use]
    pub fn json_secret(self, pointer: &str, value: &Secret) -> Self {
        self.0.json_secret(pointer, &value.0);
        self
    }

    /// Adds a field to a form body, `application/x-www-form-urlencoded`.
    #[must_use]
    pub fn form(self, name: &str, value: &str) -> Self {
        self.0.form(name, value);
        self
    }

    /// Adds a field with a secret to a form body.
    #[must_use]
    pub fn form_secret(self, name: &str, value: &Secret) -> Self {
        self.0.form_secret(name, &value.0);
        self
    }

    /// Sends the request.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for a request outside the registry's ceiling or beyond a limit,
    /// [`Error::Unavailable`] if the registry does not answer, [`Error::Failed`] for an answer that
    /// is too large or repeats a configured secret. An answer with any status is not an error: see
    /// [`Response::success`].
    pub fn send(self) -> Result<Response, Error> {
        host::send(self.0).map(Response)
    }
}

/// The answer to a request.
#[must_use = "an answer with any status is no error: call `success()`"]
pub struct Response(host::Response);

impl Response {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.0.status()
    }

    /// Checks that the status is 200–299.
    ///
    /// # Errors
    ///
    /// 401, 403 and 407 are [`Denied`](Error::Denied), 404 and 410 are
    /// [`NotFound`](Error::NotFound), 429 and a 503 with `Retry-After` are
    /// [`Throttled`](Error::Throttled), 408, 425 and other 5xx are
    /// [`Unavailable`](Error::Unavailable), and all others are [`Failed`](Error::Failed). The text
    /// has method, path and status, and never the query or the body.
    pub fn success(&self) -> Result<(), Error> {
        host::success(&self.0)
    }

    /// The first header of this name, in upper or lower case.
    pub fn header(&self, name: &str) -> Option<String> {
        self.0.header(name)
    }

    /// The body as text, with invalid UTF-8 replaced. In a JSON body, every string that had a
    /// secret of [`take_secret`](Response::take_secret) is `null`.
    pub fn text(&self) -> String {
        self.0.text()
    }

    /// The body as JSON. Call [`take_secret`](Response::take_secret) before.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the body is not JSON of type `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.text())
            .map_err(|error| Error::Failed(format!("the answer makes no sense: {error}")))
    }

    /// Moves the string at this JSON Pointer out of the body. The pointer `""` means the whole
    /// body, JSON or not, without line breaks at its end. Returns `None` if there is no string at
    /// the pointer, or if it is empty or longer than 16 KiB; the body then stays as it is. A second
    /// string with the same text goes with the first.
    pub fn take_secret(&self, pointer: &str) -> Option<Secret> {
        self.0.take_secret(pointer).map(Secret)
    }
}
