//! Tokens through the whole of it, with real signatures and an issuer on loopback.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::json::InvalidJson;
use super::testing::{NOW, Server, Signer, TestClock};
use super::*;
use crate::identity::local::TokenRequest;

fn at(issuer: &str) -> KeyOrigin {
    let issuer = issuer.to_owned();
    KeyOrigin::Discovery(DiscoverySettings { issuer, ..DiscoverySettings::default() })
}

/// An issuer whose tokens are for `us`.
fn ours(name: &str, keys: KeyOrigin) -> IssuerSettings {
    let (name, audience) = (name.to_owned(), "us".to_owned());
    IssuerSettings { name, audience, policy: TokenPolicy::default(), keys }
}

fn build(settings: &IdentitySettings, clock: &TestClock) -> Identity {
    Identity::build(settings, &IssuerMemory::default(), clock.clock()).unwrap()
}

struct Setup {
    identity: Identity,
    clock: TestClock,
    server: Server,
}

/// An issuer `ci` that has published `signers`.
async fn setup(algorithms: &[Algorithm], signers: &[&Signer]) -> Setup {
    let server = Server::start().await;
    server.publish(signers);
    let clock = TestClock::new();
    let policy = TokenPolicy {
        algorithms: algorithms.to_vec(),
        mixed_algorithms: true,
        ..TokenPolicy::default()
    };
    let issuers = vec![IssuerSettings { policy, ..ours("ci", at(&server.origin())) }];
    let identity = build(&IdentitySettings { issuers }, &clock);
    Setup { identity, clock, server }
}

impl Setup {
    fn claims(&self) -> Value {
        json!({
            "iss": self.server.origin(),
            "aud": "us",
            "sub": "s",
            "iat": NOW - 10,
            "exp": NOW + 300,
            "ref": "main",
        })
    }

    fn claims_with(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        claims[name] = value;
        claims
    }

    async fn verify(&self, token: &str) -> Result<Subject, IdentityError> {
        self.identity.verify(&Secret::new(token.to_owned())).await
    }

    /// Why a token is rejected, and whether its signature had been verified by then.
    async fn refusal(&self, token: &str) -> (Reason, bool) {
        match self.verify(token).await {
            Err(IdentityError::Invalid(rejection)) => (rejection.reason, rejection.signature_valid),
            Err(IdentityError::IssuerUnavailable { issuer }) => panic!("{issuer} is not available"),
            Ok(subject) => panic!("accepted: {subject:?}"),
        }
    }
}

#[tokio::test]
async fn a_good_token_of_each_kind_of_key_is_a_subject() {
    let (rsa, p256, ed) = (Signer::rsa("r"), Signer::p256("e"), Signer::ed25519("d"));
    let algorithms = [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa];
    let setup = setup(&algorithms, &[&rsa, &p256, &ed]).await;
    for (signer, alg) in [(&rsa, "RS256"), (&rsa, "PS256"), (&p256, "ES256"), (&ed, "EdDSA")] {
        let subject = setup.verify(&signer.sign(alg, &setup.claims())).await.unwrap();
        assert_eq!((subject.issuer.as_str(), subject.sub.as_str()), ("ci", "s"), "{alg}");
        assert_eq!(Value::Object(subject.claims), setup.claims());
    }
    assert_eq!(setup.server.requests().len(), 2);
}

