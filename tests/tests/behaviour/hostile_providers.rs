//! Providers ask for more than was granted, return what no caller may get, or use up their
//! resources.

use std::time::Instant;

use rise_broker_tests::imaginary::ADMIN_TOKEN;
use rise_broker_tests::registry::{RegistryTable, on_aws, registry};
use rise_broker_tests::{Imaginary, Response, Stub, TestBroker, eventually, logs};

/// A registry of the guest `aws-rogue`, which uses AWS as `ecr` does.
fn rogue(aws: &Stub, attack: &str, more: &str) -> RegistryTable {
    on_aws("aws-rogue", aws.endpoint())
        .with("push_role_arn", "arn:aws:iam::123456789012:role/push")
        .with("secret_access_key", "rogue-secret-access-key")
        .with("attack", attack)
        .lines(more)
}

async fn attacked(aws: &Stub, attack: &str, query: &str) -> (TestBroker, Response) {
    let broker =
        TestBroker::with_registries(rogue(aws, attack, "")).guests(&["aws-rogue"]).start().await;
    let answer = broker.credentials(&broker.token_for("my-app"), query).await;
    (broker, answer)
}

#[tokio::test]
async fn what_is_beyond_the_grant_never_reaches_aws() {
    for (attack, query, asked) in [
        ("other-project", "project=my-app", "repository/someone-elses`"),
        ("sibling", "project=my-app", "repository/my-app*`"),
        ("other-role", "project=my-app", "the role `"),
        ("wildcard", "project=my-app", "`*`"),
        ("delete-repository", "project=my-app", "ecr:DeleteRepository"),
        ("ecr-star", "project=my-app", "ecr:*"),
        ("push-for-pull", "project=my-app&actions=pull", "a grant to pull does not cover"),
        ("unscoped", "project=my-app", "not narrowed"),
        ("huge-policy", "project=my-app", "2048"),
        ("giant-policy", "project=my-app", "2048"),
    ] {
        let aws = Stub::start().await;
        let (broker, answer) = attacked(&aws, attack, query).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_deref()),
            (502, Some("provider-failed")),
            "{attack}: {}",
            answer.text
        );
        assert_eq!(aws.requests().len(), 0, "{attack}");
        for hidden in ["arn:", "123456789012", "ecr:", "role"] {
            assert!(!answer.text.contains(hidden), "{attack}: {}", answer.text);
        }
        let log = logs::text();
        let line = log.lines().find(|line| {
            line.contains("a provider asked for more than its registry allows")
                && line.contains(asked)
        });
        let line = line.unwrap_or_else(|| panic!("{attack}: the log does not say `{asked}`"));
        let digest = broker.generation.catalog.find("aws-rogue").unwrap().digest.to_string();
        assert!(line.contains(&digest), "{line}");
        let events: Vec<_> = broker.audit().iter().map(|record| record["event"].clone()).collect();
        assert_eq!(events, ["issue.intent", "issue.failed"], "{attack}");
    }
}

#[tokio::test]
async fn a_login_in_another_region_is_refused() {
    let aws = Stub::start().await;
    let (_, answer) = attacked(&aws, "other-region", "project=my-app").await;
    assert_eq!(answer.problem().as_deref(), Some("provider-failed"));
    assert_eq!(aws.count("GetAuthorizationToken"), 0);
}

#[tokio::test]
async fn a_refusal_that_is_swallowed_changes_nothing() {
    let aws = Stub::start().await;
    let (_, answer) = attacked(&aws, "swallow", "project=my-app").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let sent = aws.recorded("AssumeRole");
    assert_eq!(sent.len(), 1);
    assert!(!sent[0].policy().unwrap().to_string().contains("someone-elses"));
}

#[tokio::test]
async fn the_same_provider_may_do_what_was_granted() {
    let aws = Stub::start().await;
    let (_, answer) = attacked(&aws, "none", "project=my-app").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["enforced_by"], "host");
}

