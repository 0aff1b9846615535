//! The conformance kit passes for every provider of the repository, and names what each misbehaving
//! guest did.

use std::fs;
use std::path::Path;

use rise_broker::config::Environment;
use rise_broker::provider::compile::{Bounds, Compiler};
use rise_broker_tests::{OperatorKey, binary, compiled, repository, target};
use rise_provider_kit::conformance::{self, Bench, Effort, Report, Verdict};

const QUICK: Effort = Effort { sequential: 50, parallel: 16 };

async fn check(component: &Path, examples: &Path) -> Report {
    let environment = Environment::new();
    let (cache, compiler) = (compiled(), Compiler::Program(binary(), Bounds::default()));
    let bench = Bench { effort: QUICK, environment: &environment, cache: &cache, compiler };
    conformance::check(component, examples, &bench).await
}

async fn guest(name: &str, registry: &str) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let examples = folder.path().join("conformance.toml");
    fs::write(&examples, format!("[registries.example]\ntype = \"{name}\"\n{registry}")).unwrap();
    check(&target().join("guests").join(format!("{name}.wasm")), &examples).await
}

/// The area and reason of each failure, one per line.
fn failures(report: &Report) -> String {
    let failed = report.findings().iter().filter(|finding| finding.verdict == Verdict::Failed);
    let lines: Vec<_> = failed
        .map(|finding| format!("{}: {}: {}", finding.area, finding.check, finding.detail))
        .collect();
    lines.join("\n")
}

/// Makes a test of each provider of the repository: they take seconds each.
macro_rules! providers {
    ($($name:ident,)+) => {
        const PROVIDERS: &[&str] = &[$(stringify!($name)),+];

        mod provider {
            $(#[tokio::test]
            async fn $name() {
                super::passes(stringify!($name)).await;
            })+
        }
    };
}

providers! {
    artifactory,
    azure,
    cloudsmith,
    distribution,
    dockerhub,
    ecr,
    ghcr,
    gitea,
    gitlab,
    google,
    harbor,
    nexus,
    oci,
    quay,
}

async fn passes(name: &str) {
    let component = repository().join("dist/providers").join(format!("{name}.wasm"));
    let examples = repository().join("providers").join(name).join("conformance.toml");
    let report = check(&component, &examples).await;
    assert!(report.passed(), "{report}");
}

#[test]
fn every_provider_of_the_repository_is_checked() {
    let folders = fs::read_dir(repository().join("providers")).unwrap();
    let mut names: Vec<String> =
        folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "sdk");
    names.sort();
    assert_eq!(names, PROVIDERS);
}

const AWS: &str = "region = \"us-east-1\"\naccount_id = \"123456789012\"\n\
     push_role_arn = \"arn:aws:iam::123456789012:role/push\"\n";
const URL: &str = "registry_url = \"registry.example.com\"\n";

/// A way to misbehave, and the text that the report must contain.
type GuestRow = (&'static str, &'static str);

const ON_AWS: [GuestRow; 16] = [
    ("other-project", "repository/someone-elses`"),
    ("sibling", "repository/my-app*`"),
    ("other-role", "the role `"),
    ("wildcard", "`*`"),
    ("delete-repository", "ecr:DeleteRepository"),
    ("ecr-star", "ecr:*"),
    ("push-for-pull", "a grant to pull does not cover"),
    ("unscoped", "not narrowed"),
    ("unscoped-after-session", "not narrowed"),
    ("huge-policy", "2048"),
    ("giant-policy", "2048"),
    ("other-region", "a login in region `ap-southeast-2`"),
    ("public-login", "a login of ECR Public, and the settings have no `public_alias`"),
    ("swallow", "repository/someone-elses`"),
    ("too-many", "more than 4 AWS calls"),
    ("secret-in-role", "the role `"),
];

