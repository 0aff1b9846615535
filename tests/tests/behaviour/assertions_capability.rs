//! The capability `assertions`: what a provider can have signed with a key of the operator, and
//! where that goes. The guest `login-rogue` asks for everything that it must not get.

use rise_broker_tests::imaginary::ADMIN_TOKEN;
use rise_broker_tests::registry::{RegistryTable, registry};
use rise_broker_tests::{Imaginary, OperatorKey, Response, Settings, TestBroker, lines, logs};
use serde_json::{Value, json};

/// The registry answers with a login and with a token for the caller.
fn answers(server: &Imaginary) {
    let token = |sub: &str| rise_provider::testing::jwt(&json!({ "sub": sub }));
    let body = json!({ "token": token("the-login"), "other": token("robot-7") });
    server.answer(200, None, &body.to_string());
}

fn table(server: &Imaginary, key: &str) -> RegistryTable {
    registry("login-rogue")
        .with("base_url", server.url())
        .with("key", key)
        .with("admin_token", ADMIN_TOKEN)
        .with("trust_provider", true)
        .ceiling("private = true\n[providers.login-rogue.limits]\ncpu_ms = 3000")
}

struct Scene {
    server: Imaginary,
    broker: TestBroker,
    answer: Response,
}

async fn scene(key: &str, change: impl FnOnce(RegistryTable) -> RegistryTable) -> Scene {
    let server = Imaginary::start().await;
    answers(&server);
    let text = change(table(&server, key));
    let broker = TestBroker::with_registries(text).guests(&["login-rogue"]).start().await;
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
    Scene { server, broker, answer }
}

impl Scene {
    /// The assertion that the registry received, checked with the key.
    fn received(&self, key: &OperatorKey) -> (Value, Value) {
        let heard = self.server.heard();
        assert_eq!(heard[0].path, "/api/tokens", "{}", self.answer.text);
        key.verify(heard[0].body.rsplit("assertion=").next().unwrap())
    }

    /// The log lines about this broker's provider and registry, and everything else that is kept.
    fn outputs(&self) -> String {
        let audit = serde_json::to_string(&self.broker.audit()).unwrap();
        format!("{}{}{audit}", self.answer.text, logs::text())
    }

    fn has_no_secret(&self, key: &OperatorKey, what: &str) {
        let outputs = self.outputs();
        for canary in key.canaries().into_iter().chain([ADMIN_TOKEN.to_owned()]) {
            assert!(!outputs.contains(&canary), "{what}: {canary}");
        }
        for heard in self.server.heard() {
            let assertion = heard.body.rsplit("assertion=").next().unwrap().to_owned();
            assert!(assertion.is_empty() || !outputs.contains(&assertion), "{what}: {assertion}");
        }
    }

    fn refused(&self, key: &OperatorKey, what: &str, told: &str) {
        let found = (self.answer.status.as_u16(), self.answer.problem());
        assert_eq!(
            found,
            (502, Some("provider-failed".to_owned())),
            "{what}: {}",
            self.answer.text
        );
        assert!(self.outputs().contains(told), "{what}: {told}: {}", logs::text());
        self.has_no_secret(key, what);
    }
}

#[tokio::test]
async fn each_algorithm_signs_what_a_receiver_verifies() {
    let (rsa, p256) = (OperatorKey::rsa(), OperatorKey::p256());
    for (key, algorithm) in [(&rsa, "RS256"), (&rsa, "PS256"), (&p256, "ES256")] {
        let header = json!({ "alg": algorithm, "kid": "k1", "x5t#S256": "dGh1bWI" }).to_string();
        let scene = scene(&key.pem(), |table| table.with("header", header)).await;
        assert_eq!(scene.answer.status, 200, "{algorithm}: {}", scene.answer.text);
        let (header, claims) = scene.received(key);
        let expected =
            json!({ "alg": algorithm, "typ": "JWT", "kid": "k1", "x5t#S256": "dGh1bWI" });
        assert_eq!(header, expected);
        assert_eq!(claims["sub"], "me");
        assert_eq!(scene.answer.json()["credentials"]["username"], "robot-7", "{algorithm}");
        scene.has_no_secret(key, algorithm);
        let audit = scene.broker.audit();
        assert_eq!(audit[0]["event"], "issue.intent", "a signature has its intent");
    }
}

#[tokio::test]
async fn the_file_of_a_service_account_signs_with_its_name_and_key_id() {
    let key = OperatorKey::rsa();
    let file = key.service_account("broker@acme.iam.gserviceaccount.com");
    let own = scene(&file, |table| table).await;
    assert_eq!(own.answer.status, 200, "{}", own.answer.text);
    let (header, claims) = own.received(&key);
    assert_eq!((&header["kid"], &header["alg"]), (&json!("key-7"), &json!("RS256")));
    assert_eq!(claims["iss"], "broker@acme.iam.gserviceaccount.com");
    own.has_no_secret(&key, "service account");
    let claims = json!({ "iss": "other", "exp": "+60" }).to_string();
    let (_, claims) = scene(&file, |table| table.with("claims", claims)).await.received(&key);
    assert_eq!(claims["iss"], "other");
}

