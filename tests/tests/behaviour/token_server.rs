//! The token server under changes and mistakes of the operator, and under slow strangers.

use std::net::Ipv4Addr;

use rise_broker_tests::registry::distribution;
use rise_broker_tests::wire::Wire;
use rise_broker_tests::{AUTH, SIGNING, Settings, TestBroker, eventually, lines};
use serde_json::json;

use crate::distribution::{SERVICE, ask, builder, claims, get, opens, password, table};

const REPOSITORY: &str = "rise/apps/my-app:pull,push";

/// The same repository is another project's, once the registry's namespace is another one.
#[tokio::test]
async fn a_password_is_good_where_its_registry_was_when_it_was_issued() {
    let broker = builder("", &[table()]).start().await;
    let own = password(&broker, "project=my-app").await;
    assert_eq!(opens(&ask(&broker, &own, SERVICE, &[REPOSITORY]).await), [REPOSITORY]);
    let written = |table: &dyn std::fmt::Display| format!("{AUTH}{SIGNING}\n{table}");
    for moved in [
        distribution(SERVICE).lines("project_depth = 3"),
        distribution(SERVICE).with("namespace", "rise").lines("project_depth = 2"),
        distribution("other.example.com").with("namespace", "rise/apps").with("service", SERVICE),
    ] {
        broker.reload(written(&moved)).await;
        let answer = ask(&broker, &own, SERVICE, &[REPOSITORY]).await;
        assert_eq!(answer.status, 401, "{moved}: {}", answer.text);
    }
    // The registry is gone, and another one has its images.
    let other = written(&table().named("other")).replace("\"prod\"", "\"other\"");
    broker.reload(other).await;
    assert_eq!(ask(&broker, &own, SERVICE, &[REPOSITORY]).await.status, 401);
    // What does not move the images leaves it good.
    broker.reload(written(&table().lines("max_lifetime = 7200"))).await;
    assert_eq!(opens(&ask(&broker, &own, SERVICE, &[REPOSITORY]).await), [REPOSITORY]);
}

/// A repository below a project's is a project of its own, once projects have two parts.
#[tokio::test]
async fn a_password_opens_nothing_of_a_project_that_came_later() {
    let below = "rise/apps/my-app/web:pull,push";
    let with_children = table().with("child_repositories", true);
    let broker = builder("", std::slice::from_ref(&with_children)).start().await;
    let own = password(&broker, "project=my-app").await;
    let opened = async || opens(&ask(&broker, &own, SERVICE, &[REPOSITORY, below]).await);
    assert_eq!(opened().await, [REPOSITORY, below]);
    let written = |table: &dyn std::fmt::Display| format!("{AUTH}{SIGNING}\n{table}");
    broker.reload(written(&table().lines("project_depth = 2"))).await;
    assert_eq!(opened().await, [REPOSITORY]);
    // Each project has two parts now, and none owns `my-app`.
    broker.reload(written(&with_children.lines("project_depth = 2"))).await;
    let refused = ask(&broker, &own, SERVICE, &[REPOSITORY, below]).await;
    assert_eq!(refused.status, 401, "{}", refused.text);
}