#[tokio::test]
async fn each_attack_on_aws_fails_by_what_was_asked() {
    for (attack, reason) in ON_AWS {
        let report = guest("aws-rogue", &format!("{AWS}attack = \"{attack}\"\n")).await;
        let said = failures(&report);
        assert!(said.contains("issue: ") && said.contains(reason), "{attack}: {report}");
    }
    let harmless = ["none", "first-session"];
    for attack in harmless {
        let report = guest("aws-rogue", &format!("{AWS}attack = \"{attack}\"\n")).await;
        assert!(report.passed(), "{attack}: {report}");
    }
    let rows = ON_AWS.map(|row| row.0);
    covered("aws-rogue", "Attack", rows.into_iter().chain(harmless));
}

#[tokio::test]
async fn each_attack_on_a_repository_fails_by_what_was_asked() {
    for attack in ["describe-in-issue", "create-in-issue"] {
        let report = guest("repository-rogue", &format!("{AWS}attack = \"{attack}\"\n")).await;
        let said = failures(&report);
        assert!(said.contains("outside the functions of `repositories`"), "{attack}: {report}");
    }
}

const TRUSTED: &str = "trust_provider = true";
/// The same with more settings.
const MISBEHAVIOUR: [(&str, &str, &str); 24] = [
    ("loop", "", "limit of CPU time"),
    ("recurse", "", "limit of stack"),
    ("recurse-in-memory", "", "provider trapped"),
    ("memory", "", "limit of memory"),
    ("handles", "", "limit of handles"),
    ("secrets", "", "limit of secret bytes"),
    ("many-secrets", "", "limit of secrets"),
    ("giant-string", "", "limit of memory"),
    ("log-flood", "", "wrote 10000 lines to the log, and 32 are kept"),
    ("trap", "", "misbehaves was told to panic"),
    ("giant-result", TRUSTED, "too long"),
    ("crlf-username", TRUSTED, "control characters"),
    ("colon-username", TRUSTED, "holds `:`"),
    ("none-password", TRUSTED, "empty"),
    ("expired", TRUSTED, "less than 60 seconds"),
    ("expiry-zero", TRUSTED, "less than 60 seconds"),
    ("expiry-never", TRUSTED, "not a valid time"),
    ("made-up-password", "", "of its own making"),
    ("no-credential", "", "returned no credential, although `check` says"),
    ("error-denied", "", "said by misbehaves"),
    ("error-giant", "", "xxxxxxxx"),
    ("error-throttled", "", "a pause"),
    ("error-unavailable", "", "said by misbehaves"),
    ("no-such-way", "", "unknown way to misbehave"),
];

#[tokio::test]
async fn each_way_to_misbehave_fails_with_the_reason() {
    for (how, more, reason) in MISBEHAVIOUR {
        let settings = format!(
            "{URL}how = \"{how}\"\nusername = \"robot\"\npassword = \"a canary\"\n\
             accept_scope = \"registry\"\n{more}\n[providers.misbehaves.limits]\ncpu_ms = {}\n",
            if how == "loop" { 100 } else { 5000 },
        );
        let report = guest("misbehaves", &settings).await;
        let said = failures(&report);
        assert!(said.contains("issue: ") && said.contains(reason), "{how}: {report}");
    }
    // A provider that calls itself narrow hands out a shared password that was not accepted.
    let lying = format!("{URL}how = \"says-repository\"\npassword = \"a canary\"\n");
    let report = guest("misbehaves", &lying).await;
    assert!(failures(&report).contains("opens a registry"), "{report}");
}

/// These two have no effect in this host, so the kit cannot see them: no instance outlives its call
/// (`hostile_providers.rs`), and a provider has a secret's handle but never its text.
#[tokio::test]
async fn what_the_host_makes_impossible_passes() {
    for how in ["state", "log-password"] {
        let settings = format!(
            "{URL}how = \"{how}\"\nusername = \"robot\"\npassword = \"a canary\"\n\
             accept_scope = \"registry\"\n{TRUSTED}\n"
        );
        let report = guest("misbehaves", &settings).await;
        assert!(report.passed(), "{how}: {report}");
    }
}