#[tokio::test]
async fn a_token_cannot_choose_how_it_is_verified() {
    let (rsa, p256, mallory) = (Signer::rsa("r"), Signer::p256("e"), Signer::rsa("r"));
    let setup = setup(&[Algorithm::Rs256, Algorithm::Es256], &[&rsa, &p256]).await;
    let claims = setup.claims();
    let unsigned = |header: Value| mallory.sign_header(&header, &claims);
    let hmac = {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"r"}"#),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let public = rsa.jwk()["n"].as_str().unwrap().to_owned();
        let key = aws_lc_rs::hmac::Key::new(
            aws_lc_rs::hmac::HMAC_SHA256,
            &URL_SAFE_NO_PAD.decode(public).unwrap(),
        );
        format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes()))
        )
    };
    let good = rsa.sign("RS256", &claims);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let swapped = format!(
        "{}.{}.{signature}",
        signed.split_once('.').unwrap().0,
        URL_SAFE_NO_PAD.encode(setup.claims_with("sub", json!("admin")).to_string())
    );
    for (token, reason) in [
        (unsigned(json!({ "alg": "none", "kid": "r" })), Reason::Algorithm),
        (unsigned(json!({ "kid": "r" })), Reason::Algorithm),
        (hmac, Reason::Algorithm),
        (rsa.sign("PS256", &claims), Reason::Algorithm),
        (p256.sign_header(&json!({ "alg": "RS256", "kid": "e" }), &claims), Reason::KeyMismatch),
        (p256.sign_header(&json!({ "alg": "ES256", "kid": "r" }), &claims), Reason::KeyMismatch),
        (rsa.sign_header(&json!({ "alg": "RS256" }), &claims), Reason::MissingKeyId),
        (rsa.sign_header(&json!({ "alg": "RS256", "kid": "x" }), &claims), Reason::UnknownKey),
        (
            unsigned(json!({ "alg": "RS256", "kid": "r", "jwk": mallory.jwk() })),
            Reason::ForbiddenHeader("jwk"),
        ),
        (
            unsigned(json!({ "alg": "RS256", "kid": "r", "jku": "https://evil.example" })),
            Reason::ForbiddenHeader("jku"),
        ),
        (
            unsigned(json!({ "alg": "RS256", "kid": "r", "crit": "x" })),
            Reason::ForbiddenHeader("crit"),
        ),
        (mallory.sign("RS256", &claims), Reason::Signature),
        (swapped, Reason::Signature),
        (format!("{signed}.AAAA"), Reason::Signature),
    ] {
        assert_eq!(setup.refusal(&token).await, (reason, false), "{token}");
    }
    assert!(setup.verify(&good).await.is_ok());
}

