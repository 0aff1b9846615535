//! What must hold for any bytes: one function per fuzz target.
//!
//! `fuzz/fuzz_targets` calls the functions under libFuzzer on nightly Rust; the test at the end
//! replays `fuzz/corpus` on stable. Compiled for `cfg(test)` and cargo-fuzz's `cfg(fuzzing)` only.
//!
//! To add a target: a function here, its line in [`TARGETS`], a file in `fuzz/fuzz_targets` with
//! its `[[bin]]`, and a corpus.
//!
//! The file is long because it is a list: functions that have nothing in common.

#![allow(
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a fuzzer looks for panics"
)]

pub mod http;
mod iam;
mod json_members;
pub mod keys;
pub mod tokens;

use std::collections::BTreeSet;
use std::fs;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use axum::extract::FromRequestParts;
use axum::http::{HeaderValue, Request, Uri, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use ulid::Ulid;

use crate::capability::Capability;
use crate::capability::aws::ceiling::{AwsCeiling, Switches};
use crate::capability::aws::settings::AwsSettings;
use crate::capability::wit::rise::registry::aws::Statement;
use crate::config::node::{Node, Origin};
use crate::config::schema::Schema;
use crate::config::{Config, Environment};
use crate::domain::location::LocationPattern;
use crate::domain::{
    Action, Actions, Claims, ImageReference, Lifetime, Project, ProjectShape, Subject,
};
use crate::http::bearer::Bearer;
use crate::http::problem::Failure;
use crate::identity::DiscoverySettings;
use crate::identity::json::{self, JsonLimits};
use crate::identity::jwks::{Discovery, KeySet};
use crate::identity::jwt::Unverified;
use crate::rules::{AccessRequest, Known, RuleFile, Rules, naive};

/// The function of one target.
pub type FuzzTarget = fn(&[u8]);

pub const TARGETS: [(&str, FuzzTarget); 20] = [
    ("authorization_header", authorization_header),
    ("bounded_json", bounded_json),
    ("ceiling", ceiling),
    ("component", component),
    ("discovery", discovery),
    ("http_ceiling", http::http_ceiling),
    ("image_reference", image_reference),
    ("issuer_url", issuer_url),
    ("jwks", jwks),
    ("jwt", jwt),
    ("key_set", keys::key_set),
    ("location_pattern", location_pattern),
    ("operator_key", keys::operator_key),
    ("problem", problem),
    ("project_name", project_name),
    ("provider_schema", provider_schema),
    ("rules", rules),
    ("settings", settings),
    ("token_request", tokens::token_request),
    ("token_scope", tokens::token_scope),
];

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The result of a future that does not wait.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits for something"),
    }
}

/// Input: headers, one per line. If they are accepted, there is one header with one token.
pub fn authorization_header(bytes: &[u8]) {
    let mut request = Request::new(());
    let mut count = 0;
    for value in
        bytes.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok())
    {
        request.headers_mut().append(header::AUTHORIZATION, value);
        count += 1;
    }
    let (mut parts, ()) = request.into_parts();
    let Ok(Bearer(token)) = at_once(Bearer::from_request_parts(&mut parts, &())) else { return };
    assert_eq!(count, 1, "more than one header");
    let token = token.expose();
    let header = parts.headers[header::AUTHORIZATION].to_str().unwrap();
    assert_eq!(header.split_once(' ').map(|(_, token)| token), Some(token));
    assert!(!token.contains(|c: char| c.is_whitespace() || c == ',' || c.is_control()));
    if Unverified::parse(token).is_ok() {
        assert!(token.matches('.').count() == 2 && token.len() <= 32 * 1024);
    }
}

/// Input: header and payload, separated by a line break. If they are accepted, neither has
/// duplicate members, and none of the members supplies a key.
pub fn jwt(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (header, payload) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let token =
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    // The input itself is parsed too.
    let _ = text(bytes).map(Unverified::parse);
    let Ok(parsed) = Unverified::parse(&token) else { return };
    assert!(token.len() <= 32 * 1024);
    for part in [header, payload] {
        assert!(json_members::each_occurs_once(part), "a member occurs twice");
    }
    let header: Value = serde_json::from_slice(header).unwrap();
    for forbidden in ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"] {
        assert!(header.get(forbidden).is_none(), "{forbidden}");
    }
    if let Some(algorithm) = parsed.jws.header.algorithm {
        assert_eq!(header["alg"], algorithm.as_str());
    }
    assert_eq!(header.get("kid").and_then(Value::as_str), parsed.jws.header.kid.as_deref());
    assert_eq!(payload, &parsed.jws.payload[..]);
}