const OVER_HTTP: [GuestRow; 50] = [
    ("other-host", "does not allow"),
    ("other-port", "does not allow"),
    ("other-path", "/api/admin"),
    ("other-method", "DELETE"),
    ("other-project", "someone-elses"),
    ("private-address", "10.1.2.3"),
    ("metadata", "never asked"),
    ("metadata-name", "metadata.google.internal"),
    ("userinfo", "a user name in it"),
    ("fragment", "`#`"),
    ("dot-segments", "a path with"),
    ("encoded-slash", "a path with"),
    ("encoded-slash-above", "a path with"),
    ("encoded-slash-beside", "does not allow"),
    ("encoded-slash-of-others", "does not allow"),
    ("backslash", "control characters"),
    ("line-break-in-url", "control characters"),
    ("line-break-in-header", "line breaks"),
    ("host-header", "`Host`"),
    ("length-header", "`Content-Length`"),
    ("authorization-header", "`Authorization`"),
    ("method-override", "`X-HTTP-Method-Override`"),
    ("too-many", "more than 8 HTTP requests"),
    ("huge-body", "a body of more than"),
    ("huge-headers", "bytes of headers"),
    ("many-requests", "limit of "),
    ("echo-to-error", "sent a configured secret back"),
    ("echo-to-password", "sent a configured secret back"),
    ("echo-of-basic", "sent a configured secret back"),
    ("configured-password", "opens a registry"),
    ("forged-handle", "provider trapped"),
    ("forged-request", "provider trapped"),
    ("swallow", "does not allow"),
    ("locate", "nothing but the log is called outside issue: http.send"),
    ("read-taken-secret", "null"),
    ("no-token", "no token"),
    ("expiry-too-late", "beyond the registry's `max_lifetime`"),
    ("expiry-past", "less than 60 seconds"),
    ("line-break-in-user-name", "control characters"),
    ("log-answer", "wrote a secret to the log"),
    ("read-token", "wrote a secret to the log"),
    ("log-cut-token", "wrote a secret to the log"),
    ("log-escaped-token", "wrote a secret to the log"),
    ("token-as-user-name", "a user name that holds an issued secret"),
    ("answer-as-error", "holds an issued secret"),
    ("token-in-path", "a secret is in the text of its error"),
    ("token-in-panic", "holds an issued secret"),
    ("endless", "without an expiry"),
    ("one-day", "beyond the registry's `max_lifetime`"),
    ("milliseconds", "it may be in milliseconds"),
];
/// These pass, and the report has a hint.
const HINTED: [GuestRow; 3] = [
    ("print", "which no broker logs"),
    ("ten-hours", "s and 3600 s were granted: nothing ends it earlier"),
    ("encoded-project", ""),
];
/// These are not the provider's fault, or the host leaves nothing of them to see.
const HOST_STOPS: [(&str, &str); 15] = [
    ("own-project", "no attack; the other two need projects of several components"),
    ("plain-slash", "the kit's project has one component, so this is its own URL"),
    ("below-project", "as above; `project_names.rs` shows that the host refuses to send it"),
    ("secret-in-url", "a real provider cannot know the secret, and the kit configures another"),
    ("secret-in-header", "as above; `http_capability.rs` shows that the host refuses to send it"),
    ("secret-in-body", "as above"),
    ("secret-in-user-name", "as above"),
    ("echo-to-user-name", "the echo is withheld, and what is handed on instead holds no secret"),
    ("echo-to-log", "as above"),
    ("echo-of-form", "as echo-of-basic; the kit repeats no bodies"),
    ("redirect", "the registry misbehaves: the kit answers 301 itself"),
    ("flood", "the registry misbehaves: the kit answers too much itself"),
    ("compressed", "the registry misbehaves, below where the kit answers"),
    ("silence", "the registry misbehaves: the kit hangs itself"),
    ("closes", "the registry misbehaves, below where the kit answers"),
];