/// By this an operator finds the calls in `CloudTrail`, and ends the session.
#[tokio::test]
async fn the_record_has_the_session_of_the_credential_and_no_other() {
    let aws = Stub::start().await;
    let (broker, answer) = attacked(&aws, "first-session", "project=my-app").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let [first, last] = &aws.recorded("GetAuthorizationToken")[..] else { panic!("two logins") };
    assert_ne!(first.access_key_id, last.access_key_id);
    let record = broker.audit().pop().unwrap();
    assert_eq!(record["aws"]["access_key_id"], first.access_key_id, "{record}");

    let aws = Stub::start().await;
    let table = rogue(&aws, "unscoped-after-session", "").with("accept_scope", "registry");
    let broker = TestBroker::with_registries(table).guests(&["aws-rogue"]).start().await;
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
    assert_eq!(answer.json()["scope"], "registry", "{}", answer.text);
    assert_eq!((aws.count("AssumeRole"), aws.count("GetAuthorizationToken")), (1, 1));
    let record = broker.audit().pop().unwrap();
    assert_eq!(record["event"], "issue.completed");
    assert!(record["aws"].is_null(), "{record}");
}

/// A registry of the guest `misbehaves`.
fn misbehaving(how: &str, more: &str) -> RegistryTable {
    registry("misbehaves")
        .with("registry_url", "registry.example.com")
        .account("robot", "canary-4f1c0b")
        .with("how", how)
        .lines(more)
}

async fn misbehaved(how: &str, more: &str) -> (TestBroker, Response) {
    let broker =
        TestBroker::with_registries(misbehaving(how, more)).guests(&["misbehaves"]).start().await;
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
    (broker, answer)
}

#[tokio::test]
async fn a_call_ends_at_its_limits_and_the_broker_goes_on() {
    for (how, limit) in [
        ("loop", "limit of CPU time"),
        ("recurse", "limit of stack"),
        ("recurse-in-memory", "provider trapped"),
        ("memory", "limit of memory"),
        ("handles", "limit of handles"),
        ("secrets", "limit of secret bytes"),
        ("many-secrets", "limit of secrets"),
        ("giant-string", ""),
        ("log-flood", ""),
        ("trap", "provider trapped"),
        ("error-giant", ""),
    ] {
        let started = Instant::now();
        // On a busy machine a guest may use up its CPU time before it reaches another limit.
        let patient = "[providers.misbehaves.limits]\ncpu_ms = 5000";
        let (broker, answer) = misbehaved(how, if how == "loop" { "" } else { patient }).await;
        // A call may take eight seconds at most; none of these waits for anything.
        assert!(started.elapsed().as_secs() < 8, "{how}");
        if limit.is_empty() {
            assert!(
                answer.status == 200 || answer.problem().as_deref() == Some("provider-failed"),
                "{how}: {}",
                answer.text
            );
        } else {
            assert_eq!(
                answer.problem().as_deref(),
                Some("provider-failed"),
                "{how}: {}",
                answer.text
            );
            let id = answer.json()["request_id"].as_str().unwrap().to_owned();
            let log = logs::text();
            let line = log
                .lines()
                .find(|line| line.contains(&id) && line.contains("request failed"))
                .unwrap();
            let digest = broker.generation.catalog.find("misbehaves").unwrap().digest.to_string();
            assert!(line.contains(limit) && line.contains(&digest), "{how}: {line}");
        }
        let again = broker.get("/api/v1/registries", Some(&broker.token_for("my-app"))).await;
        assert_eq!(again.status, 200, "{how}");
    }
}

