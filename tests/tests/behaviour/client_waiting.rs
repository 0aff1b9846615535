//! The caller's programs wait for a broker, or a source of tokens, that cannot answer now: within a
//! budget, as long as it asks, and only where waiting helps.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rise_broker_tests::{
    BrokerDouble, Installation, Port, Printed, Saying, Workstation, eventually_blocking,
};
use serde_json::{Value, json};

const PASSWORD: &str = "canary-71be";
/// Longer than any run that does not wait, and shorter than the default waits.
const AT_ONCE: Duration = Duration::from_secs(25);

const JSON: &str = "content-type: application/json\r\n";

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn token(claims: &Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.c2ln", part("{}"), part(&claims.to_string()))
}

fn grants() -> Saying {
    let answer = json!({
        "credentials": { "registry_url": "r.example.com", "username": "u", "password": PASSWORD,
            "expires_in": 3600, "expires_at": "2026-11-21T13:39:53Z", "kind": "basic" },
        "repository": "rise/my-app", "image": "r.example.com/rise/my-app", "project": "my-app",
        "registry": "prod", "actions": ["pull"], "scope": "repository", "enforced_by": "host",
        "request_id": "01J"
    });
    Saying::answer("200 OK", JSON, &answer.to_string())
}

fn busy(status: &str, slug: &str, headers: &str) -> Saying {
    Saying::problem(status, slug, "it is busy", headers)
}

fn workstation(url: &str) -> Workstation {
    let machine = Workstation::new()
        .with("RISE_URL", url)
        .with("RISE_PROJECT", "my-app")
        .with("RISE_TOKEN", &token(&json!({ "sub": "ci", "exp": seconds() + 600 })));
    // The helper waits for hosts that are the broker's.
    machine.file(".config/rise/registry.toml", "[hosts]\n\"r.example.com\" = \"my-app\"\n");
    machine
}

/// The programs that ask the broker for credentials.
#[derive(Clone, Copy, Debug)]
enum Program {
    Credentials,
    Exec,
    Helper,
    Kubelet,
}

impl Program {
    const ALL: [Self; 4] = [Self::Credentials, Self::Exec, Self::Helper, Self::Kubelet];

    fn words(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Credentials => ("rise-registry", &["credentials", "--format", "password"]),
            Self::Exec => ("rise-registry", &["exec", "--", "sh", "-c", "cat $REGISTRY_AUTH_FILE"]),
            Self::Helper => ("docker-credential-rise", &["get"]),
            Self::Kubelet => ("docker-credential-rise", &["kubelet"]),
        }
    }

    fn stdin(self) -> String {
        match self {
            Self::Credentials | Self::Exec => String::new(),
            Self::Helper => "r.example.com".to_owned(),
            Self::Kubelet => json!({
                "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
                "kind": "CredentialProviderRequest", "image": "r.example.com/rise/my-app:1"
            })
            .to_string(),
        }
    }

    fn run(self, machine: &Workstation) -> Printed {
        let (program, arguments) = self.words();
        machine.run_with(program, arguments, &self.stdin())
    }

    /// Exit code of a failure: only `rise-registry` has several.
    fn code(self, code: i32) -> i32 {
        match self {
            Self::Credentials | Self::Exec => code,
            Self::Helper | Self::Kubelet => 1,
        }
    }

    /// The stream with the line about a failure.
    fn line(self, printed: &Printed) -> &str {
        match self {
            Self::Credentials | Self::Exec | Self::Kubelet => &printed.stderr,
            Self::Helper => &printed.stdout,
        }
    }
}

fn at_the_same_time(test: impl Fn(Program) + Sync) {
    std::thread::scope(|scope| {
        for program in Program::ALL {
            let test = &test;
            scope.spawn(move || test(program));
        }
    });
}

fn assert_succeeded(program: Program, printed: &Printed) {
    // Progress is for terminals: nothing of it in a pipe.
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""), "{program:?} {printed:?}");
    assert!(!printed.stdout.is_empty(), "{program:?} {printed:?}");
}

