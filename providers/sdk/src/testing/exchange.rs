//! Requests to the `http` double and its answers.

use std::fmt;

use serde_json::Value;

use super::Origin;
use crate::http::Method;

/// A request as it was sent. A secret in text appears as its origin: `<configured password>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// The method.
    pub method: Method,
    /// The URL as the provider wrote it.
    pub url: String,
    /// Names and values in the order in which they were added.
    pub headers: Vec<(String, String)>,
    /// The last call of `bearer` or `basic`.
    pub authorization: Option<Authorization>,
    /// The body.
    pub body: Body,
}

/// The authorization of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// A token.
    Bearer(Origin),
    /// A user name and a password.
    Basic(String, Origin),
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// No body.
    None,
    /// JSON.
    Json(Value),
    /// Fields in the order in which they were added.
    Form(Vec<(String, String)>),
}

/// The answer of a registry.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    /// Makes an answer with an empty body.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, text: &str) -> Self {
        text.clone_into(&mut self.body);
        self
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(text) => write!(formatter, "<written {text}>"),
            Self::Configured(name) => write!(formatter, "<configured {name}>"),
            Self::Aws => formatter.write_str("<aws>"),
            Self::RegistryToken(service) => write!(formatter, "<registry-token {service}>"),
            Self::IdentityToken(audience) => write!(formatter, "<identity-token {audience}>"),
            Self::Assertion => formatter.write_str("<assertion>"),
            Self::Http(pointer) => write!(formatter, "<http {pointer}>"),
        }
    }
}
