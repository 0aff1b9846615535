//! Credentials that end before their time: given back by those who got them, or ended by operators.

use rise_broker_tests::registry::{self, RegistryTable};
use rise_broker_tests::{
    AUTH, HARBOR, Minting, MintingMood, Response, Settings, TestBroker, eventually, outstanding,
};
use serde_json::{Value, json};

const OPERATORS: &str = r#"
[[operators]]
name = "sre"
issuer = "local"
claims = { groups = { contains = "sre" } }
allow = ["revoke"]
[[operators]]
name = "readers"
issuer = "local"
claims = { groups = { contains = "readers" } }
allow = ["repositories"]
"#;
/// An id of the right form that no request has.
const NOBODYS: &str = "01M7XW52RJVA23PFBZSRPG9G5D";

async fn start(table: RegistryTable) -> TestBroker {
    let settings = Settings::new(format!("{AUTH}{table}{OPERATORS}"));
    TestBroker::with_settings(settings).providers(&["harbor"]).start().await
}

/// A token for `my-app` of this subject.
fn token(broker: &TestBroker, sub: &str) -> String {
    let now = broker.process.foundation.clock.now();
    broker.token_of(sub, &json!({ "repository": "acme/my-app" }), now)
}

fn operator(broker: &TestBroker, group: &str) -> String {
    let now = broker.process.foundation.clock.now();
    broker.token_of("alice", &json!({ "groups": ["staff", group] }), now)
}