#[test]
fn a_broker_that_is_not_yet_started_is_waited_for() {
    let port = Port::free();
    let text = "[auth]\naudience = \"rise-registry\"\n\
        [[auth.issuers]]\nname = \"local\"\nkey_file = \"issuer.pem\"\n\
        [[rules]]\nname = \"r\"\nissuer = \"local\"\nclaims = { repository = \"acme/my-app\" }\n\
        projects = [\"my-app\"]\nregistries = [\"prod\"]\nallow = [\"pull\", \"push\"]\n\
        [registries.prod]\ntype = \"oci\"\nregistry_url = \"r.example.com\"\n\
        namespace = \"rise\"\nusername = \"u\"\npassword = \"canary-71be\"\n\
        accept_scope = \"registry\"\n";
    let mut installation = Installation::new(text);
    installation.variable("RISE_SERVER__LISTEN", &format!("127.0.0.1:{}", port.number()));
    let claim = ["token", "--subject", "ci", "--claim", "repository=acme/my-app"];
    let token = installation.run(&claim).stdout.trim().to_owned();
    let machine = workstation(&port.url()).with("RISE_TOKEN", &token);
    // What it is like without waiting, and that nobody listens there.
    let refused = machine.rise(&["credentials", "--wait", "0"]);
    assert_eq!(refused.code, Some(5), "{refused:?}");
    let children = Program::ALL.map(|program| {
        let (name, arguments) = program.words();
        let mut child = machine.command(name, arguments).spawn().unwrap();
        child.stdin.take().unwrap().write_all(program.stdin().as_bytes()).unwrap();
        (program, child)
    });
    // Reads settings, compiles or loads its providers, and listens then.
    let serving = installation.serve();
    assert_eq!(serving.url, port.url());
    for (program, child) in children {
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{program:?}");
    }
}

#[test]
fn a_passing_failure_is_tried_again() {
    let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
        retry-after: Sun, 06 Nov 1994 08:49:38 GMT\r\n";
    let html = "content-type: text/html\r\n";
    for (saying, least) in [
        (busy("429 Too Many Requests", "rate-limited", "retry-after: 1\r\n"), 1),
        (busy("429 Too Many Requests", "rate-limited", date), 1),
        (busy("503 Service Unavailable", "overloaded", ""), 0),
        (busy("504 Gateway Timeout", "upstream-timeout", ""), 0),
        (busy("502 Bad Gateway", "upstream-unavailable", ""), 0),
        (Saying::answer("502 Bad Gateway", html, "<html>no backend</html>"), 0),
        // The connection is closed without an answer.
        (Saying::Bytes(Vec::new()), 0),
    ] {
        at_the_same_time(|program| {
            let turns = vec![saying.clone(), saying.clone(), grants()];
            let double = BrokerDouble::start(Saying::InTurn(turns));
            let started = Instant::now();
            assert_succeeded(program, &program.run(&workstation(&double.url)));
            assert_eq!(double.requests().len(), 3, "{program:?} {saying:?}");
            assert!(started.elapsed() >= 2 * Duration::from_secs(least), "{program:?} {saying:?}");
        });
    }
}

#[test]
fn a_rejection_is_tried_once() {
    for (status, slug, code) in [
        ("400 Bad Request", "invalid-request", 2),
        ("401 Unauthorized", "invalid-token", 3),
        ("403 Forbidden", "access-denied", 4),
        ("404 Not Found", "not-found", 6),
        ("413 Content Too Large", "too-large", 6),
        ("500 Internal Server Error", "internal", 5),
        ("502 Bad Gateway", "upstream-denied", 5),
        ("502 Bad Gateway", "provider-failed", 5),
    ] {
        for program in Program::ALL {
            // A pause changes nothing.
            let double = BrokerDouble::start(busy(status, slug, "retry-after: 1\r\n"));
            let machine = workstation(&double.url);
            let printed = program.run(&machine);
            assert_eq!(printed.code, Some(program.code(code)), "{program:?} {printed:?}");
            let credentials = double.requests();
            let asked =
                credentials.iter().filter(|request| request.contains("/registry/credentials"));
            assert_eq!(asked.count(), 1, "{program:?} {status} {slug}");
            assert!(!program.line(&printed).contains("tried"), "{printed:?}");
        }
    }
}

