//! Failures around the caller's programs: each ends in time, with one line that says what to do,
//! with its exit code, and with nothing secret on any stream.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rcgen::CertifiedKey;
use rise_broker_tests::{BrokerDouble, Installation, Printed, Saying, Serving, Workstation};
use serde_json::{Value, json};

/// The longest run that is promised.
const IN_TIME: Duration = Duration::from_secs(10);
const CANARY: &str = "canary-9c1f";
const PASSWORD: &str = "password-canary-77aa";

/// A token with these claims, and a canary in its signature.
fn token(claims: &Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{CANARY}", part("{}"), part(&claims.to_string()))
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn workstation(url: &str) -> Workstation {
    let machine = Workstation::new();
    // The helper reports failures for hosts that it is set up for.
    machine.file(".docker/config.json", "{\"credHelpers\":{\"r.example.com\":\"rise\"}}");
    machine
        .with("RISE_URL", url)
        .with("RISE_PROJECT", "my-app")
        .with("RISE_TOKEN", &token(&json!({ "sub": "ci", "exp": seconds() + 600 })))
        // Each request is tried once: these tests are about the message, `client_waiting` about
        // waits.
        .with("RISE_WAIT", "0")
}

fn granted() -> String {
    json!({
        "credentials": {
            "registry_url": "r.example.com", "username": "u", "password": PASSWORD,
            "expires_in": 3600,
            "expires_at": "2026-11-21T13:39:53Z", "kind": "basic" },
        "repository": "rise/my-app", "image": "r.example.com/rise/my-app",
        "project": "my-app", "registry": "prod",
        "actions": ["pull", "push"], "scope": "repository", "enforced_by": "host",
        "request_id": "01J"
    })
    .to_string()
}

fn grants() -> Saying {
    Saying::answer("200 OK", "content-type: application/json\r\n", &granted())
}

/// Runs both programs. Returns their common line, with what differs from run to run replaced.
fn fails(machine: &Workstation, url: &str, code: i32) -> String {
    let started = Instant::now();
    let command = machine.rise(&["credentials"]);
    assert!(started.elapsed() < IN_TIME, "took {:?}", started.elapsed());
    let started = Instant::now();
    let helper = machine.helper("get", "r.example.com");
    assert!(started.elapsed() < IN_TIME, "took {:?}", started.elapsed());
    for printed in [&command, &helper] {
        assert_no_secret(machine, printed);
    }
    assert_eq!((command.code, command.stdout.as_str()), (Some(code), ""), "{}", command.stderr);
    assert_eq!((helper.code, helper.stderr.as_str()), (Some(1), ""), "{}", helper.stdout);
    let line = one_line(&command.stderr).strip_prefix("rise-registry: ").unwrap().to_owned();
    assert_eq!(one_line(&helper.stdout), format!("docker-credential-rise: {line}"));
    line.replace(url, "[url]")
}

fn one_line(text: &str) -> &str {
    let line = text.strip_suffix('\n').unwrap_or_else(|| panic!("no line: {text:?}"));
    assert!(!line.contains('\n'), "more than one line: {text}");
    line
}

fn assert_no_secret(machine: &Workstation, printed: &Printed) {
    for text in [&printed.stdout, &printed.stderr] {
        assert!(!text.contains(CANARY) && !text.contains(PASSWORD), "{text}");
    }
    for (path, bytes) in machine.files() {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains(CANARY), "the token in {}", path.display());
    }
}

#[test]
fn a_broker_that_is_not_there_is_reported_on_one_line() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let line = fails(&workstation(&url), &url, 5);
    insta::assert_snapshot!(line);
}

#[test]
fn a_broker_that_is_silent_or_slow_is_reported_on_one_line() {
    for saying in [Saying::Nothing, Saying::Drip] {
        let double = BrokerDouble::start(saying);
        let line = fails(&workstation(&double.url), &double.url, 5);
        insta::assert_snapshot!("a_broker_that_is_silent_or_slow", line);
    }
}

