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

/// Base64 for URLs without padding, as in a JWT.
pub(super) fn base64url(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let encode = |bytes: &[u8]| {
        let group = bytes.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte));
        let group = group << (8 * (3 - bytes.len()));
        let letters = (0..=bytes.len()).map(move |index| (group >> (18 - 6 * index)) & 63);
        letters
            .filter_map(|index| LETTERS.get(index as usize))
            .map(|it| char::from(*it))
            .collect::<String>()
    };
    text.as_bytes().chunks(3).map(encode).collect()
}

/// The opposite of [`base64url`].
pub(super) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let value = |byte: u8| {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        Some(u32::from(value))
    };
    let mut bytes = Vec::new();
    for chunk in text.as_bytes().chunks(4) {
        let values = chunk.iter().map(|byte| value(*byte)).collect::<Option<Vec<_>>>()?;
        let group = values.iter().fold(0, |group, value| group << 6 | value);
        let group = group << (6 * (4 - chunk.len()));
        bytes.extend(group.to_be_bytes().iter().skip(1).take(chunk.len() - 1));
    }
    Some(bytes)
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
            Self::Random => formatter.write_str("<random>"),
            Self::Kept(name) => write!(formatter, "<kept {name}>"),
            Self::Http(pointer) => write!(formatter, "<http {pointer}>"),
        }
    }
}
