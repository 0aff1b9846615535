//! The provider `azure` through the broker, against the double that Microsoft's clients accept.

use std::fs;

use rise_broker_tests::azure::{CLIENT_ID, CLIENT_SECRET, NULL_GUID, Step, StepRequest, TENANT};
use rise_broker_tests::registry::RegistryTable;
use rise_broker_tests::{
    AUTH, Azure, OciLayout, OperatorKey, Response, Settings, Skopeo, TestBroker, lines, logs,
    repository,
};
use serde_json::{Value, json};

async fn broker_of(table: RegistryTable) -> TestBroker {
    TestBroker::with_registries(table).providers(&["azure"]).start().await
}

async fn broker(azure: &Azure) -> TestBroker {
    broker_of(azure.table()).await
}

async fn ask(broker: &TestBroker, actions: &str) -> Response {
    let token = broker.token_for("my-app");
    broker.credentials(&token, &format!("project=my-app&actions={actions}")).await
}

fn steps(received: &[StepRequest]) -> Vec<Step> {
    received.iter().map(|request| request.step).collect()
}

#[tokio::test]
async fn a_token_is_issued_for_exactly_what_was_granted() {
    for actions in ["pull", "push", "pull,push"] {
        let azure = Azure::start().await;
        let answer = ask(&broker(&azure).await, actions).await;
        assert_eq!(answer.status, 200, "{actions}: {}", answer.text);
        let json = answer.json();
        let credentials = &json["credentials"];
        assert_eq!(credentials["username"], NULL_GUID);
        assert_eq!(credentials["password"], azure.tokens()[0]);
        assert_eq!(credentials["registry_url"], azure.host());
        assert_eq!(json["repository"], "team/my-app");
        assert_eq!(
            (&json["scope"], &json["enforced_by"]),
            (&json!("repository"), &json!("provider"))
        );
        let left = credentials["expires_in"].as_i64().unwrap();
        assert!((4400..=4500).contains(&left), "{left}");

        let received = azure.received();
        assert_eq!(steps(&received), [Step::Login, Step::Exchange, Step::Token]);
        let secrets = azure.secrets();
        let scope = format!("repository:team/my-app:{actions}");
        let expected = [
            vec![
                ("grant_type", "client_credentials"),
                ("client_id", CLIENT_ID),
                ("scope", "https://containerregistry.azure.net/.default"),
                ("client_secret", CLIENT_SECRET),
            ],
            vec![
                ("grant_type", "access_token"),
                ("service", azure.host()),
                ("tenant", TENANT),
                ("access_token", &secrets[0]),
            ],
            vec![
                ("grant_type", "refresh_token"),
                ("service", azure.host()),
                ("scope", &scope),
                ("refresh_token", &secrets[1]),
            ],
        ];
        for (request, expected) in received.iter().zip(expected) {
            let sent: Vec<_> =
                request.form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(sent, expected, "{:?}", request.step);
        }
    }
}

#[tokio::test]
async fn a_certificate_is_as_good_as_a_client_secret() {
    let (azure, other) = (Azure::start().await, Azure::start().await);
    let broker = broker_of(azure.table_with_certificate()).await;
    let answer = ask(&broker, "pull,push").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["credentials"]["password"], azure.tokens()[0]);
    let received = azure.received();
    assert_eq!(steps(&received), [Step::Login, Step::Exchange, Step::Token]);
    assert!(received[0].all("client_secret").is_empty());
    assert_eq!(received[2].all("scope"), ["repository:team/my-app:pull,push"]);
    canaries(&azure, &broker, &answer.text);

    // Another key, and the certificate of another key.
    for (key, value) in [
        ("private_key", other.table_with_certificate().setting("private_key")),
        ("certificate_sha256", other.fingerprint()),
    ] {
        let broker = broker_of(azure.table_with_certificate().with(key, value)).await;
        let answer = ask(&broker, "pull").await;
        assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{key}: {}", answer.text);
        assert!(logs::text().contains("AADSTS700027") && logs::text().contains("--cert @"));
        canaries(&azure, &broker, &answer.text);
    }
}