async fn issue(broker: &TestBroker, sub: &str, query: &str) -> Value {
    let answer = broker.credentials(&token(broker, sub), &format!("project=my-app{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn id(answer: &Value) -> &str {
    answer["request_id"].as_str().unwrap()
}

async fn give_back(broker: &TestBroker, token: &str, id: &str) -> Response {
    broker.delete(&format!("/api/v1/registry/credentials/{id}"), token).await
}

async fn revoke(broker: &TestBroker, token: &str, body: &Value) -> Response {
    broker.post("/api/v1/registry/revocations", token, body).await
}

async fn opens(server: &Minting, answer: &Value) -> bool {
    server.opens(answer, HARBOR.repository).await == 200
}

/// The events of the audit log for one credential.
fn events(broker: &TestBroker, minted_by: &str) -> Vec<String> {
    let records = broker.audit();
    let of = records.iter().filter(|record| record["minted_by"] == minted_by);
    of.map(|record| record["event"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_given_back_has_ended() {
    let server = Minting::start(&HARBOR).await;
    let broker = start(server.table()).await;
    let answer = issue(&broker, "ci", "").await;
    assert_eq!(answer["revocable"], true);
    assert!(opens(&server, &answer).await);
    let token = token(&broker, "ci");
    // An id is the same in lower case.
    let ended = give_back(&broker, &token, &id(&answer).to_lowercase()).await;
    assert_eq!((ended.status.as_u16(), &ended.json()["state"]), (200, &json!("ended")));
    assert_eq!(ended.json()["credential"], id(&answer));
    assert!(!opens(&server, &answer).await);
    assert!(server.alive().is_empty());
    let expected = ["issue.completed", "revoke.returned", "revoke.intent", "revoke.completed"];
    eventually("the end is recorded", async || events(&broker, id(&answer)) == expected).await;
    let counted = "rise_broker_audit_records_total{event=\"revoke.completed\",outcome=\"ok\"} 1";
    let is_counted = async || broker.admin("/metrics").await.text.contains(counted);
    eventually("its record is counted", is_counted).await;
    let records = broker.audit();
    let intent = records.iter().find(|record| record["event"] == "revoke.intent").unwrap();
    assert_eq!(intent["revocation"]["cause"], "returned");
    let by = &intent["revocation"]["by"];
    assert_eq!((&by["sub"], &by["request_id"]), (&json!("ci"), &ended.json()["request_id"]));
    // Once more: the audit log knows.
    let again = give_back(&broker, &token, id(&answer)).await;
    assert_eq!((again.status.as_u16(), &again.json()["state"]), (200, &json!("ended")));
    assert_eq!(server.requests().iter().filter(|sent| sent.starts_with("DELETE")).count(), 1);
}

#[tokio::test]
async fn what_is_somebody_elses_is_not_there() {
    let server = Minting::start(&HARBOR).await;
    let broker = start(server.table()).await;
    let answer = issue(&broker, "ci", "").await;
    let other = token(&broker, "someone-else");
    let (theirs, nobodys) =
        (give_back(&broker, &other, id(&answer)).await, give_back(&broker, &other, NOBODYS).await);
    assert_eq!((theirs.status.as_u16(), nobodys.status.as_u16()), (404, 404));
    let without_id = |response: &Response| {
        let mut json = response.json();
        json.as_object_mut().unwrap().remove("request_id");
        json
    };
    assert_eq!(without_id(&theirs), without_id(&nobodys));
    assert!(opens(&server, &answer).await);
    let denied: Vec<Value> =
        broker.audit().into_iter().filter(|record| record["event"] == "authz.denied").collect();
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(
        (&denied[0]["operation"], &denied[0]["subject"]["sub"]),
        (&json!("revoke"), &json!("someone-else"))
    );
    // Nor for those who have no token, or ask for something else.
    let path = format!("/api/v1/registry/credentials/{}", id(&answer));
    assert_eq!(broker.delete(&path, "no.to.ken").await.status, 401);
    let token = token(&broker, "ci");
    for wrong in ["x", "01M7XW52RJVA23PFBZSRPG9G5", "%FF", &format!("{}?force=true", id(&answer))] {
        let refused = give_back(&broker, &token, wrong).await;
        assert_eq!(
            refused.problem().as_deref(),
            Some("invalid-request"),
            "{wrong}: {}",
            refused.text
        );
    }
    assert!(opens(&server, &answer).await);
}

/// A matrix of jobs shares one credential. The first job that ends must not end it for the others.
#[tokio::test]
async fn the_last_of_those_who_share_it_ends_it() {
    let server = Minting::start(&HARBOR).await;
    let broker = start(server.table().shared("subject")).await;
    let (one, two) = (issue(&broker, "ci", "").await, issue(&broker, "ci", "").await);
    assert_eq!(one["credentials"]["username"], two["credentials"]["username"]);
    let token = token(&broker, "ci");
    let given = give_back(&broker, &token, id(&one)).await;
    assert_eq!((given.status.as_u16(), &given.json()["state"]), (200, &json!("shared")));
    assert_eq!(given.json()["expires_at"], one["credentials"]["expires_at"]);
    assert!(opens(&server, &two).await);
    // It is still kept for others.
    let three = issue(&broker, "ci", "").await;
    assert_eq!(three["credentials"]["username"], one["credentials"]["username"]);
    assert_eq!(give_back(&broker, &token, id(&one)).await.json()["state"], "shared");
    assert_eq!(give_back(&broker, &token, id(&two)).await.json()["state"], "shared");
    assert_eq!(give_back(&broker, &token, id(&three)).await.json()["state"], "ended");
    assert!(!opens(&server, &two).await);
    // It left the cache before.
    let next = issue(&broker, "ci", "").await;
    assert_ne!(next["credentials"]["username"], one["credentials"]["username"]);
    assert!(opens(&server, &next).await);
}

#[tokio::test]
async fn a_project_shares_and_each_subject_gives_back_its_own() {
    let server = Minting::start(&HARBOR).await;
    let broker = start(server.table().shared("project")).await;
    let (one, two) = (issue(&broker, "ci", "").await, issue(&broker, "cd", "").await);
    assert_eq!(one["credentials"]["username"], two["credentials"]["username"]);
    let (ci, cd) = (token(&broker, "ci"), token(&broker, "cd"));
    assert_eq!(give_back(&broker, &cd, id(&one)).await.status, 404);
    assert_eq!(give_back(&broker, &ci, id(&two)).await.status, 404);
    assert_eq!(give_back(&broker, &cd, id(&two)).await.json()["state"], "shared");
    assert!(opens(&server, &one).await);
    assert_eq!(give_back(&broker, &ci, id(&one)).await.json()["state"], "ended");
    assert!(!opens(&server, &one).await);
}

#[tokio::test]
async fn a_registry_that_is_away_is_caught_up_with() {
    let server = Minting::start(&HARBOR).await;
    let broker = start(server.table().shared("subject")).await;
    let answer = issue(&broker, "ci", "").await;
    server.mood(Some(MintingMood::Away));
    let token = token(&broker, "ci");
    let given = give_back(&broker, &token, id(&answer)).await;
    assert_eq!((given.status.as_u16(), &given.json()["state"]), (202, &json!("ending")));
    // Nobody gets it from now on, although it still works.
    let refused = broker.credentials(&token, "project=my-app").await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    server.mood(None);
    eventually("it has ended", async || {
        broker.end_due();
        server.alive().is_empty()
    })
    .await;
    assert_eq!(give_back(&broker, &token, id(&answer)).await.json()["state"], "ended");
}

/// What an earlier process issued is given back to this one, and a subject is more than the part of
/// it that a record has.
#[tokio::test]
async fn a_restart_does_not_forget_whose_it_is() {
    let server = Minting::start(&HARBOR).await;
    let before = start(server.table().shared("project")).await;
    let long = "a".repeat(255);
    let (mine, other) = (format!("{long}-mine"), format!("{long}-other"));
    let (one, two) = (issue(&before, &mine, "").await, issue(&before, &mine, "").await);
    let returned = give_back(&before, &token(&before, &mine), id(&two)).await;
    assert_eq!(returned.json()["state"], "shared");
    let after = start(server.table().shared("project")).await;
    after.recover(before.settings.path("audit")).await;
    assert_eq!(give_back(&after, &token(&after, &other), id(&one)).await.status, 404);
    assert_eq!(give_back(&after, &token(&after, &mine), id(&one)).await.json()["state"], "ended");
    assert!(server.alive().is_empty());
}

#[tokio::test]
async fn what_nobody_can_end_says_until_when_it_works() {
    let broker = start(registry::oci("registry.example.com").account("demo", "canary-demo")).await;
    let answer = issue(&broker, "ci", "").await;
    assert_eq!(answer["revocable"], false);
    let refused = give_back(&broker, &token(&broker, "ci"), id(&answer)).await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.problem().as_deref(), Some("revocation-unsupported"));
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("`unsupported`") && detail.contains("does not expire"), "{detail}");
    assert_eq!(give_back(&broker, &token(&broker, "cd"), id(&answer)).await.status, 404);
    // An operator sees that it is out.
    let found = revoke(&broker, &operator(&broker, "sre"), &json!({ "subject": "local:ci" })).await;
    assert_eq!(found.json()["matched"], 0);
    let unsupported = json!([{ "registry": "prod", "credentials": 1, "until": null }]);
    assert_eq!(found.json()["unsupported"], unsupported);
}

#[tokio::test]
async fn an_operator_ends_the_credentials_of_a_subject() {
    let server = Minting::start(&HARBOR).await;
    let broker = start(server.table()).await;
    let (ci, again) = (issue(&broker, "ci", "").await, issue(&broker, "ci", "").await);
    let cd = issue(&broker, "cd", "").await;
    let sre = operator(&broker, "sre");
    let listed = revoke(&broker, &sre, &json!({ "subject": "local:ci", "dry_run": true })).await;
    assert_eq!(
        (listed.status.as_u16(), &listed.json()["matched"]),
        (200, &json!(2)),
        "{}",
        listed.text
    );
    let credentials = &listed.json()["credentials"];
    assert_eq!(
        (&credentials[0]["minted_by"], &credentials[1]["minted_by"]),
        (&ci["request_id"], &again["request_id"])
    );
    assert_eq!((&credentials[0]["sub"], &credentials[0]["ending"]), (&json!("ci"), &json!(false)));
    assert_eq!(server.alive().len(), 3);
    let ended = revoke(&broker, &sre, &json!({ "subject": "local:ci" })).await;
    assert_eq!((ended.status.as_u16(), &ended.json()["matched"]), (202, &json!(2)));
    eventually("they have ended", async || server.alive().len() == 1).await;
    assert!(!opens(&server, &ci).await && opens(&server, &cd).await);
    let records = broker.audit();
    let requested: Vec<&Value> =
        records.iter().filter(|record| record["event"] == "revoke.requested").collect();
    assert_eq!(requested.len(), 1);
    assert_eq!(requested[0]["subject"]["sub"], "alice");
    assert_eq!(requested[0]["revocation"]["subject"], "local:ci");
    assert_eq!(requested[0]["revocation"]["credentials"], 2);
    assert!(opens(&server, &cd).await);
}

#[tokio::test]
async fn an_operator_selects_by_what_it_knows() {
    let server = Minting::start(&HARBOR).await;
    let broker = start(server.table()).await;
    let (cd, sre) = (issue(&broker, "cd", "").await, operator(&broker, "sre"));
    for selects in [
        json!({ "project": "my-app" }),
        json!({ "registry": "prod" }),
        json!({ "provider": "harbor" }),
        json!({ "request_id": cd["request_id"] }),
        json!({ "project": "my-app", "registry": "prod", "subject": "local:cd" }),
    ] {
        let mut body = selects.clone();
        body["dry_run"] = json!(true);
        assert_eq!(revoke(&broker, &sre, &body).await.json()["matched"], 1, "{selects}");
    }
    for (body, part) in [
        (json!({}), "Nothing is selected"),
        (json!({ "dry_run": true }), "Nothing is selected"),
        (json!({ "subject": "ci" }), "ISSUER:SUB"),
        (json!({ "provider": "gitlab" }), "no registry of the settings"),
        (json!({ "project": "My-App" }), "`project`"),
        (json!({ "request_id": "x" }), "`request_id`"),
        (json!({ "all": true }), "unknown member"),
        (json!({ "gone": true }), "Nothing is selected"),
        (json!({ "project": "my-app", "gone": true }), "`gone` needs `request_id` or `registry`"),
        (json!({ "request_id": cd["request_id"], "gone": "yes" }), "`gone` must be"),
    ] {
        let refused = revoke(&broker, &sre, &body).await;
        assert_eq!(refused.problem().as_deref(), Some("invalid-request"), "{body}");
        assert!(refused.text.contains(part), "{body}: {}", refused.text);
    }
    for others in [
        json!({ "project": "other" }),
        json!({ "subject": "local:alice" }),
        json!({ "registry": "gone" }),
    ] {
        assert_eq!(revoke(&broker, &sre, &others).await.json()["matched"], 0, "{others}");
    }
    assert!(opens(&server, &cd).await);
}

/// It was deleted at the registry by hand, and the registry does not let the broker look.
#[tokio::test]
async fn the_word_of_an_operator_that_it_is_gone_ends_the_alert() {
    let server = Minting::start(&HARBOR).await;
    let broker = start(server.table().shared("subject")).await;
    let (one, other) = (issue(&broker, "ci", "").await, issue(&broker, "cd", "").await);
    let sre = operator(&broker, "sre");
    server.mood(Some(MintingMood::Away));
    let ending = give_back(&broker, &sre, id(&one)).await;
    assert_eq!(ending.json()["state"], "ending", "{}", ending.text);
    let overdue = async || {
        let metrics = broker.admin("/metrics").await.text;
        let line = metrics.lines().find(|line| line.starts_with("rise_broker_overdue_credentials"));
        line.unwrap().ends_with(" 1")
    };
    assert!(overdue().await);
    let selected = json!({ "request_id": id(&one), "gone": true, "dry_run": true });
    assert_eq!(revoke(&broker, &sre, &selected).await.json()["matched"], 1);
    assert!(overdue().await, "nothing happened");
    let requests = server.requests().len();
    let selected = json!({ "request_id": id(&one), "gone": true });
    let gone = revoke(&broker, &sre, &selected).await;
    assert_eq!((gone.status.as_u16(), &gone.json()["matched"]), (200, &json!(1)), "{}", gone.text);
    assert!(!overdue().await);
    assert_eq!(revoke(&broker, &sre, &selected).await.json()["matched"], 0);
    broker.end_due();
    let records = broker.audit();
    let find = |event: &str| {
        let mut of = records.iter().rev().filter(|record| record["event"] == event);
        of.next().unwrap().clone()
    };
    let (requested, completed) = (find("revoke.requested"), find("revoke.completed"));
    assert_eq!(requested["revocation"]["gone"], true);
    assert_eq!(
        (&completed["minted_by"], &completed["provider"]),
        (&one["request_id"], &Value::Null)
    );
    assert_eq!(completed["revocation"]["gone"], true);
    assert_eq!(completed["revocation"]["by"]["sub"], "alice");
    assert_eq!(find("revoke.intent").pointer("/revocation/gone"), None);
    // A caller hears that it has ended, a restart does not bring it back, and others go on.
    let again = give_back(&broker, &token(&broker, "ci"), id(&one)).await;
    assert_eq!(again.json()["state"], "ended");
    let after = start(server.table().shared("subject")).await;
    after.recover(broker.settings.path("audit")).await;
    let sre = operator(&after, "sre");
    let all = revoke(&after, &sre, &json!({ "registry": "prod", "dry_run": true })).await;
    assert_eq!(all.json()["matched"], 1, "{}", all.text);
    assert_eq!(all.json()["credentials"][0]["minted_by"], other["request_id"]);
    assert_eq!(server.requests().len(), requests, "the registry was not asked");
}

#[tokio::test]
async fn an_operator_ends_one_that_others_have() {
    let server = Minting::start(&HARBOR).await;
    let broker = start(server.table().shared("project")).await;
    let (one, two) = (issue(&broker, "ci", "").await, issue(&broker, "cd", "").await);
    let ended = give_back(&broker, &operator(&broker, "sre"), id(&two)).await;
    assert_eq!((ended.status.as_u16(), &ended.json()["state"]), (200, &json!("ended")));
    assert!(!opens(&server, &one).await && !opens(&server, &two).await);
}

#[tokio::test]
async fn others_are_no_operators() {
    let server = Minting::start(&HARBOR).await;
    let broker = start(server.table()).await;
    let answer = issue(&broker, "ci", "").await;
    for token in
        [token(&broker, "ci"), operator(&broker, "readers"), operator(&broker, "sre-guests")]
    {
        for body in
            [json!({ "subject": "local:ci" }), json!({ "dry_run": true }), json!({ "x": 1 })]
        {
            let denied = revoke(&broker, &token, &body).await;
            assert_eq!(
                denied.problem().as_deref(),
                Some("access-denied"),
                "{body}: {}",
                denied.text
            );
        }
    }
    assert_eq!(give_back(&broker, &operator(&broker, "readers"), id(&answer)).await.status, 404);
    assert!(opens(&server, &answer).await);
    let denied = broker.audit().iter().filter(|record| record["operation"] == "revoke").count();
    assert_eq!(denied, 10);
}

/// `make soak` does it with 10,000.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_is_read_back_and_ends_at_the_pace_of_its_registry() {
    let report = outstanding::run(40, 30).await;
    assert_eq!((report.issued, report.failed, report.listed), (80, 0, 80), "{report:?}");
    assert_eq!((report.matched, report.left), (40, 40), "{report:?}");
    // 80 requests, of which it answers 30 a second.
    assert!(report.throttled > 0, "{report:?}");
}
