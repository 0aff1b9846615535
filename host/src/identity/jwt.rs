//! Parses a token strictly, before it is verified.
//!
//! **Invariant:** header and payload are decoded once. The same bytes are verified, checked and
//! returned.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::algorithm::Algorithm;
use super::bounds::{LONGEST_TOKEN, is_key_id};
use super::json::{self, InvalidJson, JsonLimits};
use super::jwks::IssuerKey;
use super::reason::Reason;
use crate::domain::Claims;

/// Room for certificates, so that a header that has them is rejected for that and not for its size.
const HEADER: JsonLimits = JsonLimits { bytes: 16 * 1024, depth: 2, members: 32, text: 8192 };
pub(super) const PAYLOAD: JsonLimits =
    JsonLimits { bytes: LONGEST_TOKEN, depth: 16, members: 256, text: 8192 };

/// Members by which a token would supply its own key or change how it is read (CVE-2025-24976
/// was `jwk`).
const FORBIDDEN: [&str; 9] = ["jwk", "jku", "x5u", "x5c", "crit", "b64", "enc", "zip", "cty"];

/// The members of a header that the broker uses.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// `None`: an algorithm that the broker does not support.
    pub algorithm: Option<Algorithm>,
    pub kid: Option<String>,
    pub typ: Option<String>,
}

/// A signed text (RFC 7515, compact form) whose signature is not verified yet.
pub struct Jws<'a> {
    pub header: Header,
    pub payload: Vec<u8>,
    /// Header and payload as they were signed.
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Jws<'a> {
    pub fn parse(token: &'a str) -> Result<Self, Reason> {
        if token.is_empty() || token.len() > LONGEST_TOKEN {
            return Err(Reason::Size);
        }
        // Counted before anything is split or decoded (CVE-2025-30204 was a million dots).
        let dots = token.bytes().filter(|byte| *byte == b'.').count();
        let (signed, signature) = token.rsplit_once('.').ok_or(Reason::Shape)?;
        let (header, payload) = signed.split_once('.').ok_or(Reason::Shape)?;
        if dots != 2 || signature.is_empty() || !signature.bytes().all(is_base64url) {
            return Err(Reason::Shape);
        }
        let header = json::object(&decode(header)?, HEADER).map_err(Reason::Header)?;
        Ok(Self { header: Header::read(&header)?, payload: decode(payload)?, signed, signature })
    }

    /// Whether `key` made the signature, with one of the `accepted` algorithms.
    pub fn verify(&self, accepted: &[Algorithm], key: &IssuerKey) -> Result<(), Reason> {
        let algorithm = self.header.algorithm.filter(|algorithm| accepted.contains(algorithm));
        let algorithm = algorithm.ok_or(Reason::Algorithm)?;
        if !key.fits(algorithm) {
            return Err(Reason::KeyMismatch);
        }
        if key.verifies(algorithm, self.signed, self.signature) {
            Ok(())
        } else {
            Err(Reason::Signature)
        }
    }
}

impl Header {
    fn read(header: &Claims) -> Result<Self, Reason> {
        if let Some(name) = FORBIDDEN.iter().find(|name| header.contains_key(**name)) {
            return Err(Reason::ForbiddenHeader(name));
        }
        if header.values().any(|value| value.is_object() || value.is_array()) {
            return Err(Reason::Header(InvalidJson::TooDeep(1)));
        }
        let text = |name: &str, reason| match header.get(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(|text| Some(text.to_owned())).ok_or(reason),
        };
        let typ = text("typ", Reason::Type)?;
        let kid = text("kid", Reason::KeyId)?;
        if kid.as_deref().is_some_and(|kid| !is_key_id(kid)) {
            return Err(Reason::KeyId);
        }
        let algorithm = header
            .get("alg")
            .and_then(|alg| alg.as_str())
            .and_then(|alg| Algorithm::from_str(alg).ok());
        Ok(Self { algorithm, kid, typ })
    }
}

/// A token: a signed text whose payload is claims.
pub struct Unverified<'a> {
    pub jws: Jws<'a>,
    pub claims: Claims,
}

impl<'a> Unverified<'a> {
    pub fn parse(token: &'a str) -> Result<Self, Reason> {
        let jws = Jws::parse(token)?;
        let claims = json::object(&jws.payload, PAYLOAD).map_err(Reason::Payload)?;
        Ok(Self { jws, claims })
    }

    /// `iss`, for looking up the issuer only.
    pub fn issuer(&self) -> Result<&str, Reason> {
        self.claims.get("iss").and_then(|iss| iss.as_str()).ok_or(Reason::Issuer)
    }
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// Decodes strictly: no padding, no other alphabet, no bits left over.
fn decode(part: &str) -> Result<Vec<u8>, Reason> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::Shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    fn refusal(token: &str) -> Option<Reason> {
        Unverified::parse(token).err()
    }

