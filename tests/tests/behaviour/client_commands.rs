//! What the client's commands print with a real broker.

use std::fmt::Write as _;
use std::fs;

use rise_broker_tests::{Installation, Serving, Workstation};
use serde_json::Value;

const SETTINGS: &str = "[auth]\naudience = \"rise-registry\"\n[[auth.issuers]]\nname = \"local\"\n\
     key_file = \"issuer.pem\"\n\
    [[rules]]\nname = \"r\"\nissuer = \"local\"\nclaims = { repository = \"acme/{project}\" }\n\
         projects = [\"*\"]\nregistries = [\"prod\", \"own\"]\nallow = [\"pull\", \"push\"]\n\
    [registries.prod]\ntype = \"oci\"\nregistry_url = \"r.example.com\"\nnamespace = \"rise\"\n\
         username = \"u\"\npassword = \"it's canary\"\naccept_scope = \"registry\"\n\
    [registries.own]\ntype = \"oci\"\nregistry_url = \"own.example.com\"\n";

fn start() -> (Serving, Workstation) {
    let mut installation = Installation::new(SETTINGS);
    installation.unlimited();
    let claim = ["token", "--subject", "ci", "--claim", "repository=acme/my-app"];
    let token = installation.run(&claim).stdout.trim().to_owned();
    let serving = installation.serve_for_ever();
    let machine = Workstation::new().with("RISE_URL", &serving.url).with("RISE_TOKEN", &token);
    (serving, machine)
}

/// Runs the commands as a person does, and replaces what differs from run to run.
fn session(machine: &Workstation, url: &str, lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let printed = machine.run("sh", &["-c", line]);
        write!(text, "$ {line}\n{}{}", printed.stdout, printed.stderr).unwrap();
        if printed.code != Some(0) {
            writeln!(text, "[exit code {}]", printed.code.unwrap()).unwrap();
        }
    }
    let is_of_an_id = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit();
    let mut masked = text.replace(url, "https://broker.example.com");
    for id in text.split(|letter| !is_of_an_id(letter)) {
        if id.len() == 26 && id.starts_with("01") {
            masked = masked.replace(id, "[id]");
        }
    }
    masked
}

#[test]
fn commands_print_what_the_readme_shows() {
    let (serving, machine) = start();
    machine.file(".rise.toml", "project = \"my-app\"\nregistry = \"prod\"\n");
    let text = session(
        &machine,
        &serving.url,
        &[
            "rise-registry whoami",
            "rise-registry registries",
            "rise-registry image :1.2",
            "rise-registry docker-login",
            "rise-registry credentials --project other",
        ],
    );
    insta::assert_snapshot!(text);
}

#[test]
fn a_credential_is_printed_in_the_form_that_is_asked_for() {
    let (serving, machine) = start();
    let machine = machine.with("RISE_PROJECT", "my-app").with("RISE_REGISTRY", "prod");
    let text = session(
        &machine,
        &serving.url,
        &[
            "rise-registry credentials",
            "rise-registry credentials --format env",
            "rise-registry credentials --format docker-config",
            "rise-registry credentials --format password",
            "rise-registry credentials --format password --add-mask",
            "rise-registry credentials --actions pull --lifetime 60 | head -c 20",
            "rise-registry credentials --registry own --format env",
            "rise-registry docker-login --registry own",
            "rise-registry registries --json",
        ],
    );
    insta::assert_snapshot!(text);
    let evaluated = machine.run(
        "sh",
        &[
            "-c",
            "eval \"$(rise-registry credentials --format env)\" && \
         printf %s \"$REGISTRY_PASSWORD\"",
        ],
    );
    assert_eq!(evaluated.stdout, "it's canary");
    // `$GITHUB_ENV` and `--env-file` take quotes as part of the value.
    let lines = machine.rise(&["credentials", "--format", "env-file"]).stdout;
    assert!(lines.contains("\nREGISTRY_PASSWORD=it's canary\n"), "{lines}");
}

