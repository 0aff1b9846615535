//! The double of Azure, and the clients that Microsoft wrote: what they cannot use is no Azure.

use std::process::Stdio;
use std::time::Duration;

use rise_broker_tests::azure::{AUDIENCES, CLIENT_ID, CLIENT_SECRET, Step, TENANT};
use rise_broker_tests::{Azure, python_program, repository};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const LONGEST_RUN: Duration = Duration::from_mins(1);

pub(crate) fn settings(azure: &Azure, more: &Value) -> Value {
    let mut all = json!({
        "registry": format!("https://{}", azure.host()), "authority_host": azure.authority_host(),
        "tenant_id": TENANT, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
        "audience": AUDIENCES[0], "repository": "team/my-app",
    });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// Runs `azure-identity` and `azure-containerregistry` with these settings.
pub(crate) async fn microsoft(azure: &Azure, settings: &Value) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(python_program("vendors", "python"))
        .arg(repository().join("tests/peers/azure_client.py"))
        .env_clear()
        .env("HOME", folder.path())
        .env("REQUESTS_CA_BUNDLE", azure.ca_file())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(settings.to_string().as_bytes()).await.unwrap();
    drop(input);
    let ran = tokio::time::timeout(LONGEST_RUN, child.wait_with_output()).await;
    let ran = ran.expect("it ends").unwrap();
    let text = String::from_utf8_lossy(&ran.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}\n{}", String::from_utf8_lossy(&ran.stderr)))
}

#[tokio::test]
async fn clients_of_microsoft_push_pull_and_list() {
    let azure = Azure::start().await;
    for audience in AUDIENCES {
        let found = microsoft(&azure, &settings(&azure, &json!({ "audience": audience }))).await;
        assert_eq!(found["blob"], "hello", "{found}");
        assert_eq!(found["pulled"], found["pushed"], "{found}");
        assert_eq!(found["repositories"], json!(["team/my-app"]), "{found}");
    }
    // What they send is what the provider sends.
    let received = azure.received();
    let of = |step: Step| received.iter().find(|request| request.step == step).unwrap();
    let login = of(Step::Login);
    assert_eq!(login.path, format!("/{TENANT}/oauth2/v2.0/token"));
    for (name, value) in [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT_ID),
        ("client_secret", CLIENT_SECRET),
        ("scope", "https://containerregistry.azure.net/.default"),
    ] {
        assert_eq!(login.all(name), [value]);
    }
    assert_eq!(of(Step::Exchange).all("grant_type"), ["access_token"]);
    assert_eq!(of(Step::Exchange).all("service"), [azure.host()]);
    assert_eq!(of(Step::Token).all("grant_type"), ["refresh_token"]);
    assert_eq!(of(Step::Token).all("scope"), ["repository:team/my-app:pull,push"]);
}

#[tokio::test]
async fn clients_of_microsoft_log_in_with_a_certificate() {
    let (azure, other) = (Azure::start().await, Azure::start().await);
    let with = |certificate: String| json!({ "certificate": certificate });
    let found = microsoft(&azure, &settings(&azure, &with(azure.certificate_and_key()))).await;
    assert_eq!(found["blob"], "hello", "{found}");
    let found = microsoft(&azure, &settings(&azure, &with(other.certificate_and_key()))).await;
    assert!(found["text"].as_str().unwrap_or_default().contains("AADSTS700027"), "{found}");
}

#[tokio::test]
async fn clients_of_microsoft_fail_where_the_cloud_would_refuse() {
    let azure = Azure::start().await;
    for (more, told) in [
        (json!({ "client_secret": "wrong" }), "AADSTS7000215"),
        (json!({ "client_id": TENANT }), "AADSTS700016"),
        (json!({ "tenant_id": CLIENT_ID }), "AADSTS90002"),
        (json!({ "audience": "https://vault.azure.net" }), "AADSTS500011"),
    ] {
        let found = microsoft(&azure, &settings(&azure, &more)).await;
        assert_eq!(found["error"], "ClientAuthenticationError", "{more}: {found}");
        assert!(found["text"].as_str().unwrap().contains(told), "{more}: {found}");
    }
    azure.role(&["pull"]);
    let found = microsoft(&azure, &settings(&azure, &json!({}))).await;
    assert!(found["error"].as_str().is_some(), "{found}");
}