async fn over_http(how: &str) -> Report {
    let url = "http://127.0.0.1:5000";
    let allow = ["tokens", "projects/{project}/tokens", "projects/group%2F{project}/tokens"];
    let allow = allow.map(|path| format!("api/{path}")).into_iter().chain(["echo".to_owned()]);
    let allow: Vec<_> = allow.map(|path| format!("\"POST {url}/{path}\"")).collect();
    let settings = format!(
        r#"base_url = "{url}"
other_url = "http://127.0.0.1:5001"
admin_token = "a canary"
misbehave = "{how}"
trust_provider = true
[registries.example.ceiling.http]
private = true
allow = [{}]
[providers.http-rogue.limits]
cpu_ms = 5000
[[answers]]
method = "POST"
path = "/api/tokens"
body = '{{"token": "{{token}}"}}'
[[answers]]
method = "POST"
path = "/api/projects/group%2F*/tokens"
body = '{{"token": "{{token}}"}}'
[[answers]]
method = "POST"
path = "/echo"
body = '{{"authorization": "{{authorization}}"}}'
"#,
        allow.join(", ")
    );
    guest("http-rogue", &settings).await
}

#[tokio::test]
async fn each_attack_over_http_fails_by_what_was_asked() {
    let report = over_http("no").await;
    assert!(report.passed(), "{report}");
    let mut wrong = Vec::new();
    for (how, reason) in OVER_HTTP {
        let said = failures(&over_http(how).await);
        if !said.contains(reason) {
            wrong.push(format!("{how}: {said}"));
        }
    }
    assert_eq!(wrong, [""; 0]);
    let read = over_http("read-token").await.to_string();
    assert!(read.contains("made a secret of it"), "{read}");
    for (how, hint) in HINTED {
        let report = over_http(how).await;
        let said = report.to_string();
        assert!(report.passed() && said.contains(hint), "{how}: {said}");
    }
    let rows = OVER_HTTP.iter().chain(&HINTED).map(|row| row.0);
    let stopped = HOST_STOPS.iter().map(|row| row.0);
    covered("http-rogue", "Misbehave", rows.chain(stopped).chain(["no"]));
}

/// The kit answers as a broker's client would. What nobody ever gets must not take the time of a
/// call: on a busy machine the search for secrets in it took longer than a call may.
#[tokio::test]
async fn an_answer_that_no_broker_would_hand_on_is_none_here() {
    for (bytes, expected) in [(256 << 10, "no token"), ((256 << 10) + 1, "more than 262144 bytes")]
    {
        let settings = format!(
            r#"base_url = "http://127.0.0.1:5000"
admin_token = "a canary"
misbehave = "no"
trust_provider = true
[registries.example.ceiling.http]
private = true
[[answers]]
method = "POST"
path = "/api/tokens"
body = "{}"
"#,
            "x".repeat(bytes)
        );
        let report = guest("http-rogue", &settings).await;
        assert!(failures(&report).contains(expected), "{report}");
    }
}

/// What `http-rogue` does with this answer of its registry, and with these entries of `allow`.
async fn with_answer(allow: &str, body: &str) -> Report {
    let settings = format!(
        r#"base_url = "http://127.0.0.1:5000"
admin_token = "a canary"
misbehave = "no"
trust_provider = true
[registries.example.ceiling.http]
private = true
allow = ["POST http://127.0.0.1:5000/{allow}"]
[[answers]]
method = "POST"
path = "/api/tokens"
body = '{body}'
"#
    );
    guest("http-rogue", &settings).await
}