#[test]
fn a_pause_that_does_not_fit_ends_the_run_at_once() {
    let saying = busy("503 Service Unavailable", "overloaded", "retry-after: 200\r\n");
    for program in Program::ALL {
        let double = BrokerDouble::start(saying.clone());
        let started = Instant::now();
        let printed = program.run(&workstation(&double.url));
        assert!(started.elapsed() < AT_ONCE);
        assert_eq!(printed.code, Some(program.code(5)), "{printed:?}");
        assert_eq!(double.requests().len(), 1, "{program:?}");
        let line = program.line(&printed);
        assert!(line.contains("the pause of 200 s that it asks for does not fit"), "{line}");
    }
}

#[test]
fn the_wait_is_bounded_and_the_line_says_how_long_it_was() {
    at_the_same_time(|program| {
        let double = BrokerDouble::start(busy("503 Service Unavailable", "overloaded", ""));
        let machine = workstation(&double.url).with("RISE_WAIT", "2s");
        let started = Instant::now();
        let printed = program.run(&machine);
        assert!(started.elapsed() < AT_ONCE, "took {:?}", started.elapsed());
        assert_eq!(printed.code, Some(program.code(5)), "{printed:?}");
        let tries = double.requests().len();
        assert!(tries > 1, "{program:?}");
        let line = program.line(&printed);
        assert!(line.contains(&format!("; tried {tries} times in ")), "{line}");
    });
    // Once, if it is told so.
    for wait in ["0", "0s"] {
        let double = BrokerDouble::start(busy("503 Service Unavailable", "overloaded", ""));
        let printed = workstation(&double.url).rise(&["credentials", "--wait", wait]);
        assert_eq!((printed.code, double.requests().len()), (Some(5), 1), "{printed:?}");
        assert!(!printed.stderr.contains("tried"), "{printed:?}");
    }
    let wrong = workstation("http://127.0.0.1:9").rise(&["credentials", "--wait", "soon"]);
    assert_eq!(wrong.code, Some(2));
    insta::assert_snapshot!(wrong.stderr, @r#"rise-registry: --wait: "soon" is not a wait: use seconds or minutes up to an hour, as in 90s or 2m, or 0 to try once"#);
}

#[test]
fn a_token_that_expires_meanwhile_is_read_or_requested_again() {
    let pause = busy("503 Service Unavailable", "overloaded", "retry-after: 3\r\n");
    let (first, second) = (
        token(&json!({ "sub": "ci", "exp": seconds() + 2, "jti": "1" })),
        token(&json!({ "sub": "ci", "exp": seconds() + 600, "jti": "2" })),
    );
    let shown = |request: &str| {
        let bearer = request.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
        bearer.unwrap().to_owned()
    };

    let double = BrokerDouble::start(Saying::InTurn(vec![pause.clone(), grants()]));
    let machine = workstation(&double.url).without(&["RISE_TOKEN"]);
    machine.file("token", &first);
    let file = machine.path("token").display().to_string();
    let machine = machine.with("RISE_TOKEN_FILE", &file);
    let child = machine.command("rise-registry", &["credentials"]).spawn().unwrap();
    eventually_blocking("a first request", || double.requests().len() == 1);
    machine.file("token", &second);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let tokens: Vec<_> = double.requests().iter().map(|request| shown(request)).collect();
    assert_eq!(tokens, [first.clone(), second.clone()]);

    let double = BrokerDouble::start(Saying::InTurn(vec![pause, grants()]));
    let gives =
        |token: &str| Saying::answer("200 OK", JSON, &json!({ "value": token }).to_string());
    let github = BrokerDouble::start(Saying::InTurn(vec![gives(&first), gives(&second)]));
    let machine = workstation(&double.url)
        .without(&["RISE_TOKEN"])
        .with("ACTIONS_ID_TOKEN_REQUEST_URL", &github.url)
        .with("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-canary");
    let printed = machine.rise(&["credentials"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let tokens: Vec<_> = double.requests().iter().map(|request| shown(request)).collect();
    assert_eq!(tokens, [first, second]);
    assert_eq!(github.requests().len(), 2);
}

#[test]
fn githubs_passing_failures_are_tried_again_and_told_in_its_own_words() {
    let message = |text: &str| json!({ "message": text }).to_string();
    let gives = Saying::answer("200 OK", JSON, &json!({ "value": "a.b.c" }).to_string());
    let run = |turns: Vec<Saying>, wait: &str| {
        let double = BrokerDouble::start(grants());
        let github = BrokerDouble::start(Saying::InTurn(turns));
        let machine = workstation(&double.url)
            .without(&["RISE_TOKEN"])
            .with("RISE_WAIT", wait)
            .with("ACTIONS_ID_TOKEN_REQUEST_URL", &github.url)
            .with("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-canary");
        let printed = machine.rise(&["credentials"]);
        assert!(!printed.stderr.contains("request-canary"), "{printed:?}");
        (printed.code, printed.stderr.replace(&github.url, "[url]"), github.requests().len())
    };
    for passing in [
        Saying::answer("503 Service Unavailable", JSON, &message("try later")),
        Saying::answer("500 Internal Server Error", "", ""),
        Saying::answer("429 Too Many Requests", "retry-after: 1\r\n", ""),
        Saying::answer("502 Bad Gateway", "content-type: text/html\r\n", "<html>"),
        Saying::Bytes(Vec::new()),
    ] {
        let (code, stderr, requests) = run(vec![passing, gives.clone()], "60s");
        assert_eq!((code, stderr.as_str(), requests), (Some(0), "", 2));
    }
    let echo = message("request-canary is wrong");
    for (status, body, code, expected) in [
        (
            "503 Service Unavailable",
            message("down"),
            5,
            "token service answers 503: down: try again",
        ),
        ("500 Internal Server Error", echo, 5, "token service answers 500: try again"),
        ("404 Not Found", message("no such job"), 6, "answers 404: no such job: check ACTIONS_"),
        ("401 Unauthorized", message("no"), 3, "token: no: give the job `permissions: id-token"),
        ("403 Forbidden", String::new(), 3, "token: give the job `permissions: id-token: write`"),
    ] {
        let (found, stderr, requests) = run(vec![Saying::answer(status, JSON, &body)], "0");
        assert_eq!((found, requests), (Some(code), 1), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
        assert_eq!(stderr.contains("permissions"), code == 3, "{stderr}");
    }
}

#[test]
fn buildkites_passing_failures_are_tried_again_and_told_in_its_own_words() {
    let double = BrokerDouble::start(grants());
    let machine = workstation(&double.url)
        .without(&["RISE_TOKEN"])
        .with("BUILDKITE_JOB_ID", "job")
        .with("BUILDKITE_AGENT_ACCESS_TOKEN", "agent-canary");
    let agent = |error: &str, recovers: bool| {
        let recovery =
            if recovers { "[ $(wc -l <~/runs) = 2 ] && { echo a.b.c; exit; }" } else { "" };
        let script =
            format!("#!/bin/sh\necho x >>~/runs\n{recovery}\necho '{error}' >&2\nexit 1\n");
        machine.file("runs", "");
        machine.file("bin/buildkite-agent", script);
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(machine.path("bin/buildkite-agent"), executable).unwrap();
        let printed = machine.rise(&["credentials"]);
        let runs = fs::read_to_string(machine.path("runs")).unwrap().lines().count();
        (printed.code, printed.stderr, runs)
    };
    let url = "https://agent.example.com/v3/jobs/job/oidc/tokens";
    let denied = agent(&format!("fatal: POST {url}: 403 Forbidden"), true);
    assert_eq!((denied.0, denied.2), (Some(3), 1), "{denied:?}");
    assert!(denied.1.contains("allow the job to request OIDC tokens"), "{denied:?}");
    let unknown = agent("fatal: agent-canary is no such flag", true);
    assert_eq!((unknown.0, unknown.2), (Some(3), 1), "{unknown:?}");
    assert!(!unknown.1.contains("canary") && !unknown.1.contains("allow"), "{unknown:?}");
    let recovered = agent(&format!("fatal: POST {url}: 503 Service Unavailable"), true);
    assert_eq!(recovered, (Some(0), String::new(), 2));
}

#[test]
fn the_wait_shows_on_a_terminal_and_is_cleared() {
    let pause = busy("503 Service Unavailable", "overloaded", "retry-after: 2\r\n");
    let double = BrokerDouble::start(Saying::InTurn(vec![pause, grants()]));
    let machine = workstation(&double.url);
    let command = "rise-registry credentials --format password";
    let printed =
        machine.run("script", &["--quiet", "--return", "--command", command, "/dev/null"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let why = format!("the broker at {} cannot answer now", double.url);
    let expected = format!("asking the broker, attempt 2: {why}…\r\u{1b}[K{PASSWORD}\r\n");
    let end = printed.stdout.trim_end_matches('\0');
    assert!(end.ends_with(&expected), "{printed:?}");
    assert_eq!(double.requests().len(), 2);
}

#[test]
fn doctor_and_pulls_from_other_registries_do_not_wait() {
    let double = BrokerDouble::start(busy("503 Service Unavailable", "overloaded", ""));
    let machine = workstation(&double.url).with("RISE_WAIT", "50s");
    let started = Instant::now();
    let doctor = machine.rise(&["doctor"]);
    assert_eq!(doctor.code, Some(5), "{doctor:?}");
    let requests = double.requests().len();
    let other = machine.helper("get", "https://index.docker.io/v1/");
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(started.elapsed() < AT_ONCE, "took {:?}", started.elapsed());
    assert!(double.requests().len() <= requests + 2, "{:?}", double.requests());
}

/// The CI snippets log in and then ask for the image: one request for each job.
#[test]
fn the_image_is_known_after_a_login() {
    for actions in [&[][..], &["--actions", "push"], &["--actions", "push,pull"]] {
        let denied = busy("403 Forbidden", "access-denied", "");
        let double = BrokerDouble::start(Saying::InTurn(vec![grants(), denied]));
        let it = workstation(&double.url);
        let login = it.rise(&[&["docker-login"], actions].concat());
        assert_eq!(login.code, Some(0), "{login:?}");
        let image = it.rise(&["image", ":1.2"]);
        assert_eq!(image.stdout, "r.example.com/rise/my-app:1.2\n", "{image:?}");
        assert_eq!(double.requests().len(), 1);
        // Another project is another question.
        assert_eq!(it.rise(&["image", "other:1.2"]).code, Some(4));
        assert_eq!(double.requests().len(), 2);
    }
    // Without a login, the list of registries is asked for once.
    let listed = json!({ "registries": [{ "registry": "prod", "registry_url": "r.example.com",
        "image": "r.example.com/rise/{project}", "type": "oci" }] });
    let double = BrokerDouble::start(Saying::answer("200 OK", JSON, &listed.to_string()));
    let it = workstation(&double.url);
    for image in ["my-app", "other"] {
        let printed = it.rise(&["image", image]);
        assert_eq!(printed.stdout, format!("r.example.com/rise/{image}\n"), "{printed:?}");
    }
    assert_eq!(double.requests().len(), 1);
}
