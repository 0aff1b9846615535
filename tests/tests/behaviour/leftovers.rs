//! Credentials at registries of which the broker has lost the records: they are found by their
//! names, reported, and ended by the word of an operator. What anybody may still use stays, and
//! what the broker did not make.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use rise_broker::domain::Clock;
use rise_broker_tests::imaginary::{ADMIN_TOKEN, Imaginary};
use rise_broker_tests::registry::{RegistryTable, registry};
use rise_broker_tests::{
    AUTH, GITEA, GITLAB, HARBOR, HUB_ORGANIZATION, Minting, MintingKind, MintingMood, NEXUS,
    TestBroker, eventually, logs,
};
use serde_json::{Value, json};
use ulid::Ulid;

use super::revoke_command::{installed, issue, reached};

/// Those whose providers find leftovers.
const KINDS: [&MintingKind; 4] = [&HARBOR, &GITLAB, &GITEA, &NEXUS];
const HOUR: i64 = 3600;
/// Older than anything that a broker may have granted.
const LONG: i64 = 14 * HOUR;
/// An id of the year 2016.
const OLD: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// A broker whose clock a test moves on.
struct Scene {
    broker: TestBroker,
    ahead: Arc<AtomicI64>,
}

impl Scene {
    /// A broker with an empty audit log.
    async fn of(table: &RegistryTable, provider: &'static str) -> Self {
        let ahead = Arc::new(AtomicI64::new(0));
        let seconds = Arc::clone(&ahead);
        let clock = Clock::from_fn(move || {
            Clock::system().now() + SignedDuration::from_secs(seconds.load(Ordering::Relaxed))
        });
        let broker = TestBroker::with_registries(table).clock(clock);
        let broker = if provider == "revocation-rogue" {
            broker.guests(&[provider])
        } else {
            broker.providers(&[provider])
        };
        Self { broker: broker.start().await, ahead }
    }

    fn by(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    fn now(&self) -> Timestamp {
        self.broker.process.foundation.clock.now()
    }

    async fn issue(&self) -> String {
        let token = self.broker.token_of("ci", &json!({ "repository": "acme/my-app" }), self.now());
        let answer = self.broker.credentials(&token, "project=my-app").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["request_id"].as_str().unwrap().to_owned()
    }

    /// The metric: how many leftovers the registry had when it was last asked.
    async fn found(&self) -> Option<usize> {
        let text = self.broker.admin("/metrics").await.text;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("rise_broker_leftovers{registry=\"prod\"} "))?;
        line.parse().ok()
    }

    async fn finds(&self, expected: usize) {
        eventually("the leftovers are counted", async || {
            self.broker.look_for_leftovers();
            self.found().await == Some(expected)
        })
        .await;
    }

    /// The records about the end of something, as event, cause and id.
    fn records(&self) -> Vec<[String; 3]> {
        let records = self.broker.audit();
        let of = records.iter().filter(|record| !record["revocation"].is_null());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        of.map(|record| {
            let cause = &record["revocation"]["cause"];
            [text(&record["event"]), text(cause), text(&record["minted_by"])]
        })
        .collect()
    }
}

fn id_at(at: Timestamp) -> Ulid {
    Ulid::from_parts(u64::try_from(at.as_millisecond()).unwrap(), 7)
}