/// It names the projects of everybody.
#[tokio::test]
async fn the_catalog_is_only_for_a_rule_that_says_so() {
    let catalog = "registry:catalog:*";
    let rule = "[[rules]]\nname = \"lists\"\nissuer = \"local\"\nclaims = { role = \"lister\" }\n\
                projects = [\"*\"]\nregistries = [\"prod\"]\nallow = [\"pull\"]\ncatalog = true\n";
    let broker = builder(rule, &[table()]).start().await;
    let lister = broker.token(&json!({ "role": "lister" }));
    let reader = broker.token(&json!({ "role": "reader" }));
    let access = async |password: &str| {
        let query = format!("/token?service={SERVICE}&scope={catalog}");
        let answer = get(&broker, password, &query).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        claims(answer.json()["token"].as_str().unwrap())["access"].clone()
    };
    let all = json!([{ "type": "registry", "name": "catalog", "actions": ["*"] }]);
    assert_eq!(access(&lister).await, all);
    let record = broker.audit().pop().unwrap();
    assert_eq!(record["rules"], json!(["lists"]), "{record}");
    assert_eq!(record["registry_token"]["scopes"], json!([catalog]), "{record}");
    assert_eq!(access(&reader).await, json!([]));
    // A rule for one project at a time cannot say it.
    let wrong = rule.replace("role = \"lister\"", "repository = \"acme/{project}\"");
    let problems = builder(&wrong, &[table()]).try_start().await.err().unwrap();
    assert!(lines(&problems).contains("the catalog has the names of all"), "{problems:?}");
    // A password is for its project.
    let own = password(&broker, "project=my-app").await;
    assert_eq!(access(&own).await, json!([]));
}

#[tokio::test]
async fn rules_on_trial_leave_their_trace() {
    let trial = "[[rules]]\nname = \"trial-push\"\nissuer = \"local\"\nmode = \"audit\"\n\
                 claims = { role = \"reader\" }\nprojects = [\"*\"]\nregistries = [\"prod\"]\n\
                 allow = [\"push\"]\n";
    let broker = builder(trial, &[table()]).start().await;
    let reader = broker.token(&json!({ "role": "reader" }));
    let stranger = broker.token(&json!({ "role": "stranger" }));
    assert_eq!(
        opens(&ask(&broker, &reader, SERVICE, &[REPOSITORY]).await),
        ["rise/apps/my-app:pull"]
    );
    let push = ["rise/apps/my-app:push", "rise/apps/other:push"];
    assert_eq!(opens(&ask(&broker, &reader, SERVICE, &push).await), Vec::<String>::new());
    ask(&broker, &stranger, SERVICE, &push).await;
    let records = broker.audit();
    let traces: Vec<_> = records.iter().map(|record| record["trial_rules"].clone()).collect();
    assert_eq!(traces, [json!(["trial-push"]), json!(["trial-push"]), json!(null)]);
}

#[tokio::test]
async fn a_service_that_nobody_has_is_named() {
    let broker = builder("", &[table()]).start().await;
    let caller = broker.token_for("my-app");
    for (service, told) in [
        ("registry.example.org:5000", "has the name `registry.example.org:5000`. Ask"),
        ("R.example.com", "has the name `R.example.com`. Ask"),
        ("a%60b%0Ac", "has the name. Ask"),
    ] {
        let answer = ask(&broker, &caller, service, &[]).await;
        assert_eq!(answer.status, 400);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(told), "{service}: {detail}");
    }
}

