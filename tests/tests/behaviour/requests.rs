//! Requests of callers: tokens, parameters, bodies, images. No wrong request reaches AWS.

use axum::body::Body;
use axum::http::Request;
use rise_broker_tests::registry::{ecr, oci};
use rise_broker_tests::{Stub, TestBroker};
use serde_json::json;

async fn broker(aws: &Stub, more: &str) -> TestBroker {
    TestBroker::with_registries(ecr(aws.endpoint()).lines(more)).start().await
}

const NO_PROJECTS: [&str; 44] = [
    "",
    "*",
    "?",
    "my-app*",
    "${aws:username}",
    "\"",
    "'",
    "my-app\"",
    "../x",
    "my-app/../x",
    // Two components, where `project_depth` is 1.
    "a/b",
    ".",
    "..",
    "a..b",
    "a/../b",
    "a/./b",
    "a//b",
    "/a",
    "a/",
    "a%2fb",
    "{project}",
    "_catalog",
    ".github",
    "a/tags/list",
    "blobs/uploads",
    "a/manifests/b",
    "a___b",
    "a._b",
    "a\\b",
    "a\u{2215}b",
    "a;b",
    "a?b",
    "My-App",
    "MY-APP",
    "my-аpp",
    "ｍy-app",
    "my-app\u{0}",
    "my-app\n",
    "-a",
    "a-",
    " my-app",
    "my-app ",
    "my-app,other",
    "arn:aws:ecr",
];

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[tokio::test]
async fn a_project_outside_the_grammar_is_a_bad_request() {
    let aws = Stub::start().await;
    let broker = broker(&aws, "").await;
    let token = broker.token_for("my-app");
    let long = "a".repeat(129);
    for name in NO_PROJECTS.into_iter().chain([long.as_str()]) {
        let by_query = broker.credentials(&token, &format!("project={}", encoded(name))).await;
        let body = json!({ "project": name }).to_string();
        let by_body = Request::post("/api/v1/registry/credentials")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        let by_body = broker.send(by_body.body(Body::from(body)).unwrap()).await;
        for answer in [by_query, by_body] {
            assert_eq!(
                (answer.status.as_u16(), answer.problem().as_deref()),
                (400, Some("invalid-request")),
                "{name:?}: {}",
                answer.text
            );
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        }
    }
    for query in [
        "project=my-app&project=other",
        "project=my-app&project=my-app",
        "project=%ff",
        "",
        "project",
        "project=my-app%2f..%2fother",
    ] {
        let answer = broker.credentials(&token, query).await;
        assert_eq!(
            answer.problem().as_deref(),
            Some("invalid-request"),
            "{query}: {}",
            answer.text
        );
    }
    assert_eq!(aws.requests().len(), 0);
    assert!(broker.audit().is_empty());
}

