//! The conformance kit: it passes for every provider of the repository, and says of each misbehaving guest what it did.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests are not covered by the `…-in-tests` switches"
)]

use std::fs;
use std::path::Path;

use rise_broker::config::Environment;
use rise_broker::conformance::{self, Bench, Effort, Report, Verdict};
use rise_broker::provider::compile::{Bounds, Compiler};
use rise_broker_tests::broker::{binary, compiled, repository, target};

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

/// The area and reason of each failure, a line each.
fn failures(report: &Report) -> String {
    let failed = report.findings().iter().filter(|it| it.verdict == Verdict::Failed);
    let lines: Vec<_> =
        failed.map(|it| format!("{}: {}: {}", it.area, it.check, it.detail)).collect();
    lines.join("\n")
}

#[tokio::test]
async fn every_provider_of_the_repository_passes() {
    for name in ["ecr", "oci"] {
        let component = repository().join("dist/providers").join(format!("{name}.wasm"));
        let examples = repository().join("providers").join(name).join("conformance.toml");
        let report = check(&component, &examples).await;
        assert!(report.passed(), "{report}");
    }
}

const AWS: &str = "region = \"us-east-1\"\naccount_id = \"123456789012\"\npush_role_arn = \"arn:aws:iam::123456789012:role/push\"\n";
const URL: &str = "registry_url = \"registry.example.com\"\n";

#[tokio::test]
async fn each_attack_on_aws_fails_by_what_was_asked() {
    for (attack, reason) in [
        ("other-project", "repository/someone-elses`"),
        ("sibling", "repository/my-app*`"),
        ("other-role", "the role `"),
        ("wildcard", "`*`"),
        ("delete-repository", "ecr:DeleteRepository"),
        ("ecr-star", "ecr:*"),
        ("push-for-pull", "a grant to pull does not cover"),
        ("unscoped", "not narrowed"),
        ("huge-policy", "2048"),
        ("giant-policy", "2048"),
        ("other-region", "a login in region `ap-southeast-2`"),
        ("swallow", "repository/someone-elses`"),
    ] {
        let report = guest("aws-rogue", &format!("{AWS}attack = \"{attack}\"\n")).await;
        let said = failures(&report);
        assert!(said.contains("issue: ") && said.contains(reason), "{attack}: {report}");
    }
    let report = guest("aws-rogue", &format!("{AWS}attack = \"none\"\n")).await;
    assert!(report.passed(), "{report}");
}

#[tokio::test]
async fn each_way_to_misbehave_fails_with_the_reason() {
    let trusted = "trust_provider = true";
    for (how, more, reason) in [
        ("loop", "", "limit of CPU time"),
        ("recurse", "", "limit of stack"),
        ("recurse-in-memory", "", "provider trapped"),
        ("memory", "", "limit of memory"),
        ("handles", "", "limit of handles"),
        ("secrets", "", "limit of secret bytes"),
        ("giant-string", "", "limit of memory"),
        ("log-flood", "", "wrote 10000 lines to the log, and 32 are kept"),
        ("trap", "", "misbehaves was told to panic"),
        ("giant-result", trusted, "too long"),
        ("crlf-username", trusted, "control characters"),
        ("colon-username", trusted, "holds `:`"),
        ("none-password", trusted, "empty"),
        ("expired", trusted, "less than 60 seconds"),
        ("expiry-zero", trusted, "less than 60 seconds"),
        ("expiry-never", trusted, "no time"),
        ("made-up-password", "", "wrote itself"),
        ("error-denied", "", "said by misbehaves"),
        ("error-giant", "", "xxxxxxxx"),
        ("error-throttled", "", "a pause"),
    ] {
        let settings = format!(
            "{URL}how = \"{how}\"\nusername = \"robot\"\npassword = \"a canary\"\naccept_scope = \"registry\"\n{more}\n[providers.misbehaves.limits]\ncpu_ms = {}\n",
            if how == "loop" { 100 } else { 5000 },
        );
        let report = guest("misbehaves", &settings).await;
        let said = failures(&report);
        assert!(said.contains("issue: ") && said.contains(reason), "{how}: {report}");
    }
    // A shared password, handed out where it was not accepted by a provider that calls itself narrow.
    let lying = format!("{URL}how = \"says-repository\"\npassword = \"a canary\"\n");
    let report = guest("misbehaves", &lying).await;
    assert!(failures(&report).contains("opens a registry"), "{report}");
}

#[tokio::test]
async fn what_cannot_be_loaded_or_placed_fails_with_the_reason() {
    for (name, settings, area, reason) in [
        ("trap-describe", URL, "file", "cannot say what it is"),
        ("wants-filesystem", URL, "file", "wasi:filesystem"),
        ("wants-tokens", URL, "file", "does not have yet"),
        (
            "secret-looking",
            "registry_url = \"r.example.com\"\ntoken = \"t\"\n",
            "settings",
            "looks like a secret",
        ),
    ] {
        let report = guest(name, settings).await;
        let said = failures(&report);
        assert!(said.contains(&format!("{area}: ")) && said.contains(reason), "{name}: {report}");
    }
}

/// `none` looks at no host, so it takes any registry's image for its own.
const LIES: [(&str, &str); 7] = [
    ("other-host", "outside the host registry.example.com"),
    ("no-project", "does not hold the project once"),
    ("project-twice", "does not hold the project once"),
    ("partial-segment", "does not hold the project once"),
    ("upper-case", "a place that is none"),
    ("resolve-other", "not the inverse"),
    ("none", "resolve says `my-app`, which lives at registry.example.com/my-app"),
];

#[tokio::test]
async fn a_provider_that_lies_about_places_fails_with_the_reason() {
    for (how, reason) in LIES {
        let report = guest("liar-locate", &format!("{URL}how = \"{how}\"\n")).await;
        assert!(failures(&report).contains(reason), "{how}: {report}");
    }
}

#[tokio::test]
async fn no_file_is_no_provider_and_no_examples_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("conformance.toml");
    let report = check(&target().join("guests/misbehaves.wasm"), &missing).await;
    assert!(failures(&report).contains("missing; write down settings"), "{report}");
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
