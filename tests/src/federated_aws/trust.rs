//! What STS checks of a token, in its order: form, keys, times, audience, and the trust policy of
//! the role. The words of the errors are those of STS.

use std::collections::BTreeMap;

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) const TAGS: &str = "https://aws.amazon.com/tags";
pub(super) const SOURCE_IDENTITY: &str = "https://aws.amazon.com/source_identity";

/// An error of STS.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

/// The OIDC provider of an account, and the trust policies of its roles.
#[derive(Default)]
pub(super) struct Trust {
    issuer: String,
    audience: String,
    pub keys: Value,
    pub roles: BTreeMap<String, Value>,
}

impl Trust {
    pub(super) fn new(issuer: &str, audience: &str) -> Self {
        let (issuer, audience) = (issuer.to_owned(), audience.to_owned());
        Self { issuer, audience, ..Self::default() }
    }

    /// The claims of the token, if the role may be assumed with it.
    pub(super) fn verify(&self, token: &str, role_arn: &str) -> Result<Value, Refusal> {
        let invalid = |text: &str| Refusal::new(400, "InvalidIdentityToken", text);
        let claims = part(token, 1).ok_or_else(|| invalid("not a valid JWT"))?;
        if claims["iss"] != *self.issuer {
            let text = format!(
                "No OpenIDConnect provider found in your account for {}",
                claims["iss"].as_str().unwrap_or_default()
            );
            return Err(invalid(&text));
        }
        self.signed(token).ok_or_else(|| {
            invalid("Couldn't retrieve verification key from your identity provider")
        })?;
        let now = Timestamp::now().as_second();
        let time = |name: &str| claims[name].as_i64();
        if time("exp").is_none_or(|exp| exp <= now) || time("iat").is_none_or(|iat| iat > now) {
            return Err(Refusal::new(400, "ExpiredTokenException", "Token expired"));
        }
        if claims["aud"] != *self.audience {
            return Err(invalid("Incorrect token audience"));
        }
        let mut actions = vec!["sts:AssumeRoleWithWebIdentity"];
        actions.extend(claims.get(TAGS).map(|_| "sts:TagSession"));
        actions.extend(claims.get(SOURCE_IDENTITY).map(|_| "sts:SetSourceIdentity"));
        let policy = self.roles.get(role_arn).unwrap_or(&Value::Null);
        for action in actions {
            if !self.trusts(policy, role_arn, action, &claims) {
                let text = format!("Not authorized to perform {action}");
                return Err(Refusal::new(403, "AccessDenied", text));
            }
        }
        Ok(claims)
    }

    fn signed(&self, token: &str) -> Option<()> {
        let (message, signature) = token.rsplit_once('.')?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        let header = part(token, 0)?;
        let keys = self.keys["keys"].as_array()?;
        let key = keys.iter().find(|key| key["kid"] == header["kid"])?;
        let number = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(key[name].as_str()?).ok();
        let message = message.as_bytes();
        match header["alg"].as_str()? {
            "RS256" => {
                let key = PublicKeyComponents { n: number("n")?, e: number("e")? };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, &signature).ok()
            }
            "ES256" => {
                let point = [vec![4], number("x")?, number("y")?].concat();
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                key.verify(message, &signature).ok()
            }
            _ => None,
        }
    }

    fn trusts(&self, policy: &Value, role_arn: &str, action: &str, claims: &Value) -> bool {
        let host = self.issuer.trim_start_matches("https://");
        let account = role_arn.split(':').nth(4).unwrap_or_default();
        let provider = format!("arn:aws:iam::{account}:oidc-provider/{host}");
        let statements = policy["Statement"].as_array().cloned().unwrap_or_default();
        statements.iter().any(|statement| {
            list(&statement["Action"]).contains(&json!(action))
                && list(&statement["Principal"]["Federated"]).contains(&json!(provider))
                && holds(&statement["Condition"], host, claims)
        })
    }
}

fn part(token: &str, index: usize) -> Option<Value> {
    let part = token.split('.').nth(index)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_else(|| vec![value.clone()])
}

/// Whether every condition holds: any of its values is the claim.
fn holds(conditions: &Value, host: &str, claims: &Value) -> bool {
    conditions.as_object().is_none_or(|conditions| {
        conditions.iter().all(|(operator, keys)| {
            keys.as_object().into_iter().flatten().all(|(key, values)| {
                let claim = key.strip_prefix(&format!("{host}:"));
                let claim = claim.and_then(|name| claims[name].as_str()).unwrap_or_default();
                list(values).iter().filter_map(Value::as_str).any(|value| match &operator[..] {
                    "StringEquals" => claim == value,
                    "StringLike" => is_like(claim, value),
                    other => panic!("the double has no operator {other}"),
                })
            })
        })
    })
}

/// `*` stands for any text, as in IAM.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        last = Some(part);
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    last.map_or(rest.is_empty(), |last| text.ends_with(last))
}
