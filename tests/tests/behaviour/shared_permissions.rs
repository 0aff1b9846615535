//! The user of the store that `docs/several-brokers.md` prints: it may do all that brokers need.

use std::fs;
use std::path::Path;
use std::process::Command;

use rise_broker_tests::redis::{REDIS_PASSWORD, Redis};
use rise_broker_tests::replicas::{Replicas, ask, fresh_token};
use rise_broker_tests::{Settings, TestBroker, eventually, repository};
use serde_json::json;

use crate::shared_outstanding::{Group, REVOCATIONS, give_back, id, issue, operator};

/// Runs the command of the page in a shell, with `more` at its end.
fn make_user(redis: &Redis, more: &str) {
    let page = fs::read_to_string(repository().join("docs/several-brokers.md")).unwrap();
    let (_, command) = page.split_once("```sh\nredis-cli ACL SETUSER").unwrap();
    let (command, _) = command.split_once("```").unwrap();
    let command = command.trim().replace(">PASSWORD", &format!(">{REDIS_PASSWORD}"));
    let port = redis.port();
    let ran = Command::new("sh")
        .args(["-c", &format!("redis-cli -h 127.0.0.1 -p {port} ACL SETUSER {command} {more}")])
        .env("REDISCLI_AUTH", REDIS_PASSWORD)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "OK", "{ran:?}");
}

/// `[shared]` with the name of the user.
fn as_user(settings: &str) -> String {
    settings.replace("[shared]\n", "[shared]\nusername = \"rise\"\n")
}

async fn broker(group: &Group, issuer_key: &Path) -> TestBroker {
    let table = group.server.table().shared("subject");
    let settings = Settings::new(as_user(&group.settings(&["old.key"], &table)));
    let own = settings.path("issuer.pem");
    if issuer_key.exists() {
        fs::copy(issuer_key, &own).unwrap();
    }
    let broker = TestBroker::with_settings(settings).providers(&["harbor"]).start().await;
    fs::copy(own, issuer_key).unwrap();
    broker
}

/// The commands and keys that the store has denied.
fn denied(redis: &Redis) -> String {
    redis.ask(&["ACL", "LOG"])
}

#[tokio::test]
async fn the_user_of_the_page_may_share_and_end_credentials() {
    let group = Group::prepare().await;
    make_user(&group.redis, "");
    let folder = tempfile::tempdir().unwrap();
    let issuer_key = folder.path().join("issuer.pem");
    let brokers = [broker(&group, &issuer_key).await, broker(&group, &issuer_key).await];
    let [one, other] = &brokers;
    let (first, second) = (issue(one, "ci", "").await, issue(other, "ci", "").await);
    assert_eq!(first["credentials"]["username"], second["credentials"]["username"]);
    for (broker, answer) in [(other, &first), (one, &second)] {
        assert_eq!(give_back(broker, "ci", id(answer)).await.status, 200);
    }
    assert!(group.server.alive().is_empty());
    let third = issue(one, "ci", "").await;
    let body = json!({ "request_id": third["request_id"] });
    let ended = other.post(REVOCATIONS, &operator(other), &body).await;
    assert_eq!(ended.json()["matched"], 1, "{}", ended.text);
    group.until_ended(other, 0).await;
    for broker in &brokers {
        broker.follow_others().await;
        assert!(broker.has_store().await);
    }
    assert_eq!(denied(&group.redis), "");
}

#[tokio::test]
async fn the_user_of_the_page_may_use_tokens_once_and_another_database_with_select() {
    let replicas = Replicas::prepare("", "off").await;
    make_user(&replicas.redis, "");
    let table = as_user(&replicas.table(&["shared.key"], "replicas = 2"));
    let one = replicas.broker_with(&table).await;
    let token = fresh_token(&one);
    assert_eq!(ask(&one, &token).await.0, 200);
    assert_eq!(ask(&one, &token).await.0, 401);
    assert_eq!(denied(&replicas.redis), "");
    let port = format!("127.0.0.1:{}", replicas.gate.port());
    let second = replicas.broker_with(&table.replace(&port, &format!("{port}/1"))).await;
    assert_eq!(ask(&second, &fresh_token(&second)).await.0, 503);
    assert!(denied(&replicas.redis).contains("select"));
    make_user(&replicas.redis, "+select");
    let serves = async || ask(&second, &fresh_token(&second)).await.0 == 200;
    eventually("it may use another database", serves).await;
}
