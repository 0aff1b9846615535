//! Repositories that callers look at, create and retire over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use jiff::SignedDuration;
use rise_broker::domain::Clock;
use rise_broker_tests::registry::{RegistryTable, ecr, on_aws};
use rise_broker_tests::{
    AUTH, Ministack, Moto, Response, Settings, TestBroker, TwoRoles, Wire, lines, logs,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::ecr_repositories::{
    MANAGES, account, changes, found, lifecycle, registry, tag, tags, written,
};

/// A rule for each right alone, and rules on trial for both.
pub(super) const RULES: &str = r#"
[[rules]]
name = "creators"
issuer = "local"
claims = { creates = "{project}" }
projects = ["*"]
registries = ["prod"]
allow = ["create"]
[[rules]]
name = "deleters"
issuer = "local"
claims = { deletes = "{project}" }
projects = ["*"]
registries = ["prod"]
allow = ["delete"]
[[rules]]
name = "tried"
issuer = "local"
claims = { tries = "{project}" }
projects = ["*"]
registries = ["prod"]
allow = ["pull", "create", "delete"]
mode = "audit"
"#;

pub(super) const ON_REQUEST: &str = "[registries.prod.repositories]\ncreate = \"on-request\"\n";

/// The tags of a repository that the broker retired.
const ORPHAN: [(&str, &str); 3] = [
    ("rise:owner", "rise-broker"),
    ("rise:project", "my-app"),
    ("rise:orphaned-at", "2026-01-01T00:00:00Z"),
];

/// An account whose controller may do everything that is done with a repository.
pub(super) async fn managed_account() -> (Ministack, TwoRoles) {
    let (ministack, roles) = account().await;
    let all: Vec<&str> = MANAGES.into_iter().chain(["ecr:DeleteRepository"]).collect();
    ministack.let_manage("rise/", &all).await;
    (ministack, roles)
}

fn settings(registry: impl std::fmt::Display, rules: &str) -> Settings {
    Settings::new(format!("{AUTH}{rules}{registry}"))
}

async fn serve(table: RegistryTable) -> TestBroker {
    TestBroker::with_settings(settings(table, RULES)).start().await
}

async fn broker(ministack: &Ministack, roles: &TwoRoles, repositories: &str) -> TestBroker {
    serve(registry(ministack, roles, repositories)).await
}

/// Sends `METHOD /api/v1/repositories/{path}`.
pub(super) async fn ask(broker: &TestBroker, method: &str, token: &str, path: &str) -> Response {
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/v1/repositories/{path}"))
        .header("authorization", format!("Bearer {token}"));
    broker.send(request.body(Body::empty()).unwrap()).await
}

pub(super) fn token(broker: &TestBroker, claims: &[&str]) -> String {
    let claims = claims.iter().map(|claim| ((*claim).to_owned(), json!("my-app")));
    broker.token(&Value::Object(claims.collect()))
}

#[track_caller]
pub(super) fn is(answer: &Response, ownership: &str) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let json = answer.json();
    assert_eq!(json["ownership"], ownership, "{}", answer.text);
    json
}

#[track_caller]
pub(super) fn conflicts(answer: &Response, part: &str) {
    assert_eq!(answer.status, 409, "{}", answer.text);
    assert_eq!(answer.problem().as_deref(), Some("repository-conflict"));
    assert!(answer.text.contains(part), "{part}: {}", answer.text);
}

#[tokio::test]
async fn a_rule_about_repositories_that_nobody_manages_is_told() {
    let rule = |allow: &str| {
        format!(
            "[[rules]]\nname = \"janitors\"\nissuer = \"local\"\n\
             claims = {{ role = \"janitor\" }}\nprojects = [\"my-app\"]\n\
             registries = [\"prod\"]\nallow = {allow}"
        )
    };
    let managed = "[registries.prod.repositories]";
    for (allow, table, is_told) in [
        ("[\"delete\"]", "", true),
        ("[\"pull\", \"create\"]", "", true),
        ("[\"pull\"]", "", false),
        ("[\"delete\"]", managed, false),
    ] {
        let registry = format!("\n{}", ecr("http://127.0.0.1:9").lines(table));
        let broker = TestBroker::with_settings(settings(registry, &rule(allow))).start().await;
        let warnings = lines(&broker.generation.warnings);
        let told = warnings.contains("rule `janitors` allows")
            && warnings.contains("add [registries.prod.repositories]");
        assert_eq!(told, is_told, "{allow} {table}: {warnings}");
    }
}

