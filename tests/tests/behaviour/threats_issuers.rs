//! Table A1 of the threat model, T12 to T17: attacks by issuers, and with their names and keys.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rise_broker_tests::scene::{RULE, Scene, scene};
use rise_broker_tests::{IssuerDouble, Reply, Settings, Signer, TestBroker, eventually};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const INVALID: (u16, &str) = (401, "invalid-token");
const NO_KEYS: (u16, &str) = (503, "issuer-unavailable");

#[tokio::test]
async fn t12_invented_key_names_do_not_become_fetches() {
    let scene = scene("", RULE).await;
    scene.still_serves().await;
    assert_eq!(scene.issuer.fetches(), 1);
    let claims = scene.claims().to_string();
    // One signature is enough: the broker looks for the key first.
    let signature = scene.signer.sign_text("{}", "{}").rsplit_once('.').unwrap().1.to_owned();
    let payload = URL_SAFE_NO_PAD.encode(&claims);
    for minute in 1..=2 {
        scene.later(61);
        for index in 0..5000 {
            let header =
                URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"RS256","kid":"{minute}-{index}"}}"#));
            let token = format!("{header}.{payload}.{signature}");
            assert_eq!(scene.ask(&token).await.0, 401);
        }
        assert_eq!(scene.issuer.fetches(), 1 + minute);
    }
    for _ in 0..100 {
        scene.refuses(&format!("{}AA", scene.token(&json!({}))), INVALID, "wrong signature").await;
    }
    assert_eq!((scene.issuer.fetches(), scene.aws.count("AssumeRole")), (3, 1));
    scene.still_serves().await;
}

#[tokio::test]
async fn t13_an_issuer_is_looked_up_and_never_fetched() {
    let scene = scene("", RULE).await;
    let inside = IssuerDouble::start(&[&scene.signer]).await;
    for iss in [
        "http://169.254.169.254/latest",
        inside.issuer(),
        "file:///etc/passwd",
        "https://token.actions.githubusercontent.com",
    ] {
        scene.refuses(&scene.token(&json!({ "iss": iss })), INVALID, iss).await;
    }
    assert!(inside.requests().is_empty());
    scene.still_serves().await;
}

/// Checks that the failing issuer means 503, and that the broker serves again when it recovers.
async fn recovers(scene: &Scene, attack: &str) {
    scene.refuses(&scene.token(&json!({})), NO_KEYS, attack).await;
    scene.issuer.publish(&[&scene.signer]);
    scene.later(61);
    scene.still_serves().await;
}

