//! Threats to the edge (`security.md` A4) over real sockets: each attack ends in an answer or a
//! closed connection, nothing reaches AWS, and the next valid request is answered.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rise_broker_tests::registry::ecr;
use rise_broker_tests::wire::Heard;
use rise_broker_tests::{AUTH, Listening, Settings, Stub, TestBroker, Wire, eventually};

const PATH: &str = "/api/v1/registry/credentials";
/// Timeouts that a test can wait for.
const TIMEOUTS: &str = "[server.timeouts]\nheader_ms = 300\nbody_ms = 300\nidle_ms = 800\n";
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

struct Edge {
    broker: TestBroker,
    aws: Stub,
    listening: Listening,
    token: String,
}

impl Edge {
    /// Starts a broker with these settings in a layer above.
    async fn start(layer: &str) -> Self {
        let aws = Stub::start().await;
        let registry = ecr(aws.endpoint());
        let settings = Settings::new(format!("{AUTH}\n{registry}")).layer(layer);
        let broker = TestBroker::with_settings(settings).start().await;
        let listening = broker.listen(None).await;
        let token = broker.token_for("my-app");
        Self { broker, aws, listening, token }
    }

    async fn attacker(&self) -> Wire {
        Wire::connect_from(ATTACKER, self.listening.address).await
    }

    fn get(&self) -> String {
        format!(
            "GET {PATH}?project=my-app HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
            self.token
        )
    }

    /// A request with these lines in addition to the token, and what follows.
    fn post(&self, lines: &str, body: &str) -> String {
        format!(
            "POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{lines}\r\n{body}",
            self.token
        )
    }

    /// Checks that AWS heard nothing so far, and that the next caller is served.
    async fn goes_on(&self, case: &str) {
        assert_eq!(self.aws.requests().len(), 0, "{case}: something reached AWS");
        self.serves(case).await;
    }

    async fn serves(&self, case: &str) {
        let heard = Wire::once(self.listening.address, &self.get()).await;
        assert_eq!(heard.status, 200, "{case}: {heard:?}");
    }
}

/// Checks the answer to a refused request.
fn refused(heard: &Heard, statuses: &[u16], case: &str) {
    assert!(statuses.contains(&heard.status), "{case}: {heard:?}");
}

#[tokio::test]
async fn t42_slow_headers_slow_bodies_and_idle_connections_end() {
    let edge = Edge::start(&TIMEOUTS.replace("idle_ms = 800", "idle_ms = 2500")).await;
    let started = Instant::now();
    let mut silent = edge.attacker().await;
    let mut dripping = edge.attacker().await;
    let mut body = edge.attacker().await;
    dripping.send("GET / HTTP/1.1\r\n").await;
    body.send(edge.post("content-type: application/json\r\ncontent-length: 100\r\n", "{")).await;
    let drip = async {
        // Single bytes do not help: the deadline covers the whole head.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            dripping.send("x").await;
        }
        dripping.hung_up().await
    };
    let (dripped, late) = tokio::join!(drip, body.hear());
    assert!(dripped.is_empty(), "{dripped:?}");
    assert_eq!((late.status, late.problem().as_deref()), (408, Some("request-timeout")));
    body.hung_up().await;
    assert!(silent.hung_up().await.is_empty());
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    edge.goes_on("slow").await;
    // A connection between two requests may idle longer than within a head, but not for ever.
    let mut idle = Wire::connect(edge.listening.address).await;
    idle.send(edge.get()).await;
    assert_eq!(idle.hear().await.status, 200);
    tokio::time::sleep(Duration::from_millis(500)).await;
    idle.send(edge.get()).await;
    assert_eq!(idle.hear().await.status, 200, "longer than `header_ms`, shorter than `idle_ms`");
    let idled = Instant::now();
    assert!(idle.hung_up().await.is_empty());
    assert!(idled.elapsed() >= Duration::from_millis(2_400), "{:?}", idled.elapsed());
}

