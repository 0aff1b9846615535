//! What a provider says that its settings need (`endpoints.needs`), and the authorities of
//! `ceiling.http.ca_file`.

use rise_broker::config::TlsFile;
use rise_broker::http::listen::Tls;
use rise_broker_tests::imaginary::ADMIN_TOKEN;
use rise_broker_tests::registry::{RegistryTable, imaginary, registry};
use rise_broker_tests::{
    AUTH, Imaginary, OperatorKey, Response, Settings, TestBroker, lines, logs,
};
use rise_provider::testing::jwt;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn answers(server: &Imaginary) {
    let body =
        json!({ "token": jwt(&json!({ "sub": "x" })), "other": jwt(&json!({ "sub": "y" })) });
    server.answer(200, None, &body.to_string());
}

fn table(base_url: &str) -> RegistryTable {
    registry("login-rogue")
        .with("base_url", base_url)
        .with("key", OperatorKey::p256().pem())
        .with("header", r#"{"alg":"ES256"}"#)
        .with("trust_provider", true)
        .ceiling("private = true")
}

async fn start(text: impl std::fmt::Display) -> Result<TestBroker, String> {
    let settings = Settings::new(format!("{AUTH}\n{text}")).guests(&["login-rogue", "imaginary"]);
    TestBroker::with_settings(settings).try_start().await.map_err(|problems| lines(&problems))
}

async fn ask(broker: &TestBroker) -> Response {
    broker.credentials(&broker.token_for("my-app"), "project=my-app").await
}

#[tokio::test]
async fn what_the_provider_needs_is_allowed_and_nothing_else() {
    let server = Imaginary::start().await;
    answers(&server);
    let url = server.url();
    let both = json!([
        format!("POST {url}/api/tokens"),
        format!("POST {url}/api/projects/{{project}}/tokens")
    ]);
    let broker = start(table(&url).with("requests", both)).await.unwrap();
    assert_eq!(ask(&broker).await.status, 200);
    // It forgets to name the second request that it sends.
    let one = json!([format!("POST {url}/api/tokens")]);
    let broker = start(table(&url).with("requests", one)).await.unwrap();
    assert_eq!(ask(&broker).await.problem().as_deref(), Some("provider-failed"));
    assert!(
        logs::text().contains("/api/projects/my-app/tokens, which this registry's `ceiling.http`")
    );
    // None at all.
    let broker = start(table(&url).with("requests", json!([]))).await.unwrap();
    assert_eq!(ask(&broker).await.problem().as_deref(), Some("provider-failed"));
    assert!(logs::text().contains("HTTP, which this registry's settings do not allow"));
}

#[tokio::test]
async fn what_is_not_possible_is_found_at_start() {
    let url = "https://registry.example.com";
    let needs = |requests: serde_json::Value| table(url).with("requests", requests);
    let public = |table: RegistryTable| table.ceiling("");
    for (text, told) in [
        (
            public(needs(json!(["POST https://10.0.0.1/x"]))),
            "needs `POST https://10.0.0.1/x`, which is not possible: a private address",
        ),
        (public(needs(json!(["POST http://a.example.com/x"]))), "https is required"),
        (needs(json!(["FETCH https://a.example.com"])), "unknown method"),
        (needs(json!(["POST https://169.254.169.254/x"])), "never asked"),
        (needs(json!(vec!["GET https://a.example.com"; 65])), "names more than 64 requests"),
        (
            needs(json!(["GET https://a.example.com/x", "POST https://b.example.com/{project}"]))
                .ceiling("allow = [\"GET https://a.example.com\", \"GET https://b.example.com\"]"),
            "requests that this does not allow: POST https://b.example.com/{project}; add them",
        ),
        (
            needs(json!(["POST https://login.example.com/x"])).with("trust_provider", false),
            "review the provider, then set `trust_provider = true`",
        ),
        (table(url).with("image_host", "no host"), "names a host that is none, `no host`"),
        (
            table(url).with("image_host", "images.example.com").with("trust_provider", false),
            "missing; the provider `login-rogue`",
        ),
        (
            table(url)
                .with("image_host", "images.example.com")
                .with("location", "registry.example.com/{project}"),
            "outside registry.example.com/{project}",
        ),
    ] {
        let problems = start(&text).await.err().unwrap_or_else(|| panic!("{told}: it starts"));
        assert!(problems.contains(told), "{told}: {problems}");
    }
}

#[tokio::test]
async fn images_may_be_at_the_host_that_the_provider_names() {
    let server = Imaginary::start().await;
    answers(&server);
    let text = table(&server.url()).with("image_host", "images.example.com:8443");
    let answer = ask(&start(text).await.unwrap()).await;
    assert_eq!(answer.json()["credentials"]["registry_url"], "images.example.com:8443");
}

/// A server with a certificate of its own authority, which answers each request with a token.
async fn private_server(authority: &str) -> (String, std::path::PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let authorities = write("ca.pem", format!("{authority}{}", made.cert.pem()));
    let files = TlsFile {
        certificate_file: write("certificate.pem", made.cert.pem()),
        key_file: write("key.pem", made.signing_key.serialize_pem()),
    };
    let acceptor = Tls::load(&files).unwrap().acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let expires_at = jiff::Timestamp::now().as_second() + 600;
            let body = json!({ "username": "u", "token": "t0p-token", "expires_at": expires_at });
            let body = body.to_string();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (url, authorities, folder)
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_the_operator_names_it() {
    let (url, authorities, folder) = private_server("").await;
    let with = |line: String| imaginary(&url).ceiling(&format!("private = true\n{line}"));
    let named = |path: &std::path::Path| with(format!("ca_file = \"{}\"", path.display()));
    let broker = start(named(&authorities)).await.unwrap();
    let answer = ask(&broker).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    // Without it, and with another one, the registry is told nothing.
    let broker = start(with(String::new())).await.unwrap();
    assert_eq!(ask(&broker).await.problem().as_deref(), Some("upstream-unavailable"));
    let (_, others, _others_folder) = private_server("").await;
    let broker = start(named(&others)).await.unwrap();
    assert_eq!(ask(&broker).await.problem().as_deref(), Some("upstream-unavailable"));
    // What is no file of authorities is told at start.
    let key = folder.path().join("key.pem");
    for (path, told) in [
        (folder.path().join("missing.pem"), "missing.pem cannot be read: No such file"),
        (key, "key.pem has no certificate in PEM"),
    ] {
        let problems = start(named(&path)).await.err().unwrap();
        assert!(problems.contains("registries.prod.ceiling.http.ca_file: "), "{problems}");
        assert!(problems.contains(told), "{told}: {problems}");
        assert!(!problems.contains(ADMIN_TOKEN));
    }
}
