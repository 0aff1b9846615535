use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;
use crate::environment::Environment;
use crate::settings::Flags;

/// Seconds since 1970 in the tests of this file. Each test has its own cache, so one clock is
/// enough.
static NOW: AtomicU64 = AtomicU64::new(1_000);
/// Tests that set the clock run one after another.
static TURN: Mutex<()> = Mutex::new(());

fn now() -> u64 {
    NOW.load(Ordering::SeqCst)
}

/// A broker that answers each connection with the same bytes.
struct Double {
    url: String,
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<String>>,
}

impl Double {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
        let double = Self { url, asked: Arc::clone(&asked), answer: Arc::clone(&answer) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                let mut chunk = [0; 4096];
                while !String::from_utf8_lossy(&request).contains("my-app") {
                    match stream.read(&mut chunk) {
                        Ok(0) | Err(_) => break,
                        Ok(length) => request.extend(&chunk[..length]),
                    }
                }
                asked.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(answer.lock().unwrap().as_bytes());
            }
        });
        double.grants();
        double
    }

    fn answers(&self, status: &str, kind: &str, body: &str) {
        let text = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        *self.answer.lock().unwrap() = text;
    }

    fn grants(&self) {
        let json = json!({
            "credentials": { "registry_url": "r.example.com", "username": "u", "password": "canary",
                "expires_in": 100, "expires_at": "2026-11-21T13:39:53Z", "kind": "basic" },
            "repository": "my-app", "image": "r.example.com/my-app", "project": "my-app",
            "registry": "prod", "actions": ["pull"], "scope": "repository", "enforced_by": "host",
            "request_id": "01J"
        });
        self.answers("200 OK", "application/json", &json.to_string());
    }

    fn refuses(&self, status: &str) {
        let problem = json!({ "type": "urn:rise:problem:x", "detail": "no", "request_id": "01J" });
        self.answers(status, "application/problem+json", &problem.to_string());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn app(double: &Double, home: &std::path::Path, token: &str) -> App {
    app_with(double, home, ("RISE_TOKEN", token))
}

fn app_with(double: &Double, home: &std::path::Path, source: (&str, &str)) -> App {
    let home_text = home.to_str().unwrap();
    let variables = [("HOME", home_text), ("RISE_URL", &double.url), source];
    let mut app =
        App::new(&Flags::default(), Environment::of(&variables, home), Duration::ZERO).unwrap();
    app.now = now;
    app
}

fn wanted() -> Wanted {
    Wanted { project: Some("my-app".into()), ..Wanted::default() }
}

#[test]
fn the_broker_is_asked_again_at_half_life_and_what_is_left_bridges_its_absence() {
    let _turn = TURN.lock().unwrap();
    let (double, home) = (Double::start(), tempfile::tempdir().unwrap());
    let app = app(&double, home.path(), "a.jw.t");
    let at = |seconds| NOW.store(seconds, Ordering::SeqCst);
    at(1_000);
    for _ in 0..3 {
        assert!(obtain(&app, &wanted()).ok().unwrap().complaints.is_empty());
    }
    assert_eq!(double.asked(), 1);
    at(1_049);
    obtain(&app, &wanted()).ok().unwrap();
    assert_eq!(double.asked(), 1);
    at(1_050);
    let renewed = obtain(&app, &wanted()).ok().unwrap();
    assert_eq!((double.asked(), renewed.kept.expires_at), (2, 1_150));
    // The broker is down in the second half: the cached credential is used, with a line about it.
    double.answers("503 Service Unavailable", "text/html", "");
    at(1_110);
    let bridged = obtain(&app, &wanted()).ok().unwrap();
    assert_eq!((double.asked(), bridged.kept.expires_at), (3, 1_150));
    assert!(bridged.complaints[0].contains("still valid"), "{:?}", bridged.complaints);
    at(1_141);
    assert!(matches!(obtain(&app, &wanted()), Err(Failure::Unavailable(_))));
    // The clock is set back.
    double.grants();
    at(500);
    obtain(&app, &wanted()).ok().unwrap();
    assert_eq!(double.asked(), 5);
    at(1_000);
}

#[test]
fn a_denied_caller_does_not_get_the_cached_credential() {
    let _turn = TURN.lock().unwrap();
    let (double, home) = (Double::start(), tempfile::tempdir().unwrap());
    let app = app(&double, home.path(), "a.jw.t");
    obtain(&app, &wanted()).ok().unwrap();
    NOW.store(1_060, Ordering::SeqCst);
    double.refuses("403 Forbidden");
    assert!(matches!(obtain(&app, &wanted()), Err(Failure::Denied(_))));
    double.refuses("503 Service Unavailable");
    assert!(matches!(obtain(&app, &wanted()), Err(Failure::Unavailable(_))));
    NOW.store(1_000, Ordering::SeqCst);
}

#[test]
fn a_token_source_that_fails_does_not_cost_the_cached_credential() {
    let _turn = TURN.lock().unwrap();
    let (double, home) = (Double::start(), tempfile::tempdir().unwrap());
    let script = home.path().join("token");
    let command = format!("sh {}", script.display());
    let app = app_with(&double, home.path(), ("RISE_TOKEN_COMMAND", &command));
    fs::write(&script, "echo a.jw.t").unwrap();
    obtain(&app, &wanted()).ok().unwrap();
    NOW.store(1_060, Ordering::SeqCst);
    for failing in ["exit 1", "exec sleep 5", "echo no token"] {
        fs::write(&script, failing).unwrap();
        let bridged = obtain(&app, &wanted()).ok().unwrap();
        assert_eq!((double.asked(), bridged.kept.expires_at), (1, 1_100), "{failing}");
        assert!(bridged.complaints[0].contains("still valid"), "{:?}", bridged.complaints);
    }
    // A gateway in front of the broker finds the token too long.
    fs::write(&script, "echo a.jw.t").unwrap();
    double.answers("431 Request Header Fields Too Large", "text/html", "");
    assert_eq!(obtain(&app, &wanted()).ok().unwrap().kept.expires_at, 1_100);
    double.refuses("401 Unauthorized");
    assert!(matches!(obtain(&app, &wanted()), Err(Failure::Token(_))));
    double.refuses("503 Service Unavailable");
    assert!(matches!(obtain(&app, &wanted()), Err(Failure::Unavailable(_))));
    NOW.store(1_000, Ordering::SeqCst);
}

#[test]
fn each_caller_and_question_has_a_credential_of_its_own() {
    let _turn = TURN.lock().unwrap();
    let (double, home) = (Double::start(), tempfile::tempdir().unwrap());
    let one = app(&double, home.path(), "a.jw.t");
    obtain(&one, &wanted()).ok().unwrap();
    obtain(&app(&double, home.path(), "an.oth.er"), &wanted()).ok().unwrap();
    obtain(&one, &Wanted { registry: Some("prod".into()), ..wanted() }).ok().unwrap();
    obtain(&one, &Wanted { actions: vec!["pull".into()], ..wanted() }).ok().unwrap();
    assert_eq!(double.asked(), 4);
    let both =
        |actions: [&str; 2]| Wanted { actions: actions.map(String::from).to_vec(), ..wanted() };
    obtain(&one, &both(["pull", "push"])).ok().unwrap();
    obtain(&one, &both(["push", "pull"])).ok().unwrap();
    assert_eq!(double.asked(), 5);
}

#[test]
fn fifty_at_once_ask_once() {
    let _turn = TURN.lock().unwrap();
    let (double, home) = (Double::start(), tempfile::tempdir().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let obtained = obtain(&app(&double, home.path(), "a.jw.t"), &wanted());
                assert_eq!(obtained.ok().unwrap().kept.credentials.password.expose(), "canary");
            });
        }
    });
    assert_eq!(double.asked(), 1);
}

