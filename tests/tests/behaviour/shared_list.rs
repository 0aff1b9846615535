//! The list of what is out, when the store loses, forgets or makes up a part of it.

use std::collections::BTreeSet;

use rise_broker_tests::redis::GateMode;
use rise_broker_tests::{PATIENCE, eventually, logs, within};
use serde_json::json;

use crate::shared_outstanding::{
    Group, REVOCATIONS, events, give_back, id, issue, operator, out, state, stated,
};

/// The store has done what a broker asked for, and the broker does not know.
#[tokio::test]
async fn what_a_broker_took_and_does_not_know_of_is_ended() {
    let group = Group::prepare().await;
    let [one, other, _] = group.brokers("off").await;
    let answer = issue(&one, "ci", "").await;
    let lost = GateMode::Edit(group.redis.port(), "return taken", "return false");
    group.gate.set(lost);
    eventually("the store is back", async || other.has_store().await).await;
    let given = give_back(&other, "ci", id(&answer)).await;
    assert_eq!(state(&given), stated(202, "ending"), "{}", given.text);
    assert_eq!(out(&other), 0);
    group.gate.set(GateMode::Pass(group.redis.port()));
    for broker in [&one, &other] {
        eventually("the store is back", async || broker.has_store().await).await;
    }
    one.follow_others().await;
    other.follow_others().await;
    group.until_ended(&other, 0).await;
    assert_eq!((group.deletions(), events(&one, id(&answer)).len()), (1, 1));
}

/// A store that evicts may forget the credential and not who holds it.
#[tokio::test]
async fn what_the_store_forgot_has_not_ended() {
    let group = Group::prepare().await;
    let [one, other, _] = group.brokers("off").await;
    let answer = issue(&one, "ci", "").await;
    let entry = group.redis.ask(&["ZRANGE", "{rise}:outstanding", "0", "-1"]);
    group.redis.ask(&["DEL", &entry]);
    assert_eq!(group.redis.ask(&["EXISTS", &format!("{entry}:holders")]), "1");
    let unknown = give_back(&other, "ci", id(&answer)).await;
    assert_eq!(state(&unknown), stated(404, "credential-not-found"), "{}", unknown.text);
    assert_eq!((out(&one), group.server.alive().len()), (1, 1));
    // Its minter knows better.
    assert_eq!(state(&give_back(&one, "ci", id(&answer)).await), stated(200, "ended"));
    assert!(group.server.alive().is_empty());
}

/// What leads from the request of each caller to the credential goes when the caller has it no
/// more, and does not outlive it.
#[tokio::test]
async fn pointers_do_not_outlive_what_they_lead_to() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("subject").await;
    let first = issue(&one, "ci", "").await;
    let second = issue(&other, "ci", "").await;
    let pointers = || {
        let names = group.redis.ask(&["KEYS", "{rise}:held:*"]);
        names.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let [pointer] = pointers().try_into().unwrap();
    let left: i64 = group.redis.ask(&["TTL", &pointer]).parse().unwrap();
    assert!((3600..=3900).contains(&left), "{left} s");
    let entry = group.redis.ask(&["ZRANGE", "{rise}:outstanding", "0", "-1"]);
    let stays: i64 = group.redis.ask(&["TTL", &entry]).parse().unwrap();
    assert!(stays > left, "the broker ends the credential");
    // The list is told again with all who have it, and the pointer is as before.
    group.redis.ask(&["FLUSHALL"]);
    other.follow_others().await;
    for _ in 0..2 {
        one.follow_others().await;
    }
    assert_eq!(state(&give_back(&third, "ci", id(&first)).await), stated(200, "shared"));
    assert_eq!(pointers(), Vec::<String>::new(), "{second}: the minter does not know of it");
    let mine = issue(&one, "ci", "").await;
    let [pointer] = pointers().try_into().unwrap();
    let left: i64 = group.redis.ask(&["TTL", &pointer]).parse().unwrap();
    assert!((3600..=3900).contains(&left), "{left} s");
    // Somebody beyond those that the store counts has none.
    let crowd = "for i = 1, 1024 do redis.call('HSET', KEYS[1], 'f' .. i, 'v') end";
    group.redis.ask(&["EVAL", crowd, "1", &format!("{entry}:holders")]);
    issue(&other, "ci", "").await;
    assert_eq!(pointers(), [pointer]);
    assert_eq!(state(&give_back(&third, "ci", id(&mine)).await), stated(200, "shared"));
}

/// A store with an endless list.
#[tokio::test]
async fn a_list_without_an_end_keeps_no_broker_busy() {
    let group = Group::prepare().await;
    let [one, ..] = group.brokers("off").await;
    let endless = ("return { stay, #found, entries }", "return { 100, 100, {} }");
    group.gate.set(GateMode::Edit(group.redis.port(), endless.0, endless.1));
    let looks = within(PATIENCE, async || one.has_store().await);
    assert!(tokio::time::timeout(2 * PATIENCE, looks).await.is_ok_and(|has_store| has_store));
}