#[tokio::test]
async fn t42_a_connection_ends_at_its_lifetime_with_an_answer() {
    let edge = Edge::start("[server.timeouts]\nlifetime_ms = 600\n").await;
    let opened = Instant::now();
    let mut busy = Wire::connect(edge.listening.address).await;
    let mut answers = 0;
    loop {
        busy.send(edge.get()).await;
        let heard = busy.hear().await;
        if heard.status == 0 {
            assert_eq!(heard, Heard::default(), "closed in the middle of an answer");
            break;
        }
        assert_eq!(heard.status, 200);
        assert!(heard.body.ends_with('}'), "closed in the middle of an answer: {heard:?}");
        answers += 1;
        if heard.header("connection") == Some("close") {
            assert!(busy.hung_up().await.is_empty(), "announced, and closed");
            break;
        }
        assert!(opened.elapsed() < Duration::from_secs(20), "{answers} answers, and still open");
    }
    assert!(answers > 0 && opened.elapsed() >= Duration::from_millis(600), "closed too early");
    edge.serves("lifetime").await;
}

#[tokio::test]
async fn t43_one_address_gets_sixty_four_connections_and_a_trusted_proxy_more() {
    let edge = Edge::start("").await;
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(edge.attacker().await);
    }
    for _ in 0..20 {
        assert!(edge.attacker().await.hung_up().await.is_empty(), "closed at once");
    }
    edge.goes_on("another address has connections of its own").await;
    for wire in &mut held {
        wire.send(edge.get()).await;
        assert_eq!(wire.hear().await.status, 200, "who was there before stays");
    }
    held.clear();
    let has_a_place = async || {
        let mut wire = edge.attacker().await;
        wire.send(edge.get()).await;
        wire.hear().await.status == 200
    };
    eventually("places are given back", has_a_place).await;
    let edge =
        Edge::start("[server]\nconnections_per_address = 1\ntrusted_proxies = [\"127.0.0.2\"]\n")
            .await;
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut wire = edge.attacker().await;
        wire.send(edge.get()).await;
        assert_eq!(wire.hear().await.status, 200);
        held.push(wire);
    }
}

#[tokio::test]
async fn t43_all_addresses_together_get_so_many_connections() {
    let edge = Edge::start("[server]\nconnections = 20\n").await;
    let mut held = Vec::new();
    for last in 2..12 {
        let from = Ipv4Addr::new(127, 0, 0, last);
        held.push(Wire::connect_from(from, edge.listening.address).await);
        held.push(Wire::connect_from(from, edge.listening.address).await);
    }
    let mut one_more = Wire::connect(edge.listening.address).await;
    assert!(one_more.hung_up().await.is_empty());
    drop(held);
    assert_eq!(edge.aws.requests().len(), 0, "something reached AWS");
    let has_a_place = async || Wire::once(edge.listening.address, &edge.get()).await.status == 200;
    eventually("places are given back", has_a_place).await;
}

#[tokio::test]
async fn t44_http_2_is_refused() {
    let edge = Edge::start(TIMEOUTS).await;
    let mut wire = edge.attacker().await;
    wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let answer = String::from_utf8_lossy(&wire.hung_up().await).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let upgrade = edge.get().replace(
        "host: x",
        "host: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
         http2-settings: AAMAAABkAAQAAP__",
    );
    let heard = Wire::once(edge.listening.address, &upgrade).await;
    assert_eq!(heard.status, 200, "an upgrade is not taken: {heard:?}");
    edge.serves("h2").await;
}

/// The error, the header lines with it, and the body. `HIDDEN` stands for a complete valid request.
const SMUGGLED: [(&str, &str, &str); 12] = [
    ("CL and TE", "content-length: 4\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\nHIDDEN"),
    ("TE and CL", "transfer-encoding: chunked\r\ncontent-length: 4\r\n", "0\r\n\r\nHIDDEN"),
    ("two lengths", "content-length: 2\r\ncontent-length: 60\r\n", "{}HIDDEN"),
    ("a list of lengths", "content-length: 2, 60\r\n", "{}HIDDEN"),
    ("a length with a sign", "content-length: +2\r\n", "{}HIDDEN"),
    ("an unknown coding", "transfer-encoding: chunked, x\r\n", "HIDDEN"),
    ("two codings", "transfer-encoding: chunked\r\ntransfer-encoding: x\r\n", "0\r\n\r\nHIDDEN"),
    (
        "a chunk size that overflows",
        "transfer-encoding: chunked\r\n",
        "fffffffffffffffff\r\nHIDDEN",
    ),
    ("a folded line", "x-a: b\r\n authorization: c\r\n", "HIDDEN"),
    ("a space before the colon", "content-length : 2\r\n", "{}HIDDEN"),
    ("a NUL", "x-a: b\0c\r\n", "HIDDEN"),
    ("a bare CR", "x-a: b\rc: d\r\n", "HIDDEN"),
];

