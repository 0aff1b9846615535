//! `rise-provider inspect`, `check` and `run` as an author uses them, and `rise-broker provider
//! inspect`: what they print, and which exit code they end with.

use std::fs;
use std::process::Stdio;

use rise_broker_tests::provider_files::{component, digest, undecodable};
use rise_broker_tests::{AUTH, HARBOR, Installation, Minting, MintingMood, TestBroker, repository};
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
    let opens =
        "  opens        identity tokens for this audience, by the setting `audience` if you";
    assert!(printed.contains(opens), "{printed}");
    assert!(!printed.contains("by the setting `base_url`"), "`needs` says more: {printed}");
    assert!(!printed.contains("  manages"), "{printed}");
    let printed = installation.run(&["provider", "inspect", "providers/ecr.wasm"]).stdout;
    let manages = "  manages      repositories, if [registries.NAME.repositories] says so";
    assert!(printed.contains(manages), "{printed}");
    let json = installation.run(&["provider", "inspect", "--json", "providers/ecr.wasm"]).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["manages_repositories"], &json["ends_credentials"]),
        (&true.into(), &false.into())
    );
    let harbor = repository().join("dist/providers/harbor.wasm");
    fs::copy(harbor, installation.path("harbor.wasm")).unwrap();
    let printed = installation.run(&["provider", "inspect", "harbor.wasm"]).stdout;
    assert!(printed.contains("  ends         each credential that it makes, when "), "{printed}");
    let json = installation.run(&["provider", "inspect", "--json", "harbor.wasm"]).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["ends_credentials"], true);
}

/// `| head` closes the pipe when it has enough.
#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let installation = installation();
    let of_broker: [&[&str]; 5] = [
        &["provider", "inspect", "providers/ecr.wasm"],
        &["provider", "inspect", "--json", "providers/ecr.wasm"],
        &["help"],
        &["completions", "bash"],
        &["man"],
    ];
    let of_kit: [&[&str]; 2] =
        [&["inspect", "providers/ecr.wasm"], &["check", "providers/oci.wasm"]];
    let of_broker = of_broker.map(|arguments| installation.command(arguments));
    let of_kit = of_kit.map(|arguments| installation.kit_command(arguments));
    for mut command in of_broker.into_iter().chain(of_kit) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdout(writer).stderr(Stdio::piped());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*said), (Some(0), ""), "{command:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let installation = installation();
    let mut command = installation.command(&["provider", "inspect", "providers/oci.wasm"]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = "error: cannot write to standard output: No space left on device";
    assert!(said.starts_with(expected) && said.lines().count() == 1, "{said}");
    assert_eq!(output.status.code(), Some(1));
}

/// A robot that Harbor keeps for a day. No broker deletes what `run` makes.
#[tokio::test(flavor = "multi_thread")]
async fn what_run_makes_is_ended_on_request() {
    let server = Minting::start(&HARBOR).await;
    let installation = Installation::new("");
    installation.file("settings.toml", server.table().to_string());
    let harbor = repository().join("dist/providers/harbor.wasm").display().to_string();
    let run = |more: &[&str]| {
        let arguments = ["run", &harbor, "--settings", "settings.toml", "--project", "my-app"];
        installation.run_kit(&[&arguments[..], more].concat())
    };
    let printed = run(&[]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert!(printed.stdout.contains(r#""ended_by": "broker""#), "{}", printed.stdout);
    let note = format!("`{}/api/v2.0/robots/1`", server.url());
    let told = format!("note: the credential stays at the registry, as {note}: no broker ends it;");
    assert!(printed.stderr.contains(&told), "{}", printed.stderr);
    assert_eq!(server.alive().len(), 1);
    server.remove_all();

    let printed = run(&["--revoke"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert!(!printed.stderr.contains("note: "), "{}", printed.stderr);
    let note = format!("revoked with `{}/api/v2.0/robots/2`", server.url());
    assert!(printed.stdout.contains(&note), "{}", printed.stdout);
    assert!(server.alive().is_empty());

    // A credential of a failed call is ended as well.
    server.mood(Some(MintingMood::LosesAnswer));
    let printed = run(&["--revoke"]);
    assert_eq!(printed.code, Some(1));
    assert!(printed.stdout.contains("revoked without a note"), "{}", printed.stdout);
    assert!(server.alive().is_empty());
    let printed = run(&[]);
    let told = "note: the registry may have made a credential all the same";
    assert!(printed.stderr.contains(told), "{}", printed.stderr);
    server.mood(Some(MintingMood::Refuses));
    let printed = run(&["--revoke"]);
    assert_eq!(printed.code, Some(1));
    assert!(printed.stderr.contains("may still be at the registry"), "{}", printed.stderr);
    assert!(!printed.stderr.contains(HARBOR.secret) && !printed.stdout.contains(HARBOR.secret));
}

#[test]
fn a_provider_without_revocation_ends_nothing() {
    let installation = installation();
    let settings = "registry_url = \"localhost:5000\"";
    let printed = installation.run_kit(&[
        "run",
        "providers/oci.wasm",
        "--project",
        "my-app",
        "--settings",
        settings,
        "--revoke",
    ]);
    let expected = "error: --revoke: the provider exports no `revocation`\n";
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(1), expected));
}

/// The operator reads once that the broker deletes things at the registry.
#[tokio::test(flavor = "multi_thread")]
async fn check_and_the_admin_page_say_what_is_deleted() {
    let server = Minting::start(&HARBOR).await;
    let installation = Installation::new(format!("{AUTH}{}", server.table()));
    installation.provider(&repository().join("dist/providers/harbor.wasm"), "harbor");
    let printed = installation.run(&["check"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let told = "  deletes each credential at the registry when its grant is over\n";
    assert_eq!(printed.stdout.matches(told).count(), 1, "{}", printed.stdout);
    assert!(!printed.stderr.contains("deletes"), "{}", printed.stderr);
    let broker =
        TestBroker::with_registries(server.table()).providers(&["harbor", "oci"]).start().await;
    let listed = broker.admin("/api/v1/providers").await.json();
    let listed = listed["providers"].as_array().unwrap();
    let ends = |name: &str| {
        let found = listed.iter().find(|provider| provider["name"] == name).unwrap();
        found["ends_credentials"].as_bool()
    };
    assert_eq!((ends("harbor"), ends("oci")), (Some(true), Some(false)));
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
    installation.file("undecodable.wasm", undecodable());
    let printed = installation.run(&["provider", "inspect", "undecodable.wasm"]);
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(1), ""));
    assert_eq!(
        printed.stderr,
        "error: undecodable.wasm: damaged: the types of its imports and exports cannot be decoded; \
         build or copy it again\n"
    );
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