/// They are left for a month, and are no failure of the store.
#[tokio::test]
async fn what_was_sealed_with_a_key_that_is_gone_is_passed_over() {
    let group = Group::prepare().await;
    let table = group.server.table();
    let old = group.broker_with(&["old.key"], &table).await;
    issue(&old, "ci", "&lifetime=600").await;
    drop(old);
    drop(group.broker_with(&["new.key", "old.key"], &table).await);
    let new = group.broker_with(&["new.key"], &table).await;
    group.nobody_lives();
    group.forward(605);
    new.follow_others().await;
    let dry = json!({ "project": "my-app", "dry_run": true });
    let listed = new.post(REVOCATIONS, &operator(&new), &dry).await;
    assert_eq!(listed.json()["matched"], 0, "{}", listed.text);
    assert!(new.has_store().await);
    assert!(!logs::text().contains("a stored value was edited"), "{}", logs::text());
    let metrics = new.admin("/metrics").await.text;
    assert!(metrics.contains("purpose=\"outstanding\",reason=\"nonsense\""), "{metrics}");
}

/// Whoever can write to the store, and has heard all that passed, makes no broker forget what it
/// has to end.
#[tokio::test]
async fn a_store_that_lies_makes_nobody_forget() {
    let group = Group::prepare().await;
    let [one, other, _] = group.brokers("off").await;
    let ended = issue(&one, "ci", "").await;
    assert_eq!(state(&give_back(&other, "ci", id(&ended)).await), stated(200, "ended"));
    one.follow_others().await;
    let mark = group.redis.ask(&["KEYS", "{rise}:ended:*"]);
    let forged = group.redis.ask(&["GET", &mark]);
    issue(&one, "ci", "&lifetime=600").await;
    let wire = group.gate.seen();
    let marks: BTreeSet<_> = names(&wire, "{rise}:ended:").into_iter().collect();
    assert!(marks.len() > 1, "{marks:?}");
    // The mark of another credential, and what brokers before wrote.
    for value in [&*forged, "2", "marks", ""] {
        for name in names(&wire, "{rise}:out:") {
            group.redis.ask(&["DEL", &name]);
        }
        for name in &marks {
            group.redis.ask(&["SET", name, value]);
        }
        for _ in 0..2 {
            one.follow_others().await;
        }
        assert_eq!(out(&one), 1, "{value}");
    }
    // A store that says by itself that it has ended.
    let says =
        GateMode::Edit(group.redis.port(), "words[#words + 1] = word", "words[#words+1]='ended'");
    group.gate.set(says);
    for _ in 0..2 {
        one.follow_others().await;
    }
    assert_eq!(out(&one), 1);
    group.gate.set(GateMode::Pass(group.redis.port()));
    eventually("the store is back", async || one.has_store().await).await;
    group.forward(605);
    group.until_ended(&one, 0).await;
}

/// Nobody ends what somebody else got, whatever the store says of who holds it.
#[tokio::test]
async fn a_store_that_lies_gives_nothing_to_another_one() {
    let group = Group::prepare().await;
    let [one, other, third] = group.brokers("project").await;
    let (first, second) = (issue(&one, "ci", "").await, issue(&other, "cd", "").await);
    let entry = group.redis.ask(&["ZRANGE", "{rise}:outstanding", "0", "-1"]);
    let holders = format!("{entry}:holders");
    assert_eq!(group.redis.ask(&["HLEN", &holders]), "2");
    // Each of them holds it by the other one's request.
    let swap = "local all = redis.call('HGETALL', KEYS[1])
        redis.call('HSET', KEYS[1], all[1], all[4], all[3], all[2])";
    group.redis.ask(&["EVAL", swap, "1", &holders]);
    let refused = give_back(&third, "cd", id(&first)).await;
    assert_eq!(state(&refused), stated(503, "shared-store-unavailable"), "{}", refused.text);
    eventually("the store is back", async || third.has_store().await).await;
    let refused = give_back(&third, "ci", id(&second)).await;
    assert_eq!(state(&refused), stated(404, "credential-not-found"), "{}", refused.text);
    assert_eq!(group.server.alive().len(), 1);
}

/// The names in the store that begin with this and have passed a gate.
fn names(wire: &[u8], start: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(wire);
    let digest = |rest: &str| rest.get(..40).filter(|digest| is_hex(digest)).map(str::to_owned);
    let found: BTreeSet<_> = text.split(start).skip(1).filter_map(digest).collect();
    found.into_iter().map(|digest| format!("{start}{digest}")).collect()
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