    #[test]
    fn a_token_is_three_parts_and_nothing_else() {
        let good = token(r#"{"alg":"RS256"}"#, "{}");
        assert_eq!(refusal(&good), None);
        let (signed, _) = good.rsplit_once('.').unwrap();
        for (wrong, reason) in [
            (String::new(), Reason::Size),
            ("x".repeat(LONGEST_TOKEN + 1), Reason::Size),
            (".".repeat(1_000_000), Reason::Size),
            (".".repeat(LONGEST_TOKEN), Reason::Shape),
            ("a.b".into(), Reason::Shape),
            ("..".into(), Reason::Shape),
            (format!("{good}.{good}"), Reason::Shape),
            (format!("{good},{good}"), Reason::Shape),
            (format!("{good} {good}"), Reason::Shape),
            (format!("{good}="), Reason::Shape),
            (format!("{good}\n"), Reason::Shape),
            (format!(" {good}"), Reason::Shape),
            (format!("{signed}."), Reason::Shape),
            (format!("{signed}.+/"), Reason::Shape),
            (good.replacen('.', "=.", 1), Reason::Shape),
            (
                format!("{}..c2ln", URL_SAFE_NO_PAD.encode("{}")),
                Reason::Payload(InvalidJson::NotAnObject),
            ),
        ] {
            assert_eq!(refusal(&wrong), Some(reason), "{}", &wrong[..wrong.len().min(80)]);
        }
    }

    #[test]
    fn a_header_is_small_flat_and_says_nothing_twice() {
        for (header, reason) in [
            ("", Reason::Header(InvalidJson::NotAnObject)),
            ("[]", Reason::Header(InvalidJson::NotAnObject)),
            (r#"{"alg":"RS256","alg":"none"}"#, Reason::Header(InvalidJson::Duplicate)),
            (r#"{"alg":"RS256","epk":{}}"#, Reason::Header(InvalidJson::TooDeep(1))),
            (r#"{"alg":"RS256","epk":{"a":{}}}"#, Reason::Header(InvalidJson::TooDeep(2))),
            (r#"{"alg":"RS256","x":["MII"]}"#, Reason::Header(InvalidJson::TooDeep(1))),
            (
                &format!(r#"{{"a":"{}"}}"#, "x".repeat(8193)),
                Reason::Header(InvalidJson::LongText(8192)),
            ),
            (r#"{"kid":""}"#, Reason::KeyId),
            (r#"{"kid":1}"#, Reason::KeyId),
            (r#"{"kid":"a\nb"}"#, Reason::KeyId),
            (&format!(r#"{{"kid":"{}"}}"#, "x".repeat(257)), Reason::KeyId),
            (r#"{"typ":1}"#, Reason::Type),
        ] {
            assert_eq!(refusal(&token(header, "{}")), Some(reason), "{header}");
        }
        for name in FORBIDDEN {
            for value in ["\"x\"", "null", "true", "[\"MII\"]", "{\"kty\":\"RSA\"}"] {
                let header = format!(r#"{{"alg":"RS256","{name}":{value}}}"#);
                assert_eq!(
                    refusal(&token(&header, "{}")),
                    Some(Reason::ForbiddenHeader(name)),
                    "{header}"
                );
            }
        }
        for alg in [r#""none""#, r#""HS256""#, r#""rs256""#, "null", "1"] {
            let token = token(&format!(r#"{{"alg":{alg}}}"#), "{}");
            assert_eq!(Unverified::parse(&token).unwrap().jws.header.algorithm, None, "{alg}");
        }
        for header in
            [r#"{"typ":"JWT"}"#, r#"{"typ":"jwt","x5t":"a"}"#, r#"{"typ":"at+jwt"}"#, "{}"]
        {
            assert_eq!(refusal(&token(header, "{}")), None, "{header}");
        }
    }

    #[test]
    fn a_payload_is_bounded_and_says_nothing_twice() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(2000), "]".repeat(2000));
        let wide: Vec<String> = (0..257).map(|index| format!("\"m{index}\":1")).collect();
        for (payload, problem) in [
            (r#"{"sub":"a","sub":"b"}"#.to_owned(), InvalidJson::Duplicate),
            (r#"{"a":{"b":1,"b":2}}"#.to_owned(), InvalidJson::Duplicate),
            (deep, InvalidJson::TooDeep(16)),
            (format!("{{{}}}", wide.join(",")), InvalidJson::TooManyMembers(256)),
            (format!(r#"{{"a":"{}"}}"#, "x".repeat(8193)), InvalidJson::LongText(8192)),
            ("\"text\"".to_owned(), InvalidJson::NotAnObject),
        ] {
            assert_eq!(
                refusal(&token("{}", &payload)),
                Some(Reason::Payload(problem)),
                "{}",
                &payload[..20.min(payload.len())]
            );
        }
    }

    #[test]
    fn an_issuer_is_one_text() {
        for iss in [r#"["https://a.example"]"#, "1", "null", "{}"] {
            let token = token("{}", &format!(r#"{{"iss":{iss}}}"#));
            assert_eq!(Unverified::parse(&token).unwrap().issuer(), Err(Reason::Issuer), "{iss}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(text in "[A-Za-z0-9_.=+/{}\"-]{0,300}") {
            let _ = Unverified::parse(&text);
        }
    }
}
