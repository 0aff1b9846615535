//! Table A2 of the threat model: attacks with a valid token. T23, a provider that asks for more, is
//! in `hostile_providers.rs`; T27, a policy that is too long, is a unit test of the ceiling.

use axum::body::Body;
use axum::http::Request;
use rise_broker_tests::registry::ecr;
use rise_broker_tests::{AUTH, Settings, Stub, TestBroker, lines};
use serde_json::json;

async fn explain(
    broker: &TestBroker,
    token: Option<&str>,
    body: &str,
) -> rise_broker_tests::Response {
    let request = Request::post("/api/v1/explain").header("content-type", "application/json");
    let request = token
        .into_iter()
        .fold(request, |request, token| request.header("authorization", format!("Bearer {token}")));
    broker.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

/// Checks that the next valid request is served, and that AWS heard of it alone.
async fn still_serves(broker: &TestBroker, aws: &Stub) {
    let before = aws.count("AssumeRole");
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
    assert_eq!(
        (answer.status.as_u16(), aws.count("AssumeRole")),
        (200, before + 1),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn t18_nothing_tells_a_stranger_whether_a_project_exists() {
    let aws = Stub::start().await;
    let broker = TestBroker::with_registries(ecr(aws.endpoint())).start().await;
    // `alpha` exists: its owner has just pushed to it.
    assert_eq!(broker.credentials(&broker.token_for("alpha"), "project=alpha").await.status, 200);
    let stranger = broker.token(&json!({ "repository": "mallory/x" }));
    let without_id = |mut json: serde_json::Value| {
        json.as_object_mut().unwrap().remove("request_id").unwrap();
        json.to_string()
    };
    let mut seen = Vec::new();
    for project in ["alpha", "no-such-project"] {
        let asked = broker.credentials(&stranger, &format!("project={project}")).await;
        assert_eq!(asked.problem().as_deref(), Some("access-denied"));
        let explained =
            explain(&broker, Some(&stranger), &json!({ "project": project }).to_string()).await;
        assert_eq!(explained.status, 200, "{}", explained.text);
        let (json, listed) =
            (explained.json(), broker.get("/api/v1/registries", Some(&stranger)).await.text);
        assert_eq!(json["grants"], json!([]));
        assert_eq!(json["claims"]["repository"], "mallory/x");
        seen.push((without_id(asked.json()), without_id(json), listed));
        for body in [json!({}), json!({ "project": project })] {
            let nobody = explain(&broker, None, &body.to_string()).await;
            assert_eq!(
                (nobody.status.as_u16(), nobody.problem().as_deref()),
                (401, Some("missing-token"))
            );
        }
    }
    assert_eq!(seen[0], seen[1]);
    still_serves(&broker, &aws).await;
}

#[tokio::test]
async fn a_caller_is_told_what_it_has_and_not_why_it_has_no_more() {
    let aws = Stub::start().await;
    let more = r#"
[[rules]]
name = "secret-rule-name"
issuer = "local"
claims = { repository = "acme/{project}", role = "release-secret" }
projects = [{ prefix = "hidden-" }]
registries = ["prod"]
allow = ["push"]
"#;
    let broker =
        TestBroker::with_registries(format!("{more}{}", ecr(aws.endpoint()))).start().await;
    let grants = async |token: &str, body: &str| {
        let answer = explain(&broker, Some(token), body).await;
        assert_eq!(answer.header("x-request-id"), answer.json()["request_id"].as_str());
        for hidden in ["secret-rule-name", "release-secret", "hidden-"] {
            assert!(!answer.text.contains(hidden), "{}", answer.text);
        }
        answer.json()["grants"].clone()
    };
    let owner = broker.token_for("my-app");
    let both = json!([{ "registry": "prod", "projects": "my-app", "actions": ["pull", "push"] }]);
    assert_eq!(grants(&owner, "{}").await, both);
    assert_eq!(grants(&owner, r#"{"project":"my-app"}"#).await, both);
    assert_eq!(grants(&owner, r#"{"project":"other"}"#).await, json!([]));
    let reader = broker.token(&json!({ "role": "reader" }));
    assert_eq!(
        grants(&reader, "{}").await,
        json!([{ "registry": "prod", "projects": "*", "actions": ["pull"] }])
    );
    assert_eq!(
        grants(&reader, r#"{"project":"x"}"#).await,
        json!([{ "registry": "prod", "projects": "x", "actions": ["pull"] }])
    );
    for (body, problem) in [
        ("", "invalid-request"),
        ("[]", "invalid-request"),
        (r#"{"project":"*"}"#, "invalid-request"),
        (r#"{"image":"x"}"#, "invalid-request"),
    ] {
        assert_eq!(
            explain(&broker, Some(&owner), body).await.problem().as_deref(),
            Some(problem),
            "{body}"
        );
    }
    assert_eq!(broker.get("/api/v1/explain", Some(&owner)).await.status, 405);
    assert_eq!((aws.requests().len(), broker.audit().len()), (0, 0));
}

#[tokio::test]
async fn t19_actions_are_a_closed_list_and_never_narrowed() {
    let aws = Stub::start().await;
    let broker = TestBroker::with_registries(ecr(aws.endpoint())).start().await;
    let reader = broker.token(&json!({ "role": "reader" }));
    for (actions, status, problem) in [
        ("push", 403, "access-denied"),
        ("pull,push", 403, "access-denied"),
        ("push,pull,*", 400, "invalid-request"),
        ("*", 400, "invalid-request"),
        ("admin", 400, "invalid-request"),
        ("PUSH", 400, "invalid-request"),
        ("", 400, "invalid-request"),
    ] {
        let answer =
            broker.credentials(&reader, &format!("project=my-app&actions={actions}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_deref()),
            (status, Some(problem)),
            "{actions}"
        );
    }
    assert_eq!(aws.requests().len(), 0);
    still_serves(&broker, &aws).await;
}

async fn problems(text: &str) -> String {
    TestBroker::with_settings(Settings::new(text))
        .try_start()
        .await
        .err()
        .map(|problems| lines(&problems))
        .unwrap_or_default()
}

#[tokio::test]
async fn t20_a_rule_that_leaves_something_out_is_an_error() {
    let aws = Stub::start().await;
    let registry = ecr(aws.endpoint());
    let rule = "name = \"x\"\nissuer = \"local\"\nclaims = { sub = \"s\" }\nprojects = [\"p\"]\n\
         registries = [\"prod\"]\nallow = [\"pull\"]";
    for key in ["issuer", "claims", "projects", "registries", "allow"] {
        let kept: Vec<&str> = rule.lines().filter(|line| !line.starts_with(key)).collect();
        let found = problems(&format!("{AUTH}\n[[rules]]\n{}\n{registry}", kept.join("\n"))).await;
        assert!(found.contains(key), "{key}: {found}");
    }
    for (line, expected) in [
        ("claims = { sub = { prefix = \"acme\" } }", "must end in"),
        ("claims = { aud = \"rise-registry\" }", "matches every token"),
        ("claims = { sub = { glob = \"*\" } }", "matches every token"),
        ("projects = [\"team-*\"]", "prefix"),
        ("allow = []", "allows nothing"),
        ("issuer = \"github\"", "unknown issuer"),
        ("mode = \"off\"", "mode"),
    ] {
        let key = line.split(' ').next().unwrap();
        let kept: Vec<&str> =
            rule.lines().filter(|line| !line.starts_with(key)).chain([line]).collect();
        let found = problems(&format!("{AUTH}\n[[rules]]\n{}\n{registry}", kept.join("\n"))).await;
        assert!(found.contains(expected), "{line}: {found}");
    }
}

#[tokio::test]
async fn t20_a_rule_on_trial_grants_nothing_and_is_recorded() {
    let aws = Stub::start().await;
    let trial = "[[rules]]\nname = \"trial\"\nissuer = \"local\"\nclaims = { team = \"new\" }\n\
         projects = [\"*\"]\nregistries = [\"prod\"]\nallow = [\"pull\", \"push\"]\n\
         mode = \"audit\"";
    let broker =
        TestBroker::with_registries(format!("{trial}\n{}", ecr(aws.endpoint()))).start().await;
    let new = broker.token(&json!({ "team": "new" }));
    let denied = broker.credentials(&new, "project=my-app").await;
    assert_eq!(denied.problem().as_deref(), Some("access-denied"));
    assert!(!denied.text.contains("trial"), "{}", denied.text);
    assert_eq!(
        broker.get("/api/v1/registries", Some(&new)).await.json(),
        json!({ "registries": [] })
    );
    assert_eq!(explain(&broker, Some(&new), "{}").await.json()["grants"], json!([]));
    let record = &broker.audit()[0];
    assert_eq!(
        (&record["event"], &record["trial_rules"]),
        (&json!("authz.denied"), &json!(["trial"]))
    );
    // It takes no right away either.
    let both = broker.token(&json!({ "team": "new", "role": "reader" }));
    let answer = broker.credentials(&both, "project=my-app").await;
    assert_eq!(answer.json()["actions"], json!(["pull"]), "{}", answer.text);
    assert_eq!(broker.credentials(&both, "project=my-app&actions=push").await.status, 403);
    assert!(broker.audit().iter().any(|record| record["event"] == "issue.completed"
        && record["trial_rules"] == json!(["trial"])
        && record["rules"] == json!(["readers"])));
    still_serves(&broker, &aws).await;
}

#[tokio::test]
async fn t20_an_issuer_on_trial_grants_nothing() {
    let aws = Stub::start().await;
    let auth = AUTH.replace("name = \"local\"\n", "name = \"local\"\nmode = \"audit\"\n");
    let broker =
        TestBroker::with_settings(Settings::new(format!("{auth}\n{}", ecr(aws.endpoint()))))
            .start()
            .await;
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
    assert_eq!(answer.problem().as_deref(), Some("access-denied"));
    assert_eq!(broker.audit()[0]["trial_rules"], json!(["ci"]));
    assert_eq!(aws.requests().len(), 0);
}

#[tokio::test]
async fn t20_no_rule_exceeds_the_central_policy() {
    let aws = Stub::start().await;
    let with = |policy: &str| format!("{AUTH}\n[limits.policy]\n{policy}\n{}", ecr(aws.endpoint()));
    for (policy, expected) in [
        ("allow = { prod = [\"pull\"] }", "rule `ci` allow"),
        ("require_claims = { local = [\"repository_id\"] }", "rule `readers` claims"),
        ("deny_push_projects = [\"*\"]", "rule `ci` projects"),
        ("allow = { prod = [\"create\", \"delete\"] }", "rule `ci` allow"),
        ("deny_push = true", "deny_push"),
        ("allow = { nowhere = [] }", "limits.policy.allow.nowhere"),
    ] {
        let found = problems(&with(policy)).await;
        assert!(found.contains(expected), "{policy}: {found}");
    }
    let broker = TestBroker::with_settings(Settings::new(with("deny_push_projects = [\"base\"]")))
        .start()
        .await;
    let base = broker.token_for("base");
    assert_eq!(broker.credentials(&base, "project=base&actions=push").await.status, 403);
    assert_eq!(broker.credentials(&base, "project=base").await.json()["actions"], json!(["pull"]));
    still_serves(&broker, &aws).await;
}

#[tokio::test]
async fn t21_t22_a_project_is_a_name_and_nothing_else() {
    let aws = Stub::start().await;
    let broker = TestBroker::with_registries(ecr(aws.endpoint())).start().await;
    let token = broker.token(&json!({ "role": "reader" }));
    let long = "a".repeat(2000);
    for project in [
        "*",
        "a?",
        "${aws:username}",
        "\"",
        "\\u0022",
        "a,b",
        "a:b",
        "../x",
        "my-app/../x",
        "my-app%2f..%2fx",
        "my-app/",
        "a//b",
        "My-App",
        "my-\u{430}pp",
        "my-app\0",
        &long,
    ] {
        let encoded: String = url::form_urlencoded::byte_serialize(project.as_bytes()).collect();
        for query in
            [format!("project={encoded}"), format!("project={}", encoded.replace('%', "%25"))]
        {
            let answer = broker.credentials(&token, &query).await;
            let found = (answer.status.as_u16(), answer.problem());
            let too_long = (414, Some("uri-too-long".to_owned()));
            assert!(
                found == (400, Some("invalid-request".to_owned()))
                    || (project.len() > 1000 && found == too_long),
                "{project:?} {found:?}"
            );
        }
        let body = json!({ "project": project }).to_string();
        assert_eq!(explain(&broker, Some(&token), &body).await.status, 400, "{project:?}");
    }
    assert_eq!(aws.requests().len(), 0);
    still_serves(&broker, &aws).await;
}

#[tokio::test]
async fn t24_two_registries_never_share_a_repository() {
    let aws = Stub::start().await;
    let ecr = ecr(aws.endpoint());
    let twin = ecr.clone().named("twin");
    let found = problems(&format!("{AUTH}{ecr}{twin}")).await;
    assert!(found.contains("twin"), "{found}");
    // With children, `a` would own `a/b`, which belongs to another registry.
    let parent = ecr.clone().without("repo_prefix").with("child_repositories", true);
    let found = problems(&format!("{AUTH}{parent}{}", ecr.named("other"))).await;
    assert!(!found.is_empty());
}

#[tokio::test]
async fn t25_a_push_reaches_its_own_repository_only() {
    let aws = Stub::start().await;
    let broker = TestBroker::with_registries(ecr(aws.endpoint())).start().await;
    still_serves(&broker, &aws).await;
    let policy = aws.recorded("AssumeRole")[0].parameters["Policy"].clone();
    let policy: serde_json::Value = serde_json::from_str(policy.as_str().unwrap()).unwrap();
    for statement in policy["Statement"].as_array().unwrap() {
        let resource = statement["Resource"].to_string();
        let own = resource.contains("arn:aws:ecr:us-east-1:123456789012:repository/rise/my-app\"");
        let login = statement["Action"].to_string().contains("GetAuthorizationToken")
            && resource.contains("\"*\"");
        assert!(own ^ login, "{statement}");
        assert!(!resource.contains("rise/my-app*") && !resource.contains("rise/*"), "{statement}");
    }
}

#[tokio::test]
async fn t26_no_credential_without_a_policy() {
    let aws = Stub::start().await;
    let wide = ecr(aws.endpoint()).without("push_role_arn");
    let found = problems(&format!("{AUTH}{wide}")).await;
    assert!(found.contains("accept_scope"), "{found}");
    assert_eq!(aws.requests().len(), 0);
}