#[tokio::test]
async fn a_repository_is_created_looked_at_retired_and_taken_over() {
    let (ministack, roles) = managed_account().await;
    let broker = broker(&ministack, &roles, &format!("{ON_REQUEST}keep_tagged = 5\n")).await;
    let token = token(&broker, &["creates", "deletes"]);

    let absent = is(&ask(&broker, "GET", &token, "my-app").await, "absent");
    assert_eq!((&absent["orphaned_at"], &absent["deleted_after"]), (&Value::Null, &Value::Null));
    assert_eq!(written(&ministack).await, Vec::<String>::new());

    let made = is(&ask(&broker, "PUT", &token, "my-app?registry=prod").await, "managed");
    assert_eq!((&made["project"], &made["registry"]), (&json!("my-app"), &json!("prod")));
    assert_eq!(made["repository"], "rise/my-app");
    assert!(made["image"].as_str().unwrap().ends_with("/rise/my-app"), "{made}");
    assert_eq!(made["differs"], json!([]));
    let policy = lifecycle(&ministack, "rise/my-app").await;
    assert_eq!(policy["rules"][0]["selection"]["countNumber"], 5);
    let before = written(&ministack).await.len();
    is(&ask(&broker, "PUT", &token, "my-app").await, "managed");
    is(&ask(&broker, "GET", &token, "my-app").await, "managed");
    assert_eq!(written(&ministack).await.len(), before, "nothing is left to do");

    let left = is(&ask(&broker, "DELETE", &token, "my-app").await, "orphaned");
    let orphaned_at = left["orphaned_at"].as_str().unwrap().to_owned();
    assert!(orphaned_at.parse::<jiff::Timestamp>().is_ok(), "{orphaned_at}");
    assert_eq!(left["deleted_after"], Value::Null, "without `auto_remove` it is kept");
    assert_eq!(tags(&ministack, "rise/my-app").await["rise:orphaned-at"], orphaned_at);
    for method in ["DELETE", "GET"] {
        let again = is(&ask(&broker, method, &token, "my-app").await, "orphaned");
        assert_eq!(again["orphaned_at"], orphaned_at.as_str(), "{method}");
    }

    for path in ["my-app", "my-app?adopt=false"] {
        conflicts(&ask(&broker, "PUT", &token, path).await, "adopt=true");
    }
    is(&ask(&broker, "PUT", &token, "my-app?adopt=true").await, "managed");
    assert!(!tags(&ministack, "rise/my-app").await.contains_key("rise:orphaned-at"));
    is(&ask(&broker, "PUT", &token, "my-app?adopt=true").await, "managed");

    let done = |name: &str| {
        ["repository.intent", "repository.changed"].map(|event| (event.to_owned(), name.to_owned()))
    };
    let expected = ["create", "lifecycle", "orphan", "adopt"].map(done).concat();
    assert_eq!(changes(&broker), expected);
    let records = broker.audit();
    let created = records.iter().find(|record| record["repository"]["change"] == "create").unwrap();
    assert_eq!(created["operation"], "create");
    assert_eq!(
        (&created["actions"], &created["rules"]),
        (&json!(["create"]), &json!(["creators"]))
    );
    let failed: Vec<&Value> =
        records.iter().filter(|record| record["event"] == "repository.failed").collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(failed.iter().all(|it| it["reason"] == "repository-conflict"), "{failed:?}");
}