/// If the input is accepted, another parser reads the same, without duplicates, within the limits.
pub fn bounded_json(bytes: &[u8]) {
    const LIMITS: JsonLimits = JsonLimits { bytes: 2048, depth: 5, members: 16, text: 256 };
    let Ok(object) = json::object(bytes, LIMITS) else { return };
    let object = Value::Object(object);
    assert!(json_members::each_occurs_once(bytes), "a member occurs twice");
    assert_eq!(serde_json::from_slice::<Value>(bytes).unwrap(), object);
    assert!(bytes.len() <= LIMITS.bytes && depth(&object) <= LIMITS.depth);
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// If the input is accepted, the usable keys are public.
pub fn jwks(bytes: &[u8]) {
    let Ok(set) = KeySet::parse(bytes) else { return };
    let document: Value = serde_json::from_slice(bytes).unwrap();
    let keys = document["keys"].as_array().unwrap();
    assert!(!keys.is_empty());
    let is_public = |key: &&Value| {
        matches!(key["kty"].as_str(), Some("RSA" | "EC" | "OKP"))
            && ["k", "d", "p", "q"].iter().all(|private| key.get(private).is_none())
    };
    for kid in keys.iter().filter_map(|key| key["kid"].as_str()) {
        if set.find(Some(kid)).is_ok() {
            assert!(keys.iter().filter(is_public).any(|key| key["kid"] == kid), "{kid}");
        }
    }
    if set.find(None).is_ok() {
        assert!(keys.iter().any(|key| is_public(&key)));
    }
}

const ISSUER: &str = "https://issuer.example/tenant";

fn discovered(issuer: &str, hosts: &[&str]) -> DiscoverySettings {
    DiscoverySettings {
        issuer: issuer.to_owned(),
        jwks_hosts: hosts.iter().map(ToString::to_string).collect(),
        ..DiscoverySettings::default()
    }
}

/// If the input is accepted, the keys are on the issuer's host or a listed one, also according to
/// another URL parser.
pub fn discovery(bytes: &[u8]) {
    static DISCOVERY: LazyLock<Discovery> =
        LazyLock::new(|| Discovery::new(&discovered(ISSUER, &["keys.example:8443"])).unwrap());
    let Ok(url) = DISCOVERY.keys_url(bytes) else { return };
    let uri: Uri = url.as_str().parse().unwrap();
    let place = (uri.host().unwrap(), uri.port_u16().unwrap_or(443));
    assert!([("issuer.example", 443), ("keys.example", 8443)].contains(&place), "{url}");
    assert_eq!(uri.scheme_str(), Some("https"));
    assert!(!uri.authority().unwrap().as_str().contains('@'), "{url}");
    let document: Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!(document["issuer"], ISSUER);
}

/// If the input is accepted, it is https, or http to this machine, without a user.
pub fn issuer_url(bytes: &[u8]) {
    // Making a client takes a millisecond: not for what cannot be an issuer.
    let Some(issuer) = text(bytes).filter(|text| text.starts_with("http") && text.len() < 512)
    else {
        return;
    };
    if url::Url::parse(issuer).is_err() || Discovery::new(&discovered(issuer, &[])).is_err() {
        return;
    }
    let url = url::Url::parse(issuer).unwrap();
    assert!(!issuer.contains(char::is_whitespace), "{issuer}");
    // As far as the other parser follows: it takes no characters beyond ASCII.
    let Ok(uri) = issuer.parse::<Uri>() else { return };
    let host = uri.host().unwrap().trim_matches(['[', ']']);
    assert!(url.host_str().is_some(), "{issuer}");
    assert!(!uri.authority().unwrap().as_str().contains('@'), "{issuer}");
    assert!(uri.query().is_none() && !issuer.contains('#'), "{issuer}");
    let address = url.host_str().unwrap().trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let is_local =
        url.host_str() == Some("localhost") || address.is_ok_and(|address| address.is_loopback());
    assert!(uri.scheme_str() == Some("https") || is_local, "{issuer} {host}");
}

/// The input is accepted exactly if the grammar accepts it. No accepted name has a meaning in an
/// ARN or a policy.
pub fn project_name(bytes: &[u8]) {
    let Some(name) = text(bytes) else { return };
    let endpoints = ["manifests", "blobs", "tags", "referrers"];
    let components: Vec<&str> = name.split('/').collect();
    let expected = name.len() <= 128
        && components.iter().all(|component| is_component(component))
        && components.iter().rev().skip(1).all(|component| !endpoints.contains(component));
    let parsed = name.parse::<Project>();
    assert_eq!(parsed.is_ok(), expected, "{name:?}");
    if let Ok(project) = parsed {
        assert_eq!(project.as_str(), name);
        let arn = format!("arn:aws:ecr:eu-west-1:123456789012:repository/rise/{project}");
        assert_eq!(arn.split(':').count(), 6);
        assert!(arn.split('/').skip(2).eq(project.components()));
        assert!(!arn.contains(['*', '?', '$', '{', '"', '\\', '%']));
        assert!(!project.as_url_segment().contains('/'));
    }
}

/// The grammar as the specification writes it, one alphanumeric run and one separator at a time.
fn is_component(text: &str) -> bool {
    let run = |text: &str| {
        let rest = text.trim_start_matches(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        (rest.len() < text.len()).then_some(rest.len())
    };
    let mut rest = text;
    loop {
        let Some(left) = run(rest) else { return false };
        rest = &rest[rest.len() - left..];
        if rest.is_empty() {
            return true;
        }
        let dashes = rest.trim_start_matches('-');
        rest = if dashes.len() < rest.len() {
            dashes
        } else {
            let after = |separator| rest.strip_prefix(separator);
            let Some(after) = after(".").or_else(|| after("__")).or_else(|| after("_")) else {
                return false;
            };
            after
        };
    }
}

/// If the input is accepted, its text form parses to the same location.
pub fn image_reference(bytes: &[u8]) {
    let Some(reference) = text(bytes).and_then(|text| text.parse::<ImageReference>().ok()) else {
        return;
    };
    let place = reference.location();
    assert!(
        place.repository.len() <= 255
            && !place.repository.contains("..")
            && !place.repository.contains("//")
    );
    assert!(
        place.repository.bytes().all(|byte| !byte.is_ascii_uppercase() && byte.is_ascii_graphic())
    );
    for suffix in ["", ":1.0", "@sha256:00"] {
        let again: ImageReference = format!("{place}{suffix}").parse().unwrap();
        assert_eq!(again.location(), place);
    }
}

/// If the input is accepted, its text form parses to the same pattern, two projects share no
/// location, and the pattern resolves the locations that it makes.
pub fn location_pattern(bytes: &[u8]) {
    let Some(pattern) = text(bytes).and_then(|text| text.parse::<LocationPattern>().ok()) else {
        return;
    };
    let written = pattern.to_string();
    assert_eq!(written.parse::<LocationPattern>().as_ref(), Ok(&pattern));
    let [one, two] = ["my-app", "my-app-2"].map(|name| name.parse::<Project>().unwrap());
    let (first, second) = (pattern.fill(&one), pattern.fill(&two));
    assert!(!first.contains(&second) && !second.contains(&first), "{written}");
    let shape = ProjectShape::default();
    assert!(pattern.collides(shape, &pattern, shape));
    if !written.contains("/my-app/")
        && !written.ends_with("/my-app")
        && first.repository.len() <= 255
    {
        assert_eq!(LocationPattern::of(&first, &one).as_ref(), Ok(&pattern), "{written}");
    }
}

#[derive(Deserialize)]
struct RulesCase {
    rules: Vec<RuleFile>,
    claims: Claims,
    project: String,
    actions: Option<Vec<Action>>,
}

/// Rules decide as a naive reading of them does, and a further condition never allows more.
pub fn rules(bytes: &[u8]) {
    let Ok(mut case) = serde_json::from_slice::<RulesCase>(bytes) else { return };
    let Ok(project) = case.project.parse::<Project>() else { return };
    case.rules.truncate(4);
    let known =
        || Known::new(["github", "gitlab"], ["prod", "dev"].map(|name| name.parse().unwrap()));
    let Ok(rules) = Rules::parse(case.rules.clone(), &known()) else { return };
    let subject = Subject { issuer: "github".to_owned(), sub: "s".to_owned(), claims: case.claims };
    let request = AccessRequest {
        id: Ulid::nil(),
        registry: "prod".parse().unwrap(),
        project,
        actions: case.actions.map(|list| list.into_iter().collect()),
        lifetime: Lifetime::default(),
        client: None,
    };
    let granted = |rules: &Rules, request: &AccessRequest| {
        let decided = rules.authorize(subject.clone(), request.clone());
        decided.map_or(Actions::NONE, |grant| grant.actions())
    };
    assert_eq!(granted(&rules, &request), naive::granted(&case.rules, &subject, &request));
    let all = AccessRequest { actions: None, ..request };
    let widest = granted(&rules, &all);
    for rule in &mut case.rules {
        rule.claims.entry("one-more".to_owned()).or_insert(crate::rules::ClaimFile::Flag(true));
    }
    let narrower = Rules::parse(case.rules, &known()).unwrap();
    assert!(granted(&narrower, &all).is_subset_of(widest));
}

/// Input: one byte for the granted actions, then statements as `[[["action"], ["resource"]], …]`.
/// If they are accepted, IAM would allow what was granted on the project's own repository, and
/// nothing else.
pub fn ceiling(bytes: &[u8]) {
    let Some((verbs, bytes)) = bytes.split_first() else { return };
    let Ok(asked) = serde_json::from_slice::<Vec<(Vec<String>, Vec<String>)>>(bytes) else {
        return;
    };
    let granted = [Actions::PULL, Actions::PUSH, Actions::PULL_AND_PUSH][usize::from(*verbs) % 3];
    let settings = AwsSettings {
        region: "eu-west-1".to_owned(),
        account_id: "123456789012".to_owned(),
        repo_prefix: "rise/".to_owned(),
        push_role_arn: Some("arn:aws:iam::123456789012:role/push".to_owned()),
        ..AwsSettings::default()
    };
    let ceiling =
        AwsCeiling::new(&settings, None, Switches::default(), ProjectShape::default()).unwrap();
    let statements: Vec<Statement> =
        asked.into_iter().map(|(actions, resources)| Statement { actions, resources }).collect();
    let project: Project = "my-app".parse().unwrap();
    let Ok(policy) = ceiling.policy(&statements, &project, granted) else { return };
    assert!(policy.len() <= 2048 && policy.is_ascii());
    iam::allows_no_more_than(&policy, granted);
}

/// Input: any file. If it is accepted, every import is a known capability.
pub fn component(bytes: &[u8]) {
    if let Ok(imports) = crate::provider::inspect::inspect(bytes) {
        let is_implemented = |name: &&str| Capability::find(name).is_some();
        assert!(imports.capabilities.iter().all(is_implemented));
    }
}

/// Input: a schema and settings, separated by a line break. The settings pass exactly if the
/// library of schemas accepts them.
pub fn provider_schema(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let mut parsed = || serde_json::from_slice::<Value>(parts.next()?).ok();
    let (Some(document), Some(settings)) = (parsed(), parsed()) else { return };
    if !document.is_object() || !settings.is_object() {
        return;
    }
    let Ok(schema) = Schema::new(document.clone()) else { return };
    let node = Node::from_value(settings.clone(), &Origin::file("f"));
    let checked = schema.check(&node, "registries.x");
    assert_eq!(checked.is_ok(), jsonschema::is_valid(&document, &settings));
    if let Ok(value) = checked {
        assert_eq!(value, settings);
    }
    let _ = schema.is_secret("/a/0/b");
}

/// Input: a settings file in TOML, or in YAML if the first line is `---`. No message contains the
/// password in it.
pub fn settings(bytes: &[u8]) {
    const CANARY: &str = "canary-5f1c";
    static DIRECTORY: LazyLock<std::path::PathBuf> = LazyLock::new(|| {
        let directory = std::env::temp_dir().join(format!("rise-fuzz-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    });
    let Some(written) = text(bytes).filter(|text| !text.contains("${file:")) else { return };
    let name = if written.starts_with("---") { "default.yaml" } else { "default.toml" };
    for old in ["default.yaml", "default.toml"] {
        let _ = fs::remove_file(DIRECTORY.join(old));
    }
    fs::write(DIRECTORY.join(name), written).unwrap();
    let environment: Environment =
        [("A".into(), "1".into()), ("RISE_LOG__LEVEL".into(), "debug".into())].into();
    match Config::load(&DIRECTORY, &environment) {
        Ok(config) => {
            assert_eq!(config.log.level, "debug");
            assert!(!config.registries.is_empty());
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            // As a value: names of settings are named, whatever they hold.
            let line = format!("password = \"{CANARY}\"");
            let is_value = name.ends_with("toml")
                && !written.contains("\"\"\"")
                && !written.contains("'''")
                && written.lines().any(|other| other == line);
            let quoted = problems.iter().any(|problem| problem.to_string().contains(CANARY));
            let elsewhere = written.matches(CANARY).count() > 1;
            assert!(!is_value || elsewhere || !quoted, "{problems:?}");
        }
    }
}

/// Any text for a caller becomes one JSON object of a documented kind.
pub fn problem(bytes: &[u8]) {
    let Some(detail) = text(bytes) else { return };
    let response = Failure::InvalidRequest(detail.to_owned()).respond(Ulid::nil());
    assert_eq!(response.status(), 400);
    let body = at_once(response.into_body().collect()).unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["detail"], detail);
    assert_eq!(body["type"], "urn:rise:problem:invalid-request");
    let members: BTreeSet<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, BTreeSet::from(["type", "title", "status", "detail", "request_id"]));
    assert_eq!(body["status"], json!(400));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_corpora_hold() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        for (name, target) in TARGETS {
            let corpus = fs::read_dir(fuzz.join("corpus").join(name)).expect(name);
            let mut files: Vec<_> = corpus.map(|entry| entry.unwrap().path()).collect();
            files.sort();
            assert!(!files.is_empty(), "{name} has no corpus");
            for file in files {
                let bytes = fs::read(&file).unwrap();
                let held = std::panic::catch_unwind(|| target(&bytes));
                assert!(held.is_ok(), "{name}: {}", file.display());
            }
            assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).exists(), "{name} is not fuzzed");
        }
    }
}
