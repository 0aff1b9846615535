//! Table A1 of the threat model, T1 to T11: attacks with tokens. After each attack an honest caller
//! still gets its credential, and AWS has heard of no other. `threats_issuers.rs` has the attacks
//! of issuers.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rise_broker_tests::scene::{RULE, scene};
use rise_broker_tests::{Answer, IssuerDouble, Signer};
use serde_json::{Value, json};

const INVALID: (u16, &str) = (401, "invalid-token");
const DENIED: (u16, &str) = (403, "access-denied");
const REPLAYED: (u16, &str) = (401, "token-replayed");

#[tokio::test]
async fn t1_a_token_cannot_choose_its_algorithm() {
    let scene = scene("", RULE).await;
    let claims = scene.claims().to_string();
    let kid = "k1";
    let public = scene.signer.jwk()["n"].as_str().unwrap().to_owned();
    let header = URL_SAFE_NO_PAD.encode(json!({ "alg": "HS256", "kid": kid }).to_string());
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(&claims));
    let key = URL_SAFE_NO_PAD.decode(public).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
    let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    let with = |header: Value| scene.signer.sign_text(&header.to_string(), &claims);
    let unsigned = with(json!({ "alg": "none", "kid": kid }));
    for (token, attack) in [
        (unsigned.clone(), "none"),
        (format!("{}.", unsigned.rsplit_once('.').unwrap().0), "none without signature"),
        (format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag)), "public key as shared secret"),
        (with(json!({ "alg": "ES256", "kid": kid })), "ES256 by an RSA key"),
        (with(json!({ "alg": "PS256", "kid": kid })), "PS256 for RS256"),
        (with(json!({ "alg": "rs256", "kid": kid })), "in another case"),
        (with(json!({ "kid": kid })), "no alg"),
        (with(json!({ "alg": "RS256" })), "no kid"),
    ] {
        scene.refuses(&token, INVALID, attack).await;
    }
    scene.still_serves().await;
}

#[tokio::test]
async fn t2_a_token_cannot_bring_its_key() {
    let scene = scene("", RULE).await;
    let mallory = Signer::new("k1");
    for (name, value) in [
        ("jwk", mallory.jwk()),
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example/cert")),
        ("x5c", json!("MII")),
        ("crit", json!("b64")),
        ("b64", json!(false)),
    ] {
        for signer in [&mallory, &scene.signer] {
            let mut header = signer.header();
            header[name] = value.clone();
            let token = signer.sign_text(&header.to_string(), &scene.claims().to_string());
            scene.refuses(&token, INVALID, name).await;
        }
    }
    scene.refuses(&mallory.sign(&scene.claims()), INVALID, "another key of this name").await;
    scene.still_serves().await;
}

#[tokio::test]
async fn t3_a_token_for_somebody_else_is_not_for_us() {
    let scene = scene("", RULE).await;
    for audience in [
        json!("sts.amazonaws.com"),
        json!(["sts.amazonaws.com"]),
        json!("rise-registry-2"),
        json!([]),
        json!(null),
    ] {
        scene
            .refuses(&scene.token(&json!({ "aud": audience })), INVALID, &audience.to_string())
            .await;
    }
    scene.still_serves().await;
}

#[tokio::test]
async fn t4_a_subject_belongs_to_its_issuer() {
    let scene = scene("", RULE).await;
    // The issuer `local` is trusted too, and its token has the same claims.
    let local = scene.broker.token_for("my-app");
    scene.refuses(&local, DENIED, "same claims, another trusted issuer").await;
    let stranger = Signer::new("k1");
    let foreign = IssuerDouble::start(&[&stranger]).await;
    let token = stranger.sign(&scene.claims_with(&json!({ "iss": foreign.issuer() })));
    scene.refuses(&token, INVALID, "an issuer of nobody's").await;
    assert_eq!(foreign.fetches(), 0);
    scene.still_serves().await;
}

#[tokio::test]
async fn t5_a_name_that_was_taken_over_is_another_repository() {
    let ids = "claims = { repository = \"acme/{project}\", repository_id = \"42\" }";
    let scene = scene("", ids).await;
    for id in [json!("43"), json!(42), json!(null), json!(["42"])] {
        scene.refuses(&scene.token(&json!({ "repository_id": id })), DENIED, &id.to_string()).await;
    }
    scene.refuses(&scene.token(&json!({})), DENIED, "no id at all").await;
    assert_eq!(scene.ask(&scene.token(&json!({ "repository_id": "42" }))).await.0, 200);
}

#[tokio::test]
async fn t6_a_fork_or_an_unprotected_branch_cannot_push() {
    let main = "claims = { repository = \"acme/{project}\", ref = \"refs/heads/main\", \
         ref_protected = \"true\", event_name = \"push\" }";
    let scene = scene("", main).await;
    let good = json!({ "ref": "refs/heads/main", "ref_protected": "true", "event_name": "push" });
    for (name, value) in [
        ("ref", json!("refs/heads/feature")),
        ("ref", json!("refs/heads/main2")),
        ("ref", json!("refs/pull/1/merge")),
        ("ref_protected", json!("false")),
        ("ref_protected", json!(true)),
        ("event_name", json!("pull_request_target")),
        ("repository", json!("mallory/my-app")),
    ] {
        let mut claims = good.clone();
        claims[name] = value.clone();
        scene.refuses(&scene.token(&claims), DENIED, &format!("{name} {value}")).await;
    }
    assert_eq!(scene.ask(&scene.token(&good)).await.0, 200);
}

