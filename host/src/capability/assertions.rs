//! `assertions`: JWTs that are signed with a private key of the operator, for a login at a cloud
//! (RFC 7523).
//!
//! **Invariant:** an assertion is a handle. It leaves by `http` alone, to where the registry's
//! ceiling allows: no caller gets one, and an answer that repeats one is withheld.
//! **Invariant:** the host writes the signature over a header and claims that it has parsed and
//! bounded: an algorithm that fits the key, no reference to another key, at most an hour.

pub mod key;

pub use key::{InvalidKey, SigningKey};

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use wasmtime::component::{Linker, Resource};
use zeroize::Zeroizing;

use super::secrets::{SecretHandle, SecretOrigin};
use super::state::HasState;
use super::{CallState, MAX_SECRET, printable};
use crate::capability::wit::rise::registry::assertions;
use crate::capability::wit::rise::registry::types::Error;
use crate::domain::Secret;
use key::Algorithm;

/// Signatures of one call: a provider needs one or two, and each costs the host milliseconds.
pub(super) const MOST: usize = 8;
/// In seconds. The longest that Google and Entra accept.
const LONGEST: u64 = 3600;
/// Members of a header that name the operator's own key. Others tell a receiver to fetch or to
/// trust another one (`jku`, `jwk`, `x5u`), or change what is signed (`crit`, `b64`).
const HEADER: [&str; 6] = ["alg", "typ", "kid", "x5t", "x5t#S256", "x5c"];

pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    assertions::add_to_linker::<CallState, HasState>(linker, |state| state)
}

impl assertions::Host for CallState {
    fn sign(
        &mut self,
        key: Resource<SecretHandle>,
        header: String,
        claims: String,
    ) -> wasmtime::Result<Result<Resource<SecretHandle>, Error>> {
        let key = self.table.get(&key)?.clone();
        let (signed, expires_at) = match self.sign_assertion(&key, &header, &claims) {
            Ok(signed) => signed,
            Err(error) => return Ok(Err(error)),
        };
        let secret = Arc::new(signed);
        let (origin, name) = (SecretOrigin::Assertion, "assertion".into());
        let handle = SecretHandle {
            secret: Arc::clone(&secret),
            origin,
            name,
            expires_at: Some(expires_at),
        };
        let handle = self.give(handle)?;
        self.issued.add_private(&secret, "an assertion");
        Ok(Ok(handle))
    }
}

impl CallState {
    fn sign_assertion(
        &mut self,
        key: &SecretHandle,
        header: &str,
        claims: &str,
    ) -> Result<(Secret, u64), Error> {
        self.begin("assertions.sign")?;
        self.signatures += 1;
        if self.signatures > MOST {
            return Err(self.refuse(format!("more than {MOST} signatures")));
        }
        if key.origin != SecretOrigin::Configured {
            return Err(self.refuse("a signature with a key that is no secret setting".to_owned()));
        }
        if [header, claims].iter().any(|text| self.capabilities.reveals_secret(text)) {
            return Err(self.refuse("a signature over a configured secret".to_owned()));
        }
        let name = printable(&key.name, 64);
        let key = SigningKey::read(&key.secret)
            .map_err(|error| Error::InvalidSettings(format!("`{name}` cannot sign: {error}")))?;
        let assertion = Assertion::new(&key, header, claims, self.now);
        let Assertion { header, claims, algorithm, expires_at } =
            assertion.map_err(|asked| self.refuse(asked))?;
        let encode = |part: &Map<String, Value>| {
            let text = Zeroizing::new(Value::Object(part.clone()).to_string());
            BASE64_URL_SAFE_NO_PAD.encode(text.as_bytes())
        };
        let message = format!("{}.{}", encode(&header), encode(&claims));
        let signature = key.sign(algorithm, message.as_bytes()).ok_or_else(|| {
            Error::InvalidSettings(format!(
                "`{name}` cannot sign: its kind of key does not fit the algorithm {algorithm:?}"
            ))
        })?;
        let signed = format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature));
        if signed.len() > MAX_SECRET {
            return Err(self.refuse(format!("an assertion of more than {MAX_SECRET} bytes")));
        }
        Ok((Secret::new(signed), expires_at))
    }
}

/// What is signed.
#[derive(Debug)]
struct Assertion {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    algorithm: Algorithm,
    expires_at: u64,
}

impl Assertion {
    /// Fails with what the provider asked for and does not get.
    fn new(key: &SigningKey, header: &str, claims: &str, now: u64) -> Result<Self, String> {
        let mut header = object("header", header)?;
        let mut claims = object("claims", claims)?;
        if let Some(id) = &key.id {
            header.entry("kid").or_insert_with(|| id.as_str().into());
        }
        if let Some(email) = &key.email {
            claims.entry("iss").or_insert_with(|| email.as_str().into());
        }
        let algorithm = algorithm(&header)?;
        header.entry("typ").or_insert_with(|| "JWT".into());
        let expires_at = expiry(&claims, now)?;
        Ok(Self { header, claims, algorithm, expires_at })
    }
}

/// A member that is there twice would mean one thing to the host and another to a receiver, so the
/// parsed object is what is written.
fn object(place: &str, text: &str) -> Result<Map<String, Value>, String> {
    let parsed = (text.len() <= MAX_SECRET).then(|| serde_json::from_str(text).ok()).flatten();
    parsed.ok_or_else(|| {
        format!("an assertion whose {place} is not a JSON object of at most {MAX_SECRET} bytes")
    })
}

fn algorithm(header: &Map<String, Value>) -> Result<Algorithm, String> {
    for (name, value) in header {
        let is_text = value.is_string();
        let is_chain = name == "x5c"
            && value.as_array().is_some_and(|chain| chain.iter().all(Value::is_string));
        if !HEADER.contains(&name.as_str()) || !(is_text || is_chain) {
            return Err(format!(
                "an assertion with `{}` in its header, which has only {} as text",
                printable(name, 64),
                HEADER.join(", ")
            ));
        }
    }
    match header.get("alg").and_then(Value::as_str) {
        Some("RS256") => Ok(Algorithm::Rs256),
        Some("PS256") => Ok(Algorithm::Ps256),
        Some("ES256") => Ok(Algorithm::Es256),
        other => Err(format!(
            "an assertion with the algorithm `{}`, where RS256, PS256 and ES256 are allowed",
            printable(other.unwrap_or("(none)"), 32)
        )),
    }
}

fn expiry(claims: &Map<String, Value>, now: u64) -> Result<u64, String> {
    let seconds = claims.get("exp").and_then(Value::as_u64);
    let expires_at = seconds.ok_or("an assertion without a whole number in `exp`")?;
    if expires_at > now.saturating_add(LONGEST) {
        return Err(format!(
            "an assertion that is valid for {} seconds, where {LONGEST} are the most",
            expires_at - now
        ));
    }
    if expires_at <= now {
        return Err("an assertion that has already expired".to_owned());
    }
    Ok(expires_at)
}
