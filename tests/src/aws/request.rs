//! One AWS API request in the form that all three peers record.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use url::form_urlencoded;

/// A request to STS (a form) or ECR (JSON).
#[derive(Clone, Debug)]
pub struct Request {
    /// `sts`, `ecr`, `iam` …
    pub service: String,
    /// `AssumeRole`, `GetAuthorizationToken` …
    pub action: String,
    /// The key that signed it; not verified here.
    pub access_key_id: String,
    /// The region that it was signed for.
    pub region: String,
    /// The form's fields as strings, or the JSON body. `Policy` is a string of JSON: see
    /// [`Request::policy`].
    pub parameters: Value,
    /// The headers, with names in lower case. Empty for `Ministack`, which does not record them.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub(crate) fn read(headers: BTreeMap<String, String>, body: &[u8]) -> Self {
        let signature = headers.get("authorization").map_or("", String::as_str);
        // AWS4-HMAC-SHA256 Credential=KEY/20260101/REGION/SERVICE/aws4_request, SignedHeaders=…,
        // Signature=…
        let scope =
            signature.split("Credential=").nth(1).unwrap_or("").split(',').next().unwrap_or("");
        let scope: Vec<_> = scope.split('/').collect();
        let scope = |index: usize| scope.get(index).copied().unwrap_or("").to_owned();
        let (action, parameters) =
            match headers.get("x-amz-target").and_then(|target| target.rsplit('.').next()) {
                Some(action) => {
                    (action.to_owned(), serde_json::from_slice(body).unwrap_or(Value::Null))
                }
                None => form(body),
            };
        Self {
            service: scope(3),
            action,
            access_key_id: scope(0),
            region: scope(2),
            parameters,
            headers,
        }
    }

    /// One field as text; `None` if it is missing.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).and_then(Value::as_str)
    }

    /// The session policy of an `AssumeRole`, parsed.
    pub fn policy(&self) -> Option<Value> {
        self.parameter("Policy").map(|policy| serde_json::from_str(policy).unwrap())
    }
}

fn form(body: &[u8]) -> (String, Value) {
    let fields: Map<_, _> = form_urlencoded::parse(body)
        .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
        .collect();
    let action = fields.get("Action").and_then(Value::as_str).unwrap_or("").to_owned();
    (action, fields.into())
}
