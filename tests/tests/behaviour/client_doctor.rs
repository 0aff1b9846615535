//! `rise-registry doctor` names the cause of a failed push, the same that the failing command
//! names.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rise_broker_tests::{
    BrokerDouble, DEMO_PASSWORD, DEMO_USER, DockerRegistry, Installation, Printed, RegistryAuth,
    Saying, Serving, Workstation,
};
use serde_json::{Value, json};

/// The longest run that is promised.
const IN_TIME: Duration = Duration::from_secs(10);
const CANARY: &str = "canary-51d0";

fn token(claims: &Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{CANARY}", part("{}"), part(&claims.to_string()))
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn workstation(url: &str) -> Workstation {
    Workstation::new()
        .with("RISE_URL", url)
        .with("RISE_PROJECT", "my-app")
        .with("RISE_TOKEN", &token(&json!({ "sub": "ci", "exp": seconds() + 600 })))
        // `doctor` never waits, so the command that it is compared with must not wait either.
        .with("RISE_WAIT", "0")
}

/// A real broker in front of a real registry, and the token of a caller who may push `my-app`.
struct DoctorSite {
    broker: Serving,
    registry: DockerRegistry,
    token: String,
}

impl DoctorSite {
    async fn start(more: &str) -> Self {
        let registry = DockerRegistry::start(RegistryAuth::Htpasswd).await;
        let text = format!(
            "{more}\n[auth]\naudience = \"rise-registry\"\n[[auth.issuers]]\nname = \"local\"\n\
             key_file = \"issuer.pem\"\n\
             [[rules]]\nname = \"r\"\nissuer = \"local\"\n\
                  claims = {{ repository = \"acme/my-app\" }}\nprojects = [\"my-app\"]\n\
             registries = [\"prod\"]\nallow = [\"pull\", \"push\"]\n\
             [registries.prod]\ntype = \"oci\"\nregistry_url = \"{}\"\nnamespace = \"rise\"\n\
                  username = \"{DEMO_USER}\"\n\
             password = \"{DEMO_PASSWORD}\"\naccept_scope = \"registry\"\n",
            registry.host()
        );
        let mut installation = Installation::new(&text);
        installation.unlimited();
        if !more.is_empty() {
            let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
            let own = rcgen::generate_simple_self_signed(names).unwrap();
            installation.file("tls.pem", own.cert.pem());
            installation.file("tls.key", own.signing_key.serialize_pem());
            let private = fs::Permissions::from_mode(0o600);
            fs::set_permissions(installation.path("tls.key"), private).unwrap();
        }
        let claim = ["token", "--subject", "ci", "--claim", "repository=acme/my-app"];
        let token = installation.run(&claim).stdout.trim().to_owned();
        Self { broker: installation.serve_for_ever(), registry, token }
    }

    fn workstation(&self) -> Workstation {
        workstation(&self.broker.url).with("RISE_TOKEN", &self.token)
    }

    /// Replaces ports, which differ from run to run.
    fn masked(&self, text: &str) -> String {
        let secure = self.broker.url.replace("http://", "https://");
        text.replace(&self.broker.url, "[broker]")
            .replace(&secure, "[broker]")
            .replace(self.registry.host(), "[registry]")
    }
}

fn in_time(run: impl FnOnce() -> Printed) -> Printed {
    let started = Instant::now();
    let printed = run();
    assert!(started.elapsed() < IN_TIME, "took {:?}", started.elapsed());
    for text in [&printed.stdout, &printed.stderr] {
        assert!(!text.contains(CANARY) && !text.contains(DEMO_PASSWORD), "{text}");
    }
    printed
}

/// Runs a command that fails, and doctor. Both have the same exit code, and the first problem of
/// doctor is the command's message.
fn same_cause(machine: &Workstation, code: i32) -> String {
    let failing = in_time(|| machine.rise(&["credentials"]));
    assert_eq!((failing.code, failing.stdout.as_str()), (Some(code), ""), "{}", failing.stderr);
    let line = failing.stderr.strip_prefix("rise-registry: ").unwrap();
    let doctor = in_time(|| machine.rise(&["doctor"]));
    assert_eq!((doctor.code, doctor.stderr.as_str()), (Some(code), ""), "{}", doctor.stdout);
    let cause = doctor.stdout.lines().find_map(|line| line.strip_prefix("✗ ")).unwrap();
    let cause = cause.split_once("  ").unwrap().1.trim();
    // The clock has its own line in doctor, and stands at the end of the command's message.
    let (line, cause) = (without_asides(line), without_asides(cause));
    assert!(line.contains(&cause), "{line}{cause}");
    doctor.stdout
}

/// Replaces request ids and the details of a JSON error, which differ between two answers.
fn without_asides(text: &str) -> String {
    let mut parts = text.split('(');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| text + part.split_once(')').unwrap().1)
}

