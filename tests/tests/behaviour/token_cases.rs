//! Tokens and key sets of real issuers, one file a case in `tests/cases`: what the issuer sends,
//! and the verdict. To add a case, add a file.
//!
//! A token's file has the settings of the issuer, the conditions of the rule, the claims, and what
//! is expected. `lifetime` is the time from `iat` to `exp`, and `fill` makes a claim long. The
//! token goes over a socket, so that the bounds of HTTP apply to it.
//!
//! A file of a key set has the keys: those that name a `signer` are public keys of the test,
//! changed `with` and `without` members.

use std::fs;
use std::path::Path;

use rise_broker_tests::registry::oci;
use rise_broker_tests::wire::Heard;
use rise_broker_tests::{Settings, Signer, TestBroker, Wire, logs};
use serde_json::{Map, Value, json};

const ISSUER: &str = "https://issuer.example.com";

struct Signers(Vec<Signer>);

impl Signers {
    fn new() -> Self {
        let algorithms = ["RS256", "ES256", "ES384"];
        Self(algorithms.map(|name| Signer::with_algorithm(name, name)).into())
    }

    fn of(&self, algorithm: &str) -> &Signer {
        self.0.iter().find(|signer| signer.header()["alg"] == algorithm).unwrap()
    }
}

/// Every case of the folder, by its file's name.
fn cases(folder: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases").join(folder);
    let mut cases: Vec<(String, Value)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let case = serde_json::from_str(&text);
            (name.clone(), case.unwrap_or_else(|error| panic!("{name}: {error}")))
        })
        .collect();
    cases.sort_by(|(one, _), (other, _)| one.cmp(other));
    cases
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// A broker whose issuer `x` has these settings and this key set.
async fn broker(settings: &[&str], rule: &str, keys: &Value) -> TestBroker {
    let registry = oci("localhost:5000").account("demo", "demo-password");
    let text = format!(
        r#"
[auth]
audience = "rise-registry"
[[auth.issuers]]
name = "x"
jwks_file = "@STATE@/jwks.json"
{}
[[rules]]
name = "r"
issuer = "x"
claims = {rule}
projects = ["*"]
registries = ["prod"]
allow = ["pull", "push"]
{registry}"#,
        settings.join("\n"),
    );
    let settings = Settings::new(text);
    fs::write(settings.path("jwks.json"), keys.to_string()).unwrap();
    TestBroker::with_settings(settings).start().await
}