/// Strangers whose forms do not arrive hold no place in which others are served.
#[tokio::test]
async fn a_form_that_does_not_arrive_holds_up_nobody() {
    let rate = "{ per_second = 1000, burst = 1000 }";
    let limits =
        format!("[limits]\nin_flight = 1\nsubject = {rate}\naddress = {rate}\nproject = {rate}\n");
    let broker = builder(&limits, &[table()]).start().await;
    let listening = broker.listen(None).await;
    let form = format!("service={SERVICE}&password={}", broker.token_for("my-app"));
    let request = format!(
        "POST /token HTTP/1.1\r\nHost: r\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}",
        form.len()
    );
    let mut strangers = Vec::new();
    for last in [2, 3] {
        let from = Ipv4Addr::new(127, 0, 0, last);
        let mut stranger = Wire::connect_from(from, listening.address).await;
        stranger.send(&request[..request.len() - 1]).await;
        strangers.push(stranger);
    }
    // As many as are read at once. The next form is turned away.
    let post = async || Wire::once(listening.address, &request).await.status;
    eventually("two forms are read", async || post().await == 503).await;
    // Nobody else is.
    for _ in 0..3 {
        let answer = ask(&broker, &broker.token_for("my-app"), SERVICE, &[REPOSITORY]).await;
        assert_eq!(opens(&answer), [REPOSITORY]);
    }
    let metrics = broker.admin("/metrics").await.text;
    assert!(metrics.contains(r#"limit_refusals_total{limit="forms"}"#), "{metrics}");
    // There is room again when they are gone.
    drop(strangers);
    eventually("a form is read again", async || post().await == 200).await;
}

/// One address, with however many connections, leaves room for the forms of others.
#[tokio::test]
async fn an_address_has_a_share_of_the_forms_that_are_read() {
    let rate = "{ per_second = 1000, burst = 1000 }";
    let limits =
        format!("[limits]\nin_flight = 16\nsubject = {rate}\naddress = {rate}\nproject = {rate}\n");
    let broker = builder(&limits, &[table()]).start().await;
    let listening = broker.listen(None).await;
    let form = format!("service={SERVICE}&password={}", broker.token_for("my-app"));
    let request = format!(
        "POST /token HTTP/1.1\r\nHost: r\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}",
        form.len()
    );
    let post = async |from: Ipv4Addr| {
        let mut wire = Wire::connect_from(from, listening.address).await;
        wire.send(&request).await;
        wire.hear().await
    };
    let (stranger, other) = (Ipv4Addr::new(127, 0, 0, 7), Ipv4Addr::new(127, 0, 0, 8));
    let mut held = Vec::new();
    // An eighth of the 32 forms that are read at once, and more that are turned away.
    for _ in 0..40 {
        let mut wire = Wire::connect_from(stranger, listening.address).await;
        wire.send(&request[..request.len() - 1]).await;
        held.push(wire);
    }
    eventually("the share is used up", async || post(stranger).await.status == 429).await;
    let refused = post(stranger).await;
    assert_eq!(refused.problem().as_deref(), Some("rate-limited"), "{}", refused.body);
    assert!(refused.header("retry-after").is_some(), "{}", refused.head);
    let told = "The limit `forms-per-address` counts the forms that your address sends at the same";
    assert!(refused.body.contains(told), "{}", refused.body);
    assert_eq!(post(other).await.status, 200);
    let metrics = broker.admin("/metrics").await.text;
    let refusals = r#"limit_refusals_total{limit="forms-per-address"}"#;
    let counted = metrics.lines().find_map(|line| Some(line.split_once(refusals)?.1.trim()));
    let counted: Option<u32> = counted.and_then(|count| count.parse().ok());
    assert!(counted >= Some(36), "{counted:?}");
    drop(held);
    eventually("a form is read again", async || post(stranger).await.status == 200).await;
}

#[tokio::test]
async fn tokens_that_no_registry_accepts_are_warned_of() {
    let warnings = async |text: String| {
        let settings = Settings::new(text).provider("distribution");
        lines(&TestBroker::with_settings(settings).start().await.generation.warnings)
    };
    let ceiling = "ceiling = { tokens = { services = [\"x.example.com\"] } }";
    let push_only = AUTH
        .replace("allow = [\"pull\", \"push\"]", "allow = [\"push\"]")
        .replace("allow = [\"pull\"]", "allow = [\"push\"]");
    let cases = [
        (format!("{AUTH}{SIGNING}algorithm = \"EdDSA\"\n{}", table()), "signed with Ed25519"),
        (format!("{AUTH}{SIGNING}{}", table().lines(ceiling)), "lacks `r.example.com`"),
        (format!("{push_only}{SIGNING}{}", table()), "asks for pull and push before it accepts"),
    ];
    let right = warnings(format!("{AUTH}{SIGNING}{}", table())).await;
    for (text, told) in cases {
        assert!(!right.contains(told), "{right}");
        let found = warnings(text).await;
        assert!(found.contains(told), "{told}: {found}");
    }
}
