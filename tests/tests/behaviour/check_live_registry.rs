//! `check --live` asks a registry to which only callers connect, as Docker does before a login.

use rise_broker_tests::registry::{RegistryTable, oci, registry};
use rise_broker_tests::{
    AUTH, DEMO_PASSWORD, DockerRegistry, IssuerDouble, RegistryAuth, Reply, SECOND_PASSWORD,
    Settings,
};
use serde_json::json;

use crate::check_live::{Checked, check_in, check_with};

async fn check(host: &str, account: Option<(&str, &str)>) -> Checked {
    let mut registry = oci(host);
    if let Some((username, password)) = account {
        registry = registry.account(username, password);
    }
    let checked = check_with(&format!("{AUTH}{registry}"), &[], &[]).await;
    if let Some((_, password)) = account {
        let printed = format!("{}{}", checked.stdout, checked.stderr);
        assert!(!printed.contains(password), "{printed}");
    }
    checked
}

fn finds(checked: &Checked, found: &str) {
    assert!(checked.success, "{}", checked.stderr);
    assert!(checked.stdout.contains(&format!("prod: {found}\n")), "{}", checked.stdout);
}

fn fails(checked: &Checked, key: &str, found: &str) {
    let problem = checked.problem();
    assert!(
        problem.contains(&format!("config/default.toml: registries.prod.{key}: ")),
        "{problem}"
    );
    assert!(problem.contains(found), "{found}\nin\n{problem}");
}

#[tokio::test]
async fn the_account_of_a_real_registry_is_tried() {
    let registry = DockerRegistry::start(RegistryAuth::Htpasswd).await;
    let host = registry.host();
    let right = check(host, Some(("demo", DEMO_PASSWORD))).await;
    finds(&right, &format!("{host} accepts the login of `demo`"));
    for account in [("demo", SECOND_PASSWORD), ("Demo", DEMO_PASSWORD)] {
        let wrong = check(host, Some(account)).await;
        let found = format!(
            "{host} rejects the login of `{}` (401): correct `username` or `password`",
            account.0
        );
        fails(&wrong, "password", &found);
    }
    let without = check(host, None).await;
    finds(&without, &format!("{host} answers as a registry and asks callers for their login"));

    let open = DockerRegistry::start(RegistryAuth::Anonymous).await;
    let host = open.host();
    finds(&check(host, None).await, &format!("{host} answers as a registry"));
    let untried =
        format!("{host} answers as a registry and asks for no login, so the account was not tried");
    finds(&check(host, Some(("demo", DEMO_PASSWORD))).await, &untried);
}

/// A wrong token for pulls would show on the nodes only.
#[tokio::test]
async fn each_login_that_callers_get_is_tried() {
    let server = DockerRegistry::start(RegistryAuth::Htpasswd).await;
    let table = |password: &str, pull_password: &str| {
        registry("ghcr")
            .with("registry_url", server.host())
            .with("namespace", "acme")
            .with("username", "demo")
            .with("password", password)
            .with("pull_password", pull_password)
            .with("accept_scope", "registry")
    };
    let (right, wrong) = (DEMO_PASSWORD, SECOND_PASSWORD);
    let check = async |table: RegistryTable| {
        let settings = Settings::new(format!("{AUTH}{table}")).providers(&["ghcr"]);
        let checked = check_in(&settings, &[], &[]).await;
        let printed = format!("{}{}", checked.stdout, checked.stderr);
        assert!(!printed.contains(right) && !printed.contains(wrong), "{printed}");
        checked
    };
    let host = server.host();
    let both = format!(
        "{host} accepts the login of `demo` with `password` and `demo` with \
                        `pull_password`"
    );
    finds(&check(table(right, right)).await, &both);
    let one = format!("{host} accepts the login of `demo`");
    finds(&check(table(right, right).without("password")).await, &one);
    for (password, pull_password, setting) in
        [(right, wrong, "pull_password"), (wrong, right, "password")]
    {
        let found = format!("rejects the login of `demo` (401): correct `username` or `{setting}`");
        fails(&check(table(password, pull_password)).await, setting, &found);
    }
}

fn raw(status: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Raw(format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    ))
}