/// A role or a secret that is taken away works for no longer than what is kept, and a registry that
/// rejects what is kept is asked again with a new login.
#[tokio::test]
async fn a_login_serves_several_grants_until_the_registry_rejects_it() {
    let azure = Azure::start().await;
    let broker = broker(&azure).await;
    let once = [Step::Login, Step::Exchange, Step::Token];
    for actions in ["pull", "pull,push"] {
        assert_eq!(ask(&broker, actions).await.status, 200);
    }
    assert_eq!(steps(&azure.received()), [&once[..], &[Step::Token]].concat());

    azure.forget();
    assert_eq!(ask(&broker, "pull").await.status, 200);
    let again = [&once[..], &[Step::Token, Step::Token], &once[..]].concat();
    assert_eq!(steps(&azure.received()), again);
}

async fn copy(skopeo: &Skopeo, from: &str, to: &str) -> Result<(), String> {
    let ran =
        skopeo.run(&["copy", "--src-tls-verify=false", "--dest-tls-verify=false", from, to]).await;
    if ran.success { Ok(()) } else { Err(ran.stderr) }
}

#[tokio::test]
async fn a_client_pushes_and_pulls_what_was_granted_and_nothing_else() {
    let azure = Azure::start().await;
    let (broker, folder) = (broker(&azure).await, tempfile::tempdir().unwrap());
    let layout = OciLayout::write(&folder.path().join("own"), "hello");
    let copied = format!("oci:{}:tiny", folder.path().join("copy").display());
    let image = |repository: &str| format!("docker://{}/{repository}:v1", azure.host());
    let skopeo = Skopeo::new();
    let log_in = async |actions: &str| {
        let json = ask(&broker, actions).await.json();
        let login = |name: &str| json["credentials"][name].as_str().unwrap().to_owned();
        skopeo.log_in(azure.host(), &login("username"), &login("password"));
    };

    log_in("pull,push").await;
    copy(&skopeo, &layout.reference(), &image("team/my-app")).await.unwrap();
    for other in ["team/other", "team/my-app/web", "my-app"] {
        let refused = copy(&skopeo, &layout.reference(), &image(other)).await.unwrap_err();
        assert!(refused.contains("unauthorized"), "{other}: {refused}");
    }
    log_in("pull").await;
    copy(&skopeo, &image("team/my-app"), &copied).await.unwrap();
    copy(&skopeo, &layout.reference(), &image("team/my-app")).await.unwrap_err();
}

/// Nobody gets a token that says itself that it opens something else, or for another time.
#[tokio::test]
async fn a_token_that_is_not_for_the_grant_is_not_handed_out() {
    type Lie = fn(&mut Value);
    let cases: [(Lie, &str); 8] = [
        (|it| it["access"][0]["name"] = json!("team/other"), "`repository:team/other:pull,push`"),
        (|it| it["access"][0]["name"] = json!("team/my-app/web"), "`repository:team/my-app/web:"),
        (|it| it["access"][0]["actions"] = json!(["pull", "push", "delete"]), ":pull,push,delete`"),
        (|it| it["access"][0]["actions"] = json!(["*"]), "`repository:team/my-app:*`"),
        (
            |it| {
                let more = json!({ "type": "registry", "name": "catalog", "actions": ["*"] });
                it["access"].as_array_mut().unwrap().push(more);
            },
            "`registry:catalog:*`",
        ),
        (|it| it["exp"] = json!(it["exp"].as_i64().unwrap() + 86_400), "`max_lifetime`"),
        (|it| it["exp"] = json!(it["iat"].as_i64().unwrap() + 30), "less than 60 seconds"),
        (|it| drop(it.as_object_mut().unwrap().remove("exp")), "without an expiry"),
    ];
    for (lie, told) in cases {
        let azure = Azure::start().await;
        let broker = broker(&azure).await;
        azure.lie(lie);
        let answer = ask(&broker, "pull,push").await;
        assert_eq!(answer.problem().as_deref(), Some("provider-failed"), "{told}: {}", answer.text);
        assert!(logs::text().contains(told), "{told}");
    }
    // What the role lacks is left out: no caller learns it from a push that fails.
    let azure = Azure::start().await;
    azure.role(&["pull"]);
    let answer = ask(&broker(&azure).await, "pull,push").await;
    assert_eq!(answer.problem().as_deref(), Some("upstream-denied"), "{}", answer.text);
    assert!(logs::text().contains("the registry's token does not open push on `team/my-app`"));
    // What is in the answer besides counts for nothing.
    let azure = Azure::start().await;
    let broker = broker(&azure).await;
    let good = ask(&broker, "pull,push").await.json()["credentials"]["password"].clone();
    let own = json!({
        "access_token": good, "username": "admin", "password": "of-the-admin", "expires_in": 9,
        "refresh_token": "another",
    });
    azure.answer(Step::Token, 200, &[], &own.to_string());
    let json = ask(&broker, "pull,push").await.json();
    assert_eq!(json["credentials"]["username"], NULL_GUID);
    assert_eq!(json["credentials"]["password"], good);
}

