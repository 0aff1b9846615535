//! What operators may do with each right, beside ending credentials (`revocation`): read the audit
//! log over HTTP, and manage the repositories of every project.

use axum::body::Body;
use axum::http::Request;
use rise_broker_tests::disk::{EIO, Operation};
use rise_broker_tests::registry::{self, ecr};
use rise_broker_tests::{AUTH, FakeDisk, Installation, Response, Settings, TestBroker};
use serde_json::{Value, json};

use crate::ecr_repositories::{MANAGES, account, registry as managed};

/// One operator for each right, and one of another issuer's name for the group.
const OPERATORS: &str = r#"
[[operators]]
name = "auditors"
issuer = "local"
claims = { groups = { contains = "auditors" } }
allow = ["audit"]
[[operators]]
name = "keepers"
issuer = "local"
claims = { groups = { contains = "keepers" } }
allow = ["repositories"]
[[operators]]
name = "enders"
issuer = "local"
claims = { groups = { contains = "enders" } }
allow = ["revoke"]
"#;

const ON_REQUEST: &str = "[registries.prod.repositories]\ncreate = \"on-request\"\n";

async fn start(tables: impl std::fmt::Display) -> TestBroker {
    TestBroker::with_settings(Settings::new(format!("{AUTH}{tables}{OPERATORS}"))).start().await
}

fn operator(broker: &TestBroker, groups: &[&str]) -> String {
    let now = broker.process.foundation.clock.now();
    broker.token_of("alice", &json!({ "groups": groups }), now)
}

async fn ask(broker: &TestBroker, method: &str, path: &str, token: &str) -> Response {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("authorization", format!("Bearer {token}"));
    broker.send(request.body(Body::empty()).unwrap()).await
}