#[test]
fn without_a_cache_each_run_asks_and_reports_it() {
    let _turn = TURN.lock().unwrap();
    let (double, home) = (Double::start(), tempfile::tempdir().unwrap());
    fs::write(home.path().join(".cache"), "in the way").unwrap();
    let app = app(&double, home.path(), "a.jw.t");
    for asked in 1..3 {
        let complaints = obtain(&app, &wanted()).ok().unwrap().complaints;
        assert!(
            complaints.len() == 1 && complaints[0].contains("XDG_CACHE_HOME"),
            "{complaints:?}"
        );
        assert_eq!(double.asked(), asked);
    }
}

#[test]
fn waiting_for_another_process_has_a_limit() {
    let _turn = TURN.lock().unwrap();
    let (double, home) = (Double::start(), tempfile::tempdir().unwrap());
    let mut app = app(&double, home.path(), "a.jw.t");
    let source = app.source().unwrap();
    let _lock = app.cache().lock(&key(&app, &source, &wanted()).unwrap()).unwrap().unwrap();
    app.patience = app.patience.once_within(Duration::from_millis(20));
    let failure = obtain(&app, &wanted()).err().unwrap();
    assert!(failure.to_string().contains("another process"), "{failure}");
    assert_eq!(double.asked(), 0);
}