#[tokio::test]
async fn a_server_that_is_no_registry_is_told() {
    let server = IssuerDouble::start(&[]).await;
    let host = server.issuer().strip_prefix("http://").unwrap().to_owned();
    let html = "content-type: text/html; charset=utf-8\r\n";
    for (reply, found) in [
        (raw("200 OK", html, "<!doctype html><title>Portal</title>"), "a page (HTML)"),
        (raw("200 OK", "", "\n <html>"), "answers with a page (HTML), so no registry is there"),
        (
            Reply::Status(404),
            "/v2/ answers 404, so no registry is there; name the host that images",
        ),
        (Reply::Status(405), "answers 405, so no registry is there"),
        (
            Reply::Redirect("https://login.example.com/".to_owned()),
            "redirects to `https://login.example.com/`, where clients do not follow",
        ),
        (Reply::Status(401), "answers 401 and does not ask for a login (Basic or Bearer)"),
        (
            raw("401 Unauthorized", "www-authenticate: Negotiate\r\n", ""),
            "answers 401 and does not ask for a login",
        ),
    ] {
        server.answer("/v2/", reply);
        fails(&check(&host, Some(("ci", "canary-pw"))).await, "registry_url", found);
        fails(&check(&host, None).await, "registry_url", found);
    }
    // Callers elsewhere may have more luck.
    for reply in [Reply::Status(503), Reply::Status(429), Reply::Status(403)] {
        server.answer("/v2/", reply);
        let checked = check(&host, Some(("ci", "canary-pw"))).await;
        assert!(checked.success, "{}", checked.stderr);
        assert!(checked.stdout.contains("prod: was not tried to the end"), "{}", checked.stdout);
    }
}

/// A registry that wants a token of its token service, such as Docker Hub and GHCR.
#[tokio::test]
async fn the_account_is_tried_at_the_token_service_of_the_registry() {
    let server = IssuerDouble::start(&[]).await;
    let host = server.issuer().strip_prefix("http://").unwrap().to_owned();
    let asks = |realm: &str| {
        let challenge =
            format!("www-authenticate: Bearer realm=\"{realm}\",service=\"the, registry\"\r\n");
        let refused = raw("401 Unauthorized", &challenge, "{\"errors\":[]}");
        let open = raw("200 OK", "", "{}");
        Reply::Asking("Bearer a-token".to_owned(), Box::new([open, refused]))
    };
    let realm = format!("{}/token", server.issuer());
    let path = "/token?service=the%2C+registry&account=ci&client_id=rise-broker";
    let basic = "Basic Y2k6Y2FuYXJ5LXB3".to_owned();
    let gives = |answer| {
        let reply = Reply::Json(answer);
        Reply::Asking(basic.clone(), Box::new([reply, Reply::Status(401)]))
    };
    server.answer("/v2/", asks(&realm));
    for member in ["token", "access_token"] {
        server.answer(path, gives(json!({ member: "a-token" })));
        let right = check(&host, Some(("ci", "canary-pw"))).await;
        finds(&right, &format!("{host} accepts the login of `ci`"));
    }
    let without = check(&host, None).await;
    finds(&without, &format!("{host} answers as a registry and asks callers for their login"));
    let wrong = check(&host, Some(("ci", "canary-other"))).await;
    fails(&wrong, "password", "rejects the login of `ci` (401)");
    server.answer(path, gives(json!({ "token": "another-token" })));
    let other = check(&host, Some(("ci", "canary-pw"))).await;
    fails(&other, "password", "rejects the login of `ci` (401)");
    server.answer(path, gives(json!({ "details": "none" })));
    let none = check(&host, Some(("ci", "canary-pw"))).await;
    fails(&none, "registry_url", "answers without a token");

    // A password does not pass a network without encryption.
    server.answer("/v2/", asks("http://auth.example.com/token"));
    let asked = server.requests().len();
    let plain = check(&host, Some(("ci", "canary-pw"))).await;
    let found = "its token service is `http://auth.example.com/token`, expected an https URL";
    fails(&plain, "registry_url", found);
    assert_eq!(server.requests().len(), asked + 2, "{:?}", server.requests());
}