/// Each method with each right alone. What is unknown is answered as what is forbidden.
#[tokio::test]
async fn no_right_implies_another_one() {
    let (ministack, roles) = managed_account().await;
    let broker = broker(&ministack, &roles, ON_REQUEST).await;
    let with = |claims: Value| broker.token(&claims);
    for (who, claims, may) in [
        ("a pusher", json!({ "repository": "acme/my-app" }), &["GET"][..]),
        ("a reader", json!({ "role": "reader" }), &["GET"]),
        ("a creator", json!({ "creates": "my-app" }), &["GET", "PUT"]),
        ("a deleter", json!({ "deletes": "my-app" }), &["GET", "DELETE"]),
        ("a creator of another project", json!({ "creates": "my-app-2" }), &[]),
        ("a creator on trial", json!({ "tries": "my-app" }), &[]),
        ("nobody", json!({}), &[]),
    ] {
        let token = with(claims);
        for method in ["GET", "PUT", "DELETE"] {
            let answer = ask(&broker, method, &token, "my-app").await;
            let expected = if may.contains(&method) { 200 } else { 403 };
            assert_eq!(answer.status, expected, "{who} {method}: {}", answer.text);
            // The next one finds the same.
            let root = ministack.root();
            let _ = root.ecr().delete_repository().repository_name("rise/my-app").send().await;
        }
    }
    // Neither gets a credential for anything.
    for claim in ["creates", "deletes"] {
        let token = with(json!({ claim: "my-app" }));
        for query in
            ["project=my-app", "project=my-app&actions=pull", "project=my-app&actions=push"]
        {
            let answer = broker.credentials(&token, query).await;
            assert_eq!(answer.problem().as_deref(), Some("access-denied"), "{claim} {query}");
        }
        let grants = &broker.explain(&token).await["grants"];
        let right = claim.trim_end_matches('s');
        assert_eq!(grants[0]["actions"], json!([right]), "{grants}");
    }
    let creator = with(json!({ "creates": "my-app" }));
    let unknown = ask(&broker, "PUT", &creator, "my-app?registry=nowhere").await;
    let forbidden = ask(&broker, "PUT", &creator, "other").await;
    for answer in [&unknown, &forbidden] {
        assert_eq!(answer.status, 403);
        assert_eq!(answer.json()["detail"], unknown.json()["detail"]);
    }
    let denied: Vec<Value> =
        broker.audit().into_iter().filter(|record| record["event"] == "authz.denied").collect();
    let last = denied.last().unwrap();
    assert_eq!((&last["operation"], &last["actions"]), (&json!("create"), &json!(["create"])));
    assert_eq!((&last["project"], &last["reason"]), (&json!("other"), &json!("access-denied")));
    let tried = denied.iter().filter(|it| it["trial_rules"] == json!(["tried"])).count();
    assert_eq!(tried, 3);
    let log = logs::text();
    assert!(log.contains("creators: claim `creates` is `{project}`: no"), "the log says why");
}

#[tokio::test]
async fn a_request_without_a_valid_token_is_not_looked_at() {
    let broker = serve(ecr("http://127.0.0.1:9").lines(ON_REQUEST)).await;
    for method in ["GET", "PUT", "DELETE"] {
        for path in ["my-app", "A", "my-app?x=y", "%ff"] {
            let answer = ask(&broker, method, "x", path).await;
            assert_eq!(answer.status, 401, "{method} {path}");
        }
    }
    for method in ["HEAD", "POST", "PATCH"] {
        let answer = ask(&broker, method, "x", "my-app").await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("GET,PUT,DELETE"), "{method}");
    }
}