#[tokio::test]
async fn t14_an_issuer_cannot_send_us_elsewhere() {
    let mallory = Signer::new("k1");
    let elsewhere = IssuerDouble::start(&[&mallory]).await;
    let keys = format!("{}/jwks", elsewhere.issuer());
    for attack in [
        "redirected document",
        "redirected keys",
        "foreign jwks_uri",
        "metadata",
        "another issuer's document",
    ] {
        let scene = scene("", RULE).await;
        match attack {
            "redirected document" => scene.issuer.document(Reply::Redirect(format!(
                "{}/.well-known/openid-configuration",
                elsewhere.issuer()
            ))),
            "redirected keys" => scene.issuer.keys(Reply::Redirect(keys.clone())),
            "foreign jwks_uri" => scene.issuer.points_to(&keys),
            "metadata" => scene.issuer.points_to("http://169.254.169.254/latest/meta-data/iam"),
            _ => scene
                .issuer
                .document(Reply::Json(json!({ "issuer": elsewhere.issuer(), "jwks_uri": keys }))),
        }
        recovers(&scene, attack).await;
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn t14_a_private_address_must_be_stated() {
    let text = |issuer: &str, more: &str| {
        format!(
            "[auth]\naudience = \"a\"\n[[auth.issuers]]\nname = \"k8s\"\nissuer = \"{issuer}\"\n\
             algorithms = [\"RS256\"]\n{more}\n[registries.prod]\ntype = \"oci\"\n\
             registry_url = \"r.example.com\"\n"
        )
    };
    for (issuer, more, starts) in [
        ("https://10.96.0.1", "", false),
        ("https://10.96.0.1", "internal = true", true),
        ("https://169.254.169.254", "internal = true", false),
        ("http://10.96.0.1", "internal = true", false),
        ("https://127.0.0.1:6443", "", true),
    ] {
        let started =
            TestBroker::with_settings(Settings::new(text(issuer, more))).try_start().await;
        assert_eq!(started.is_ok(), starts, "{issuer} {more}");
    }
}

#[tokio::test]
async fn t15_a_key_set_is_bounded_and_of_public_keys() {
    let many: Vec<Value> = (0..10_000)
        .map(|index| json!({ "kty": "RSA", "kid": format!("k{index}"), "n": "AQAB", "e": "AQAB" }))
        .collect();
    let small =
        json!({ "kty": "RSA", "kid": "k1", "n": URL_SAFE_NO_PAD.encode([0xff; 64]), "e": "AQAB" });
    let weak: Vec<Value> = (0..33)
        .map(|index| json!({ "kty": "oct", "kid": format!("k{index}"), "k": "AAAA" }))
        .collect();
    for (attack, reply) in [
        ("oct", Reply::Json(json!({ "keys": [{ "kty": "oct", "kid": "k1", "k": "c2VjcmV0" }] }))),
        ("512 bits", Reply::Json(json!({ "keys": [small] }))),
        ("33 keys", Reply::Json(json!({ "keys": weak }))),
        ("10 000 keys", Reply::Json(json!({ "keys": many }))),
        ("1 GB", Reply::Flood(1 << 30)),
        ("nothing", Reply::Json(json!({ "keys": [] }))),
        ("not JSON", Reply::Status(200)),
    ] {
        let scene = scene("", RULE).await;
        scene.issuer.keys(reply);
        recovers(&scene, attack).await;
    }
    let scene = scene("", RULE).await;
    let mut private = scene.signer.jwk();
    private["d"] = json!("AQAB");
    scene.issuer.keys(Reply::Json(json!({ "keys": [private] })));
    recovers(&scene, "a private part").await;
}

#[tokio::test]
async fn t16_an_outage_is_outlived_and_is_nobody_elses() {
    let scene = scene("", RULE).await;
    scene.still_serves().await;
    for reply in [Reply::Close, Reply::Status(500), Reply::Flood(1 << 20)] {
        scene.issuer.document(reply);
        scene.later(40 * 60);
        scene.still_serves().await;
    }
    scene.later(4 * 3600);
    scene.refuses(&scene.token(&json!({})), NO_KEYS, "the keys are six hours old").await;
    let local = scene.broker.token(&json!({ "team": "x" }));
    assert_eq!(
        scene.broker.get("/api/v1/registries", Some(&local)).await.status,
        401,
        "of hours ago"
    );
    recovers(&scene, "back again").await;
    // After a change of keys the old one is invalid and the new one valid.
    let new = Signer::new("k2");
    scene.issuer.publish(&[&new]);
    scene.later(61);
    assert_eq!(scene.ask(&new.sign(&scene.claims())).await.0, 200);
    scene.refuses(&scene.token(&json!({})), INVALID, "a key that was withdrawn").await;
}

#[tokio::test]
async fn t16_an_issuer_that_hangs_holds_up_nobody_else() {
    let scene = Arc::new(scene("[limits]\nin_flight = 80", RULE).await);
    scene.still_serves().await;
    scene.issuer.document(Reply::Silence);
    scene.later(61);
    // Anybody can write such tokens: they name the issuer, and a key that it may have by now.
    let junk = Signer::new("invented").sign(&scene.claims());
    let mut strangers = JoinSet::new();
    for _ in 0..160 {
        let (scene, junk) = (Arc::clone(&scene), junk.clone());
        strangers.spawn(async move { scene.ask(&junk).await });
    }
    eventually("the strangers wait for the issuer", async || scene.issuer.fetches() == 2).await;
    let local = scene.broker.token(&json!({ "team": "x" }));
    let answer = scene.broker.get("/api/v1/registries", Some(&local)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    scene.still_serves().await;
    assert!(!strangers.is_empty(), "they still wait");
    for (status, problem) in strangers.join_all().await {
        assert_eq!((status, problem.as_str()), NO_KEYS);
    }
}

#[tokio::test]
async fn t17_clocks_may_differ_by_half_a_minute() {
    let scene = scene("", RULE).await;
    let now = scene.now();
    for (more, status) in [
        (json!({ "iat": now + 25 }), 200),
        (json!({ "nbf": now + 25 }), 200),
        (json!({ "iat": now - 300, "exp": now - 20 }), 200),
        (json!({ "iat": now + 60 }), 401),
        (json!({ "nbf": now + 60 }), 401),
        (json!({ "iat": now - 300, "exp": now - 31 }), 401),
    ] {
        assert_eq!(scene.ask(&scene.token(&more)).await.0, status, "{more}");
    }
    scene.still_serves().await;
}
