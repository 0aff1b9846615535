//! Google: its double is driven by google-auth, then by the broker. The broker's login and its
//! assertions reach no caller, and a Google that lies gets nothing through that can be seen.

use rise_broker_tests::registry::{RegistryTable, registry};
use rise_broker_tests::{
    GOOGLE_GONE, Google, GoogleLie, Response, TestBroker, lines, logs, vendor_client,
};
use serde_json::json;

const PROVIDER: &[&str] = &["google"];
const PULLER: &str = "puller@acme.iam.gserviceaccount.com";
const PUSHER: &str = "pusher@acme.iam.gserviceaccount.com";

fn table(google: &Google) -> RegistryTable {
    registry("google")
        .with("project_id", "acme")
        .with("region", "europe-west1")
        .with("repository", "docker")
        .with("service_account_key", google.key_file())
        .with("pull_service_account", PULLER)
        .with("push_service_account", PUSHER)
        .with("endpoint_url", google.url())
        .with("accept_scope", "namespace")
        .with("trust_provider", true)
        .ceiling("private = true")
}

async fn broker(table: RegistryTable) -> TestBroker {
    TestBroker::with_registries(table).providers(PROVIDER).start().await
}

async fn ask(broker: &TestBroker, query: &str) -> Response {
    broker.credentials(&broker.token_for("my-app"), &format!("project=my-app{query}")).await
}

fn has_no_secret(google: &Google, broker: &TestBroker, answers: &[&Response]) {
    let audit = serde_json::to_string(&broker.audit()).unwrap();
    let texts = answers.iter().map(|answer| answer.text.clone()).chain([logs::text(), audit]);
    for text in texts {
        for secret in google.secrets() {
            assert!(!text.contains(&secret), "{secret} in {text}");
        }
    }
}

/// The double is what a client of Google takes it for.
#[tokio::test]
async fn google_auth_logs_in_and_impersonates() {
    let google = Google::start().await;
    let (url, key) = (google.url().to_owned(), google.key_file());
    let made = vendor_client("google_client.py", &[&url, &key, PUSHER, "900"]).await;
    let token = made["token"].as_str().unwrap_or_else(|| panic!("{made}"));
    assert_eq!(google.account_of(token).as_deref(), Some(PUSHER));
    assert_eq!(google.asked()[0].1["lifetime"], "900s");
    let other = "nobody@acme.iam.gserviceaccount.com";
    let refused = vendor_client("google_client.py", &[&url, &key, other, "900"]).await;
    assert!(refused["error"].as_str().unwrap().contains("denied"), "{refused}");
}

#[tokio::test]
async fn each_grant_gets_a_token_of_the_account_for_its_actions() {
    let google = Google::start().await;
    let broker = broker(table(&google)).await;
    let push = ask(&broker, "&lifetime=900").await;
    assert_eq!(push.status, 200, "{}", push.text);
    let json = push.json();
    assert_eq!((&json["scope"], &json["enforced_by"]), (&json!("namespace"), &json!("provider")));
    assert_eq!(json["credentials"]["registry_url"], "europe-west1-docker.pkg.dev");
    assert_eq!(json["repository"], "acme/docker/my-app");
    assert_eq!(json["credentials"]["username"], "oauth2accesstoken");
    let left = json["credentials"]["expires_in"].as_i64().unwrap();
    assert!((800..=900).contains(&left), "{left}");
    let pull = ask(&broker, "&actions=pull").await;
    let token = |answer: &Response| {
        answer.json()["credentials"]["password"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(google.account_of(&token(&push)).as_deref(), Some(PUSHER));
    assert_eq!(google.account_of(&token(&pull)).as_deref(), Some(PULLER));
    let scope = json!(["https://www.googleapis.com/auth/cloud-platform"]);
    let asked = google.asked();
    assert_eq!(asked[0].0, format!("{PUSHER}:generateAccessToken"));
    assert_eq!(asked[0].1, json!({ "scope": scope, "lifetime": "900s" }));
    assert_eq!(asked[1].1, json!({ "scope": scope, "lifetime": "3600s" }));
    assert_eq!(google.logins(), 1, "one login serves both");
    has_no_secret(&google, &broker, &[&push, &pull]);
}

#[tokio::test]
async fn without_an_account_for_pushes_nothing_may_push() {
    let google = Google::start().await;
    let broker = broker(table(&google).without("push_service_account")).await;
    assert_eq!(ask(&broker, "").await.problem().as_deref(), Some("provider-failed"));
    assert!(google.asked().is_empty() && google.logins() == 0);
    assert_eq!(ask(&broker, "&actions=pull").await.status, 200);
}

#[tokio::test]
async fn a_google_that_lies_gets_nothing_through_that_can_be_seen() {
    for (lie, told) in [
        (GoogleLie::Later, "3600 seconds were asked for"),
        (GoogleLie::OwnLogin, "returned a login that it keeps"),
        (GoogleLie::Echo, "sent an assertion back, so its answer is withheld"),
    ] {
        let google = Google::start().await;
        google.lie(lie);
        let broker = broker(table(&google)).await;
        let answer = ask(&broker, "").await;
        let found = (answer.status.as_u16(), answer.problem());
        assert_eq!(found, (502, Some("provider-failed".to_owned())), "{lie:?}: {}", answer.text);
        assert!(logs::text().contains(told), "{lie:?}: {told}: {}", logs::text());
        has_no_secret(&google, &broker, &[&answer]);
    }
    // Nobody but Google can tell whose token it is: the answer does not promise more.
    let google = Google::start().await;
    google.lie(GoogleLie::OtherAccount);
    let answer = ask(&broker(table(&google)).await, "").await;
    assert_eq!(answer.json()["enforced_by"], "provider", "{}", answer.text);
}

#[tokio::test]
async fn an_account_that_may_not_impersonate_is_told_with_its_remedy() {
    let google = Google::start().await;
    for (account, status, remedy) in [
        (
            "nobody@acme.iam.gserviceaccount.com",
            403,
            "roles/iam.serviceAccountTokenCreator on `push_service_account`",
        ),
        (GOOGLE_GONE, 404, "(`push_service_account` gone@acme.iam.gserviceaccount.com does not"),
    ] {
        let broker = broker(table(&google).with("push_service_account", account)).await;
        assert_eq!(ask(&broker, "").await.problem().as_deref(), Some("upstream-denied"));
        let told = format!("serviceAccounts/{account}:generateAccessToken answered {status}: ");
        assert!(logs::text().contains(&told), "{}", logs::text());
        assert!(logs::text().contains(remedy), "{}", logs::text());
        assert!(!logs::text().contains("no such repository"), "{}", logs::text());
    }
}

/// A rule may allow a push. It is known at the start that none is issued.
#[tokio::test]
async fn a_registry_for_pulls_alone_says_so() {
    let google = Google::start().await;
    let warned = async |table: RegistryTable| {
        let broker = broker(table).await;
        let answer = ask(&broker, "&actions=push").await;
        (lines(&broker.generation.warnings), answer.status.as_u16())
    };
    let told = "registries.prod.pull_service_account: `pull_service_account` has no \
                `push_service_account` beside it, so a grant to push gets no credential; set it";
    let (warnings, status) = warned(table(&google).without("push_service_account")).await;
    assert!(warnings.contains(told), "{warnings}");
    assert_eq!(status, 502);
    let (warnings, status) = warned(table(&google)).await;
    assert!(!warnings.contains("push_service_account"), "{warnings}");
    assert_eq!(status, 200);
}