#[tokio::test]
async fn a_refresh_token_is_not_handed_out_even_by_a_registry_that_returns_it() {
    let azure = Azure::start().await;
    let broker = broker(&azure).await;
    azure.return_refresh_tokens();
    for _ in 0..2 {
        let answer = ask(&broker, "pull").await;
        assert_eq!(answer.problem().as_deref(), Some("provider-failed"), "{}", answer.text);
    }
    assert!(logs::text().contains("a login that it keeps"));
    canaries(&azure, &broker, "");
}

/// Checks that no output has a secret that opens more than a scope, nor a token.
fn canaries(azure: &Azure, broker: &TestBroker, answer: &str) {
    let audit = serde_json::to_string(&broker.audit()).unwrap();
    let log = logs::text();
    for secret in azure.secrets() {
        // Also no part from which the rest can be guessed: the claims of a JWT, its signature, and
        // the beginning of it, which is left when a message is cut.
        let parts = secret.split('.').skip(1).chain(secret.get(..120)).chain([secret.as_str()]);
        for part in parts.filter(|part| part.len() > 8) {
            for (name, text) in [("answer", answer), ("audit", &audit), ("log", &log)] {
                assert!(!text.contains(part), "{part} in the {name}");
            }
        }
    }
    for token in azure.tokens() {
        for (name, text) in [("audit", &audit), ("log", &log)] {
            assert!(!text.contains(&token), "{token} in the {name}");
        }
    }
}