#[tokio::test]
async fn a_wrong_request_says_what_is_wrong() {
    let broker = serve(ecr("http://127.0.0.1:9").lines(ON_REQUEST)).await;
    let token = token(&broker, &["creates", "deletes"]);
    for (method, path, part) in [
        ("GET", "My-App", "write `my-app`"),
        ("GET", "%ff", "not text"),
        ("PUT", "a%252Fb", "`project`"),
        ("PUT", "a/b", "it has 2 components"),
        ("PUT", "a%2Fb", "it has 2 components"),
        ("PUT", "my-app?adopt=yes", "`adopt` must be"),
        ("DELETE", "my-app?adopt=true", "unknown parameter `adopt`"),
        ("DELETE", "my-app?force=true", "unknown parameter `force`"),
        ("PUT", "my-app?registry=prod&registry=prod", "twice"),
    ] {
        let answer = ask(&broker, method, &token, path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{method} {path}: {}", answer.text);
        assert!(answer.text.contains(part), "{method} {path}: {}", answer.text);
    }
    let request = Request::put("/api/v1/repositories/my-app")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::from("{\"adopt\":true}"));
    let answer = broker.send(request.unwrap()).await;
    assert!(answer.status == 400 && answer.text.contains("no body"), "{}", answer.text);
    // Some clients announce a body and send none.
    let listening = broker.listen(None).await;
    let chunked = |body: &str| {
        format!(
            "PUT /api/v1/repositories/other HTTP/1.1\r\nhost: broker\r\n\
             authorization: Bearer {token}\r\ntransfer-encoding: chunked\r\n\r\n{body}"
        )
    };
    for (body, status) in [("0\r\n\r\n", 403), ("1\r\nx\r\n0\r\n\r\n", 400)] {
        assert_eq!(Wire::once(listening.address, &chunked(body)).await.status, status, "{body}");
    }
    assert_eq!(ask(&broker, "GET", &token, "").await.status, 404);
}

/// Its `/` may be written in both ways: some proxies decode `%2F`.
#[tokio::test]
async fn a_project_with_several_components_is_one_repository() {
    let (ministack, roles) = managed_account().await;
    let table = registry(&ministack, &roles, ON_REQUEST).with("project_depth", 3);
    let broker = serve(table).await;
    let of_team = broker.token(&json!({ "creates": "team/my.app", "deletes": "team/my.app" }));
    let made = is(&ask(&broker, "PUT", &of_team, "team%2Fmy.app").await, "managed");
    assert_eq!(
        (&made["project"], &made["repository"]),
        (&json!("team/my.app"), &json!("rise/team/my.app"))
    );
    for path in ["team/my.app", "team%2fmy.app", "team%2Fmy.app?registry=prod"] {
        is(&ask(&broker, "GET", &of_team, path).await, "managed");
    }
    for other in ["team", "my.app", "team%2Fmy", "team/my.app/x"] {
        assert_eq!(ask(&broker, "DELETE", &of_team, other).await.status, 403, "{other}");
    }
    is(&ask(&broker, "DELETE", &of_team, "team/my.app").await, "orphaned");
    assert_eq!(ministack.recorded("CreateRepository").await.len(), 1);
}

/// A repository of somebody else is an operator's to adopt. Nothing of it changes.
#[tokio::test]
async fn repositories_of_others_are_not_touched() {
    let (ministack, roles) = managed_account().await;
    let broker = broker(&ministack, &roles, &format!("auto_remove = true\n{ON_REQUEST}")).await;
    let token = token(&broker, &["creates", "deletes"]);
    for owner in [
        vec![],
        vec![("ManagedBy", "terraform")],
        vec![("rise:owner", "other"), ("rise:project", "my-app"), ORPHAN[2]],
        vec![("rise:owner", "rise-broker"), ("rise:project", "my-app-2"), ORPHAN[2]],
    ] {
        ministack.create_repository("rise/my-app").await;
        tag(&ministack, "rise/my-app", &owner).await;
        let (before, own_tags) =
            (written(&ministack).await.len(), tags(&ministack, "rise/my-app").await);
        is(&ask(&broker, "GET", &token, "my-app").await, "foreign");
        for (method, path) in [
            ("PUT", "my-app"),
            ("PUT", "my-app?adopt=true"),
            ("DELETE", "my-app"),
            ("DELETE", "my-app"),
        ] {
            let answer = ask(&broker, method, &token, path).await;
            conflicts(&answer, "`rise-broker repositories apply`");
        }
        assert_eq!(written(&ministack).await.len(), before, "{owner:?}");
        assert_eq!(tags(&ministack, "rise/my-app").await, own_tags, "{owner:?}");
        let root = ministack.root();
        root.ecr().delete_repository().repository_name("rise/my-app").send().await.unwrap();
    }
    assert_eq!(changes(&broker), []);
}