/// Adds what is like a credential of the broker: of a grant an hour ago, as another broker may have
/// made it, and of people.
fn add_others(server: &Minting, like: &str, now: Timestamp) -> Vec<String> {
    let name = &server.alive()[0];
    let named = |end: &str| name.replace(&like.to_lowercase(), end);
    let young = id_at(now - SignedDuration::from_secs(HOUR)).to_string().to_lowercase();
    let old = OLD.to_lowercase();
    let others =
        [young, "nightly".to_owned(), format!("{old}-2"), format!("x{old}"), "admin".to_owned()];
    let mut others = others.map(|end| named(&end)).to_vec();
    others.push("release".to_owned());
    for name in &others {
        server.add(name);
    }
    others.sort();
    others
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[tokio::test]
async fn what_a_lost_log_had_is_reported_and_ended_by_the_word_of_an_operator() {
    for kind in KINDS {
        let server = Minting::start(kind).await;
        let before = Scene::of(&server.table(), kind.provider).await;
        let (one, two) = (before.issue().await, before.issue().await);
        // Its log is lost: this one has another.
        let scene = Scene::of(&server.table(), kind.provider).await;
        scene.by(LONG);
        let others = add_others(&server, &one, scene.now());
        let all = sorted(server.alive());
        let asked = server.requests().len();
        scene.finds(2).await;
        assert_eq!(sorted(server.alive()), all, "{}", kind.provider);
        let sent = server.requests().split_off(asked);
        assert!(sent.iter().all(|request| request.starts_with("GET ")), "{sent:?}");
        assert_eq!(scene.records(), [[""; 3]; 0]);
        let text = logs::text();
        assert!(text.contains("of no record and too old to be in use"), "{text}");

        let table = server.table().with("leftovers", "end");
        scene.broker.reload(format!("{AUTH}{table}")).await;
        scene.by(5 * HOUR);
        scene.finds(0).await;
        let young = sorted(server.alive());
        assert_eq!(young, others, "{}", kind.provider);
        for id in [&one, &two] {
            eventually("it is recorded", async || {
                let records = scene.records();
                let of: Vec<_> = records.iter().filter(|record| record[2] == **id).collect();
                assert!(of.iter().all(|record| record[1] == "leftover"));
                of.iter().map(|record| &*record[0]).eq(["revoke.intent", "revoke.completed"])
            })
            .await;
        }
        let metrics = scene.broker.admin("/metrics").await.text;
        let counted =
            r#"rise_broker_revocations_total{registry="prod",cause="leftover",outcome="ok"} 2"#;
        assert!(metrics.contains(counted), "{metrics}");
        for secret in server.secrets() {
            let audit = serde_json::to_string(&scene.broker.audit()).unwrap();
            for text in [&audit, &logs::text(), &metrics] {
                assert!(!text.contains(&secret), "{secret}");
            }
        }
    }
}

/// It is about to be ended, whatever the registry says today.
#[tokio::test]
async fn what_is_on_the_list_is_no_leftover() {
    for kind in KINDS {
        let server = Minting::start(kind).await;
        let scene = Scene::of(&server.table().with("leftovers", "end"), kind.provider).await;
        scene.issue().await;
        scene.by(LONG);
        scene.finds(0).await;
        assert_eq!(server.alive().len(), 1, "{}", kind.provider);
        assert_eq!(scene.records(), [[""; 3]; 0]);
    }
}

#[tokio::test]
async fn a_registry_that_is_away_is_asked_again() {
    for kind in KINDS {
        let server = Minting::start(kind).await;
        Scene::of(&server.table(), kind.provider).await.issue().await;
        let scene = Scene::of(&server.table().with("leftovers", "end"), kind.provider).await;
        scene.by(LONG);
        for mood in [MintingMood::Away, MintingMood::Throttles] {
            server.mood(Some(mood));
            let asked = server.requests().len();
            scene.broker.look_for_leftovers();
            eventually("it is asked", async || server.requests().len() > asked).await;
            assert_eq!(scene.found().await, None);
            scene.by(11 * 60);
        }
        server.mood(Some(MintingMood::Refuses));
        scene.finds(1).await;
        eventually("the failure is recorded", async || {
            scene.records().iter().any(|[event, ..]| event == "revoke.failed")
        })
        .await;
        assert_eq!(server.alive().len(), 1);
        server.mood(None);
        scene.by(11 * 60);
        scene.finds(0).await;
        assert!(server.alive().is_empty(), "{}", kind.provider);
    }
}

#[tokio::test]
async fn a_registry_that_cannot_list_has_no_count() {
    let table = registry("gitlab")
        .with("base_url", "http://127.0.0.1:9")
        .with("project", "group/{project}")
        .with("private_token", "x")
        .with("registry_url", "registry.gitlab.example.com")
        .with("accept_scope", "namespace")
        .with("trust_provider", true)
        .ceiling("private = true");
    let scene = Scene::of(&table, "gitlab").await;
    let found = scene.broker.generation.registries.iter().next().unwrap().clone();
    let found = scene.broker.process.issuing.find_leftovers(&found).await;
    assert_eq!(found.unwrap(), None);
    assert_eq!(scene.found().await, None);
}

#[tokio::test]
async fn a_setting_without_an_effect_is_a_mistake() {
    let server = Minting::start(&HUB_ORGANIZATION).await;
    let table = server.table().with("leftovers", "report");
    let broker = TestBroker::with_registries(table).providers(&["dockerhub"]).try_start().await;
    let Err(problems) = broker else { panic!("it started") };
    let text = rise_broker_tests::lines(&problems);
    assert!(text.contains("registries.prod.leftovers"), "{text}");
    assert!(text.contains("cannot find credentials by their names; remove this"), "{text}");
}

/// A registry of the guest `revocation-rogue`.
fn rogue(server: &Imaginary, finds: &str, told: &Value) -> RegistryTable {
    let (all, each) = ("/api/tokens", "/api/projects/{project}/tokens");
    let allow = ["POST", "GET", "DELETE"].map(|method| {
        let url = server.url();
        format!("\"{method} {url}{all}\", \"{method} {url}{each}\"")
    });
    registry("revocation-rogue")
        .with("base_url", server.url())
        .with("admin_token", ADMIN_TOKEN)
        .with("finds", finds)
        .with("told", told.clone())
        .with("leftovers", "end")
        .with("trust_provider", true)
        .ceiling(&format!("private = true\nallow = [{}]", allow.join(", ")))
}

/// The methods of the requests that it got.
fn methods(server: &Imaginary) -> Vec<String> {
    server.heard().into_iter().map(|heard| heard.method.to_string()).collect()
}

#[tokio::test]
async fn a_provider_that_lies_gets_nothing_ended_that_may_be_in_use() {
    let server = Imaginary::start().await;
    let note = format!("{}/api/tokens/1", server.url());
    let scene = Scene::of(&rogue(&server, "told", &json!([])), "revocation-rogue").await;
    let live = scene.issue().await;
    scene.by(LONG);
    // Five hours later, when the broker looks.
    let young = id_at(scene.now() - SignedDuration::from_secs(7 * HOUR)).to_string();
    let future = id_at(scene.now() + SignedDuration::from_secs(6 * HOUR)).to_string();
    let told = json!([
        [live, note],
        [live.to_lowercase(), note],
        [young, note],
        [future, note],
        ["", note],
        ["admin", note],
        ["../../users/admin", note],
        ["ZZZZZZZZZZZZZZZZZZZZZZZZZZ", note],
        [format!("{OLD}\n"), note],
        [format!("{OLD}0"), note],
        [OLD, ""],
        [OLD, "a\nb"],
        [OLD, "x".repeat(1025)],
    ]);
    let reload = async |told: &Value| {
        let table = rogue(&server, "told", told);
        scene.broker.reload(format!("{AUTH}{table}")).await;
        scene.by(5 * HOUR);
    };
    reload(&told).await;
    scene.finds(0).await;
    assert!(logs::text().contains("a provider listed what cannot be a leftover"));
    assert_eq!(scene.records(), [[""; 3]; 0]);
    assert!(!methods(&server).contains(&"DELETE".to_owned()));
    // The same with an old id is a leftover.
    reload(&json!([[OLD.to_lowercase(), note]])).await;
    scene.broker.look_for_leftovers();
    eventually("it is ended", async || methods(&server).contains(&"DELETE".to_owned())).await;
    eventually("that is recorded", async || {
        scene.records().iter().any(|[event, _, id]| event == "revoke.completed" && id == OLD)
    })
    .await;
}

#[tokio::test]
async fn a_provider_only_reads_when_it_looks() {
    for (how, why) in [
        ("deletes", "DELETE in `leftovers.find`, which only reads"),
        ("makes", "POST in `leftovers.find`, which only reads"),
        ("of-a-project", "GET http://127.0.0.1"),
        ("random", "`leftovers` has no grant"),
        ("panics", "revocation-rogue was told to panic"),
        ("configured", "a note that holds a configured secret"),
    ] {
        let server = Imaginary::start().await;
        let scene = Scene::of(&rogue(&server, how, &json!([])), "revocation-rogue").await;
        scene.broker.look_for_leftovers();
        eventually("the search has an end", async || logs::text().contains(why)).await;
        assert_eq!(methods(&server), [""; 0], "{how}");
        assert_eq!(scene.records(), [[""; 3]; 0], "{how}");
        assert!(!logs::text().contains(ADMIN_TOKEN), "{how}");
    }
}

#[tokio::test]
async fn a_list_that_is_too_long_is_cut() {
    let server = Imaginary::start().await;
    let table = rogue(&server, "too-many", &json!([])).with("leftovers", "report");
    let scene = Scene::of(&table, "revocation-rogue").await;
    scene.finds(1000).await;
    assert_eq!(methods(&server), [""; 0]);
}

/// The broker looks by itself, and a user of its machine ends what it found.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_lists_and_ends_leftovers() {
    let server = Minting::start(&HARBOR).await;
    let installation = installed(&server);
    let serving = installation.serve();
    let live = issue(&serving, &installation, "ci").await;
    server.add(&format!("robot$team+rise-{}", OLD.to_lowercase()));
    server.add("robot$team+rise-nightly");
    let listed = reached(&installation, &["revoke", "--leftovers", "--dry-run"]).await;
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let expected = format!("{OLD}  prod  made 2016-07-30T23:54:10.259Z  {}/api/", server.url());
    assert!(listed.stdout.starts_with(&expected), "{}", listed.stdout);
    assert!(!listed.stdout.contains(&live), "{}", listed.stdout);
    let reported = |line: &Value| {
        let text = line["message"].as_str().unwrap_or_default();
        text.starts_with("the registry has credentials that are of no record")
    };
    let mut found = None;
    eventually("it is logged", async || {
        found = serving.lines_so_far().into_iter().find(reported);
        found.is_some()
    })
    .await;
    let found = found.unwrap();
    assert_eq!((&found["registry"], &found["leftovers"]), (&json!("prod"), &json!(1)), "{found}");
    assert_eq!(server.alive().len(), 3);

    let ended = installation.run(&["revoke", "--leftovers", "--of-registry", "prod"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.ends_with("ended: 1\n"), "{}", ended.stdout);
    let left = sorted(server.alive());
    assert_eq!(left.len(), 2);
    assert!(left[0].ends_with(&live.to_lowercase()) && left[1].ends_with("rise-nightly"));
    let records = installation.audit();
    let find = |event: &str| records.iter().find(|record| record["event"] == event).unwrap();
    let requested = find("revoke.requested");
    let asked = json!({ "cause": "leftover", "credentials": 1 });
    assert_eq!((&requested["revocation"], &requested["registry"]), (&asked, &json!("prod")));
    let intent = find("revoke.intent");
    assert_eq!(intent["revocation"]["by"]["request_id"], requested["request_id"]);
    assert_eq!((&intent["minted_by"], &intent["project"]), (&json!(OLD), &Value::Null));

    let none = installation.run(&["revoke", "--leftovers"]);
    assert_eq!((none.code, &*none.stdout), (Some(0), "no leftovers\nended: 0\n"));
    server.mood(Some(MintingMood::Away));
    for (arguments, code, part) in [
        (&["revoke", "--leftovers", "--dry-run"][..], 1, "prod: "),
        (&["revoke", "--leftovers", "--of-registry", "x"], 1, "registry of the running broker"),
        (&["revoke", "--leftovers", "--of-project", "x"], 2, "cannot be used with"),
        (&["revoke", "--leftovers", "--gone"], 2, "cannot be used with"),
    ] {
        let wrong = installation.run(arguments);
        assert_eq!(wrong.code, Some(code), "{arguments:?}: {wrong:?}");
        assert!(wrong.stderr.contains(part), "{arguments:?}: {}", wrong.stderr);
    }
}