#[tokio::test]
async fn what_a_double_would_hide_is_a_hint() {
    for (body, hint) in [
        (r#"{"token": "{token}"}"#, None),
        (r#"{"token": "{jwt}", "expires_at": {expires_at}}"#, None),
        (r#"{"token": "{jwt+7200}"}"#, Some("s and 3600 s were granted")),
        (
            r#"{"token": "{token}", "expires_at": {expires_at}}"#,
            Some("return what the registry says"),
        ),
        (r#"{"token": "the same"}"#, Some("two grants got the same")),
        (
            r#"{"token": "{token}", "user": "{request/user}"}"#,
            Some("no request had what `{request/user}` names"),
        ),
    ] {
        let report = with_answer("api/tokens", body).await;
        let hints = report.findings().iter().filter(|finding| finding.verdict == Verdict::Note);
        let hints: Vec<&str> = hints.map(|finding| finding.detail.as_str()).collect();
        assert!(report.passed(), "{report}");
        assert_eq!(hints.len(), usize::from(hint.is_some()), "{body}: {hints:?}");
        assert!(hints.iter().all(|text| text.contains(hint.unwrap_or_default())), "{hints:?}");
    }
}

const LOGINS: [GuestRow; 21] = [
    ("no", ""),
    ("sign-with-text", "a key that is no secret setting"),
    ("sign-with-token", "`admin_token` cannot sign"),
    ("sign-thousands", "more than 8 signatures"),
    ("sign-in-locate", "nothing but the log is called outside issue: secrets.get"),
    ("assertion-as-password", "returned an assertion"),
    ("assertion-as-bearer", "returned an assertion"),
    ("assertion-echoed", "sent an assertion back"),
    ("assertion-elsewhere", "elsewhere.example.com"),
    ("assertion-claim", "no claim"),
    ("kept-as-password", "a login that it keeps"),
    ("taken-and-kept", "a login that it keeps"),
    ("keep-configured", "to keep a secret that comes from admin_token"),
    ("keep-assertion", "to keep a secret that comes from assertion"),
    ("keep-text", "to keep a secret that comes from guest"),
    ("keep-in-locate", "nothing but the log is called outside issue: kept.find"),
    ("claim-of-configured", "no claim"),
    ("claim-of-kept", "no claim"),
    ("weak-password", "64 are the least"),
    ("random-in-locate", "nothing but the log is called outside issue: random.text"),
    // A real provider cannot know the secret, and the kit configures another.
    ("sign-secret", ""),
];

async fn with_logins(how: &str) -> Report {
    let settings = format!(
        r#"base_url = "http://127.0.0.1:5000"
admin_token = "a canary"
key = {key}
header = '{{"alg": "ES256"}}'
misbehave = "{how}"
trust_provider = true
[registries.example.ceiling.http]
private = true
[providers.login-rogue.limits]
cpu_ms = 5000
wall_ms = 60000
[[answers]]
method = "POST"
path = "/api/tokens"
body = '{{"token": "a-login-of-the-cloud"}}'
[[answers]]
method = "POST"
path = "/api/projects/*/tokens"
body = '{{"other": "{{jwt}}"}}'
[[answers]]
method = "POST"
path = "/echo"
body = '{{"body": "{{request/assertion}}"}}'
"#,
        key = serde_json::Value::from(OperatorKey::p256().pem()),
    );
    guest("login-rogue", &settings).await
}

#[tokio::test]
async fn each_misuse_of_a_login_fails_by_what_was_asked() {
    for (how, reason) in LOGINS {
        let report = with_logins(how).await;
        if reason.is_empty() && how == "no" {
            assert!(report.passed(), "{report}");
        }
        assert!(failures(&report).contains(reason), "{how}: {report}");
    }
    for made in ["random-password", "random-name"] {
        let report = with_logins(made).await;
        assert!(report.passed(), "{made}: {report}");
    }
    let rows = LOGINS.iter().map(|row| row.0).chain(["random-password", "random-name"]);
    covered("login-rogue", "Misbehave", rows);
}

const REVOKING: [GuestRow; 19] = [
    ("panics", "revocation-rogue was told to panic"),
    ("ends-nothing", "it returns success, and no request ended the credential"),
    ("ignores-note", "tokens/7`: returns Error::Unavailable"),
    ("needs-note", "without a note: it returns success, and no request ended"),
    ("ends-others", "ends a credential whose name is that of another grant"),
    ("fails-when-gone", "a second time: returns Error::NotFound"),
    ("failure-is-gone", "it returns success, and the credential is still there"),
    ("denies-after-mint", "the broker calls no `revoke` then"),
    ("forgets", "remembered nothing"),
    ("forgets-what-ends", "issue remembers what it made: it calls no `grant.remember`"),
    ("logs-answer", "wrote a secret to the log"),
    ("tells-answer", "a secret is in the text of its error"),
    ("revokes-other-project", "someone-elses"),
    ("revokes-elsewhere", "elsewhere.example.com"),
    ("remembers-in-revoke", "`grant.remember` outside `issue`"),
    ("remembers-too-much", "longer than 1 KiB"),
    ("remembers-lines", "control characters"),
    ("remembers-nothing", "a note that is empty"),
    ("remembers-issued", "a note that holds an issued secret"),
];

async fn revoking(how: &str) -> Report {
    revoking_within(how, "{project}").await
}

async fn revoking_within(how: &str, project: &str) -> Report {
    let tokens = format!("http://127.0.0.1:5000/api/projects/{project}/tokens");
    let settings = format!(
        r#"base_url = "http://127.0.0.1:5000"
admin_token = "a canary"
misbehave = "{how}"
trust_provider = true
[registries.example.ceiling.http]
private = true
allow = ["POST {tokens}", "GET {tokens}", "DELETE {tokens}"]
[[answers]]
method = "POST"
path = "/api/projects/*/tokens"
makes = true
body = '{{"id": 7, "name": "{{request/name}}", "token": "{{token}}"}}'
[[answers]]
method = "GET"
path = "/api/projects/*/tokens"
when = "made"
body = '[{{"id": 7, "name": "{{made/name}}", "token": "{{token}}"}}]'
[[answers]]
method = "GET"
path = "/api/projects/*/tokens"
body = "[]"
[[answers]]
method = "DELETE"
path = "/api/projects/*/tokens/7"
status = 204
[[answers]]
method = "GET"
path = "/api/nobody"
"#
    );
    guest("revocation-rogue", &settings).await
}

#[tokio::test]
async fn each_misuse_of_revocation_fails_by_what_was_done() {
    let report = revoking("no").await;
    assert!(report.passed(), "{report}");
    // An answer that nobody asked for is reported.
    let said = report.to_string();
    assert!(said.contains("answers.4 (GET /api/nobody): no request got it"), "{said}");
    assert!(!said.contains("answers.3"), "{said}");
    let mut wrong = Vec::new();
    for (how, reason) in REVOKING {
        let said = failures(&revoking(how).await);
        if !said.contains(reason) {
            wrong.push(format!("{how}: {said}"));
        }
    }
    assert_eq!(wrong, [""; 0]);
    let report = revoking("guesses-end").await;
    let said = report.to_string();
    assert!(said.contains("no answer of the registry has one: return none"), "{said}");
    let rows = REVOKING.iter().map(|row| row.0);
    // The kit configures another secret than the one that it knows: `hostile_providers.rs`.
    let others = ["no", "guesses-end", "remembers-configured"];
    covered("revocation-rogue", "Misbehave", rows.chain(others));
}

const FINDING: [GuestRow; 14] = [
    ("nothing", "is not in its list"),
    ("others", "it is named `…nightly`, and it lists"),
    ("told", "is not in its list"),
    ("too-many", "is not in its list"),
    ("configured", "is not in its list"),
    ("deletes", "DELETE in `leftovers.find`, which only reads"),
    ("makes", "POST in `leftovers.find`, which only reads"),
    ("of-a-project", "/api/projects/my-app/tokens"),
    ("random", "`leftovers` has no grant"),
    ("panics", "revocation-rogue was told to panic"),
    ("ends-others", "ends a credential whose name is that of another grant"),
    ("ends-nothing", "returns success, and no request ended it"),
    ("fails-when-gone", "a second time: returns Error::NotFound"),
    ("failure-is-nothing", "a list without the credential that is there"),
];

async fn finding(how: &str) -> Report {
    let url = "http://127.0.0.1:5000/api";
    let allow = ["POST", "GET", "DELETE"].map(|method| {
        format!(r#""{method} {url}/tokens", "{method} {url}/projects/{{project}}/tokens""#)
    });
    let answers = ["/api/projects/*/tokens", "/api/tokens"].map(|path| {
        format!(
            r#"[[answers]]
method = "POST"
path = "{path}"
makes = true
body = '{{"id": 7, "name": "{{request/name}}", "token": "{{token}}"}}'
[[answers]]
method = "GET"
path = "{path}"
when = "made"
body = '[{{"id": 7, "name": "{{made/name}}"}}, {{"id": 8, "name": "release"}}]'
[[answers]]
method = "GET"
path = "{path}"
body = "[]"
[[answers]]
method = "DELETE"
path = "{path}/7"
status = 204
"#
        )
    });
    let settings = format!(
        r#"base_url = "http://127.0.0.1:5000"
admin_token = "a canary"
finds = "{how}"
trust_provider = true
[registries.example.ceiling.http]
private = true
allow = [{}]
{}"#,
        allow.join(", "),
        answers.concat()
    );
    guest("revocation-rogue", &settings).await
}

#[tokio::test]
async fn a_project_that_gets_nothing_because_of_its_name_is_a_hint() {
    let report = revoking_within("no", "my-app").await;
    let said = report.to_string();
    assert!(report.passed() && said.contains("`my.app` gets no credential: "), "{said}");
    assert!(!revoking("no").await.to_string().contains("my.app"));
}

#[tokio::test]
async fn each_misuse_of_leftovers_fails_by_what_was_done() {
    let report = finding("all").await;
    assert!(report.passed(), "{report}");
    let mut wrong = Vec::new();
    for (how, reason) in FINDING {
        let said = failures(&finding(how).await);
        if !said.contains(reason) {
            wrong.push(format!("{how}: {said}"));
        }
    }
    assert_eq!(wrong, [""; 0]);
    covered("revocation-rogue", "Finds", FINDING.iter().map(|row| row.0).chain(["all"]));
}

#[tokio::test]
async fn revocation_without_a_word_of_what_makes_a_credential_fails() {
    let settings = r#"base_url = "http://127.0.0.1:5000"
admin_token = "a canary"
trust_provider = true
[registries.example.ceiling.http]
private = true
[[answers]]
method = "POST"
path = "/api/projects/*/tokens"
body = '{"id": 7, "token": "{token}"}'
"#;
    let said = failures(&guest("revocation-rogue", settings).await);
    assert!(said.contains("write `makes = true` into the [[answers]]"), "{said}");
}

/// Checks that every variant of the guest's enum is in the table.
fn covered<'a>(guest: &str, name: &str, seen: impl Iterator<Item = &'a str>) {
    let source = repository().join(format!("tests/guests/{guest}/src/lib.rs"));
    let source = fs::read_to_string(source).unwrap();
    let (_, body) = source.split_once(&format!("enum {name} {{\n")).unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let is_name = |line: &&str| !line.starts_with("//") && !line.starts_with('#');
    let lines = body.lines().map(str::trim).filter(is_name);
    let mut expected: Vec<String> =
        lines.map(|line| kebab(line.strip_suffix(',').unwrap())).collect();
    let mut seen: Vec<&str> = seen.collect();
    expected.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, expected, "{guest}");
}

fn kebab(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[tokio::test]
async fn each_attack_with_tokens_fails_by_what_was_asked() {
    let with_tokens = async |how: &str| {
        let settings = format!(
            "registry_url = \"r.example.com\"\nbase_url = \"http://127.0.0.1:5000\"\n\
             audience = \"https://cloud.example.com\"\nmisbehave = \"{how}\"\n\
             trust_provider = true\nlocation = \"r.example.com/{{project}}\"\n\
             [registries.example.ceiling.http]\nprivate = true\n"
        );
        guest("tokens-rogue", &settings).await
    };
    let report = with_tokens("no").await;
    assert!(report.passed(), "{report}");
    for (how, reason) in [
        ("other-service", "a registry token for the service `other.example.com`"),
        ("other-audience", "an identity token for the audience `sts.example.com`"),
        ("thousands", "more than 8 signatures"),
        ("identity-as-password", "an identity token, which goes to"),
    ] {
        let said = failures(&with_tokens(how).await);
        assert!(said.contains(reason), "{how}: {said}");
        let mut lines: Vec<&str> = said.lines().collect();
        let all = lines.len();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), all, "a failure is reported twice: {said}");
    }
}

/// Guest, settings, area and reason.
const NOT_LOADED: [(&str, &str, &str, &str); 3] = [
    ("trap-describe", URL, "file", "its `describe` fails"),
    ("wants-filesystem", URL, "file", "wants `wasi:"),
    (
        "secret-looking",
        "registry_url = \"r.example.com\"\ntoken = \"t\"\n",
        "settings",
        "looks like a secret",
    ),
];

#[tokio::test]
async fn what_cannot_be_loaded_or_placed_fails_with_the_reason() {
    for (name, settings, area, reason) in NOT_LOADED {
        let report = guest(name, settings).await;
        let said = failures(&report);
        assert!(said.contains(&format!("{area}: ")) && said.contains(reason), "{name}: {report}");
    }
}

const NEXT: &str = r#"registry_url = "registry.example.com"
username = "robot"
password = "a canary"
accept_scope = "registry"
trust_provider = true
[registries.example.ceiling.http]
allow = ["POST https://collector.example.com/"]
[[answers]]
method = "POST"
path = "/"
"#;
const PING: &str = r#"base_url = "http://127.0.0.1:5000"
username = "robot"
password = "a canary"
accept_scope = "registry"
trust_provider = true
[registries.example.ceiling.http]
private = true
[[answers]]
method = "GET"
path = "/v2/"
headers = { Docker-Distribution-Api-Version = "registry/2.0" }
"#;

#[tokio::test]
async fn guests_that_behave_pass() {
    for (name, settings) in [("oldest-contract", URL), ("htpasswd-ping", PING)] {
        let report = guest(name, settings).await;
        assert!(report.passed(), "{name}: {report}");
    }
    // Only a lock refuses a provider that asks for more than its last version.
    let folder = tempfile::tempdir().unwrap();
    let examples = folder.path().join("conformance.toml");
    fs::write(&examples, format!("[registries.example]\ntype = \"oci\"\n{NEXT}")).unwrap();
    let report = check(&target().join("guests/oci-next.wasm"), &examples).await;
    assert!(report.passed(), "oci-next: {report}");
    // The imports of WASI lead nowhere, which it tolerates.
    let stubbed = format!("{URL}[providers.wants-filesystem]\nwasi = \"stubbed\"\n");
    let report = guest("wants-filesystem", &stubbed).await;
    assert!(report.passed(), "{report}");
}

#[test]
fn every_guest_is_checked() {
    let source = repository().join("tests/tests/behaviour/conformance.rs");
    let source = fs::read_to_string(source).unwrap();
    for entry in fs::read_dir(repository().join("tests/guests")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            source.contains(&format!("\"{name}\"")) || source.contains(&format!("{name}.wasm")),
            "{name} is in no test of this file"
        );
    }
}

/// `none` ignores the host, so it accepts the image of any registry.
const LIES: [(&str, &str); 10] = [
    ("other-host", "outside the host registry.example.com"),
    ("no-project", "does not contain the project once"),
    ("project-twice", "does not contain the project once"),
    ("partial-segment", "does not contain the project once"),
    ("upper-case", "an invalid location"),
    ("resolve-other", "not the inverse"),
    ("labels", "project `my.app`"),
    ("refuses-dots", "where a name gets no credential, `issue` returns `unsupported`"),
    // `project_depth` is 1 there, so only the image of somebody else fails.
    ("flat", "resolve returns `my-app`, which lives at registry.example.com/my-app"),
    ("none", "resolve returns `my-app`, which lives at registry.example.com/my-app"),
];

#[tokio::test]
async fn a_provider_that_lies_about_places_fails_with_the_reason() {
    for (how, reason) in LIES {
        let report = guest("liar-locate", &format!("{URL}how = \"{how}\"\n")).await;
        assert!(failures(&report).contains(reason), "{how}: {report}");
    }
    covered("liar-locate", "How", LIES.iter().map(|row| row.0));
}

#[tokio::test]
async fn no_file_is_no_provider_and_no_examples_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("conformance.toml");
    let report = check(&target().join("guests/misbehaves.wasm"), &missing).await;
    assert!(failures(&report).contains("missing; write settings"), "{report}");
    let examples = repository().join("providers/oci/conformance.toml");
    for (bytes, reason) in [
        (&b"\x7fELF"[..], "native code"),
        (b"", "an empty file"),
        (b"\0asm\x01\0\0\0", "a core module"),
    ] {
        let file = folder.path().join("broken.wasm");
        fs::write(&file, bytes).unwrap();
        let report = check(&file, &examples).await;
        assert!(failures(&report).contains(reason), "{report}");
    }
}
