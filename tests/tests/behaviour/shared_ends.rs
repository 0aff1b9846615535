//! Credentials that somebody can end, and that several brokers hand out: no broker hands out one
//! that ends, and none ends it that somebody else still has.

use std::fs;
use std::time::Duration;

use rise_broker_tests::redis::GateMode;
use rise_broker_tests::{
    Client, HARBOR, Installation, TestBroker, eventually, logs, repository, within,
};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::shared_outstanding::{
    Group, REVOCATIONS, events, give_back, id, issue, operator, out, state, stated,
};

/// The login, by which credentials are told apart.
fn login(answer: &Value) -> &str {
    answer["credentials"]["username"].as_str().unwrap()
}

/// Without what each request has of its own.
fn common(answer: &Value) -> Value {
    let mut answer = answer.clone();
    answer.as_object_mut().unwrap().remove("request_id");
    answer["credentials"].as_object_mut().unwrap().remove("expires_in");
    answer
}

/// The `source` and `minted_by` of the record of this answer.
fn source(broker: &TestBroker, answer: &Value) -> (String, String) {
    let is_it = |record: &Value| {
        record["event"] == "issue.completed" && record["request_id"] == answer["request_id"]
    };
    let record = broker.audit().into_iter().find(is_it).unwrap();
    let text = |name: &str| record[name].as_str().unwrap().to_owned();
    (text("source"), text("minted_by"))
}

/// One credential that each broker has handed out once.
async fn one_for_all(brokers: [&TestBroker; 3]) -> [Value; 3] {
    let mut answers = Vec::new();
    for broker in brokers {
        answers.push(issue(broker, "ci", "").await);
    }
    let [first, ..] = answers.as_slice() else { unreachable!("three") };
    assert!(answers.iter().all(|answer| common(answer) == common(first)), "{answers:?}");
    answers.try_into().unwrap()
}

async fn store_is_back(brokers: &[&TestBroker]) {
    for broker in brokers {
        eventually("the store is back", async || broker.has_store().await).await;
    }
}

#[tokio::test]
async fn one_mint_serves_all_brokers_and_the_last_holder_ends_it() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("subject").await;
    let [first, second, last] = one_for_all([&one, &other, &third]).await;
    assert_eq!(group.server.alive().len(), 1);
    assert_eq!((&first["revocable"], &first["ended_by"]), (&json!(true), &json!("broker")));
    let minted_by = id(&first).to_owned();
    assert_eq!(source(&one, &first), ("minted".to_owned(), minted_by.clone()));
    for (broker, answer) in [(&other, &second), (&third, &last)] {
        assert_eq!(source(broker, answer), ("cached".to_owned(), minted_by.clone()));
    }
    // Nobody gives back what somebody else has got, wherever.
    for broker in [&one, &other, &third] {
        let refused = give_back(broker, "cd", id(&second)).await;
        assert_eq!(state(&refused), stated(404, "credential-not-found"), "{}", refused.text);
    }
    // Each at another broker than the one that answered.
    for (broker, answer) in [(&third, &first), (&one, &second)] {
        for _ in 0..2 {
            let given = give_back(broker, "ci", id(answer)).await;
            assert_eq!(state(&given), stated(200, "shared"), "{}", given.text);
        }
        assert_eq!(group.server.opens(&last, HARBOR.repository).await, 200);
    }
    let given = give_back(&other, "ci", id(&last)).await;
    assert_eq!(state(&given), stated(200, "ended"), "{}", given.text);
    assert_eq!((group.server.alive().len(), group.deletions()), (0, 1));
    // Every broker has a copy in its memory, and the store has one. It is handed to nobody.
    let next = one_for_all([&third, &one, &other]).await;
    assert_ne!(login(&next[0]), login(&first));
    assert_eq!(group.server.opens(&next[0], HARBOR.repository).await, 200);
    assert_eq!(group.server.alive().len(), 1);
}

/// The others learn of a credential although the store was busy for a moment.
#[tokio::test]
async fn one_late_answer_makes_no_second_mint() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("subject").await;
    let late = Duration::from_millis(150);
    group.gate.set(GateMode::LateOnce(group.redis.port(), "return 'listed'", late));
    store_is_back(&[&one, &other, &third]).await;
    one_for_all([&one, &other, &third]).await;
    assert_eq!(group.server.alive().len(), 1);
}

