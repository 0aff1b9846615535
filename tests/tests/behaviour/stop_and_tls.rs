//! The real binary: how it stops, how it runs out of file descriptors, and TLS with a certificate
//! that changes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::CertifiedKey;
use rise_broker::config::TlsFile;
use rise_broker::http::listen::Tls;
use rise_broker_tests::registry::ecr;
use rise_broker_tests::{AUTH, Answer, Client, Installation, Serving, Stub, Wire, eventually};
use rustix::process::{Resource, Rlimit};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio_rustls::{TlsConnector, rustls};

const PATH: &str = "/api/v1/registry/credentials?project=my-app";

fn settings(aws: &Stub) -> String {
    format!("{AUTH}{}", ecr(aws.endpoint()))
}

fn request(installation: &Installation) -> String {
    let claims = ["token", "--subject", "ci", "--claim", "repository=acme/my-app"];
    let printed = installation.run(&claims);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let token = printed.stdout.trim();
    format!("GET {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")
}

fn address(url: &str) -> SocketAddr {
    url.rsplit_once('/').unwrap().1.parse().unwrap()
}

async fn ready(serving: &Serving) -> u16 {
    Wire::once(address(&serving.admin), "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn t65_a_stop_is_announced_before_connections_are_refused() {
    let aws = Stub::start().await;
    let mut installation = Installation::new(settings(&aws));
    installation.without("RISE_SERVER__DRAIN_DELAY_MS");
    let request = request(&installation);
    let mut serving = installation.serve();
    let (public, started) = (address(&serving.url), Instant::now());
    assert_eq!(ready(&serving).await, 200);
    serving.terminate();
    eventually("readiness says no", async || ready(&serving).await == 503).await;
    assert!(started.elapsed() < Duration::from_secs(2), "at once");
    assert_eq!(Wire::once(public, &request).await.status, 200, "who comes now is still served");
    serving.wait_for_line("stopping: requests in flight are finished first");
    assert!(started.elapsed() >= Duration::from_millis(4_900), "five seconds by default");
    assert_eq!(serving.ended().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn t65_who_is_being_served_when_it_stops_gets_an_answer_and_is_told_to_go() {
    let aws = Stub::start().await;
    let installation = Installation::new(settings(&aws));
    let request = request(&installation);
    aws.next("AssumeRole", [Answer::late(Duration::from_millis(1_200))]);
    let mut serving = installation.serve();
    let mut wire = Wire::connect(address(&serving.url)).await;
    wire.send(&request).await;
    aws.wait_for("AssumeRole", 1).await;
    serving.terminate();
    let heard = wire.hear().await;
    assert_eq!((heard.status, heard.header("connection")), (200, Some("close")));
    assert_eq!(serving.ended().code(), Some(0));
    let record = std::fs::read_dir(installation.path("audit")).unwrap().flatten();
    let record: String =
        record.map(|entry| std::fs::read_to_string(entry.path()).unwrap()).collect();
    assert!(record.contains("issue.completed"), "what was delivered was recorded: {record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn t65_asked_a_second_time_it_stops_at_once() {
    let aws = Stub::start().await;
    let mut installation = Installation::new(settings(&aws));
    installation.unlimited();
    let request = request(&installation);
    aws.always("AssumeRole", Answer::late(Duration::from_millis(1_400)));
    let mut serving = installation.serve();
    // A crowd, whose calls run on their own threads.
    let mut wires = Vec::new();
    for _ in 0..16 {
        let mut wire = Wire::connect(address(&serving.url)).await;
        wire.send(&request).await;
        wires.push(wire);
    }
    aws.wait_for("AssumeRole", wires.len()).await;
    serving.terminate();
    serving.wait_for_line("stopping: requests in flight are finished first");
    serving.terminate();
    assert_eq!(serving.ended().code(), Some(0));
    for wire in &mut wires {
        assert_eq!(wire.hear().await.status, 0, "no credential without its record");
    }
    let lines = serving.lines_so_far();
    assert!(!lines.iter().any(|line| line.to_string().contains("panicked")), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn t43_without_file_descriptors_it_waits_and_recovers() {
    let aws = Stub::start().await;
    let installation = Installation::new(settings(&aws));
    let request = request(&installation);
    let serving = installation.serve();
    let public = address(&serving.url);
    assert_eq!(Wire::once(public, &request).await.status, 200);
    let few = u64::try_from(serving.open_files()).unwrap() + 10;
    let limit = Rlimit { current: Some(few), maximum: Some(few) };
    rustix::process::prlimit(Some(serving.id()), Resource::Nofile, limit).unwrap();
    let mut held = Vec::new();
    for last in 2..42 {
        held.push(Wire::connect_from(Ipv4Addr::new(127, 0, 0, last), public).await);
    }
    serving.wait_for_line("cannot accept a connection");
    drop(held);
    assert_eq!(Wire::once(public, &request).await.status, 200);
}

// TLS

struct Pair {
    certificate: String,
    key: String,
}

fn pair() -> Pair {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    Pair { certificate: cert.pem(), key: signing_key.serialize_pem() }
}

impl Pair {
    fn write(&self, installation: &Installation) {
        installation.file("cert.pem", &self.certificate);
        installation.file("key.pem", &self.key);
    }

    /// A client that accepts this certificate only.
    async fn connect(
        &self,
        to: SocketAddr,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(to).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    async fn serves(&self, to: SocketAddr, request: &str) -> bool {
        let Ok(stream) = self.connect(to, rustls::ALL_VERSIONS, &[]).await else { return false };
        let mut wire = Wire::over(stream);
        wire.send(request).await;
        assert_eq!(wire.hear().await.status, 200);
        true
    }
}

async fn over_tls(first: &Pair) -> (Stub, Installation, Serving, SocketAddr, String) {
    let aws = Stub::start().await;
    let text = settings(&aws);
    let tls = "[server.tls]\ncertificate_file = \"cert.pem\"\nkey_file = \"key.pem\"\n";
    let installation =
        Installation::new(format!("{text}{tls}[server.timeouts]\nhandshake_ms = 400\n"));
    first.write(&installation);
    let request = request(&installation);
    let serving = installation.serve();
    let address = address(&serving.url);
    (aws, installation, serving, address, request)
}

#[tokio::test(flavor = "multi_thread")]
async fn t50_only_tls_1_2_and_later_is_spoken_and_only_http_1() {
    let pair = pair();
    let (aws, _it, _serving, to, request) = over_tls(&pair).await;
    for version in [&TLS12, &TLS13] {
        let stream = pair.connect(to, &[version], &["h2", "http/1.1"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut wire = Wire::over(stream);
        wire.send(&request).await;
        assert_eq!(wire.hear().await.status, 200);
    }
    let called = aws.requests().len();
    assert!(pair.connect(to, rustls::ALL_VERSIONS, &["h2"]).await.is_err(), "HTTP/2 alone");
    for (minor, expected) in [(0_u8, 21), (1, 21), (2, 21), (3, 22)] {
        let mut wire = Wire::connect(to).await;
        wire.send(client_hello(minor)).await;
        // The answer is an alert (21), or a handshake (22) that continues: the hello differs only
        // in its version.
        let answer = wire.hung_up().await;
        assert_eq!(answer.first(), Some(&expected), "{minor}: {answer:?}");
    }
    let mut plain = Wire::connect(to).await;
    plain.send(&request).await;
    assert!(!plain.hung_up().await.starts_with(b"HTTP"), "no HTTP without TLS");
    let (mut silent, started) = (Wire::connect(to).await, Instant::now());
    assert!(silent.hung_up().await.is_empty());
    assert!(started.elapsed() < Duration::from_secs(3), "a handshake has its time");
    assert_eq!(aws.requests().len(), called, "nothing reached AWS");
    assert!(pair.serves(to, &request).await);
}

/// A hello of SSL 3.0 (0), TLS 1.0 (1), TLS 1.1 (2) or TLS 1.2 (3), without `supported_versions`.
fn client_hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    // No session, `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`, no compression.
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // `supported_groups` x25519, `signature_algorithms` ecdsa_secp256r1_sha256, `ec_point_formats`
    // uncompressed.
    body.extend([0, 22, 0, 10, 0, 4, 0, 2, 0, 29, 0, 13, 0, 4, 0, 2, 4, 3, 0, 11, 0, 2, 1, 0]);
    let length = |length: usize| u8::try_from(length).unwrap();
    let mut hello = vec![22, 3, 1, 0, length(body.len() + 4), 1, 0, 0, length(body.len())];
    hello.extend(body);
    hello
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_exchanged_under_open_connections_and_a_bad_one_is_not_taken() {
    let (first, second) = (pair(), pair());
    let (_aws, installation, serving, to, request) = over_tls(&first).await;
    let mut open = Wire::over(first.connect(to, rustls::ALL_VERSIONS, &[]).await.unwrap());
    open.send(&request).await;
    assert_eq!(open.hear().await.status, 200);

    second.write(&installation);
    assert!(first.serves(to, &request).await, "not before installation is asked to");
    serving.hang_up();
    serving.wait_for_line("a new certificate is in use");
    assert!(second.serves(to, &request).await);
    assert!(!first.serves(to, &request).await);
    open.send(&request).await;
    assert_eq!(open.hear().await.status, 200, "who was connected stays so");

    for (case, certificate, key) in [
        ("another's key", &first.certificate, &second.key),
        ("half a file", &first.certificate[..200].to_owned(), &first.key),
        ("nothing", &String::new(), &first.key),
    ] {
        installation.file("cert.pem", certificate);
        installation.file("key.pem", key);
        serving.hang_up();
        serving.wait_for_line("the new certificate cannot be used; the old one stays in use");
        assert!(second.serves(to, &request).await, "{case}");
    }
    first.write(&installation);
    serving.hang_up();
    serving.wait_for_line("a new certificate is in use");
    assert!(first.serves(to, &request).await);
    open.send(&request).await;
    assert_eq!(open.hear().await.status, 200);
}

#[test]
fn a_pair_that_cannot_be_used_is_found_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (pair(), pair());
    let file = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).unwrap();
        directory.path().join(name)
    };
    let load = |certificate: &Path, key: &Path| {
        let files = TlsFile { certificate_file: certificate.into(), key_file: key.into() };
        Tls::load(&files).err().unwrap_or_default()
    };
    let (certificate, key) = (file("a.pem", &first.certificate), file("a.key", &first.key));
    assert_eq!(load(&certificate, &key), "");
    let other = file("b.key", &second.key);
    assert!(load(&certificate, &other).contains("do not belong together"));
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
               DEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    for (content, expected) in [
        ("", "has no content, expected PEM with `-----BEGIN PRIVATE KEY-----`"),
        ("hello", "has text that is not PEM, expected"),
        (&first.certificate, "has `CERTIFICATE`, expected"),
        (&first.certificate, "perhaps `certificate_file` and `key_file` are swapped"),
        (encrypted, "is encrypted with a passphrase"),
        (old, "is encrypted with a passphrase"),
        (encrypted, "`openssl pkey -in "),
    ] {
        let said = load(&certificate, &file("c.key", content));
        assert!(said.contains("c.key") && said.contains(expected), "{expected}: {said}");
    }
    assert!(load(Path::new("/nowhere.pem"), &key).contains("cannot read the certificate /nowhere"));
    for (content, expected) in [
        (&b""[..], "has no content, expected PEM with `-----BEGIN CERTIFICATE-----`"),
        (b"\x30\x82\xff", "has binary data, expected"),
        (b"\x30\x82\xff", "openssl x509 -inform der"),
        (first.key.as_bytes(), "has `PRIVATE KEY`, expected"),
        (first.key.as_bytes(), "are swapped"),
        (b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", "is damaged"),
    ] {
        std::fs::write(directory.path().join("d.pem"), content).unwrap();
        let said = load(&directory.path().join("d.pem"), &key);
        assert!(said.contains("d.pem") && said.contains(expected), "{expected}: {said}");
    }
}

// O6

/// A certificate that is valid from so many days before now to so many after it.
fn pair_of_days(from: i64, to: i64) -> Pair {
    let now = jiff::Timestamp::now();
    let day = |days: i64| {
        let time = now + jiff::SignedDuration::from_hours(24 * days);
        let date = time.to_zoned(jiff::tz::TimeZone::UTC);
        let part = |part: i8| u8::try_from(part).unwrap();
        rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    (parameters.not_before, parameters.not_after) = (day(from), day(to));
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    Pair { certificate: certificate.pem(), key: key.serialize_pem() }
}

#[tokio::test]
async fn o6_a_certificate_that_clients_reject_is_told_days_before() {
    for (from, to, expected) in [
        (-90, -1, Some("cert.pem expired at ")),
        (2, 90, Some("cert.pem is not valid before ")),
        (-80, 10, Some("cert.pem expires in 9 days, at ")),
        (-80, 40, None),
    ] {
        let (_aws, installation, serving, ..) = over_tls(&pair_of_days(from, to)).await;
        let check = installation.run(&["check"]);
        assert_eq!(check.code, Some(0), "{}", check.stderr);
        let said = serving.until("/readyz", |said| said["certificate"].is_object()).await;
        let metrics = Client::new().get(&format!("{}/metrics", serving.admin)).await.text();
        let problem = said["certificate"]["problem"].as_str();
        let days = "rise_broker_certificate_expiry_timestamp_seconds ";
        assert!(metrics.contains(days), "{metrics}");
        let is_wrong = metrics.contains("rise_broker_certificate_problem 1\n");
        assert_eq!((problem.is_some(), is_wrong), (expected.is_some(), expected.is_some()), "{to}");
        let warned =
            format!("warning: config/default.toml: server.tls: {}", expected.unwrap_or(""));
        assert_eq!(check.stderr.contains(&warned), expected.is_some(), "{}", check.stderr);
        if let Some(expected) = expected {
            assert!(problem.unwrap().starts_with(expected), "{said:#}");
            assert!(serving.log().contains("the certificate of the listener is not right"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_files_that_do_not_belong_together_are_told_until_they_do() {
    let (first, second) = (pair(), pair());
    let (_aws, installation, serving, ..) = over_tls(&first).await;
    installation.file("key.pem", &second.key);
    serving.hang_up();
    serving.wait_for_line("the new certificate cannot be used; the old one stays in use");
    let problem = |said: &Value| said["certificate"]["problem"].clone();
    let is_told =
        |said: &Value| problem(said).as_str().is_some_and(|text| text.contains("together"));
    serving.until("/readyz", is_told).await;
    first.write(&installation);
    serving.hang_up();
    serving.until("/readyz", |said| problem(said).is_null()).await;
}
