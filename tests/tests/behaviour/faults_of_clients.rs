//! What clients do that nobody expects: a query beside a body, half a connection closed, probes
//! beside idle connections, thousands of refused requests.

use std::net::{Ipv4Addr, SocketAddr};

use axum::body::Body;
use axum::http::Request;
use rise_broker_tests::registry::oci;
use rise_broker_tests::{AUTH, Client, Installation, Serving, Settings, TestBroker, Wire};
use tokio::io::AsyncWriteExt as _;

const PATH: &str = "/api/v1/registry/credentials";

fn registry() -> String {
    oci("oci.example.com").account("robot", "a-password").to_string()
}

fn installation() -> Installation {
    let mut installation = Installation::new(format!("{AUTH}{}", registry()));
    installation.unlimited();
    installation
}

fn address(url: &str) -> SocketAddr {
    url.rsplit_once('/').unwrap().1.parse().unwrap()
}

fn get(token: &str) -> String {
    format!(
        "GET {PATH}?project=my-app HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"
    )
}

/// A parameter that is ignored could have asked for less.
#[tokio::test]
async fn parameters_in_the_wrong_place_are_refused() {
    let broker = TestBroker::with_registries(registry()).start().await;
    let token = broker.token_for("my-app");
    let body = r#"{"project":"my-app"}"#;
    for (method, path, body, status) in [
        ("POST", format!("{PATH}?actions=pull"), body, 400),
        ("POST", format!("{PATH}?project=other"), body, 400),
        ("POST", format!("{PATH}?x"), body, 400),
        ("POST", format!("{PATH}?"), body, 200),
        ("POST", PATH.to_owned(), body, 200),
        ("POST", "/api/v1/explain?project=my-app".to_owned(), "{}", 400),
        ("POST", "/api/v1/explain".to_owned(), "{}", 200),
        ("GET", format!("{PATH}?project=my-app"), r#"{"actions":["pull"]}"#, 400),
        ("GET", format!("{PATH}?project=my-app"), "", 200),
        ("GET", "/api/v1/registries?registry=prod".to_owned(), "", 400),
        ("GET", "/api/v1/registries".to_owned(), "", 200),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(&path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap();
        let answer = broker.send(request).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.text);
        if status == 400 {
            assert_eq!(answer.problem().as_deref(), Some("invalid-request"), "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn a_client_that_sends_nothing_more_gets_its_answer() {
    let installation = installation();
    let token = installation.token_for("my-app");
    let serving = installation.serve();
    let body = r#"{"project":"my-app"}"#;
    let post = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let ready = "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n".to_owned();
    for (to, request) in
        [(&serving.url, get(&token)), (&serving.url, post), (&serving.admin, ready)]
    {
        let mut wire = Wire::connect(address(to)).await;
        wire.send(&request).await;
        let mut stream = wire.into_inner();
        stream.shutdown().await.unwrap();
        let mut wire = Wire::over(stream);
        let heard = wire.hear().await;
        assert_eq!(heard.status, 200, "{request}: {heard:?}");
        assert!(!heard.body.is_empty(), "{heard:?}");
        assert!(wire.hung_up().await.is_empty());
    }
}

/// More than there are places, from one address.
#[tokio::test]
async fn a_probe_gets_in_beside_any_number_of_idle_connections() {
    let installation = installation();
    let serving = installation.serve();
    let admin = address(&serving.admin);
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(Wire::connect(admin).await);
        if idle.len() % 50 == 0 {
            assert_eq!(serving.admin("/healthz").await["status"], "ok", "beside {}", idle.len());
        }
    }
    assert_eq!(serving.admin("/readyz").await["status"], "ready");
    let still_open = idle.last_mut().unwrap();
    still_open.send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(still_open.hear().await.status, 200, "the latest ones stay open");
}

#[tokio::test]
async fn a_flood_of_refusals_is_a_few_lines() {
    let installation = installation();
    let token = installation.token_for("other");
    let serving = installation.serve();
    for _ in 0..150 {
        let heard = Wire::once(address(&serving.url), &get("wrong")).await;
        assert_eq!(heard.status, 401);
        assert_eq!(Wire::once(address(&serving.url), &get(&token)).await.status, 403);
    }
    let lines = |serving: &Serving, problem: &str| {
        let log = serving.log();
        let is_one = |line: &&str| line.contains("request refused") && line.contains(problem);
        log.lines().filter(is_one).count()
    };
    for problem in ["invalid-token", "access-denied"] {
        let lines = lines(&serving, problem);
        assert!((1..=40).contains(&lines), "{lines} lines with {problem}");
    }
    // Nothing is lost: the denials are in the audit log.
    let records = installation.audit();
    assert_eq!(records.iter().filter(|record| record["event"] == "authz.denied").count(), 150);
}

/// The connection was accepted before the stop, and its request arrives after it.
#[tokio::test]
async fn a_request_that_arrives_while_the_broker_stops_is_answered() {
    for attempt in 0..5 {
        let installation = installation();
        let token = installation.token_for("my-app");
        let mut serving = installation.serve();
        let mut wire = Wire::connect(address(&serving.url)).await;
        // Accepted, by the time that another one is answered.
        assert_eq!(Wire::once(address(&serving.url), &get(&token)).await.status, 200);
        serving.terminate();
        serving.wait_for_line("stopping: requests in flight are finished first");
        wire.send(get(&token)).await;
        let heard = wire.hear().await;
        assert!(serving.ended().success());
        if heard.status == 200 {
            assert_eq!(heard.header("connection"), Some("close"), "{heard:?}");
            return;
        }
        // A busy machine may need longer than the 250 ms for which the broker waits.
        assert!(attempt < 4, "{heard:?}");
    }
}

/// On one thread, so that work that is not given away holds up everything else.
#[tokio::test(flavor = "current_thread")]
async fn thousands_of_rules_of_one_caller_hold_up_nobody_else() {
    use std::fmt::Write as _;
    let mut text = format!("{AUTH}{}", registry());
    for number in 0..4_000 {
        let _ = write!(
            text,
            "[[rules]]\nname = \"rule-{number}\"\nissuer = \"local\"\nprojects = [\"p-{number}\"]\n\
             claims = {{ repository = \"acme/my-app\" }}\nregistries = [\"prod\"]\n\
             allow = [\"pull\"]\n"
        );
    }
    let broker = TestBroker::with_settings(Settings::new(text)).start().await;
    let explain = Request::post("/api/v1/explain")
        .header("authorization", format!("Bearer {}", broker.token_for("my-app")))
        .header("content-type", "application/json")
        .body(Body::from("{}"))
        .unwrap();
    let mut explained = std::pin::pin!(broker.send(explain));
    let other = async {
        // It begins when the first one waits for something.
        broker.get("/api/v1/openapi.json", None).await.status
    };
    tokio::select! {
        biased;
        answer = &mut explained => panic!("it ran to its end at once: {}", answer.text.len()),
        status = other => assert_eq!(status, 200),
    }
    let grants = explained.await.json()["grants"].as_array().unwrap().len();
    assert_eq!(grants, 4_001);
}

/// Strangers' connections use up descriptors, and none that a record needs.
#[tokio::test]
async fn silent_connections_cost_no_credentials_where_files_are_few() {
    let mut installation = installation();
    // A new segment for each few records, which needs descriptors.
    installation.variable("RISE_AUDIT__ROTATE_MIB", "1");
    let token = installation.token_for("my-app");
    let serving = installation.serve_under(&["sh", "-c", "ulimit -n 256; exec \"$@\"", "sh"]);
    let to = address(&serving.url);
    let mut own = Wire::connect(to).await;
    own.send(get(&token)).await;
    assert_eq!(own.hear().await.status, 200);
    let mut silent = Vec::new();
    for number in 0..400_u32 {
        let from = Ipv4Addr::new(127, 0, 1, u8::try_from(1 + number / 50).unwrap());
        silent.push(Wire::connect_from(from, to).await);
    }
    let started = std::time::Instant::now();
    let mut answers = 0;
    // Longer than the pause between two looks at the disk.
    while started.elapsed() < std::time::Duration::from_millis(2_500) {
        own.send(get(&token)).await;
        let heard = own.hear().await;
        assert_eq!(heard.status, 200, "after {answers}: {heard:?}");
        answers += 1;
    }
    assert_eq!(Client::new().get(&format!("{}/readyz", serving.admin)).await.status, 200);
    assert!(serving.open_files() < 230, "{}", serving.open_files());
    assert!(serving.log().contains("fewer connections are accepted"), "{}", serving.log());
}