/// Deletion needs `auto_remove` and a request after the grace, never the one that retires.
#[tokio::test]
async fn an_orphan_is_deleted_by_a_later_request_if_the_operator_wants_that() {
    for auto_remove in [true, false] {
        let (ministack, roles) = managed_account().await;
        let table = registry(&ministack, &roles, ON_REQUEST).with("auto_remove", auto_remove);
        let broker = serve(table).await;
        let token = token(&broker, &["creates", "deletes"]);
        is(&ask(&broker, "PUT", &token, "my-app").await, "managed");
        for _ in 0..2 {
            let left = is(&ask(&broker, "DELETE", &token, "my-app").await, "orphaned");
            let time = |name: &str| left[name].as_str().map(|text| text.parse().unwrap());
            let (orphaned, deleted) = (time("orphaned_at"), time("deleted_after"));
            let orphaned: jiff::Timestamp = orphaned.unwrap();
            assert_eq!(deleted.is_some(), auto_remove, "{left}");
            assert!(deleted.is_none_or(|after| after > orphaned), "{left}");
        }
        tag(&ministack, "rise/my-app", &ORPHAN).await;
        let last = if auto_remove { "absent" } else { "orphaned" };
        is(&ask(&broker, "DELETE", &token, "my-app").await, last);
        assert_eq!(found(&ministack, "rise/my-app").await.is_none(), auto_remove);
        is(&ask(&broker, "DELETE", &token, "my-app").await, last);
    }
}

/// The mark of the orphan is the broker's own, and the clock moves past its grace.
#[tokio::test]
async fn a_grace_ends_by_the_clock() {
    const DAY: i64 = 86_400;
    let (ministack, roles) = managed_account().await;
    let days = Arc::new(AtomicI64::new(0));
    let ahead = Arc::clone(&days);
    let now = move || {
        let seconds = ahead.load(Ordering::Relaxed) * DAY;
        Clock::system().now() + SignedDuration::from_secs(seconds)
    };
    let table = registry(&ministack, &roles, ON_REQUEST).with("auto_remove", true);
    let broker = TestBroker::with_settings(settings(table, RULES));
    let broker = broker.clock(Clock::from_fn(now.clone())).start().await;
    let claims = json!({ "creates": "my-app", "deletes": "my-app" });
    let token = || broker.token_of("ci", &claims, now());
    is(&ask(&broker, "PUT", &token(), "my-app").await, "managed");
    for day in [0, 29] {
        days.store(day, Ordering::Relaxed);
        is(&ask(&broker, "DELETE", &token(), "my-app").await, "orphaned");
    }
    days.store(31, Ordering::Relaxed);
    is(&ask(&broker, "DELETE", &token(), "my-app").await, "absent");
    assert!(found(&ministack, "rise/my-app").await.is_none());
}

#[tokio::test]
async fn only_the_settings_say_who_creates() {
    let (ministack, roles) = managed_account().await;
    let repositories =
        |create: &str| format!("[registries.prod.repositories]\ncreate = \"{create}\"");
    let never = broker(&ministack, &roles, &repositories("never")).await;
    let on_request = broker(&ministack, &roles, &repositories("on-request")).await;
    let on_push = broker(&ministack, &roles, &repositories("on-push")).await;
    let none = broker(&ministack, &roles, "").await;

    let refused = ask(&never, "PUT", &token(&never, &["creates"]), "my-app").await;
    conflicts(&refused, "`repositories.create`");
    for method in ["GET", "PUT", "DELETE"] {
        let token = token(&none, &["creates", "deletes"]);
        conflicts(&ask(&none, method, &token, "my-app").await, "manages no repositories");
    }
    // A push creates nothing where only a request does.
    let pushes = on_request.token_for("my-app");
    assert_eq!(on_request.credentials(&pushes, "project=my-app").await.status, 200);
    assert_eq!(written(&ministack).await, Vec::<String>::new());
    let listed = on_request.get("/api/v1/registries", Some(&pushes)).await.json();
    assert_eq!(listed["registries"][0]["creates_repositories"], "on-request");
    let listed = none.get("/api/v1/registries", Some(&none.token_for("a"))).await.json();
    assert_eq!(listed["registries"][0]["creates_repositories"], Value::Null);

    is(&ask(&on_push, "PUT", &token(&on_push, &["creates"]), "my-app").await, "managed");
    // What is there is put right, also by a broker that creates none.
    let (root, name) = (ministack.root(), "rise/my-app");
    root.ecr().delete_lifecycle_policy().repository_name(name).send().await.unwrap();
    let repaired = ask(&never, "PUT", &token(&never, &["creates"]), "my-app").await;
    assert_eq!(is(&repaired, "managed")["differs"], json!([]));
    assert_ne!(lifecycle(&ministack, name).await, Value::Null);
    assert_eq!(ministack.recorded("CreateRepository").await.len(), 1);
}

