//! HTTPS to the origins that the operator allows this registry, and no others.
//!
//! The host writes `Authorization`, `Host` and lengths itself, follows no redirects and shows no cookies. A call of `issue`
//! has eight requests, four seconds for each, 64 KiB of body there and 256 KiB back, unless the operator says otherwise.
//!
//! Secrets are put in by the host: [`bearer`](Request::bearer), [`basic`](Request::basic),
//! [`header_secret`](Request::header_secret), [`json_secret`](Request::json_secret) and
//! [`form_secret`](Request::form_secret). An answer in which the registry repeats one of its configured secrets is withheld:
//! [`send`](Request::send) fails. What a registry makes is taken by [`take_secret`](Response::take_secret) before the rest
//! is read, so that it never is in this code's memory.
//!
//! ```
//! use rise_provider::http::Request;
//! use rise_provider::testing::{Answer, Host, Origin, origin};
//! use serde_json::json;
//!
//! let host = Host::new().http(|_| Ok(Answer::new(200).body(r#"{"token": "t0p", "expires_in": 300}"#)));
//! let (token, _) = host.run(|| {
//!     let response = Request::post("https://registry.example.com/tokens").json(&json!({"scope": "pull"})).send()?;
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

/// How to ask.
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

/// A request in the making; [`send`](Request::send) judges it as a whole.
pub struct Request(host::Request);

impl Request {
    /// `url` is absolute.
    pub fn new(method: Method, url: &str) -> Self {
        Self(host::request(method, url))
    }

    /// A `GET` of an absolute URL.
    pub fn get(url: &str) -> Self {
        Self::new(Method::Get, url)
    }

    /// A `POST` to an absolute URL.
    pub fn post(url: &str) -> Self {
        Self::new(Method::Post, url)
    }

    /// Adds a header. Line breaks are refused, and so are the names that the host writes or that mislead a server:
    /// `Authorization`, `Host`, `Cookie`, `Content-Length`, `Transfer-Encoding`, `Connection`, `Accept-Encoding`, `Range`,
    /// `Proxy-…`, `X-Forwarded-…`, `X-HTTP-Method-Override` and the like.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.0.header(name, value);
        self
    }

    /// Adds a header that is a secret: an API key for instance.
    #[must_use]
    pub fn header_secret(self, name: &str, value: &Secret) -> Self {
        self.0.header_secret(name, &value.0);
        self
    }

    /// `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(self, token: &Secret) -> Self {
        self.0.bearer(&token.0);
        self
    }

    /// `Authorization: Basic`.
    #[must_use]
    pub fn basic(self, username: &str, password: &Secret) -> Self {
        self.0.basic(username, &password.0);
        self
    }

    /// A JSON body. A request has one body: this, or fields of a form.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.0.json(&body.to_string());
        self
    }

    /// Puts a secret in place of the value at this JSON Pointer in the body, which [`json`](Request::json) has set.
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
    /// assert_eq!(sent.body, Body::Json(json!({"username": "ci", "password": "<configured password>"})));
    /// ```
    #[must_use]
    pub fn json_secret(self, pointer: &str, value: &Secret) -> Self {
        self.0.json_secret(pointer, &value.0);
        self
    }

    /// One field of a form body, `application/x-www-form-urlencoded`.
    #[must_use]
    pub fn form(self, name: &str, value: &str) -> Self {
        self.0.form(name, value);
        self
    }

    /// One field of a form body that is a secret.
    #[must_use]
    pub fn form_secret(self, name: &str, value: &Secret) -> Self {
        self.0.form_secret(name, &value.0);
        self
    }

    /// Sends it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for what lies outside the registry's ceiling or a limit, [`Error::Unavailable`] if nobody answers,
    /// [`Error::Failed`] for an answer that is too large or repeats a configured secret. Any status at all is an answer: see
    /// [`Response::success`].
    pub fn send(self) -> Result<Response, Error> {
        host::send(self.0).map(Response)
    }
}

/// What was answered.
pub struct Response(host::Response);

impl Response {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.0.status()
    }

    /// What a status outside 200–299 means, in the words of [`Error`]: 401 and 403 are [`Denied`](Error::Denied), 404 is
    /// [`NotFound`](Error::NotFound), 429 and a 503 with `Retry-After` are [`Throttled`](Error::Throttled), other 5xx
    /// [`Unavailable`](Error::Unavailable), the rest [`Failed`](Error::Failed).
    ///
    /// # Errors
    ///
    /// As above. The text names the status, never the body.
    pub fn success(&self) -> Result<(), Error> {
        host::success(&self.0)
    }

    /// The first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<String> {
        self.0.header(name)
    }

    /// The body as text, invalid UTF-8 replaced. What [`take_secret`](Response::take_secret) took reads `null`,
    /// wherever in a JSON body it stood.
    pub fn text(&self) -> String {
        self.0.text()
    }

    /// The body as JSON. Take secrets first.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if it is not the JSON that `T` wants.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.text())
            .map_err(|error| Error::Failed(format!("the answer makes no sense: {error}")))
    }

    /// Moves the string at this JSON Pointer out of the body. The pointer `""` is the whole body. `None` if there is no
    /// string, an empty one, or one of more than 16 KiB.
    pub fn take_secret(&self, pointer: &str) -> Option<Secret> {
        self.0.take_secret(pointer).map(Secret)
    }
}