#[test]
fn a_broker_that_talks_nonsense_is_reported_on_one_line() {
    let token = token(&json!({ "sub": "ci", "exp": seconds() + 600 }));
    let echo = format!("the token was {token}");
    let evil = granted().replace("\"u\"", "\"u\\n::set-output\"");
    let long = "x".repeat(300_000);
    let cases = [
        Saying::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        Saying::Bytes(Vec::new()),
        Saying::answer("200 OK", "content-type: text/html\r\n", "<html>Log in</html>"),
        Saying::answer("200 OK", "content-type: application/json\r\n", "{}"),
        Saying::answer("200 OK", "content-type: application/json\r\n", &evil),
        Saying::answer("200 OK", "content-type: application/json\r\n", &long),
        Saying::answer("302 Found", "location: https://login.example.com/\r\n", ""),
        Saying::answer("404 Not Found", "", "nothing here"),
        Saying::problem("404 Not Found", "not-found", &echo, ""),
        Saying::problem("401 Unauthorized", "invalid-token", &echo, ""),
        Saying::problem("418 Teapot", "x", "\u{1b}[2J\r\nforged: line", ""),
    ];
    let codes = [6, 5, 6, 6, 6, 6, 6, 6, 6, 3, 6];
    let mut lines = Vec::new();
    for (saying, code) in cases.into_iter().zip(codes) {
        let double = BrokerDouble::start(saying);
        let machine = workstation(&double.url).with("RISE_TOKEN", &token);
        lines.push(format!("{code} {}", fails(&machine, &double.url, code)));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_token_goes_nowhere_else() {
    let elsewhere = BrokerDouble::start(grants());
    let location = format!("location: {}/\r\n", elsewhere.url);
    let double = BrokerDouble::start(Saying::answer("307 Temporary Redirect", &location, ""));
    fails(&workstation(&double.url), &double.url, 6);
    assert_eq!(elsewhere.connections(), 0);
    let plain = workstation("http://broker.example.com");
    let line = fails(&plain, "http://broker.example.com", 2);
    insta::assert_snapshot!(line);
}

#[test]
fn a_certificate_of_an_unknown_issuer_or_another_name_is_rejected() {
    let authority =
        rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
            .unwrap();
    let CertifiedKey { cert, signing_key } = &authority;
    let text = "[server.tls]\ncertificate_file = \"tls.pem\"\nkey_file = \"tls.key\"\n\
        [auth]\naudience = \"rise-registry\"\n[[auth.issuers]]\nname = \"local\"\n\
             key_file = \"issuer.pem\"\n\
        [[rules]]\nname = \"r\"\nissuer = \"local\"\nclaims = { repository = \"acme/my-app\" }\n\
             projects = [\"my-app\"]\nregistries = [\"prod\"]\nallow = [\"pull\"]\n\
        [registries.prod]\ntype = \"oci\"\nregistry_url = \"r.example.com\"\nusername = \"u\"\n\
             password = \"password-canary-77aa\"\naccept_scope = \"registry\"\n";
    let installation = Installation::new(text);
    installation.file("tls.pem", cert.pem());
    installation.file("tls.key", signing_key.serialize_pem());
    fs::set_permissions(installation.path("tls.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let claim = ["token", "--subject", "ci", "--claim", "repository=acme/my-app"];
    let token = installation.run(&claim).stdout.trim().to_owned();
    let serving = installation.serve();
    let url = serving.url.replace("http://", "https://");
    let machine = workstation(&url).with("RISE_TOKEN", &token);
    let mut lines = vec![fails(&machine, &url, 6)];
    // With its own certificate the broker is known.
    machine.file("ca.pem", cert.pem());
    let own = machine.path("ca.pem").display().to_string();
    let machine = machine.with("RISE_CA_FILE", &own);
    let printed = machine.rise(&["credentials", "--format", "password"]);
    assert_eq!(
        (printed.code, printed.stdout.as_str()),
        (Some(0), "password-canary-77aa\n"),
        "{}",
        printed.stderr
    );
    // With another certificate it is not.
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    machine.file("ca.pem", other.cert.pem());
    let empty = machine.path("elsewhere").display().to_string();
    let machine = machine.with("XDG_CACHE_HOME", &empty);
    lines.push(fails(&machine, &url, 6));
    machine.file("ca.pem", "no certificate");
    lines.push(fails(&machine, &url, 2));
    insta::assert_snapshot!(lines.join("\n"));
}

fn authority(name: &str) -> rcgen::CertificateParams {
    let mut parameters = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters
}

/// A broker with this certificate, and a machine with a token for it.
fn serve_with(certificate: &str, key: &rcgen::KeyPair) -> (Serving, Workstation, String) {
    let text = "[server.tls]\ncertificate_file = \"tls.pem\"\nkey_file = \"tls.key\"\n\
        [auth]\naudience = \"rise-registry\"\n[[auth.issuers]]\nname = \"local\"\n\
             key_file = \"issuer.pem\"\n\
        [registries.prod]\ntype = \"oci\"\nregistry_url = \"r.example.com\"\n";
    let installation = Installation::new(text);
    installation.file("tls.pem", certificate);
    installation.file("tls.key", key.serialize_pem());
    fs::set_permissions(installation.path("tls.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let token = installation.run(&["token", "--subject", "ci"]).stdout.trim().to_owned();
    let serving = installation.serve_for_ever();
    let url = serving.url.replace("http://", "https://");
    let machine = workstation(&url).with("RISE_TOKEN", &token);
    let trusted = machine.path("ca.pem").display().to_string();
    (serving, machine.with("RISE_CA_FILE", &trusted), url)
}

/// A server that sends its own certificate without the one that signed it. Browsers find the
/// missing one themselves.
#[test]
fn a_chain_with_a_gap_is_named_although_the_root_is_trusted() {
    let key = || rcgen::KeyPair::generate().unwrap();
    let (root_key, middle_key, leaf_key) = (key(), key(), key());
    let root = authority("root").self_signed(&root_key).unwrap();
    let root_issuer = rcgen::Issuer::new(authority("root"), root_key);
    let middle = authority("middle").signed_by(&middle_key, &root_issuer).unwrap();
    let middle_issuer = rcgen::Issuer::new(authority("middle"), middle_key);
    let leaf = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &middle_issuer).unwrap();
    let (_serving, machine, url) = serve_with(&leaf.pem(), &leaf_key);
    machine.file("ca.pem", root.pem());
    let line = fails(&machine, &url, 6);
    assert!(line.contains("ask the operator whether the server sends its whole chain"), "{line}");
    // The intermediate certificate in the caller's file closes the gap too.
    machine.file("ca.pem", root.pem() + &middle.pem());
    assert_eq!(machine.rise(&["whoami"]).code, Some(0));
}

/// `openssl req -x509` makes such a certificate, and curl accepts it.
#[test]
fn a_servers_certificate_of_a_ca_is_told_with_the_remedy() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = authority("lab").self_signed(&key).unwrap();
    let (_serving, machine, url) = serve_with(&certificate.pem(), &key);
    machine.file("ca.pem", certificate.pem());
    let line = fails(&machine, &url, 6);
    assert!(line.contains("basicConstraints=critical,CA:FALSE"), "{line}");
}

/// A person must not search at the broker for what the proxy did.
#[test]
fn a_proxy_that_fails_is_named() {
    let (refusing, closing) = (
        BrokerDouble::start(Saying::answer("403 Forbidden", "", "")),
        BrokerDouble::start(Saying::Bytes(Vec::new())),
    );
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let broker = "the broker at https://broker.example.com, through the proxy of HTTPS_PROXY, \
                  cannot be reached";
    let github = "GitHub's token service, through the proxy of HTTPS_PROXY, cannot be reached";
    let remedy = "check HTTPS_PROXY, NO_PROXY, ";
    for (proxy, why) in [
        (refusing.url.clone(), ""),
        (closing.url.clone(), ""),
        (format!("http://{nobody}"), "(connection refused)"),
    ] {
        let machine = workstation("https://broker.example.com")
            .with("HTTPS_PROXY", &proxy)
            .with("RISE_WAIT", "0");
        let asked = machine.rise(&["credentials"]);
        assert_eq!(asked.code, Some(5), "{asked:?}");
        for part in [broker, why, remedy, "RISE_URL"] {
            assert!(asked.stderr.contains(part), "{part}: {asked:?}");
        }
        // The token service of a CI system is reached through the same proxy.
        let job = machine
            .without(&["RISE_TOKEN"])
            .with("ACTIONS_ID_TOKEN_REQUEST_URL", "https://github.example.com/token")
            .with("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "canary");
        let asked = job.rise(&["credentials"]);
        assert_eq!(asked.code, Some(5), "{asked:?}");
        for part in [github, why, remedy, "ACTIONS_ID_TOKEN_REQUEST_URL"] {
            assert!(asked.stderr.contains(part), "{part}: {asked:?}");
        }
        // Without the proxy, its name is not mentioned.
        let direct = job.with("NO_PROXY", "example.com").rise(&["credentials"]);
        assert!(!direct.stderr.contains("HTTPS_PROXY"), "{direct:?}");
    }
}

/// Brokers and gateways reject headers that are too long in several ways, all without a problem.
#[test]
fn a_token_that_is_too_long_is_told_with_its_length() {
    let groups = vec!["00000000-0000-4000-8000-000000000000"; 400];
    let long = token(&json!({ "iss": "i", "groups": groups }));
    let html = "content-type: text/html\r\n";
    for (status, headers) in [
        ("431 Request Header Fields Too Large", ""),
        ("494 Request Header Too Large", html),
        ("400 Bad Request", html),
        ("413 Content Too Large", html),
    ] {
        let double = BrokerDouble::start(Saying::answer(status, headers, "<html></html>"));
        let machine = workstation(&double.url).with("RISE_TOKEN", &long);
        let line = fails(&machine, &double.url, 3);
        assert!(line.contains(&format!("the token has {} bytes", long.len())), "{line}");
        assert!(line.contains("fewer groups"), "{line}");
    }
    // A short token is not to blame.
    let double = BrokerDouble::start(Saying::answer("400 Bad Request", html, "<html></html>"));
    let line = fails(&workstation(&double.url), &double.url, 6);
    assert!(line.contains("does not answer like a broker (status 400)"), "{line}");
}

#[test]
fn clocks_that_differ_and_expired_tokens_are_reported() {
    let now = seconds();
    let date = |at: u64| {
        let at = Timestamp::from_second(i64::try_from(at).unwrap()).unwrap();
        format!("date: {}\r\n", at.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    };
    let cases = [
        // The token is expired by both clocks.
        (now, json!({ "exp": now - 720 })),
        // Our clock is ten minutes slow: it does not show that the token is expired.
        (now + 600, json!({ "exp": now + 300 })),
        // Our clock is ten minutes fast.
        (now - 600, json!({ "exp": now + 300 })),
    ];
    let mut lines = Vec::new();
    for (theirs, claims) in cases {
        let saying = Saying::problem(
            "401 Unauthorized",
            "invalid-token",
            "the token is not accepted",
            &date(theirs),
        );
        let double = BrokerDouble::start(saying);
        let machine = workstation(&double.url).with("RISE_TOKEN", &token(&claims));
        lines.push(fails(&machine, &double.url, 3));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn refusals_of_the_broker_are_reported_on_one_line() {
    let mut lines = Vec::new();
    for (status, slug, headers, code) in [
        ("403 Forbidden", "access-denied", "", 4),
        ("429 Too Many Requests", "rate-limited", "retry-after: 3\r\n", 5),
        ("503 Service Unavailable", "overloaded", "retry-after: 200\r\n", 5),
        ("502 Bad Gateway", "upstream-denied", "", 5),
        ("500 Internal Server Error", "internal", "", 5),
    ] {
        let double = BrokerDouble::start(Saying::problem(
            status,
            slug,
            "what the broker says of it",
            headers,
        ));
        lines.push(format!("{code} {}", fails_directly(&double, code)));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

/// A machine with the host in its settings, so that the helper asks for nothing else.
fn fails_directly(double: &BrokerDouble, code: i32) -> String {
    let machine = workstation(&double.url);
    machine.file(".config/rise/registry.toml", "[hosts]\n\"r.example.com\" = \"my-app\"\n");
    fails(&machine, &double.url, code)
}

#[test]
fn a_missing_token_or_broker_and_wrong_settings_are_reported() {
    let none = Workstation::new().with("RISE_URL", "http://127.0.0.1:9");
    let mut lines = Vec::new();
    let mut fail = |machine: &Workstation, code: i32| {
        let printed = machine.rise(&["credentials"]);
        assert_eq!(printed.code, Some(code), "{printed:?}");
        assert_no_secret(machine, &printed);
        lines.push(format!("{code} {}", one_line(&printed.stderr)));
    };
    fail(&Workstation::new(), 2);
    fail(&none, 2);
    let machine = none.with("RISE_PROJECT", "my-app");
    fail(&machine, 3);
    let machine = machine.with("RISE_TOKEN", CANARY);
    machine.file(".rise.toml", "url = \"https://evil.example.com\"\n");
    fail(&machine, 2);
    machine.file(".rise.toml", "project = \"other\"\n");
    machine.file(".config/rise/registry.toml", format!("token = \"{CANARY}-not-printed\"\n"));
    let printed = machine.rise(&["credentials"]);
    assert_eq!(printed.code, Some(2));
    assert!(
        printed.stderr.contains("unknown field `token`") && !printed.stderr.contains(CANARY),
        "{printed:?}"
    );
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_useless_cache_is_reported_and_stops_nobody() {
    let double = BrokerDouble::start(grants());
    let machine = workstation(&double.url);
    machine.file(".config/rise/registry.toml", "[hosts]\n\"r.example.com\" = \"my-app\"\n");
    let mut lines = Vec::new();
    let mut says = |requests: usize| {
        let started = Instant::now();
        let printed = machine.helper("get", "r.example.com");
        assert!(started.elapsed() < IN_TIME);
        assert_eq!(printed.code, Some(0), "{printed:?}");
        let answer: Value = serde_json::from_str(&printed.stdout).unwrap();
        assert_eq!(
            answer,
            json!({ "ServerURL": "r.example.com", "Username": "u", "Secret": PASSWORD })
        );
        assert!(
            !printed.stderr.contains(PASSWORD) && !printed.stderr.contains(CANARY),
            "{printed:?}"
        );
        assert_eq!(double.requests().len(), requests);
        lines.push(printed.stderr);
    };
    says(1);
    says(1);
    let folder = machine.path(".cache/rise/registry");
    let file = || {
        let mut entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        entries.find(|path| path.extension().is_some_and(|extension| extension == "json")).unwrap()
    };
    let damaged = fs::read(file()).unwrap();
    fs::write(file(), &damaged[..200]).unwrap();
    says(2);
    says(2);
    fs::set_permissions(file(), fs::Permissions::from_mode(0o644)).unwrap();
    says(3);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    // The cache there still belongs to its owner alone.
    says(3);
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "in the way").unwrap();
    says(4);
    let lines: Vec<_> = lines.iter().map(|line| mask_name(line)).collect();
    insta::assert_snapshot!(lines.join("---\n"));
}

/// Replaces the name of a cached file, which depends on the double's port.
fn mask_name(text: &str) -> String {
    let Some((before, rest)) = text.split_once("/registry/") else { return text.to_owned() };
    let (_, after) = rest.split_once(".json").unwrap();
    format!("{before}/registry/[key].json{after}")
}

/// A container that runs with `--read-only` sees this.
#[test]
fn a_read_only_home_is_reported_and_stops_nobody() {
    let double = BrokerDouble::start(grants());
    let machine = workstation(&double.url);
    machine.file(".config/rise/registry.toml", "[hosts]\n\"r.example.com\" = \"my-app\"\n");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = machine.home().display().to_string();
    let script = format!(
        "mount --bind {home} {home} && mount -o remount,bind,ro {home} && exec \
         docker-credential-rise get"
    );
    let printed = machine.run_with("unshare", &["--mount", "sh", "-c", &script], "r.example.com");
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(printed.stdout.contains(PASSWORD));
    insta::assert_snapshot!(one_line(&printed.stderr));
}

/// One's own trouble must not be in the way of a pull from another registry.
#[test]
fn a_host_of_others_is_not_found_whatever_is_wrong_here() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let down = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let expired = token(&json!({ "sub": "ci", "exp": seconds() - 60 }));
    let rejects = |status, slug| BrokerDouble::start(Saying::problem(status, slug, "no", "")).url;
    let answers = |text| BrokerDouble::start(Saying::answer("200 OK", "", text)).url;
    let none = "RISE_TOKEN";
    for (url, variable, value) in [
        (down, "RISE_TOKEN", "a.j.wt"),
        (BrokerDouble::start(Saying::Nothing).url, "RISE_TOKEN", "a.j.wt"),
        (BrokerDouble::start(Saying::Bytes(b"SSH-2.0\r\n".to_vec())).url, "RISE_TOKEN", "a.j.wt"),
        (rejects("401 Unauthorized", "invalid-token"), "RISE_TOKEN", expired.as_str()),
        (rejects("403 Forbidden", "access-denied"), "RISE_TOKEN", "a.j.wt"),
        (rejects("429 Too Many Requests", "rate-limited"), "RISE_TOKEN", "a.j.wt"),
        (rejects("503 Service Unavailable", "overloaded"), "RISE_WAIT", "60s"),
        (answers("<html>Log in</html>"), "RISE_TOKEN", "a.j.wt"),
        (answers("{\"registries\":[]}"), none, ""),
        (answers("{\"registries\":[]}"), "RISE_TOKEN_FILE", "/no/such/file"),
        (answers("{\"registries\":[]}"), "RISE_CA_FILE", "/no/such/file"),
        (answers("{\"registries\":[]}"), "RISE_AUDIENCE", "with a space"),
        ("http://broker.example.com".to_owned(), "RISE_TOKEN", "a.j.wt"),
        ("no URL".to_owned(), "RISE_TOKEN", "a.j.wt"),
    ] {
        // It is set up for another host, and the project comes from the environment.
        let machine = workstation(&url).with(variable, value);
        for host in ["https://index.docker.io/v1/", "quay.io"] {
            let started = Instant::now();
            let printed = machine.helper("get", host);
            assert!(started.elapsed() < IN_TIME, "took {:?}", started.elapsed());
            let not_found = "credentials not found in native keychain\n";
            assert_eq!((printed.code, printed.stdout.as_str()), (Some(1), not_found), "{variable}");
            // At most a line about the reason.
            assert!(printed.stderr.lines().count() <= 1, "{printed:?}");
            assert_no_secret(&machine, &printed);
        }
    }
    // A checkout of somebody else's, whose file is refused.
    let machine = workstation("http://127.0.0.1:9");
    machine.file(".rise.toml", "url = \"https://evil.example.com\"\n");
    let printed = machine.helper("get", "quay.io");
    assert_eq!(printed.stdout, "credentials not found in native keychain\n");
    // Where the helper is set up for the host, it is a failure.
    machine.file(".docker/config.json", "{\"credHelpers\":{\"quay.io\":\"rise\"}}");
    assert!(machine.helper("get", "quay.io").stdout.contains("unknown field `url`"));
}

#[test]
fn a_host_of_others_gets_no_credential_made() {
    let listed = json!({ "registries": [{ "registry": "prod", "registry_url": "r.example.com",
        "image": "r.example.com/rise/{project}", "type": "oci" }] });
    let listed =
        Saying::answer("200 OK", "content-type: application/json\r\n", &listed.to_string());
    let double = BrokerDouble::start(Saying::InTurn(vec![listed, grants()]));
    let machine = workstation(&double.url);
    machine.file(".docker/config.json", "{}");
    for host in ["quay.io", "https://index.docker.io/v1/", "quay.io"] {
        let printed = machine.helper("get", host);
        assert_eq!((printed.code, printed.stderr.as_str()), (Some(1), ""), "{printed:?}");
    }
    // The list is asked for once, and then known.
    assert_eq!(double.requests().len(), 1, "{:?}", double.requests());
    assert_eq!(machine.helper("get", "r.example.com").code, Some(0));
    assert!(double.requests()[1].contains("/registry/credentials"));
}

#[test]
fn hosts_of_other_people_are_left_alone() {
    let double = BrokerDouble::start(grants());
    let not_found = "credentials not found in native keychain\n";
    let machine = workstation(&double.url);
    machine.file(".config/rise/registry.toml", "[hosts]\n\"r.example.com\" = \"my-app\"\n");
    for (stdin, expected) in [("", "no credentials server URL\n"), ("a b", not_found)] {
        let printed = machine.helper("get", stdin);
        assert_eq!((printed.code, printed.stdout.as_str()), (Some(1), expected), "{printed:?}");
    }
    let bare = Workstation::new();
    assert_eq!(bare.helper("get", "https://index.docker.io/v1/").stdout, not_found);
    assert_eq!(machine.helper("list", "unused").stdout, "{}\n");
    assert!(machine.helper("version", "").stdout.starts_with("docker-credential-rise "));
    assert_eq!(machine.helper("no-such-action", "").code, Some(1));
    assert_eq!(double.requests().len(), 0);
    // A host with a scheme means the same.
    assert_eq!(machine.helper("get", "https://r.example.com\n").code, Some(0));
}