#[tokio::test]
async fn a_wrong_claim_is_rejected_though_the_issuer_signed_it() {
    let key = Signer::ed25519("d");
    let setup = setup(&[Algorithm::EdDsa], &[&key]).await;
    // What would let a stranger cause a fetch is checked before the signature.
    for (name, value, reason, signature_valid) in [
        ("aud", json!("them"), Reason::Audience, false),
        ("aud", json!(["them"]), Reason::Audience, false),
        ("aud", json!(1), Reason::Audience, false),
        ("exp", json!(NOW - 31), Reason::Expired, false),
        ("exp", json!((NOW + 300).to_string()), Reason::Times, false),
        ("exp", json!(1_700_000_300.5), Reason::Times, false),
        ("exp", json!(1e19), Reason::Times, false),
        ("iat", json!(NOW + 31), Reason::IssuedInFuture, true),
        ("iat", json!(null), Reason::Times, true),
        ("nbf", json!(NOW + 31), Reason::NotYetValid, true),
        ("exp", json!(NOW + 48 * 3600), Reason::Lifetime, true),
        ("sub", json!(""), Reason::Subject, true),
        ("sub", json!(7), Reason::Subject, true),
        ("iss", json!([setup.server.origin()]), Reason::Issuer, false),
        ("iss", json!("https://evil.example"), Reason::UnknownIssuer, false),
        ("iss", json!(format!("{}/", setup.server.origin())), Reason::UnknownIssuer, false),
        ("iss", json!("ci"), Reason::UnknownIssuer, false),
    ] {
        let token = key.sign("EdDSA", &setup.claims_with(name, value.clone()));
        assert_eq!(setup.refusal(&token).await, (reason, signature_valid), "{name} {value}");
    }
    let twice = setup.claims().to_string().replacen('{', r#"{"sub":"admin","#, 1);
    let token = key.sign_text(r#"{"alg":"EdDSA","kid":"d"}"#, &twice);
    assert_eq!(setup.refusal(&token).await, (Reason::Payload(InvalidJson::Duplicate), false));
}

#[tokio::test]
async fn the_only_key_need_not_be_named_where_the_settings_say_so() {
    let key = Signer::ed25519("d");
    let mut setup = setup(&[Algorithm::EdDsa], &[&key]).await;
    let token = key.sign_header(&json!({ "alg": "EdDSA" }), &setup.claims());
    assert_eq!(setup.refusal(&token).await, (Reason::MissingKeyId, false));
    setup.identity.issuers.values_mut().for_each(|issuer| issuer.policy.require_kid = false);
    assert!(setup.verify(&token).await.is_ok());
    let other = Signer::ed25519("o");
    setup.server.publish(&[&key, &other]);
    setup.clock.advance(6 * 3600);
    let mut claims = setup.claims_with("iat", json!(NOW + 6 * 3600));
    claims["exp"] = json!(NOW + 7 * 3600);
    let token = key.sign_header(&json!({ "alg": "EdDSA" }), &claims);
    assert_eq!(setup.refusal(&token).await, (Reason::UnnamedKey, false));
}

#[tokio::test]
async fn nonsense_never_reaches_an_issuer() {
    let key = Signer::ed25519("d");
    let setup = setup(&[Algorithm::EdDsa], &[&key]).await;
    for claims in [
        setup.claims_with("exp", json!(NOW - 60)),
        setup.claims_with("aud", json!("them")),
        setup.claims_with("iss", json!("http://169.254.169.254")),
    ] {
        setup.refusal(&key.sign("EdDSA", &claims)).await;
    }
    setup.refusal(&key.sign("RS256", &setup.claims())).await;
    assert!(setup.server.requests().is_empty());
}

#[tokio::test]
async fn a_flood_of_kids_is_one_fetch_and_a_wrong_signature_none() {
    let key = Signer::ed25519("d");
    let setup = setup(&[Algorithm::EdDsa], &[&key]).await;
    for index in 0..200 {
        let token = key
            .sign_header(&json!({ "alg": "EdDSA", "kid": format!("k{index}") }), &setup.claims());
        assert_eq!(setup.refusal(&token).await, (Reason::UnknownKey, false));
    }
    assert_eq!(setup.server.requests().len(), 2);
    setup.clock.advance(120);
    for _ in 0..20 {
        assert_eq!(
            setup.refusal(&Signer::ed25519("d").sign("EdDSA", &setup.claims())).await.0,
            Reason::Signature
        );
    }
    assert_eq!(setup.server.requests().len(), 2);
}

#[tokio::test]
async fn an_issuer_may_change_its_keys() {
    let (old, new) = (Signer::ed25519("old"), Signer::ed25519("new"));
    let setup = setup(&[Algorithm::EdDsa], &[&old]).await;
    assert!(setup.verify(&old.sign("EdDSA", &setup.claims())).await.is_ok());
    setup.server.publish(&[&new]);
    setup.clock.advance(61);
    assert!(setup.verify(&new.sign("EdDSA", &setup.claims())).await.is_ok());
    assert_eq!(
        setup.refusal(&old.sign("EdDSA", &setup.claims())).await,
        (Reason::UnknownKey, false)
    );
    assert_eq!(setup.server.requests().len(), 4);
}

#[tokio::test]
async fn an_issuer_that_is_down_affects_its_own_callers_only() {
    let (key, other) = (Signer::ed25519("d"), Signer::ed25519("o"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, other.jwks()).unwrap();
    // Nobody listens on port 9 of loopback.
    let down = "http://127.0.0.1:9";
    let issuer = |name: &str, keys| IssuerSettings {
        policy: TokenPolicy { algorithms: vec![Algorithm::EdDsa], ..TokenPolicy::default() },
        ..ours(name, keys)
    };
    let issuers = vec![
        issuer("down", at(down)),
        issuer("file", KeyOrigin::JwksFile { issuer: "https://file.example".to_owned(), path }),
    ];
    let identity = build(&IdentitySettings { issuers }, &TestClock::new());
    let claims =
        |iss: &str| json!({ "iss": iss, "aud": "us", "sub": "s", "iat": NOW, "exp": NOW + 300 });
    identity.prefetch();
    for _ in 0..2 {
        let token = Secret::new(key.sign("EdDSA", &claims(down)));
        let error = identity.verify(&token).await.unwrap_err();
        assert!(
            matches!(&error, IdentityError::IssuerUnavailable { issuer } if issuer == "down"),
            "{error}"
        );
    }
    let token = Secret::new(other.sign("EdDSA", &claims("https://file.example")));
    assert_eq!(identity.verify(&token).await.unwrap().issuer, "file");
    // A key of one issuer verifies no token of another.
    let crossed = Secret::new(
        key.sign_header(&json!({ "alg": "EdDSA", "kid": "o" }), &claims("https://file.example")),
    );
    let refused = identity.verify(&crossed).await.unwrap_err();
    assert!(matches!(
        refused,
        IdentityError::Invalid(rejection) if rejection.reason == Reason::Signature
    ));
    let mut readiness: Vec<_> = identity.readiness().collect();
    readiness.sort_unstable();
    assert_eq!(readiness, [("down", false), ("file", true)]);
}

#[tokio::test]
async fn the_brokers_own_tokens_are_accepted_until_they_expire() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/issuer.pem");
    let clock = TestClock::new();
    let keys = KeyOrigin::Local { key_file: path.clone() };
    let issuers = vec![ours("local", keys)];
    let identity = build(&IdentitySettings { issuers }, &clock);
    let mint = |audience: &str| {
        let request = TokenRequest {
            subject: "laptop".to_owned(),
            audience: audience.to_owned(),
            claims: json!({ "team": "a" }).as_object().unwrap().clone(),
            lifetime: SignedDuration::from_hours(1),
        };
        LocalIssuer::open_or_create(&path).unwrap().mint(request, clock.clock().now()).unwrap()
    };
    let token = mint("us");
    let subject = identity.verify(&token).await.unwrap();
    assert_eq!((subject.issuer.as_str(), subject.sub.as_str()), ("local", "laptop"));
    assert_eq!(subject.claims.get("team"), Some(&json!("a")));
    assert!(identity.verify(&mint("them")).await.is_err());
    clock.advance(3600 + 30);
    let error = identity.verify(&token).await.unwrap_err();
    let expected = "token rejected: the token has expired; expected `exp` greater than ";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[tokio::test]
async fn a_reload_keeps_fetched_keys_and_used_tokens() {
    let (ours, theirs) = (Signer::ed25519("k"), Signer::ed25519("k"));
    let it = setup(&[Algorithm::EdDsa], &[&ours]).await;
    let settings = |audience: &str, internal: bool| {
        let mut keys = at(&it.server.origin());
        if let KeyOrigin::Discovery(settings) = &mut keys {
            settings.internal = internal;
        }
        let policy = TokenPolicy {
            algorithms: vec![Algorithm::EdDsa],
            replay: Replay::SingleUse,
            ..TokenPolicy::default()
        };
        let (name, audience) = ("ci".to_owned(), audience.to_owned());
        IdentitySettings { issuers: vec![IssuerSettings { name, audience, policy, keys }] }
    };
    let memory = IssuerMemory::default();
    let build = |audience: &str, internal: bool| {
        Identity::build(&settings(audience, internal), &memory, it.clock.clock()).unwrap()
    };
    let first = build("us", false);
    it.clock.advance(1);
    let mut claims = it.claims();
    claims["jti"] = json!("a");
    claims["iat"] = json!(NOW + 1);
    let token = Secret::new(ours.sign("EdDSA", &claims));
    let subject = first.verify(&token).await.unwrap();
    first.reserve(&subject).await.unwrap().commit();

    // The issuer would return other keys now.
    it.server.publish(&[&theirs]);
    let second = build("us", false);
    let subject = second.verify(&token).await.unwrap();
    assert_eq!(second.reserve(&subject).await.unwrap_err(), Replayed::Used);
    // With other settings the keys are fetched again, but a used token stays used.
    let third = build("us", true);
    assert!(third.verify(&token).await.is_err());
    assert_eq!(third.reserve(&subject).await.unwrap_err(), Replayed::Used);
    assert!(build("them", false).verify(&token).await.is_err());
}