#[tokio::test]
async fn t7_a_name_ends_where_it_ends() {
    let scene = scene("", RULE).await;
    for repository in [
        "acme/my-app-evil",
        "acme2/my-app",
        "acme/my-ap",
        "x/acme/my-app",
        "acme/my-app/",
        "Acme/my-app",
        "acme/my-app\u{200b}",
    ] {
        scene.refuses(&scene.token(&json!({ "repository": repository })), DENIED, repository).await;
    }
    scene.still_serves().await;
}

#[tokio::test]
async fn t8_a_claim_is_of_one_type_and_there_once() {
    let scene = scene("", RULE).await;
    for (name, value) in [
        ("iss", json!([scene.issuer.issuer()])),
        ("sub", json!(["repo:acme/my-app"])),
        ("sub", json!(null)),
        ("exp", json!("9999999999")),
        ("exp", json!(true)),
        ("iat", json!(1.5)),
        ("nbf", json!("0")),
        ("nbf", json!(null)),
    ] {
        scene
            .refuses(&scene.token(&json!({ name: value })), INVALID, &format!("{name} {value}"))
            .await;
    }
    for twice in [r#"{"repository":"acme/other","#, r#"{"sub":"admin","#, r#"{"\u0073ub":"admin","#]
    {
        let claims = scene.claims().to_string().replacen('{', twice, 1);
        let token = scene.signer.sign_text(&scene.signer.header().to_string(), &claims);
        scene.refuses(&token, INVALID, twice).await;
    }
    let header = scene.signer.header().to_string().replacen('{', r#"{"alg":"none","#, 1);
    scene
        .refuses(
            &scene.signer.sign_text(&header, &scene.claims().to_string()),
            INVALID,
            "alg twice",
        )
        .await;
    scene
        .refuses(&scene.token(&json!({ "repository": ["acme/my-app"] })), DENIED, "a list for text")
        .await;
    scene.still_serves().await;
}

#[tokio::test]
async fn t9_a_token_that_was_used_is_used_up() {
    let scene = scene("replay = \"single_use\"", RULE).await;
    scene.refuses(&scene.token(&json!({})), INVALID, "no jti").await;
    scene.refuses(&scene.token(&json!({ "jti": 7 })), INVALID, "a number for jti").await;
    let earlier = scene.token(&json!({ "jti": "old", "iat": scene.now() - 10 }));
    scene.refuses(&earlier, REPLAYED, "issued before the start").await;
    scene.later(2);
    let token = scene.token(&json!({ "jti": "one" }));
    // A failed request does not use it up.
    scene.aws.next("AssumeRole", [Answer::access_denied()]);
    assert_eq!(scene.ask(&token).await, (502, "upstream-denied".to_owned()));
    assert_eq!(scene.ask(&token).await.0, 200);
    scene.refuses(&token, REPLAYED, "again").await;
    // A denial does not either.
    let two = scene.token(&json!({ "jti": "two" }));
    assert_eq!(scene.broker.credentials(&two, "project=other").await.status, 403);
    let (first, second) = tokio::join!(scene.ask(&two), scene.ask(&two));
    let mut statuses = [first.0, second.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
    let replays =
        scene.broker.audit().into_iter().filter(|record| record["reason"] == "token-replayed");
    assert_eq!(replays.count(), 3);
    scene.still_serves().await;
}

#[tokio::test]
async fn t10_a_token_does_not_live_for_ever() {
    let scene = scene("max_lifetime = 3600\nmax_age = 1800", RULE).await;
    let now = scene.now();
    for (more, attack) in [
        (json!({ "exp": now + 3700 }), "longer than max_lifetime"),
        (json!({ "exp": now + 10 * 365 * 86400 }), "ten years"),
        (json!({ "exp": 1e19 }), "1e19"),
        (json!({ "exp": u64::MAX }), "2^64"),
        (json!({ "exp": i64::MAX, "iat": -1 }), "overflow"),
        (json!({ "iat": now + 120 }), "issued in the future"),
        (json!({ "iat": now - 2000 }), "older than max_age"),
    ] {
        scene.refuses(&scene.token(&more), INVALID, attack).await;
    }
    scene.still_serves().await;
}

#[tokio::test]
async fn t11_a_token_is_bounded_before_it_is_read() {
    let scene = scene("", RULE).await;
    let deep = format!("{{\"iss\":{}{}}}", "[".repeat(3000), "]".repeat(3000));
    let wide: Vec<String> = (0..300).map(|index| format!("\"m{index}\":1")).collect();
    let header = scene.signer.header().to_string();
    for (token, attack) in [
        ("a".repeat(1 << 20), "a mebibyte"),
        (".".repeat(1_000_000), "a million dots"),
        (".".repeat(32_000), "32,000 dots"),
        (scene.signer.sign_text(&header, &deep), "depth"),
        (scene.signer.sign_text(&header, &format!("{{{}}}", wide.join(","))), "members"),
        (scene.token(&json!({ "x": "y".repeat(9000) })), "one long text"),
        (scene.token(&json!({ "x": vec!["y".repeat(8000); 4] })), "long in all"),
    ] {
        scene.refuses(&token, INVALID, attack).await;
    }
    scene.still_serves().await;
}
