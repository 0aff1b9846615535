//! `rise-provider inspect`, `check` and `run` as an author uses them, and `rise-broker provider
//! inspect`: what they print, and which exit code they end with.

use std::fs;

use rise_broker_tests::provider_files::{component, digest};
use rise_broker_tests::{Installation, repository};
use serde_json::Value;

/// An installation with a broken file beside the real providers.
fn installation() -> Installation {
    let installation = Installation::new("");
    installation.file("broken.wasm", b"\x7fELF and more");
    installation.guest("misbehaves");
    let examples = fs::read(repository().join("providers/oci/conformance.toml")).unwrap();
    installation.file("conformance.toml", examples);
    installation
}

#[test]
fn a_file_is_inspected() {
    let installation = installation();
    let printed = installation.run(&["provider", "inspect", "providers/oci.wasm"]);
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    let bytes = component("oci");
    let shown = printed.stdout.replace(&digest(&bytes), "DIGEST");
    insta::assert_snapshot!(shown.replace(&bytes.len().to_string(), "SIZE"), @r#"
    oci 0.1.0
      Any OCI registry: callers log in themselves, or share one account
      also called  docker, oci-client-auth
      file         providers/oci.wasm, SIZE bytes
      sha256       DIGEST
      contract     0.1.0
      may          pass on its registry's secrets, without reading them

    Settings of a registry with type = "oci":

      NAME          TYPE  REQUIRED  SECRET  DEFAULT  MEANS
      namespace     text                    ""       Prefix of the project in every repository name, such as `team` or `team/apps`.
      password      text            yes              Password of the account.
      registry_url  text  yes                        Host name, with a port if needed: `localhost:5000`, `docker.io`, `https://harbor.company.com`.
      username      text                             Account that every caller gets. Without one, callers use credentials of their own.
    "#);
    let by_kit = installation.run_kit(&["inspect", "providers/oci.wasm"]);
    assert_eq!(by_kit, printed);
    let printed = installation.run(&["provider", "inspect", "--json", "providers/oci.wasm"]);
    let json: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(
        (&json["name"], &json["sha256"], &json["bytes"]),
        (&"oci".into(), &digest(&bytes).into(), &bytes.len().into())
    );
    assert_eq!(json["imports"][0]["name"], "secrets");
    assert_eq!(json["settings_schema"]["additionalProperties"], false);
    assert_eq!(json["wasi"], Value::Array(vec![]));
    assert_eq!(json["says_requests"], false, "it sends none");
    fs::copy(
        repository().join("dist/providers/artifactory.wasm"),
        installation.path("artifactory.wasm"),
    )
    .unwrap();
    let printed = installation.run(&["provider", "inspect", "artifactory.wasm"]).stdout;
    assert!(printed.contains("  says         which requests its settings need"), "{printed}");
    assert!(!printed.contains("  manages"), "{printed}");
    let printed = installation.run(&["provider", "inspect", "providers/ecr.wasm"]).stdout;
    let manages = "  manages      repositories, if [registries.NAME.repositories] says so";
    assert!(printed.contains(manages), "{printed}");
    let json = installation.run(&["provider", "inspect", "--json", "providers/ecr.wasm"]).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["manages_repositories"], true);
}

#[test]
fn what_is_no_provider_is_said_by_each_command() {
    let installation = installation();
    for arguments in [
        &["inspect", "broken.wasm"][..],
        &["inspect", "--json", "broken.wasm"],
        &["run", "broken.wasm", "--project", "my-app", "--settings", "a = 1"],
    ] {
        let printed = installation.run_kit(arguments);
        assert_eq!((printed.code, printed.stdout.as_str()), (Some(1), ""), "{arguments:?}");
        assert_eq!(
            printed.stderr,
            "error: broken.wasm: not a WebAssembly component but native code; build it for \
             `wasm32-wasip2`\n",
            "{arguments:?}"
        );
    }
    let printed = installation.run(&["provider", "inspect", "broken.wasm"]);
    assert_eq!(printed, installation.run_kit(&["inspect", "broken.wasm"]));
    let printed = installation.run_kit(&["check", "broken.wasm"]);
    assert_eq!(printed.code, Some(1));
    insta::assert_snapshot!(printed.stdout + &printed.stderr, @r"
    broken.wasm
      FAIL  file       is a provider that this broker would load: broken.wasm: not a WebAssembly component but native code; build it for `wasm32-wasip2`
    failed: 1 of 1 checks
    error: broken.wasm does not keep to the contract
    ");
}

#[test]
fn a_provider_is_checked() {
    let installation = installation();
    let printed = installation.run_kit(&["check", "providers/oci.wasm"]);
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""), "{}", printed.stdout);
    assert!(printed.stdout.contains("\npassed: "), "{}", printed.stdout);
    let settings = "[registries.example]\ntype = \"misbehaves\"\nregistry_url = \"r.example.com\"\n\
         how = \"trap\"\naccept_scope = \"registry\"\n";
    installation.file("bad.toml", settings);
    let arguments = ["check", "--json", "--examples", "bad.toml", "providers/misbehaves.wasm"];
    let printed = installation.run_kit(&arguments);
    assert_eq!(printed.code, Some(1));
    let json: Value = serde_json::from_str(&printed.stdout).unwrap();
    let findings = json["findings"].as_array().unwrap();
    let failed = |installation: &&Value| {
        installation["verdict"] == "failed" && installation["area"] == "issue"
    };
    let failed = findings.iter().find(failed).unwrap_or_else(|| panic!("{json:#}"));
    assert!(failed["detail"].as_str().unwrap().contains("told to panic"), "{json:#}");
}

#[test]
fn a_provider_is_run_once() {
    let installation = installation();
    let settings = "registry_url = \"localhost:5000\"\nusername = \"robot\"\n\
         password = \"a-canary-7\"\naccept_scope = \"registry\"";
    let run = |settings: &str, more: &[&str]| {
        let file = "providers/oci.wasm";
        let arguments = ["run", file, "--project", "my-app", "--settings", settings];
        installation.run_kit(&[&arguments[..], more].concat())
    };
    let printed = run(settings, &[]);
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    assert!(printed.stdout.contains("secrets.get"), "{}", printed.stdout);
    assert!(!printed.stdout.contains("a-canary-7"), "{}", printed.stdout);
    let answer = &printed.stdout[printed.stdout.find("\n{").unwrap()..];
    let answer: Value = serde_json::from_str(answer).unwrap();
    assert_eq!(answer["password"], "(10 characters)");
    assert_eq!((&answer["repository"], &answer["scope"]), (&"my-app".into(), &"registry".into()));
    assert!(run(settings, &["--show-secret"]).stdout.contains("a-canary-7"));
    let printed = run("registry_ur = \"localhost:5000\"", &[]);
    assert_eq!(printed.code, Some(1));
    assert!(printed.stderr.contains("did you mean `registry_url`?"), "{}", printed.stderr);
}