#[tokio::test]
async fn a_provider_cannot_fill_the_log() {
    let (_, answer) = misbehaved("log-flood", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    // Other threads of this process log as well.
    let id = answer.json()["request_id"].as_str().unwrap().to_owned();
    let log = logs::text();
    let own: Vec<&str> = log.lines().filter(|line| line.contains(&id)).collect();
    assert!(own.iter().any(|line| line.contains("logs too much")), "{own:#?}");
    let lines = own.iter().filter(|line| line.contains(" line ")).count();
    assert!((1..=32).contains(&lines), "{lines}: {own:#?}");
}

#[tokio::test]
async fn nothing_is_handed_out_that_a_caller_must_not_get() {
    for (how, more, because) in [
        ("giant-result", "trust_provider = true", "too long"),
        ("crlf-username", "trust_provider = true", "control characters"),
        ("colon-username", "trust_provider = true", "holds `:`"),
        ("none-password", "trust_provider = true", "empty"),
        ("expired", "trust_provider = true", "less than 60 seconds"),
        ("expiry-zero", "trust_provider = true", "less than 60 seconds"),
        ("expiry-never", "trust_provider = true", "not a valid time"),
        ("made-up-password", "", "of its own making"),
    ] {
        let (_, answer) = misbehaved(how, more).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_deref()),
            (502, Some("provider-failed")),
            "{how}: {}",
            answer.text
        );
        let id = answer.json()["request_id"].as_str().unwrap().to_owned();
        let log = logs::text();
        assert!(
            log.lines().any(|line| line.contains(&id) && line.contains(because)),
            "{how}: the log does not say `{because}`"
        );
    }
}

#[tokio::test]
async fn an_expiry_beyond_the_bound_is_refused() {
    let (_, within) =
        misbehaved("made-up-password", "trust_provider = true\nmax_lifetime = 3600").await;
    assert_eq!(within.status, 200, "{}", within.text);
    assert_eq!(
        (within.json()["enforced_by"].as_str(), within.json()["scope"].as_str()),
        (Some("provider"), Some("registry"))
    );
    let (_, beyond) =
        misbehaved("made-up-password", "trust_provider = true\nmax_lifetime = 600").await;
    assert_eq!(beyond.problem().as_deref(), Some("provider-failed"), "{}", beyond.text);
}

#[tokio::test]
async fn a_configured_secret_leaves_only_where_that_was_accepted() {
    let (_, answer) = misbehaved("secret-as-password", "").await;
    assert_eq!(answer.json()["credentials"]["password"], "canary-4f1c0b", "{}", answer.text);
    assert_eq!(answer.json()["scope"], "registry");
    // A provider calls itself narrow and hands out the shared password anyway.
    let lying = misbehaving("says-repository", "").without("accept_scope");
    let broker = TestBroker::with_registries(lying).guests(&["misbehaves"]).start().await;
    let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
    assert_eq!(answer.problem().as_deref(), Some("provider-failed"), "{}", answer.text);
    assert!(!answer.text.contains("canary"));
}

#[tokio::test]
async fn a_configured_secret_is_never_logged_or_recorded() {
    for how in ["log-password", "secret-as-password", "trap", "error-failed"] {
        let (broker, _) = misbehaved(how, "").await;
        let audit = format!("{:?}", broker.audit());
        assert!(!audit.contains("canary-4f1c0b"), "{how}: {audit}");
    }
    assert!(!logs::text().contains("canary-4f1c0b"));
}

#[tokio::test]
async fn nothing_is_remembered_from_one_call_to_the_next() {
    let broker = TestBroker::with_registries(misbehaving("state", "trust_provider = true"))
        .guests(&["misbehaves"])
        .start()
        .await;
    for _ in 0..5 {
        let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
        assert_eq!(answer.json()["credentials"]["username"], "1", "{}", answer.text);
    }
}

#[tokio::test]
async fn every_error_of_the_contract_has_its_answer() {
    for (how, status, problem, retry_after) in [
        ("error-invalid-settings", 502, "provider-failed", None),
        ("error-refused", 502, "provider-failed", None),
        ("error-denied", 502, "upstream-denied", None),
        ("error-not-found", 502, "upstream-denied", None),
        ("error-throttled", 503, "upstream-unavailable", Some("7")),
        ("error-throttled-unknown", 503, "upstream-unavailable", Some("5")),
        ("error-unavailable", 503, "upstream-unavailable", Some("5")),
        ("error-unsupported", 502, "provider-failed", None),
        ("error-failed", 502, "provider-failed", None),
    ] {
        let (broker, answer) = misbehaved(how, "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_deref()),
            (status, Some(problem)),
            "{how}"
        );
        assert_eq!(answer.header("retry-after"), retry_after, "{how}");
        assert!(!answer.text.contains("said by misbehaves"), "{how}: {}", answer.text);
        assert_eq!(broker.audit().pop().unwrap()["reason"], problem, "{how}");
    }
}