fn date(at: u64) -> String {
    let at = Timestamp::from_second(i64::try_from(at).unwrap()).unwrap();
    format!("date: {}\r\n", at.strftime("%a, %d %b %Y %H:%M:%S GMT"))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_well() {
    let site = DoctorSite::start("").await;
    let machine = site.workstation();
    let doctor = in_time(|| machine.rise(&["doctor"]));
    assert_eq!((doctor.code, doctor.stderr.as_str()), (Some(0), ""), "{}", doctor.stdout);
    insta::assert_snapshot!(site.masked(&doctor.stdout));

    machine.file(".rise.toml", "project = \"my-app\"\nregistry = \"prod\"\n");
    machine.file(
        ".config/rise/registry.toml",
        format!("url = \"{}\"\ntoken_file = \"~/token\"\n", site.broker.url),
    );
    machine.file("token", &site.token);
    let helpers = json!({ "credHelpers": { site.registry.host(): "rise" } });
    machine.file(".docker/config.json", helpers.to_string());
    let machine = machine.without(&["RISE_URL", "RISE_PROJECT", "RISE_TOKEN"]);
    let doctor = in_time(|| machine.rise(&["doctor"]));
    assert_eq!(doctor.code, Some(0), "{}", doctor.stdout);
    insta::assert_snapshot!("everything_is_well_by_files", site.masked(&doctor.stdout));
    let json: Value = serde_json::from_str(&machine.rise(&["doctor", "--json"]).stdout).unwrap();
    assert_eq!((&json["ok"], &json["exit_code"]), (&json!(true), &json!(0)));
    assert!(json["steps"].as_array().unwrap().iter().all(|step| step["state"] == "ok"), "{json}");
    assert!(!machine.path(".cache/rise/registry").read_dir().unwrap().any(|entry| {
        entry.unwrap().path().extension().is_some_and(|extension| extension == "json")
    }));
}

/// After `docker-login`, docker needs no helper.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_docker_has_is_named() {
    let site = DoctorSite::start("").await;
    let machine = site.workstation();
    assert_eq!(machine.rise(&["docker-login"]).code, Some(0));
    let doctor = in_time(|| machine.rise(&["doctor"]));
    assert_eq!(doctor.code, Some(0), "{}", doctor.stdout);
    let line = site.masked(doctor.stdout.lines().last().unwrap());
    let expected = "– docker      docker uses the login for [registry] in ~/.docker/config.json; \
                    `rise-registry docker-login` replaces it";
    assert_eq!(line, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_a_forbidden_project_and_an_unknown_password() {
    let site = DoctorSite::start("").await;
    let machine = site.workstation().with("RISE_PROJECT", "other");
    let said = same_cause(&machine, 4);
    insta::assert_snapshot!("a_forbidden_project", mask_request(&site.masked(&said)));
    let explained = machine.rise(&["explain"]);
    assert_eq!((explained.code, explained.stdout.as_str()), (Some(4), ""));
    insta::assert_snapshot!("explain_of_a_forbidden_project", explained.stderr);
    let machine = machine.without(&["RISE_PROJECT"]);
    insta::assert_snapshot!("explain", machine.rise(&["explain"]).stdout);

    site.registry.change_password(RegistryAuth::Second);
    let doctor = in_time(|| site.workstation().rise(&["doctor"]));
    assert_eq!(doctor.code, Some(3), "{}", doctor.stdout);
    insta::assert_snapshot!("a_login_that_is_refused", site.masked(&doctor.stdout));
}

#[test]
fn doctor_names_a_broker_that_is_down_or_silent_or_none() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let down = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let silent = BrokerDouble::start(Saying::Nothing).url;
    let portal = Saying::answer("200 OK", "content-type: text/html\r\n", "<html>Log in</html>");
    let portal = BrokerDouble::start(portal).url;
    for (name, url, code) in [("down", down, 5), ("silent", silent, 5), ("nonsense", portal, 6)] {
        let said = same_cause(&workstation(&url), code);
        insta::assert_snapshot!(name, said.replace(&url, "[broker]"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_an_unknown_certificate() {
    let tls = "[server.tls]\ncertificate_file = \"tls.pem\"\nkey_file = \"tls.key\"";
    let site = DoctorSite::start(tls).await;
    let url = site.broker.url.replace("http://", "https://");
    let machine = site.workstation().with("RISE_URL", &url);
    insta::assert_snapshot!(site.masked(&same_cause(&machine, 6)));
}

#[test]
fn doctor_names_a_wrong_clock_and_an_expired_token() {
    let now = seconds();
    let refuses = |at| {
        let detail = "the token is not accepted";
        Saying::problem("401 Unauthorized", "invalid-token", detail, &date(at))
    };
    for (name, theirs, expires) in [
        ("a_clock_that_is_behind", now + 600, now + 300),
        ("a_clock_that_is_ahead", now - 600, now + 300),
        ("a_token_that_is_over", now, now - 720),
    ] {
        let double = BrokerDouble::start(refuses(theirs));
        let token = token(&json!({ "exp": expires }));
        let said = same_cause(&workstation(&double.url).with("RISE_TOKEN", &token), 3);
        insta::assert_snapshot!(name, said.replace(&double.url, "[broker]"));
    }
}

#[test]
fn doctor_names_missing_settings_and_a_missing_token() {
    let machine = Workstation::new();
    let mut said = vec![same_cause(&machine.with("RISE_URL", "http://broker.example.com"), 2)];
    let machine = workstation("http://127.0.0.1:9");
    machine.file(".rise.toml", "url = \"https://evil.example.com\"\n");
    said.push(same_cause(&machine, 2));
    // These problems show without the network.
    let double = BrokerDouble::start(Saying::answer("200 OK", &date(seconds()), "{}"));
    let machine = workstation(&double.url).without(&["RISE_TOKEN"]);
    said.push(same_cause(&machine, 3).replace(&double.url, "[broker]"));
    let machine = workstation(&double.url).without(&["RISE_TOKEN"]).with("GITHUB_ACTIONS", "true");
    said.push(same_cause(&machine, 3).replace(&double.url, "[broker]"));
    insta::assert_snapshot!(said.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_a_useless_cache() {
    let site = DoctorSite::start("").await;
    let mut said = Vec::new();
    let cached = |machine: &Workstation| {
        let folder = machine.path(".cache/rise/registry");
        let mut files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.extension().is_some_and(|extension| extension == "json")).unwrap()
    };
    let machine = site.workstation();
    machine.rise(&["credentials"]);
    fs::write(cached(&machine), "{\"version\":1,").unwrap();
    let doctor = |machine: &Workstation| {
        let doctor = in_time(|| machine.rise(&["doctor"]));
        assert_eq!(doctor.code, Some(7), "{}", doctor.stdout);
        let line = doctor.stdout.lines().find_map(|line| line.strip_prefix("✗ cache")).unwrap();
        line.trim().to_owned()
    };
    let cause = doctor(&machine);
    let command = machine.rise(&["credentials", "--format", "env"]);
    assert_eq!(command.stderr, format!("rise-registry: {cause}\n"));
    said.push(mask_key(&cause));

    fs::set_permissions(cached(&machine), fs::Permissions::from_mode(0o644)).unwrap();
    let cause = doctor(&machine);
    let command = machine.rise(&["credentials", "--format", "env"]);
    assert_eq!(command.stderr, format!("rise-registry: {cause}\n"));
    said.push(mask_key(&cause));

    // This is a home that cannot be written to, also for root.
    let machine = site.workstation().with("XDG_CACHE_HOME", "/proc/1");
    let cause = doctor(&machine);
    let command = machine.rise(&["credentials", "--format", "env"]);
    assert_eq!(command.code, Some(0));
    assert_eq!(command.stderr, format!("rise-registry: {cause}\n"));
    said.push(cause);

    // A container that runs with `--read-only` sees this.
    if rustix::process::geteuid().is_root() {
        let machine = site.workstation();
        let home = machine.home().display().to_string();
        let both = "rise-registry credentials >/dev/null; rise-registry doctor";
        let script = format!(
            "mount --bind {home} {home} && mount -o remount,bind,ro {home} && cd {home} && {both}"
        );
        let ran = in_time(|| machine.run_with("unshare", &["--mount", "sh", "-c", &script], ""));
        assert_eq!(ran.code, Some(7), "{ran:?}");
        let cause =
            ran.stdout.lines().find_map(|line| line.strip_prefix("✗ cache")).unwrap().trim();
        assert!(ran.stderr.contains(&format!("rise-registry: {cause}\n")), "{}", ran.stderr);
        assert!(cause.contains("Read-only file system"), "{cause}");
    }
    insta::assert_snapshot!(said.join("\n"));
}

fn mask_key(text: &str) -> String {
    let Some((before, rest)) = text.split_once("/registry/") else { return text.to_owned() };
    format!("{before}/registry/[key].json{}", rest.split_once(".json").unwrap().1)
}

fn mask_request(text: &str) -> String {
    let Some((before, rest)) = text.split_once("(request ") else { return text.to_owned() };
    format!("{before}(request [id]{}", &rest[26..])
}
