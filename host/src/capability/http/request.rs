//! A request that a provider composes, part by part. Nothing is checked before it is sent: the
//! functions that compose it have no error to return. [`compose`] then makes the headers and the
//! body.

mod compose;
mod headers;

pub(super) use compose::{Composed, NotSent};

use crate::capability::secrets::SecretHandle;
use crate::capability::wit::rise::registry::http::Method;

/// The parts of a request.
pub struct Request {
    pub(super) method: Method,
    pub(super) url: String,
    headers: Vec<(String, Text)>,
    authorization: Option<Authorization>,
    body: RequestBody,
    /// Parts that do not fit together.
    wrong: Option<&'static str>,
}

enum Text {
    Written(String),
    Secret(SecretHandle),
}

enum Authorization {
    Bearer(SecretHandle),
    Basic(String, SecretHandle),
}

enum RequestBody {
    None,
    Json { text: String, secrets: Vec<(String, SecretHandle)> },
    Form(Vec<(String, Text)>),
}

impl Request {
    pub(super) fn new(method: Method, url: String) -> Self {
        let (headers, authorization) = (Vec::new(), None);
        Self { method, url, headers, authorization, body: RequestBody::None, wrong: None }
    }

    pub(super) fn header(&mut self, name: String, value: String) {
        self.headers.push((name, Text::Written(value)));
    }

    pub(super) fn header_secret(&mut self, name: String, value: SecretHandle) {
        self.headers.push((name, Text::Secret(value)));
    }

    pub(super) fn bearer(&mut self, token: SecretHandle) {
        self.authorization = Some(Authorization::Bearer(token));
    }

    pub(super) fn basic(&mut self, username: String, password: SecretHandle) {
        self.authorization = Some(Authorization::Basic(username, password));
    }

    pub(super) fn json(&mut self, text: String) {
        match &self.body {
            RequestBody::None => self.body = RequestBody::Json { text, secrets: Vec::new() },
            RequestBody::Json { .. } | RequestBody::Form(_) => self.wrong = Some("two bodies"),
        }
    }

    pub(super) fn json_secret(&mut self, pointer: String, value: SecretHandle) {
        match &mut self.body {
            RequestBody::Json { secrets, .. } => secrets.push((pointer, value)),
            RequestBody::None | RequestBody::Form(_) => {
                self.wrong = Some("a secret for a JSON body that it does not have");
            }
        }
    }

    pub(super) fn form(&mut self, name: String, value: String) {
        self.field(name, Text::Written(value));
    }

    pub(super) fn form_secret(&mut self, name: String, value: SecretHandle) {
        self.field(name, Text::Secret(value));
    }

    fn field(&mut self, name: String, value: Text) {
        match &mut self.body {
            RequestBody::None => self.body = RequestBody::Form(vec![(name, value)]),
            RequestBody::Form(fields) => fields.push((name, value)),
            RequestBody::Json { .. } => self.wrong = Some("two bodies"),
        }
    }
}