/// At once, and not when a broker has compared its list.
#[tokio::test]
async fn what_an_operator_ends_is_handed_out_by_no_broker() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("project").await;
    for (broker, query) in [(&other, json!({ "project": "my-app" })), (&one, json!(null))] {
        let [first, second, _] = one_for_all([&one, &other, &third]).await;
        // By the request of an answer that another broker gave.
        let body =
            if query.is_null() { json!({ "request_id": second["request_id"] }) } else { query };
        let ended = broker.post(REVOCATIONS, &operator(broker), &body).await;
        assert_eq!(ended.json()["matched"], 1, "{}", ended.text);
        assert_eq!(ended.json()["unsupported"], json!([]));
        group.until_ended(broker, 0).await;
        eventually("it is recorded", async || {
            events(broker, id(&first)).ends_with(&["revoke.completed".to_owned()])
        })
        .await;
        let next = one_for_all([&third, &other, &one]).await;
        assert_ne!(login(&next[0]), login(&first));
        assert_eq!(group.server.alive().len(), 1, "one more mint for all");
        for id in next.iter().map(id) {
            give_back(&third, "ci", id).await;
        }
        assert!(group.server.alive().is_empty());
    }
}

/// While it is being ended and the registry does not answer, it is as good as ended.
#[tokio::test]
async fn what_is_being_ended_is_handed_out_by_no_broker() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("subject").await;
    let [first, ..] = one_for_all([&one, &other, &third]).await;
    let body = json!({ "project": "my-app" });
    group.server.mood(Some(rise_broker_tests::MintingMood::Refuses));
    let ended = other.post(REVOCATIONS, &operator(&other), &body).await;
    assert_eq!(ended.json()["matched"], 1, "{}", ended.text);
    eventually("it was tried", async || {
        events(&other, id(&first)).contains(&"revoke.failed".to_owned())
    })
    .await;
    let next = one_for_all([&third, &one, &other]).await;
    assert_ne!(login(&next[0]), login(&first));
    assert_eq!(group.server.alive().len(), 2);
}

/// A broker that cannot ask whether a copy of another one's credential is good mints its own.
#[tokio::test]
async fn while_the_store_is_away_a_broker_hands_out_what_it_minted_itself() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("subject").await;
    let pass = GateMode::Pass(group.redis.port());
    for (number, mode) in [GateMode::Refuse, GateMode::Silent, GateMode::Lie(b"+OK\r\n".to_vec())]
        .into_iter()
        .enumerate()
    {
        let [first, second, _] = one_for_all([&one, &other, &third]).await;
        group.gate.set(mode.clone());
        let own = issue(&one, "ci", "").await;
        assert_eq!(login(&own), login(&first), "{mode:?}");
        let theirs = issue(&other, "ci", "").await;
        assert_ne!(login(&theirs), login(&first), "{mode:?}");
        assert_eq!(source(&other, &theirs).0, "minted");
        let again = issue(&other, "ci", "").await;
        assert_eq!(login(&again), login(&theirs), "{mode:?}: it is its own");
        // Nobody knows who else has it.
        let refused = give_back(&other, "ci", id(&second)).await;
        assert_eq!(state(&refused), stated(503, "shared-store-unavailable"), "{mode:?}");
        group.gate.set(pass.clone());
        store_is_back(&[&one, &other, &third]).await;
        // The brokers count together again, also those who came meanwhile.
        let mut given = Vec::new();
        for answer in [&first, &second, &own] {
            given.push(state(&give_back(&third, "ci", id(answer)).await).1);
        }
        assert_eq!(given, ["shared"; 3], "{mode:?}: the third broker's is out");
        for answer in [&theirs, &again] {
            give_back(&third, "ci", id(answer)).await;
        }
        assert_eq!(group.server.alive().len(), 1, "{mode:?}");
        group.forward(3605);
        group.until_ended(&one, 0).await;
        assert_eq!(group.deletions(), 2 * (number + 1), "{mode:?}");
    }
}

/// What a broker ends while it cannot reach the store, it tells when it can.
#[tokio::test]
async fn what_ended_while_the_store_was_away_is_told_later() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("project").await;
    let [first, ..] = one_for_all([&one, &other, &third]).await;
    group.gate.set(GateMode::Refuse);
    let body = json!({ "project": "my-app" });
    let refused = one.post(REVOCATIONS, &operator(&one), &body).await;
    assert_eq!(state(&refused).0, 503, "what others have was not ended");
    group.until_ended(&one, 0).await;
    eventually("its list is empty", async || out(&one) == 0).await;
    group.gate.set(GateMode::Pass(group.redis.port()));
    store_is_back(&[&one, &other, &third]).await;
    let next = one_for_all([&other, &third, &one]).await;
    assert_ne!(login(&next[0]), login(&first));
    assert_eq!(group.server.alive().len(), 1);
}