#[tokio::test]
async fn t45_no_request_hides_in_another() {
    let edge = Edge::start(TIMEOUTS).await;
    for (case, lines, body) in SMUGGLED {
        let body = body.replace("HIDDEN", &edge.get());
        let mut wire = edge.attacker().await;
        wire.send(edge.post(&format!("content-type: application/json\r\n{lines}"), &body)).await;
        let answer = String::from_utf8_lossy(&wire.hung_up().await).into_owned();
        let answers = answer.matches("HTTP/1.1 ").count();
        assert!(answers <= 1 && !answer.contains("HTTP/1.1 2"), "{case}: {answer}");
        assert_eq!(edge.aws.requests().len(), 0, "{case}");
    }
    edge.goes_on("smuggling").await;
}

#[tokio::test]
async fn t46_the_token_is_in_one_header_and_nowhere_else() {
    let edge = Edge::start("").await;
    let token = &edge.token;
    for (case, query, lines) in [
        ("two", "", format!("authorization: Bearer {token}\r\nauthorization: Bearer {token}\r\n")),
        ("another one", "", format!("authorization: Basic x\r\nauthorization: Bearer {token}\r\n")),
        ("a list", "", format!("authorization: Bearer {token},Bearer {token}\r\n")),
        ("a list of one scheme", "", format!("authorization: Bearer {token}, {token}\r\n")),
        ("two spaces", "", format!("authorization: Bearer  {token}\r\n")),
        ("another name", "", format!("authorization_: Bearer {token}\r\n")),
        ("another header", "", format!("x-authorization: Bearer {token}\r\n")),
        ("a proxy's", "", format!("proxy-authorization: Bearer {token}\r\n")),
        ("a cookie", "", format!("cookie: access_token={token}\r\n")),
        ("the query", "&access_token=TOKEN", String::new()),
        ("another scheme", "", format!("authorization: Token {token}\r\n")),
        ("none", "", String::new()),
    ] {
        let query = query.replace("TOKEN", token);
        let request =
            format!("GET {PATH}?project=my-app{query} HTTP/1.1\r\nhost: x\r\n{lines}\r\n");
        let heard = Wire::once(edge.listening.address, &request).await;
        assert_eq!(heard.status, 401, "{case}: {heard:?}");
        assert_eq!(heard.problem().as_deref(), Some("missing-token"), "{case}");
        assert!(heard.header("www-authenticate").is_some(), "{case}");
    }
    let body = format!("{{\"project\":\"my-app\",\"access_token\":\"{token}\"}}");
    let lines = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    let request = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n{lines}\r\n{body}");
    assert_eq!(Wire::once(edge.listening.address, &request).await.status, 401);
    edge.goes_on("tokens").await;
    assert!(!rise_broker_tests::logs::text().contains(token.as_str()));
}