async fn read(broker: &TestBroker, token: &str, query: &str) -> Value {
    let answer = ask(broker, "GET", &format!("/api/v1/audit?{query}"), token).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

fn events(answer: &Value) -> Vec<&str> {
    let records = answer["records"].as_array().unwrap().iter();
    records.map(|record| record["event"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_operator_reads_the_audit_log() {
    let broker = start(registry::oci("registry.example.com").account("demo", "canary-demo")).await;
    let mut ids = Vec::new();
    for project in ["my-app", "my-app", "other"] {
        let (token, query) = (broker.token_for(project), format!("project={project}"));
        let answer = broker.credentials(&token, &query).await.json();
        ids.push(answer["request_id"].as_str().unwrap().to_owned());
    }
    let token = operator(&broker, &["staff", "auditors"]);
    let all = read(&broker, &token, "").await;
    // The reading itself is recorded first, and the records are those of the log.
    assert_eq!(
        events(&all),
        ["issue.completed", "issue.completed", "issue.completed", "audit.read"]
    );
    assert_eq!(all["records"], json!(broker.audit()));
    assert_eq!(all["next_until"], Value::Null);
    let reading = &all["records"][3];
    assert_eq!(
        (&reading["subject"]["sub"], &reading["request_id"]),
        (&json!("alice"), &all["request_id"])
    );
    assert_eq!(reading["rules"], json!(["operator auditors"]));
    for (query, expected) in [
        ("project=my-app&event=issue", vec![&ids[0], &ids[1]]),
        ("project=other&event=issue.completed", vec![&ids[2]]),
        (&*format!("request_id={}", ids[1].to_lowercase()), vec![&ids[1]]),
        (&*format!("minted_by=rise-{}&event=issue", ids[2]), vec![&ids[2]]),
        ("subject=local:ci&registry=prod&since=1h&limit=2", vec![&ids[1], &ids[2]]),
        ("subject=nobody&event=issue", vec![]),
        ("until=1h&event=issue", vec![]),
    ] {
        let found = read(&broker, &token, query).await;
        let found: Vec<&str> = found["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| record["request_id"].as_str().unwrap())
            .collect();
        assert_eq!(found, expected, "{query}");
    }
    // What is older: the page before.
    let last = read(&broker, &token, "subject=local:ci&limit=2").await;
    let until = last["next_until"].as_str().unwrap();
    let before = read(&broker, &token, &format!("subject=local:ci&limit=2&until={until}")).await;
    assert_eq!(
        (&before["records"][0]["request_id"], &before["next_until"]),
        (&json!(ids[0]), &Value::Null)
    );
    // A record of a reading names the project that was looked for.
    let readings = read(&broker, &token, "event=audit.read&project=other").await;
    assert_eq!(events(&readings), ["audit.read", "audit.read"]);
    assert!(!readings.to_string().contains("canary-demo"));
}

#[tokio::test]
async fn others_do_not_read_the_audit_log() {
    let broker = start(registry::oci("registry.example.com").account("demo", "canary-demo")).await;
    let others = [
        broker.token_for("my-app"),
        operator(&broker, &["enders", "keepers"]),
        operator(&broker, &["auditors-guests"]),
        broker.token(&json!({ "groups": "auditors" })),
    ];
    for token in &others {
        for query in ["", "?limit=1", "?nonsense"] {
            let denied = ask(&broker, "GET", &format!("/api/v1/audit{query}"), token).await;
            assert_eq!(denied.problem().as_deref(), Some("access-denied"), "{}", denied.text);
        }
    }
    let is_denial =
        |record: &&Value| record["event"] == "authz.denied" && record["operation"] == "audit";
    assert_eq!(broker.audit().iter().filter(is_denial).count(), 12);
    assert_eq!(ask(&broker, "GET", "/api/v1/audit", "x.y.z").await.status, 401);
    let token = operator(&broker, &["auditors"]);
    let wrong = ask(&broker, "GET", "/api/v1/audit?event=nothing", &token).await;
    assert_eq!(wrong.problem().as_deref(), Some("invalid-request"));
    assert!(wrong.text.contains("`event`: expected one of"), "{}", wrong.text);
    assert_eq!(ask(&broker, "POST", "/api/v1/audit", &token).await.status, 405);
    // This right opens nothing else.
    let body = json!({ "registry": "prod", "dry_run": true });
    let revoked = broker.post("/api/v1/registry/revocations", &token, &body).await;
    assert_eq!(revoked.problem().as_deref(), Some("access-denied"));
    let issued = broker.credentials(&token, "project=my-app").await;
    assert_eq!(issued.problem().as_deref(), Some("access-denied"));
}

/// Nobody reads without a record of it.
#[tokio::test]
async fn a_log_that_cannot_be_written_is_not_read() {
    let disk = FakeDisk::new();
    let table = registry::oci("registry.example.com").account("demo", "canary-demo");
    let settings = Settings::new(format!("{AUTH}{table}{OPERATORS}"));
    let broker = TestBroker::with_settings(settings).disk(&disk).start().await;
    let token = operator(&broker, &["auditors"]);
    disk.fail(Operation::Append, EIO, usize::MAX);
    let refused = ask(&broker, "GET", "/api/v1/audit", &token).await;
    assert_eq!(refused.problem().as_deref(), Some("audit-unavailable"), "{}", refused.text);
}

#[tokio::test]
async fn a_wide_operator_is_told_at_start() {
    let wide = "[[operators]]\nname = \"all\"\nissuer = \"local\"\n\
                claims = { email = { prefix = \"ops:\" } }\n\
                allow = [\"revoke\", \"audit\", \"repositories\"]\n";
    let table = registry::oci("registry.example.com").account("demo", "canary-demo");
    let settings = format!("{AUTH}{table}{wide}");
    let warnings = Installation::new(&settings).run(&["check"]).stderr;
    assert!(warnings.contains("operator `all`") && warnings.contains("whole family"), "{warnings}");
    let broker = TestBroker::with_settings(Settings::new(settings)).start().await;
    let token = broker.token(&json!({ "email": "ops:7@example.com" }));
    read(&broker, &token, "").await;
}

/// The right falls behind rules: who has a rule uses it, and an operator needs none.
#[tokio::test]
async fn an_operator_manages_the_repositories_of_every_project() {
    let (ministack, roles) = account().await;
    let all: Vec<&str> = MANAGES.into_iter().chain(["ecr:DeleteRepository"]).collect();
    ministack.let_manage("rise/", &all).await;
    let broker = start(managed(&ministack, &roles, ON_REQUEST)).await;
    let keeper = operator(&broker, &["staff", "keepers"]);
    for project in ["my-app", "other"] {
        let path = format!("/api/v1/repositories/{project}");
        for (method, ownership) in
            [("GET", "absent"), ("PUT", "managed"), ("GET", "managed"), ("DELETE", "orphaned")]
        {
            let answer = ask(&broker, method, &path, &keeper).await;
            assert_eq!(answer.status, 200, "{method} {project}: {}", answer.text);
            assert_eq!(answer.json()["ownership"], ownership, "{method} {project}");
        }
    }
    let records = broker.audit();
    let changed: Vec<&Value> =
        records.iter().filter(|record| record["event"] == "repository.changed").collect();
    assert!(!changed.is_empty());
    for record in changed {
        assert_eq!(record["rules"], json!(["operator keepers"]), "{record}");
        assert_eq!(record["subject"]["sub"], "alice");
    }

    let others = [
        ("another right", operator(&broker, &["auditors", "enders"])),
        ("another group", operator(&broker, &["keepers-guests"])),
        ("no list", broker.token(&json!({ "groups": "keepers" }))),
        ("nothing", broker.token(&json!({}))),
    ];
    for (who, token) in &others {
        for method in ["GET", "PUT", "DELETE"] {
            let denied = ask(&broker, method, "/api/v1/repositories/my-app", token).await;
            assert_eq!(denied.problem().as_deref(), Some("access-denied"), "{who} {method}");
        }
    }
    let denials = broker.audit();
    let denials = denials.iter().filter(|record| record["event"] == "authz.denied");
    assert_eq!(denials.filter(|record| record["operation"] == "delete").count(), others.len());
    // No credential, and nothing that the settings do not let anybody do.
    let issued = broker.credentials(&keeper, "project=my-app").await;
    assert_eq!(issued.problem().as_deref(), Some("access-denied"));
    let unknown = ask(&broker, "PUT", "/api/v1/repositories/my-app?registry=nowhere", &keeper);
    assert_eq!(unknown.await.problem().as_deref(), Some("access-denied"));
}

/// Nobody manages the repositories of this registry, so the right means nothing there.
#[tokio::test]
async fn a_registry_without_repositories_has_none_for_operators() {
    let broker = start(ecr("http://127.0.0.1:9").lines("")).await;
    let keeper = operator(&broker, &["keepers"]);
    for method in ["GET", "PUT", "DELETE"] {
        let refused = ask(&broker, method, "/api/v1/repositories/my-app", &keeper).await;
        assert_eq!(refused.status, 409, "{method}: {}", refused.text);
    }
}