/// Headers and claims that a hostile provider wants signed.
#[tokio::test]
async fn other_algorithms_headers_and_lifetimes_are_not_signed() {
    let (rsa, p256) = (OperatorKey::rsa(), OperatorKey::p256());
    let header = |text: &'static str| (text, r#"{"exp":"+300"}"#);
    let claims = |text: &'static str| (r#"{"alg":"RS256"}"#, text);
    for (key, (header, claims), told) in [
        (&rsa, header(r#"{"alg":"none"}"#), "the algorithm `none`"),
        (&rsa, header(r#"{"alg":"None"}"#), "the algorithm `None`"),
        (&rsa, header(r#"{"alg":"HS256"}"#), "the algorithm `HS256`"),
        (&rsa, header(r#"{"alg":"RS384"}"#), "the algorithm `RS384`"),
        (&rsa, header(r#"{"alg":"EdDSA"}"#), "the algorithm `EdDSA`"),
        (&rsa, header(r#"{"alg":["RS256"]}"#), "`alg` in its header"),
        (&rsa, header("{}"), "the algorithm `(none)`"),
        (&rsa, header(r#"{"alg":"ES256"}"#), "does not fit the algorithm"),
        (&p256, header(r#"{"alg":"RS256"}"#), "does not fit the algorithm"),
        (&p256, header(r#"{"alg":"PS256"}"#), "does not fit the algorithm"),
        (&rsa, header(r#"{"alg":"RS256","jku":"https://e.example/k"}"#), "`jku` in its header"),
        (&rsa, header(r#"{"alg":"RS256","jwk":{}}"#), "`jwk` in its header"),
        (&rsa, header(r#"{"alg":"RS256","x5u":"https://e.example"}"#), "`x5u` in its header"),
        (&rsa, header(r#"{"alg":"RS256","crit":["b64"],"b64":false}"#), "`b64` in its header"),
        (&rsa, header(r#"{"alg":"RS256","crit":[]}"#), "`crit` in its header"),
        (&rsa, header(r#"{"alg":"RS256","kid":{"a":1}}"#), "`kid` in its header"),
        (&rsa, header(r#"{"alg":"RS256","x5c":[1]}"#), "`x5c` in its header"),
        (&rsa, header(r#"["RS256"]"#), "whose header is not a JSON object"),
        (&rsa, claims(r#"{"exp":"+3601"}"#), "where 3600 are the most"),
        (&rsa, claims(r#"{"exp":99999999999}"#), "where 3600 are the most"),
        (&rsa, claims(r#"{"exp":"+0"}"#), "already expired"),
        (&rsa, claims(r#"{"exp":-1}"#), "without a whole number in `exp`"),
        (&rsa, claims(r#"{"exp":1.9e9}"#), "without a whole number in `exp`"),
        (&rsa, claims(r#"{"exp":"tomorrow"}"#), "without a whole number in `exp`"),
        (&rsa, claims(r#"{"sub":"me"}"#), "without a whole number in `exp`"),
        (&rsa, claims("[]"), "whose claims is not a JSON object"),
    ] {
        let what = format!("{header} {claims}");
        let change = |table: RegistryTable| table.with("header", header).with("claims", claims);
        let scene = scene(&key.pem(), change).await;
        scene.refused(key, &what, told);
        assert!(scene.server.heard().is_empty(), "{what}: {:?}", scene.server.heard());
    }
}

#[tokio::test]
async fn a_signature_is_over_what_the_host_allows_and_goes_to_the_registry_only() {
    let key = OperatorKey::rsa();
    for (how, told, requests) in [
        ("sign-with-text", "with a key that is no secret setting", 0),
        ("sign-with-token", "`admin_token` cannot sign", 0),
        ("sign-secret", "a signature over a configured secret", 0),
        ("sign-thousands", "more than 8 signatures", 0),
        ("assertion-as-password", "returned an assertion", 0),
        ("assertion-as-bearer", "returned an assertion", 0),
        ("assertion-echoed", "sent an assertion back, so its answer is withheld", 1),
        ("assertion-elsewhere", "https://elsewhere.example.com", 0),
        ("assertion-claim", "no claim", 0),
    ] {
        let scene = scene(&key.pem(), |table| table.with("misbehave", how)).await;
        scene.refused(&key, how, told);
        assert_eq!(scene.server.heard().len(), requests, "{how}");
    }
}

#[tokio::test]
async fn nothing_is_signed_outside_of_issue() {
    let key = OperatorKey::rsa();
    let scene = scene(&key.pem(), |table| table.with("misbehave", "sign-in-locate")).await;
    assert_eq!(scene.answer.status, 200, "{}", scene.answer.text);
    assert_eq!(scene.server.heard().len(), 2, "one for the login, one for the token");
}

/// Each is found before the broker serves, with the key of the setting and without its value.
#[tokio::test]
async fn a_setting_that_is_no_private_key_is_found_at_start() {
    let key = OperatorKey::rsa();
    let account = |text: &str| text.to_owned();
    for (text, told) in [
        ("secret-canary-5e1".to_owned(), "expected a private key in PEM"),
        (key.pem().replace("PRIVATE", "PUBLIC"), "expected a private key in PEM"),
        (key.pem()[..400].to_owned(), "expected a private key in PEM"),
        (key.pem().replace("PRIVATE", "ENCRYPTED PRIVATE"), "without a passphrase"),
        (OperatorKey::p384().pem(), "or an EC key on the curve P-256"),
        (account(r#"{"type":"authorized_user"}"#), "JSON file of a Google service account"),
        (key.service_account("").replace("key-7", ""), "JSON file of a Google service account"),
        ("{".to_owned(), "JSON file of a Google service account"),
    ] {
        let server = Imaginary::start().await;
        let settings = format!("{}\n{}", rise_broker_tests::AUTH, table(&server, &text));
        let settings = Settings::new(settings).guests(&["login-rogue"]);
        let problems = TestBroker::with_settings(settings).try_start().await.err().expect(told);
        let problems = lines(&problems);
        assert!(problems.contains("registries.prod.key: "), "{problems}");
        assert!(problems.contains(told), "{told}: {problems}");
        for canary in key.canaries().iter().map(String::as_str).chain(["secret-canary-5e1"]) {
            assert!(!problems.contains(canary), "{problems}");
        }
    }
}