/// A connection that is closed with unread bytes is reset, and a reset can overtake the answer.
#[tokio::test]
async fn headers_that_are_too_large_are_answered_before_the_connection_ends() {
    let edge = Edge::start(TIMEOUTS).await;
    for size in [49_438, 60_000, 120_000, 200_000] {
        for _ in 0..25 {
            let token = "a".repeat(size);
            let head =
                format!("GET {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
            let mut wire = edge.attacker().await;
            wire.send(&head).await;
            refused(&wire.hear().await, &[431], &format!("{size} bytes"));
        }
    }
}

#[tokio::test]
async fn t48_sizes_have_bounds_and_bodies_one_form() {
    let edge = Edge::start(TIMEOUTS).await;
    let head = |path: &str, lines: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{lines}\r\n",
            edge.token
        )
    };
    let long = |length| "a".repeat(length);
    let fields = |count: usize| "x: y\r\n".repeat(count);
    let body = |lines: &str, body: &str| {
        edge.post(&format!("{lines}content-length: {}\r\n", body.len()), body)
    };
    let json = "content-type: application/json\r\n";
    for (case, request, statuses) in [
        ("a URI over 2 KiB", head(&format!("{PATH}?project={}", long(2_048)), ""), &[414][..]),
        ("a URI over all", head(&format!("/{}", long(20_000)), ""), &[414, 431]),
        ("headers over 48 KiB", head(PATH, &format!("x: {}\r\n", long(60_000))), &[431]),
        ("65 fields", head(PATH, &fields(63)), &[431]),
        ("1000 fields", head(PATH, &fields(1_000)), &[431]),
        ("a body over 4 KiB", body(json, &format!("{{\"project\":\"{}\"}}", long(4_096))), &[413]),
        ("a body over 1 MiB", body(json, &long(1 << 20)), &[413]),
        ("no content type", body("", "{\"project\":\"my-app\"}"), &[415]),
        (
            "a form",
            body("content-type: application/x-www-form-urlencoded\r\n", "project=a"),
            &[415],
        ),
        (
            "two content types in one",
            body("content-type: text/plain, application/json\r\n", "{\"project\":\"my-app\"}"),
            &[415],
        ),
        ("gzip", body(&format!("{json}content-encoding: gzip\r\n"), "\x1f"), &[415]),
        (
            "said to be gzip",
            body(&format!("{json}content-encoding: gzip\r\n"), "{\"project\":\"my-app\"}"),
            &[415],
        ),
        (
            "chunks over 4 KiB",
            edge.post(
                &format!("{json}transfer-encoding: chunked\r\n"),
                &format!("2000\r\n{}\r\n0\r\n\r\n", long(0x2000)),
            ),
            &[413],
        ),
        ("no HTTP", "\x16\x03\x01\x02\0".to_owned(), &[400, 0]),
        ("a method of its own", head(PATH, "").replace("GET", "BREW"), &[405]),
        ("an upload", head(PATH, "").replace("GET", "PUT"), &[405]),
    ] {
        let mut wire = edge.attacker().await;
        wire.send(&request).await;
        refused(&wire.hear().await, statuses, case);
        assert_eq!(edge.aws.requests().len(), 0, "{case}");
    }
    let fits = head(&format!("{PATH}?project=my-app"), &fields(62));
    let fits = Wire::once(edge.listening.address, &fits).await;
    assert_eq!(fits.status, 200, "64 fields are taken");
}

#[tokio::test]
async fn t49_nothing_is_kept_or_shown_to_other_pages() {
    let edge = Edge::start("").await;
    let origin = "origin: https://evil.example\r\naccess-control-request-method: GET\r\n";
    for request in [
        edge.get().replace("host: x\r\n", &format!("host: x\r\n{origin}")),
        format!("OPTIONS {PATH} HTTP/1.1\r\nhost: x\r\n{origin}\r\n"),
        format!("GET {PATH}?project=my-app HTTP/1.1\r\nhost: x\r\n{origin}\r\n"),
        format!("GET /nowhere HTTP/1.1\r\nhost: x\r\n{origin}\r\n"),
    ] {
        let heard = Wire::once(edge.listening.address, &request).await;
        assert_eq!(heard.header("cache-control"), Some("no-store"), "{heard:?}");
        assert_eq!(heard.header("x-content-type-options"), Some("nosniff"));
        assert!(!heard.head.to_ascii_lowercase().contains("access-control"), "{}", heard.head);
    }
}

#[tokio::test]
async fn t51_what_is_for_operators_is_not_on_the_public_port() {
    let edge = Edge::start("").await;
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/v1/providers",
        "/debug/pprof",
        "//healthz",
        "/./healthz",
    ] {
        let request = edge.get().replace(&format!("{PATH}?project=my-app"), path);
        let heard = Wire::once(edge.listening.address, &request).await;
        assert_eq!((heard.status, heard.problem().as_deref()), (404, Some("not-found")), "{path}");
    }
    for path in [PATH, "/api/v1/registries"] {
        assert_eq!(edge.broker.admin(path).await.status, 404, "{path} is not on the admin port");
    }
    edge.goes_on("admin paths").await;
}