#[tokio::test]
async fn a_body_says_the_same_as_a_query() {
    let aws = Stub::start().await;
    let broker = broker(&aws, "").await;
    let token = broker.token_for("my-app");
    let send = async |body: &str, content_type: &str| {
        let request = Request::post("/registry/credentials")
            .header("authorization", format!("Bearer {token}"));
        broker
            .send(
                request
                    .header("content-type", content_type)
                    .body(Body::from(body.to_owned()))
                    .unwrap(),
            )
            .await
    };
    let right =
        r#"{ "project": "my-app", "registry": "prod", "actions": ["pull"], "lifetime": 900 }"#;
    let answer = send(right, "application/json; charset=utf-8").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["actions"], json!(["pull"]));
    let huge = format!(r#"{{ "project": "{}" }}"#, "a".repeat(5000));
    for (body, content_type, status, problem) in [
        (right, "text/plain", 415, "unsupported-media-type"),
        (huge.as_str(), "application/json", 413, "payload-too-large"),
        ("{", "application/json", 400, "invalid-request"),
        ("[]", "application/json", 400, "invalid-request"),
        (
            r#"{ "project": "my-app", "project": "other" }"#,
            "application/json",
            400,
            "invalid-request",
        ),
        (r#"{ "project": "my-app", "role": "admin" }"#, "application/json", 400, "invalid-request"),
        (r#"{ "project": "my-app", "lifetime": 59 }"#, "application/json", 400, "invalid-request"),
        (r#"{ "project": "my-app", "actions": [] }"#, "application/json", 400, "invalid-request"),
        (
            r#"{ "project": "my-app", "actions": ["delete"] }"#,
            "application/json",
            400,
            "invalid-request",
        ),
    ] {
        let answer = send(body, content_type).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_deref()),
            (status, Some(problem)),
            "{body}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn a_caller_without_a_good_token_learns_nothing_else() {
    let aws = Stub::start().await;
    let broker = broker(&aws, "").await;
    let good = broker.token_for("my-app");
    let (head, _) = good.rsplit_once('.').unwrap();
    for (header, problem) in [
        (None, "missing-token"),
        (Some("Bearer".to_owned()), "missing-token"),
        (Some(format!("Basic {good}")), "missing-token"),
        (Some(format!("Bearer {good},{good}")), "missing-token"),
        (Some(format!("Bearer {good} {good}")), "missing-token"),
        (Some("Bearer nonsense".to_owned()), "invalid-token"),
        (Some(format!("Bearer {head}.AAAA")), "invalid-token"),
        (Some(format!("Bearer {head}.")), "invalid-token"),
    ] {
        // A bad request and one for a project that does not exist look the same as a correct one.
        for query in ["project=my-app", "project=*", "", "project=nobodys"] {
            let mut request = Request::get(format!("/api/v1/registry/credentials?{query}"));
            if let Some(header) = &header {
                request = request.header("authorization", header);
            }
            let answer = broker.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(
                (answer.status.as_u16(), answer.problem().as_deref()),
                (401, Some(problem)),
                "{header:?}"
            );
            assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
        }
    }
    let twice = Request::get("/api/v1/registry/credentials?project=my-app")
        .header("authorization", format!("Bearer {good}"))
        .header("authorization", format!("Bearer {good}"));
    assert_eq!(
        broker.send(twice.body(Body::empty()).unwrap()).await.problem().as_deref(),
        Some("missing-token")
    );
    assert_eq!(
        broker
            .get(&format!("/api/v1/registry/credentials?project=my-app&access_token={good}"), None)
            .await
            .status,
        401
    );
    assert_eq!(aws.requests().len(), 0);
}

#[tokio::test]
async fn forbidden_and_unknown_look_the_same() {
    let aws = Stub::start().await;
    let broker = broker(&aws, "").await;
    let token = broker.token_for("my-app");
    let mut bodies = Vec::new();
    for query in [
        "project=other",
        "project=my-app-2",
        "project=my-app&registry=unknown",
        "image=registry.example.com/nobodys:1",
        "image=123456789012.dkr.ecr.us-east-1.amazonaws.com/rise/other:1",
        "image=123456789012.dkr.ecr.us-east-1.amazonaws.com/prod/secret",
    ] {
        let answer = broker.credentials(&token, query).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_deref()),
            (403, Some("access-denied")),
            "{query}"
        );
        let mut json = answer.json();
        json.as_object_mut().unwrap().remove("request_id");
        bodies.push(json);
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{bodies:?}");
    assert!(broker.audit().iter().all(|record| record["event"] == "authz.denied"));
    assert_eq!((broker.audit().len(), aws.requests().len()), (6, 0));
}

#[tokio::test]
async fn what_goes_beyond_the_rules_is_denied_and_never_narrowed() {
    let aws = Stub::start().await;
    let broker = broker(&aws, "").await;
    let reader = broker.token(&json!({ "role": "reader" }));
    let pull = broker.credentials(&reader, "project=any&actions=pull").await;
    assert_eq!(pull.json()["actions"], json!(["pull"]), "{}", pull.text);
    for query in ["project=any&actions=push", "project=any&actions=pull,push"] {
        assert_eq!(
            broker.credentials(&reader, query).await.problem().as_deref(),
            Some("access-denied"),
            "{query}"
        );
    }
    let all = broker.credentials(&reader, "project=any").await;
    assert_eq!(all.json()["actions"], json!(["pull"]), "{}", all.text);
}

const ECR: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com";

#[tokio::test]
async fn an_image_finds_its_registry_and_project() {
    let aws = Stub::start().await;
    let broker = broker(&aws, "").await;
    let token = broker.token_for("my-app");
    for image in [
        "rise/my-app:1.2",
        "rise/my-app",
        "rise/my-app@sha256:0000000000000000000000000000000000000000000000000000000000000000",
    ] {
        let answer = broker
            .credentials(&token, &format!("image={}", encoded(&format!("{ECR}/{image}"))))
            .await;
        assert_eq!(answer.status, 200, "{image}: {}", answer.text);
        assert_eq!(
            (answer.json()["registry"].as_str(), answer.json()["project"].as_str()),
            (Some("prod"), Some("my-app"))
        );
        assert_eq!(answer.json()["image"], format!("{ECR}/rise/my-app"));
    }
    for image in
        ["rise/my-app/worker:1", "rise/my-app-2:1", "my-app:1", "prod/my-app", "rise/rise/my-app"]
    {
        let answer = broker.credentials(&token, &format!("image={ECR}/{image}")).await;
        assert_eq!(answer.problem().as_deref(), Some("access-denied"), "{image}: {}", answer.text);
    }
}

#[tokio::test]
async fn with_child_repositories_what_lies_below_a_project_is_its_own() {
    let aws = Stub::start().await;
    let broker = broker(&aws, "child_repositories = true").await;
    let token = broker.token_for("my-app");
    let answer = broker.credentials(&token, &format!("image={ECR}/rise/my-app/worker:1")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["project"].as_str()),
        (200, Some("my-app")),
        "{}",
        answer.text
    );
    let answer = broker.credentials(&token, &format!("image={ECR}/rise/my-app-2/worker:1")).await;
    assert_eq!(answer.problem().as_deref(), Some("access-denied"));
}

#[tokio::test]
async fn a_registry_is_named_by_the_host_that_its_callers_reach() {
    for (settings, host) in [
        ("dual_stack = true", "123456789012.dkr-ecr.us-east-1.on.aws"),
        ("fips = true", "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com"),
        ("dual_stack = true\nfips = true", "123456789012.dkr-ecr-fips.us-east-1.on.aws"),
    ] {
        let aws = Stub::start().await;
        let broker = broker(&aws, settings).await;
        let token = broker.token_for("my-app");
        let answer = broker.credentials(&token, &format!("image={host}/rise/my-app:1")).await;
        assert_eq!(answer.status, 200, "{host}: {}", answer.text);
        assert_eq!(answer.json()["credentials"]["registry_url"], host, "{}", answer.text);
        // This registry has one host.
        let other = broker.credentials(&token, &format!("image={ECR}/rise/my-app:1")).await;
        assert_eq!(other.problem().as_deref(), Some("access-denied"), "{host}");
    }
}

#[tokio::test]
async fn several_registries_want_one_named() {
    let both = |other| {
        let other = oci("dev.example.com").named(other);
        TestBroker::with_registries(format!("{}{other}", oci("prod.example.com")))
    };
    let broker = both("dev").start().await;
    let token = broker.token_for("my-app");
    // The rules reach one of them.
    let answer = broker.credentials(&token, "project=my-app").await;
    assert_eq!((answer.status.as_u16(), answer.json()["registry"].as_str()), (200, Some("prod")));
    // This rule reaches both.
    let third = "[[rules]]\nname = \"both\"\nissuer = \"local\"\nclaims = { both = \"yes\" }\n\
                 projects = [\"my-app\"]\nregistries = [\"prod\", \"dev\"]\nallow = [\"pull\"]\n";
    let answer = {
        let registries =
            format!("{third}{}{}", oci("prod.example.com"), oci("dev.example.com").named("dev"));
        let broker = TestBroker::with_registries(registries).start().await;
        let token = broker.token(&json!({ "both": "yes" }));
        broker.credentials(&token, "project=my-app").await
    };
    assert_eq!(
        (answer.status.as_u16(), answer.problem().as_deref()),
        (400, Some("invalid-request"))
    );
    assert!(answer.text.contains("name one as `registry`"), "{}", answer.text);
    assert_eq!(broker.credentials(&token, "project=my-app&registry=prod").await.status, 200);
    // The rules allow `prod` only.
    assert_eq!(broker.credentials(&token, "project=my-app&registry=dev").await.status, 403);
    let listed = broker.get("/api/v1/registries", Some(&token)).await;
    assert_eq!(
        listed.json(),
        json!({ "registries": [{ "registry": "prod", "registry_url": "prod.example.com", "image": "\
             prod.example.com/{project}", "project_depth": 1, "type": "oci", "scope": "none",
             "creates_repositories": null }] })
    );
    assert_eq!(
        broker
            .get("/api/v1/registries", Some(&broker.token(&json!({ "team": "none" }))))
            .await
            .json(),
        json!({ "registries": [] })
    );
    let one_is_default = both("default").start().await;
    let answer =
        one_is_default.credentials(&one_is_default.token_for("my-app"), "project=my-app").await;
    assert_eq!(answer.status, 403, "`default` is meant, and no rule reaches it: {}", answer.text);
}

/// A caller who misspells a member learns which one it is, and nothing of a value is repeated.
#[tokio::test]
async fn a_wrong_body_is_told_with_the_member() {
    let broker = TestBroker::with_registries(oci("r.example.com")).start().await;
    let token = broker.token_for("my-app");
    let credentials = "/api/v1/registry/credentials";
    for (path, body, expected) in [
        (
            credentials,
            r#"{"proyect":"my-app"}"#,
            "unknown member `proyect`. It may have `project`,",
        ),
        (credentials, r#"{"\u001b[2J":"canary"}"#, "unknown member. It may have"),
        (credentials, r#"{"project":"my-app","lifetime":"canary"}"#, "`lifetime` must be a whole"),
        (credentials, r#"{"project":["canary"]}"#, "`project` must be a text."),
        (credentials, r#"{"project":"a","actions":7}"#, "`actions` must be a text or a list"),
        (credentials, r#"{"project":1,"lifetime":"1h"}"#, "`lifetime`: a whole number of seconds"),
        (credentials, r#"{"project":"a","project":"canary"}"#, "a member twice"),
        (credentials, "[]", "not a JSON object (line 1, column 0)"),
        (credentials, r#"{"project":"canary""#, "(line 1, column 19). Its members may be"),
        (credentials, r#"{"image":"r.example.com/My-App:1"}"#, "upper-case"),
        ("/api/v1/explain", r#"{"projects":"canary"}"#, "unknown member `projects`"),
        ("/api/v1/explain", r#"{"project":7}"#, "`project` must be a text."),
    ] {
        let request = Request::post(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        let answer = broker.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.status, 400, "{body}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(expected), "{body}: {detail}");
        assert!(!detail.contains("canary") && !detail.contains('\u{1b}'), "{body}: {detail}");
    }
    let query = format!("{credentials}?project=my-app&lifetimes=60");
    let answer = broker.get(&query, Some(&token)).await;
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("unknown parameter `lifetimes`"), "{detail}");
}

#[tokio::test]
async fn every_answer_says_what_it_is_and_is_not_stored() {
    let broker = TestBroker::with_registries(oci("r.example.com")).start().await;
    let token = broker.token_for("my-app");
    let long = format!("/api/v1/registry/credentials?project={}", "a".repeat(3000));
    for (path, status) in [
        ("/api/v1/registry/credentials?project=my-app", 200),
        ("/api/v1/registry/credentials", 400),
        ("/api/v1/registries", 200),
        ("/nothing/here", 404),
        (long.as_str(), 414),
    ] {
        let answer = broker.get(path, Some(&token)).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("x-request-id").map(str::len), Some(26), "{path}");
        if status >= 400 {
            assert_eq!(
                answer.json()["request_id"].as_str(),
                answer.header("x-request-id"),
                "{path}"
            );
            assert_eq!(answer.json()["status"], status, "{path}");
        }
    }
    let wrong_method =
        broker.send(Request::delete("/api/v1/registries").body(Body::empty()).unwrap()).await;
    assert_eq!(
        (wrong_method.status.as_u16(), wrong_method.header("allow")),
        (405, Some("GET,HEAD"))
    );
    assert_eq!(broker.admin("/healthz").await.status, 200);
    assert_eq!(broker.admin("/readyz").await.json()["status"], "ready");
    assert_eq!(
        broker.admin("/api/v1/providers").await.json()["providers"].as_array().unwrap().len(),
        2
    );
    assert_eq!(broker.admin("/api/v1/registry/credentials?project=my-app").await.status, 404);
    for path in
        ["/registry/credentials?project=my-app", "/api/v1/registry/credentials?project=my-app"]
    {
        let head = Request::head(path).header("authorization", format!("Bearer {token}"));
        let head = broker.send(head.body(Body::empty()).unwrap()).await;
        assert_eq!((head.status.as_u16(), head.header("allow")), (405, Some("GET,POST")));
        for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
            let other = Request::builder().method(method).uri(path);
            let other = other.header("authorization", format!("Bearer {token}"));
            let answer = broker.send(other.body(Body::empty()).unwrap()).await;
            let found = (answer.status.as_u16(), answer.header("allow"));
            assert_eq!(found, (405, Some("GET,POST")), "{method}");
            assert_eq!(answer.json()["type"], "urn:rise:problem:method-not-allowed");
        }
    }
    assert_eq!(
        broker.audit().len(),
        1,
        "the outcome of the one request that was granted: its provider reaches nothing outside"
    );
    broker.process.drain();
    assert_eq!(broker.admin("/readyz").await.status, 503);
}