#[tokio::test]
async fn a_crowd_creates_one_repository() {
    let (ministack, roles) = managed_account().await;
    let broker = Arc::new(broker(&ministack, &roles, ON_REQUEST).await);
    let now = Clock::system().now();
    let mut crowd = JoinSet::new();
    for number in 0..32 {
        let claims = json!({ "creates": "my-app" });
        let token = broker.token_of(&format!("job-{number}"), &claims, now);
        let broker = Arc::clone(&broker);
        crowd.spawn(async move { ask(&broker, "PUT", &token, "my-app").await.status });
    }
    assert!(crowd.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(ministack.recorded("CreateRepository").await.len(), 1);
    assert_eq!(ministack.recorded("PutLifecyclePolicy").await.len(), 1);
}

/// The login that a retired project's callers shared is not handed out again.
#[tokio::test]
async fn a_kept_login_ends_with_its_repository() {
    let (ministack, roles) = managed_account().await;
    let table = registry(&ministack, &roles, ON_REQUEST).shared("subject");
    let broker = serve(table).await;
    let token = token(&broker, &["creates", "deletes"]);
    is(&ask(&broker, "PUT", &token, "my-app").await, "managed");
    for _ in 0..2 {
        assert_eq!(login(&broker, "my-app").await.status, 200);
        assert_eq!(login(&broker, "other").await.status, 200);
    }
    assert_eq!(sources(&broker), ["minted", "minted", "cached", "cached"]);
    is(&ask(&broker, "DELETE", &token, "my-app").await, "orphaned");
    conflicts(&login(&broker, "my-app").await, "--adopt");
    assert_eq!(login(&broker, "other").await.status, 200);
    assert_eq!(sources(&broker).last().map(String::as_str), Some("cached"), "the other is kept");
}

/// The same if somebody else retired it, as soon as the broker sees that.
#[tokio::test]
async fn a_look_at_an_orphan_ends_a_kept_login() {
    let (ministack, roles) = managed_account().await;
    let table = registry(&ministack, &roles, ON_REQUEST).shared("subject");
    let broker = serve(table).await;
    let token = token(&broker, &["creates"]);
    is(&ask(&broker, "PUT", &token, "my-app").await, "managed");
    assert_eq!(login(&broker, "my-app").await.status, 200);
    tag(&ministack, "rise/my-app", &ORPHAN[2..]).await;
    assert_eq!(login(&broker, "my-app").await.status, 200, "kept, and nobody has looked");
    is(&ask(&broker, "GET", &token, "my-app").await, "orphaned");
    conflicts(&login(&broker, "my-app").await, "--adopt");
}

pub(super) async fn login(broker: &TestBroker, project: &str) -> Response {
    broker.credentials(&broker.token_for(project), &format!("project={project}")).await
}

/// How each credential came about.
pub(super) fn sources(broker: &TestBroker) -> Vec<String> {
    let records = broker.audit().into_iter();
    let completed = records.filter(|record| record["event"] == "issue.completed");
    completed.map(|record| record["source"].as_str().unwrap().to_owned()).collect()
}

/// A token that is good once is used up by a request that succeeds.
#[tokio::test]
async fn a_token_that_was_used_is_used_up() {
    let (ministack, roles) = managed_account().await;
    let auth =
        AUTH.replace("name = \"local\"\nkey", "name = \"local\"\nreplay = \"single_use\"\nkey");
    let table = registry(&ministack, &roles, ON_REQUEST);
    let settings = Settings::new(format!("{auth}{RULES}{table}"));
    let broker = TestBroker::with_settings(settings).start().await;
    // It must be younger than the broker.
    let claims = json!({ "creates": "my-app", "deletes": "my-app" });
    let issued_at = Clock::system().now() + jiff::SignedDuration::from_secs(2);
    let token = broker.token_of("ci", &claims, issued_at);
    assert_eq!(ask(&broker, "PUT", &token, "other").await.status, 403);
    is(&ask(&broker, "PUT", &token, "my-app").await, "managed");
    for method in ["GET", "PUT", "DELETE"] {
        let again = ask(&broker, method, &token, "my-app").await;
        assert_eq!(again.problem().as_deref(), Some("token-replayed"), "{method}");
    }
    let records = broker.audit();
    let replayed = records.iter().filter(|record| record["reason"] == "token-replayed");
    let replayed: Vec<_> =
        replayed.map(|record| (&record["event"], &record["operation"])).collect();
    let failed = json!("repository.failed");
    let expected = [json!("describe"), json!("create"), json!("delete")];
    assert_eq!(replayed, expected.iter().map(|operation| (&failed, operation)).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_limits_of_subject_and_project_count() {
    for (limit, text) in [("project", "`project`"), ("subject", "`subject`")] {
        let limits = format!("[limits]\n{limit} = {{ per_second = 1, burst = 2 }}\n");
        let table = ecr("http://127.0.0.1:9").lines("");
        let settings = Settings::new(format!("{limits}{AUTH}{RULES}{table}"));
        let broker = TestBroker::with_settings(settings).start().await;
        let token = token(&broker, &["creates"]);
        let mut answers = Vec::new();
        for _ in 0..6 {
            answers.push(ask(&broker, "PUT", &token, "my-app").await);
        }
        let limited = answers.iter().find(|answer| answer.status == 429).unwrap();
        assert!(limited.text.contains(text), "{}", limited.text);
        assert!(limited.header("retry-after").is_some());
    }
}

#[tokio::test]
async fn what_aws_denies_is_told_and_recorded() {
    let (ministack, roles) = account().await;
    let broker = broker(&ministack, &roles, ON_REQUEST).await;
    let token = token(&broker, &["creates"]);
    let most: Vec<&str> =
        MANAGES.into_iter().filter(|action| *action != "ecr:CreateRepository").collect();
    ministack.let_manage("rise/", &most).await;
    let answer = ask(&broker, "PUT", &token, "my-app").await;
    assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
    assert!(logs::text().contains("ecr:CreateRepository"), "the log names the action");
    let records = broker.audit();
    let reason = records.iter().find(|record| record["reason"] == "upstream-denied").unwrap();
    assert_eq!(
        (&reason["event"], &reason["operation"]),
        (&json!("repository.failed"), &json!("create"))
    );
    // Nothing remembers the denial once it is mended.
    ministack.let_manage("rise/", &MANAGES).await;
    is(&ask(&broker, "PUT", &token, "my-app").await, "managed");
}

/// A provider that says that there is nothing, and would adopt the repository of somebody else.
#[tokio::test]
async fn a_caller_cannot_adopt_what_is_nobodys() {
    let moto = Moto::start().await;
    let root = moto.caller("us-east-1");
    root.ecr().create_repository().repository_name("my-app").send().await.unwrap();
    let table = on_aws("repository-rogue", moto.endpoint())
        .with("push_role_arn", "arn:aws:iam::123456789012:role/push")
        .with("attack", "adopt-in-ensure")
        .lines(ON_REQUEST);
    let settings = settings(table, RULES);
    let broker = TestBroker::with_settings(settings).guests(&["repository-rogue"]).start().await;
    let token = token(&broker, &["creates"]);
    let answer = ask(&broker, "PUT", &token, "my-app?adopt=true").await;
    assert_eq!(answer.problem().as_deref(), Some("repository-conflict"), "{}", answer.text);
    assert!(moto.recorded("TagResource").await.is_empty());
    assert!(changes(&broker).is_empty());
}