/// Nobody knows any more who got it from other brokers, so it ends at its granted end.
#[tokio::test]
async fn a_store_that_forgot_who_has_it_ends_nothing_too_early() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("subject").await;
    let [first, second, last] = one_for_all([&one, &other, &third]).await;
    group.redis.ask(&["FLUSHALL"]);
    // The copies are of no use before the minter has told of them again.
    let again = issue(&other, "ci", "").await;
    assert_ne!(login(&again), login(&first));
    let early = give_back(&one, "ci", id(&first)).await;
    assert_eq!(state(&early), stated(200, "shared"), "{}", early.text);
    let unknown = give_back(&third, "ci", id(&last)).await;
    assert_eq!(state(&unknown), stated(503, "shared-store-unavailable"), "{}", unknown.text);
    for _ in 0..2 {
        one.follow_others().await;
    }
    assert_eq!(group.server.opens(&second, HARBOR.repository).await, 200);
    group.forward(3605);
    group.until_ended(&one, 1).await;
    assert_eq!(group.deletions(), 1);
}

/// The store keeps a copy of what has ended, and a broker that starts finds it.
#[tokio::test]
async fn a_copy_of_what_has_ended_is_passed_over() {
    let group = Group::prepare().await;
    let [one, other, _] = group.brokers("subject").await;
    let first = issue(&one, "ci", "").await;
    let names = group.redis.ask(&["KEYS", "{rise}:credential:*"]);
    assert_eq!(names.lines().count(), 1);
    assert_eq!(state(&give_back(&other, "ci", id(&first)).await), stated(200, "ended"));
    let table = group.server.table().shared("subject");
    for sub in ["ci", "cd"] {
        let later = group.broker_with(&["old.key"], &table).await;
        let next = issue(&later, sub, "").await;
        assert_eq!(source(&later, &next).0, "minted");
        assert_ne!(login(&next), login(&first));
    }
    // An entry without its mark, and a mark without an entry.
    let second = issue(&other, "ci", "").await;
    for kind in ["out", "ended"] {
        for name in group.redis.ask(&["KEYS", &format!("{{rise}}:{kind}:*")]).lines() {
            group.redis.ask(&["DEL", name]);
        }
        let later = group.broker_with(&["old.key"], &table).await;
        assert_ne!(login(&issue(&later, "ci", "").await), login(&second), "{kind}");
    }
}

/// A real process, killed while others have what it minted.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_minter_takes_nothing_with_it() {
    let group = Group::prepare().await;
    let [one, other, _] = group.brokers("project").await;
    let table = group.server.table().shared("project");
    let mut installation = Installation::new(group.settings(&["old.key"], &table));
    fs::copy(one.settings.path("issuer.pem"), installation.path("issuer.pem")).unwrap();
    installation.provider(&repository().join("dist/providers/harbor.wasm"), "harbor");
    installation.unlimited();
    let mut serving = installation.serve();
    let url = format!("{}/api/v1/registry/credentials?project=my-app", serving.url);
    let answer = Client::new().get_as(&url, &installation.token_for("my-app")).await.unwrap();
    assert_eq!(answer.status, 200);
    let minted = answer.json();
    let first = issue(&one, "ci", "").await;
    assert_eq!(login(&first), login(&minted));
    kill_process(serving.id(), Signal::KILL).unwrap();
    serving.ended();
    drop(installation);
    let second = issue(&other, "cd", "").await;
    assert_eq!(login(&second), login(&minted));
    // Whoever the killed broker answered may have it.
    for (sub, answer) in [("ci", &first), ("cd", &second)] {
        assert_eq!(state(&give_back(&one, sub, id(answer)).await), stated(200, "shared"));
    }
    assert_eq!(group.server.opens(&minted, HARBOR.repository).await, 200);
    group.nobody_lives();
    group.forward(3605);
    let taken_over = within(Duration::from_mins(1), async || {
        other.follow_others().await;
        other.end_due();
        group.server.alive().is_empty()
    });
    assert!(taken_over.await, "{}", logs::text());
    assert_eq!(group.deletions(), 1);
}

/// The store and the network to it see neither the login nor what its provider remembered.
#[tokio::test]
async fn the_store_learns_nothing_of_a_copy() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("project").await;
    let answers = one_for_all([&one, &other, &third]).await;
    let (dump, wire) = (group.redis.dump(), group.gate.seen());
    let contains = |bytes: &[u8], text: &str| {
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    assert!(contains(&dump, "credential"), "a copy is kept");
    let mut canaries = group.server.secrets();
    canaries.extend(group.server.alive());
    canaries.extend(["my-app", "acme"].map(str::to_owned));
    for answer in &answers {
        canaries.extend([login(answer), id(answer)].map(str::to_owned));
        canaries.push(answer["credentials"]["password"].as_str().unwrap().to_owned());
    }
    for canary in canaries {
        assert!(!contains(&dump, &canary), "{canary} in the store");
        assert!(!contains(&wire, &canary), "{canary} on the wire");
    }
}