#[test]
fn the_project_comes_from_a_checkout_or_from_the_hosts_in_the_settings() {
    let (_serving, machine) = start();
    let get = |server: &str| {
        let printed = machine.helper("get", server);
        let answer: Option<Value> = serde_json::from_str(&printed.stdout).ok();
        answer
            .map_or(printed.stdout, |answer| format!("{} {}", answer["Username"], answer["Secret"]))
    };
    let good = "\"u\" \"it's canary\"";
    let not_found = "credentials not found in native keychain\n";
    // The broker knows this host, but no project is named.
    assert!(get("r.example.com").starts_with("docker-credential-rise: no project is named"));
    assert_eq!(get("elsewhere.example.com"), not_found);
    // Some clients also send the repository.
    assert_eq!(get("r.example.com/rise/my-app"), good);
    assert!(get("r.example.com/rise/other").contains("denies the request"));
    // The project comes from the checkout, also from a folder below.
    machine.file(".rise.toml", "project = \"my-app\"\n");
    assert_eq!(get("r.example.com"), good);
    assert_eq!(get("elsewhere.example.com"), not_found);
    // This registry hands out nothing: clients use what they have.
    assert_eq!(get("own.example.com"), not_found);
    fs::remove_file(machine.path(".rise.toml")).unwrap();
    let hosts = "[hosts]\n\"r.example.com\" = { project = \"my-app\", registry = \"prod\" }\n";
    machine.file(".config/rise/registry.toml", hosts);
    assert_eq!(get("https://r.example.com"), good);
    // A setting for one host wins over the setting for all.
    machine.file(".config/rise/registry.toml", format!("project = \"other\"\n{hosts}"));
    assert_eq!(get("r.example.com"), good);
}

#[test]
fn the_manual_and_the_completions_work_without_settings() {
    let machine = Workstation::new().with("RISE_URL", "no url");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let printed = machine.rise(&["completions", shell]);
        assert!(printed.code == Some(0) && printed.stdout.contains("docker-login"), "{shell}");
    }

    let completed = "eval \"$(rise-registry completions bash)\"; COMP_WORDS=(rise-registry \
         docker-l); COMP_CWORD=1; _rise__registry rise-registry docker-l rise-registry; echo \
         ${COMPREPLY[0]}";
    assert_eq!(machine.run("bash", &["-c", completed]).stdout, "docker-login\n");
    assert!(machine.rise(&["man"]).stdout.starts_with(".ie"));
    let written = machine.rise(&["man", "pages"]);
    assert_eq!(written.code, Some(0), "{written:?}");
    assert!(machine.path("pages/rise-registry-docker-login.1").exists());
    assert_eq!(machine.rise(&["whoami"]).code, Some(2));
    for page in ["rise-registry.1", "docker-credential-rise.1"] {
        let text = fs::read_to_string(machine.path("pages").join(page)).unwrap();
        for expected in [".SH ENVIRONMENT", "RISE_TOKEN_FILE", ".SH FILES", "registry.toml"] {
            let expected = expected.replace('-', "\\-");
            assert!(text.contains(&expected), "{page}: {expected}");
        }
    }
}

#[test]
fn help_is_a_command_like_the_others() {
    let machine = Workstation::new().with("RISE_URL", "no url");
    let all = machine.rise(&["help"]);
    assert_eq!((all.code, &all.stdout), (Some(0), &machine.rise(&["--help"]).stdout));
    let one = machine.rise(&["help", "exec"]);
    assert_eq!((one.code, &one.stdout), (Some(0), &machine.rise(&["exec", "--help"]).stdout));
    for command in ["help", "man", "completions"] {
        let printed = machine.rise(&[command, "--help"]);
        assert_eq!(printed.code, Some(0), "{printed:?}");
        assert!(!printed.stdout.contains("RISE_URL"), "{command} reads no settings: {printed:?}");
    }
    let unknown = machine.rise(&["help", "nothing"]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.stderr.contains("unrecognized subcommand 'nothing'"), "{unknown:?}");
}