/// A registry of the guest `revocation-rogue`, whose tokens it may make, see and delete for the
/// grant's project.
async fn revoker(server: &Imaginary, how: &str) -> TestBroker {
    let tokens = format!("{}/api/projects/{{project}}/tokens", server.url());
    let allow = ["POST", "GET", "DELETE"].map(|method| format!("\"{method} {tokens}\""));
    let table = registry("revocation-rogue")
        .with("base_url", server.url())
        .with("admin_token", ADMIN_TOKEN)
        .with("misbehave", how)
        .with("trust_provider", true)
        .ceiling(&format!("private = true\nallow = [{}]", allow.join(", ")));
    TestBroker::with_registries(table).guests(&["revocation-rogue"]).start().await
}

fn refused(asked: &str) -> bool {
    let said = "a provider asked for more than its registry allows";
    logs::text().lines().any(|line| line.contains(said) && line.contains(asked))
}

/// A note goes into the audit log and comes back in another call.
#[tokio::test]
async fn a_note_is_short_printable_and_without_a_secret() {
    for (how, asked) in [
        ("remembers-too-much", "longer than 1 KiB"),
        ("remembers-lines", "control characters"),
        ("remembers-nothing", "a note that is empty"),
        ("remembers-configured", "a note that holds a configured secret"),
        ("remembers-issued", "a note that holds an issued secret"),
    ] {
        let server = Imaginary::start().await;
        let broker = revoker(&server, how).await;
        let answer = broker.credentials(&broker.token_for("my-app"), "project=my-app").await;
        assert_eq!(answer.problem().as_deref(), Some("provider-failed"), "{how}: {}", answer.text);
        assert!(refused(asked), "{how}");
        // It was made, and nobody got it: it is to end without a note.
        let records = broker.audit();
        let events: Vec<_> = records.iter().map(|record| record["event"].clone()).collect();
        assert_eq!(events, ["issue.intent", "revoke.intent", "issue.failed"], "{how}");
        let text = serde_json::to_string(&records).unwrap();
        for secret in [ADMIN_TOKEN, "made-for-"] {
            assert!(!text.contains(secret), "{how}: {text}");
        }
        assert!(records[1]["revocation"]["remembered"].is_null(), "{how}: {text}");
    }
}

/// In `revoke`, a provider may do what it may do in `issue`, for the same project.
#[tokio::test]
async fn a_provider_ends_nothing_beyond_its_grant() {
    for (how, asked) in [
        ("revokes-other-project", "someone-elses"),
        ("revokes-elsewhere", "elsewhere.example.com"),
        ("remembers-in-revoke", "`grant.remember` outside `issue`"),
    ] {
        let server = Imaginary::start().await;
        let broker = revoker(&server, how).await;
        let token = broker.token_for("my-app");
        let answer = broker.credentials(&token, "project=my-app").await;
        assert_eq!(answer.status, 200, "{how}: {}", answer.text);
        let id = answer.json()["request_id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/registry/credentials/{id}");
        let ended = broker.delete(&path, &token).await;
        assert_eq!(ended.json()["state"], "ending", "{how}: {}", ended.text);
        eventually("the failure is recorded", async || {
            broker.audit().iter().any(|record| record["event"] == "revoke.failed")
        })
        .await;
        assert!(refused(asked), "{how}");
        let sent: Vec<String> =
            server.heard().into_iter().map(|it| it.method.to_string()).collect();
        assert!(!sent.contains(&"DELETE".to_owned()), "{how}: {sent:?}");
    }
}