/// Asks for `my-app` as a client does, over a socket.
async fn ask(broker: &TestBroker, token: &str) -> Heard {
    let listening = broker.listen(None).await;
    let request = format!(
        "GET /api/v1/registry/credentials?project=my-app HTTP/1.1\r\nhost: broker\r\n\
         user-agent: test\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    Wire::once(listening.address, &request).await
}

fn claims_of(case: &Value) -> Map<String, Value> {
    let now = jiff::Timestamp::now().as_second();
    let mut claims = case["claims"].as_object().unwrap().clone();
    let lifetime = case["lifetime"].as_i64().unwrap_or(300);
    let age = case["age"].as_i64().unwrap_or(0);
    for (name, value) in [
        ("iss", json!(ISSUER)),
        ("aud", json!("rise-registry")),
        ("sub", json!("somebody")),
        ("iat", json!(now - age)),
        ("exp", json!(now - age + lifetime)),
    ] {
        claims.entry(name).or_insert(value);
    }
    claims.retain(|_, value| !value.is_null());
    if let Some(fill) = case["fill"].as_object() {
        let (count, length) = (fill["count"].as_u64().unwrap(), fill["length"].as_u64().unwrap());
        let width = usize::try_from(length).unwrap();
        let text = |index| format!("{index:0>width$}");
        let mut filled: Vec<Value> = (0..count).map(|index| json!(text(index))).collect();
        filled.extend(fill.get("and").cloned());
        claims.insert(fill["claim"].as_str().unwrap().to_owned(), json!(filled));
    }
    claims
}

fn log_of(heard: &Heard) -> String {
    let answer: Value = serde_json::from_str(&heard.body).unwrap_or_default();
    let id = answer["request_id"].as_str().unwrap_or("no request id").to_owned();
    let logs = logs::text();
    logs.lines().filter(|line| line.contains(&id)).collect::<Vec<_>>().join("\n")
}

fn assert_expected(name: &str, case: &Value, heard: &Heard) {
    let expected = &case["expect"];
    let log = log_of(heard);
    assert_eq!(json!(heard.status), expected["status"], "{name}: {}\n{log}", heard.body);
    if let Some(problem) = expected["problem"].as_str() {
        assert_eq!(heard.problem().as_deref(), Some(problem), "{name}: {}", heard.body);
    }
    for part in texts(&expected["detail"]) {
        assert!(heard.body.contains(part), "{name}: no {part:?} in {}", heard.body);
    }
    for part in texts(&expected["log"]) {
        assert!(log.contains(part), "{name}: no {part:?} in {log}");
    }
}

#[tokio::test]
async fn every_token_gets_its_verdict() {
    let signers = Signers::new();
    let jwks = json!({ "keys": signers.0.iter().map(Signer::jwk).collect::<Vec<_>>() });
    for (name, case) in cases("tokens") {
        let mut settings: Vec<&str> = texts(&case["settings"]).collect();
        let issuer = format!("issuer = \"{}\"", case["claims"]["iss"].as_str().unwrap_or(ISSUER));
        settings.push(&issuer);
        let broker = broker(&settings, case["rule"].as_str().unwrap(), &jwks).await;
        let signer = signers.of(case["alg"].as_str().unwrap_or("RS256"));
        let mut header = signer.header();
        for (member, value) in case["header"].as_object().into_iter().flatten() {
            header[member] = value.clone();
        }
        let claims = Value::Object(claims_of(&case));
        let token = signer.sign_text(&header.to_string(), &claims.to_string());
        assert_expected(&name, &case, &ask(&broker, &token).await);
    }
}

#[tokio::test]
async fn every_key_set_gets_its_verdict() {
    let signers = Signers::new();
    for (name, case) in cases("key-sets") {
        let mut rivals = Vec::new();
        let keys: Vec<Value> = case["keys"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|key| {
                let repeat = key["repeat"].as_u64().unwrap_or(1);
                (0..repeat)
                    .map(|index| public_key(key, &signers, &mut rivals, index))
                    .collect::<Vec<_>>()
            })
            .collect();
        let settings: Vec<&str> = texts(&case["settings"]).collect();
        let issuer = format!("issuer = \"{ISSUER}\"");
        let settings = [vec![issuer.as_str()], settings].concat();
        let broker = broker(&settings, "{ sub = \"somebody\" }", &json!({ "keys": keys })).await;
        let signer = signers.of(case["token"]["alg"].as_str().unwrap());
        let mut header = signer.header();
        match case["token"]["kid"].as_str() {
            Some(kid) => header["kid"] = json!(kid),
            None => drop(header.as_object_mut().unwrap().remove("kid")),
        }
        let claims = Value::Object(claims_of(&json!({ "claims": {} })));
        let token = signer.sign_text(&header.to_string(), &claims.to_string());
        assert_expected(&name, &case, &ask(&broker, &token).await);
        for part in texts(&case["left_out"]) {
            assert!(logs::text().contains(part), "{name}: {part:?} is not in the log");
        }
    }
}

/// A key of the file: that of a signer, that of a stranger with the same algorithm, or as it is.
fn public_key(key: &Value, signers: &Signers, rivals: &mut Vec<Signer>, index: u64) -> Value {
    let mut jwk = match (key["signer"].as_str(), key["stranger"].as_str()) {
        (Some(algorithm), _) => signers.of(algorithm).jwk(),
        (None, Some(algorithm)) => {
            rivals.push(Signer::with_algorithm("stranger", algorithm));
            rivals.last().unwrap().jwk()
        }
        (None, None) => return key.clone(),
    };
    for name in texts(&key["without"]) {
        jwk.as_object_mut().unwrap().remove(name);
    }
    for (member, value) in key["with"].as_object().into_iter().flatten() {
        let numbered = value.as_str().map(|text| json!(text.replace('#', &index.to_string())));
        jwk[member] = numbered.unwrap_or_else(|| value.clone());
    }
    jwk
}