#[tokio::test]
async fn no_secret_is_in_any_output() {
    let azure = Azure::start().await;
    let broker = broker(&azure).await;
    for actions in ["pull", "pull,push"] {
        let answer = ask(&broker, actions).await;
        assert_eq!(answer.status, 200);
        canaries(&azure, &broker, &answer.text);
    }
    assert_eq!(azure.tokens().len(), 2);
    // A cloud that repeats what it got, in the texts that the provider hands on.
    for (step, body, told) in [
        (Step::Token, r#"{"errors":[{"code":"X","message":"{form}"}]}"#, "an issued secret"),
        (Step::Exchange, r#"{"errors":[{"code":"{form}","message":""}]}"#, "an issued secret"),
        (Step::Login, r#"{"error":"x","error_description":"{form}"}"#, "client_secret"),
    ] {
        azure.answer(step, 401, &[], body);
        let broker = self::broker(&azure).await;
        let answer = ask(&broker, "pull").await;
        assert_ne!(answer.status, 200);
        assert!(logs::text().contains(told), "{step:?}");
        canaries(&azure, &broker, &answer.text);
        azure.usual();
    }
    let metrics = broker.admin("/metrics").await.text;
    canaries(&azure, &broker, &metrics);
}

/// An answer of the cloud (`Retry-After` included), the problem of the caller, and a part of the
/// log.
type FailureCase<'a> = (Step, u16, &'a [(&'static str, &'a str)], &'a str, (u16, &'a str), &'a str);

#[tokio::test]
async fn errors_of_the_cloud_become_problems_and_tell_the_operator_what_to_do() {
    let secret = r#"{"error":"invalid_client","error_description":"AADSTS7000222: The provided client secret keys for app are expired. Trace ID: 7"}"#;
    let tenant =
        r#"{"error":"invalid_request","error_description":"AADSTS90002: Tenant not found."}"#;
    let firewall = r#"{"errors":[{"code":"DENIED","message":"client with IP '192.0.2.7' is not allowed access."}]}"#;
    let role = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    let html = "<html><h1>Bad gateway</h1></html>";
    let (denied, unavailable, failed) =
        ((502, "upstream-denied"), (503, "upstream-unavailable"), (502, "provider-failed"));
    let cases: [FailureCase<'_>; 14] = [
        (Step::Login, 401, &[], secret, denied, "az ad app credential reset"),
        (Step::Login, 400, &[], tenant, denied, "`az account show --query tenantId`"),
        (Step::Login, 429, &[("retry-after", "7")], "", unavailable, "asks for a pause"),
        (Step::Login, 503, &[], html, unavailable, "/oauth2/v2.0/token answered 503"),
        (Step::Login, 200, &[], html, failed, "without an `access_token`"),
        (Step::Login, 403, &[], html, failed, "no error of Entra ID"),
        (Step::Exchange, 401, &[], role, denied, "give the application a role on the registry"),
        (Step::Exchange, 403, &[], firewall, denied, "allow the broker's address in the registry"),
        (Step::Exchange, 404, &[], html, failed, "is `registry_url` the login server"),
        (Step::Exchange, 429, &[("retry-after", "9")], "", unavailable, "asks for a pause"),
        (Step::Exchange, 200, &[], html, failed, "without a `refresh_token`"),
        (Step::Token, 401, &[], role, denied, "covers `repository:team/my-app:pull`"),
        (Step::Token, 500, &[], html, unavailable, "/oauth2/token answered 500"),
        (Step::Token, 302, &[("location", "https://evil.example.com")], "", failed, "redirects"),
    ];
    let azure = Azure::start().await;
    for (step, status, headers, body, (expected, problem), told) in cases {
        azure.answer(step, status, headers, body);
        // One of its own: a registry that asks for a pause is left alone for so long.
        let broker = broker(&azure).await;
        let answer = ask(&broker, "pull").await;
        let found = (answer.status.as_u16(), answer.problem());
        assert_eq!(found, (expected, Some(problem.to_owned())), "{step:?} {status}");
        let pause = headers.iter().find(|header| header.0 == "retry-after");
        if let Some((_, pause)) = pause {
            assert_eq!(answer.header("retry-after"), Some(*pause), "{step:?} {status}");
        }
        assert!(logs::text().contains(told), "{step:?} {status}: {told}");
        assert!(!answer.text.contains("AADSTS") && !answer.text.contains(CLIENT_ID));
        azure.usual();
    }
}

async fn problems(table: RegistryTable) -> String {
    let settings = Settings::new(format!("{AUTH}\n{table}")).providers(&["azure"]);
    let started = TestBroker::with_settings(settings).try_start().await;
    lines(&started.err().expect("problems"))
}

#[tokio::test]
async fn wrong_settings_are_found_at_start() {
    let azure = Azure::start().await;
    for (table, told) in [
        (
            azure.table().with("registry_url", "myregistry"),
            "registries.prod.registry_url: `myregistry` is not a login server; expected a host \
             without a path, such as `myregistry.azurecr.io`",
        ),
        (azure.table().with("tenant_id", "common"), "registries.prod.tenant_id: `common`"),
        (azure.table().with("client_id", "rise"), "registries.prod.client_id: `rise`"),
        (azure.table().without("client_secret"), "or `private_key` and `certificate_sha256`"),
        (
            azure.table_with_certificate().with("private_key", "no key"),
            "registries.prod.private_key: ",
        ),
        (
            azure.table_with_certificate().without("certificate_sha256"),
            "registries.prod.certificate_sha256: missing",
        ),
        (
            azure.table().with("trust_provider", false),
            "registries.prod.trust_provider: missing; the provider `azure`",
        ),
        (azure.table().ceiling(""), "a private address"),
        (azure.table().with("location", "other.azurecr.io/{project}"), "outside"),
    ] {
        let found = problems(table).await;
        assert!(found.contains(told), "{told}: {found}");
        assert!(!found.contains(CLIENT_SECRET));
    }
    // Both names, and the login server as an operator may write it.
    let table = azure.table().with("type", "acr");
    let table = table.with("registry_url", format!("https://{}/", azure.host()));
    assert_eq!(ask(&broker_of(table).await, "pull").await.status, 200);
}

#[tokio::test]
async fn the_documented_settings_load_as_printed() {
    let page = fs::read_to_string(repository().join("docs/registries/azure.md")).unwrap();
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let example = example.replace("/etc/rise-broker/", "@STATE@/");
    let settings = Settings::new(format!("{AUTH}\n{example}")).providers(&["azure"]);
    fs::write(settings.path("azure-key.pem"), OperatorKey::rsa().pem()).unwrap();
    let broker = TestBroker::with_settings(settings).start().await;
    let token = broker.token_for("my-app");
    let listed = broker.get("/api/v1/registries", Some(&token)).await.text;
    assert!(listed.contains("myregistry.azurecr.io"), "{listed}");
}
