//! A project that `rise-provider new` writes builds and passes its tests and the conformance kit,
//! without a network.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use rise_broker_tests::{kit_binary, repository, target};

fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn made(folder: &Path, name: &str, language: &str) -> std::path::PathBuf {
    let mut command = Command::new(kit_binary());
    command.args(["new", name, "--lang", language]).current_dir(folder);
    let (made, said) = run(&mut command);
    assert!(made, "{said}");
    folder.join(name)
}

/// Runs `make TARGETS` and keeps what it builds between runs.
fn make(project: &Path, arguments: &[&str]) {
    let (well, said) = made_of(project, arguments);
    assert!(well, "make {arguments:?}: {said}");
}

fn fails(project: &Path, arguments: &[&str]) -> String {
    let (well, said) = made_of(project, arguments);
    assert!(!well, "make {arguments:?}: {said}");
    said
}

fn made_of(project: &Path, arguments: &[&str]) -> (bool, String) {
    let kit = format!("KIT={}", kit_binary().display());
    let mut command = Command::new("make");
    command
        .args(arguments)
        .arg(kit)
        .current_dir(project)
        .env("XDG_CACHE_HOME", target().join("test-cache"));
    run(&mut command)
}

#[test]
fn a_project_in_rust_builds_tests_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let project = made(folder.path(), "my-registry", "rust");
    let built = format!("TARGET={}", target().join("provider-new").display());
    make(&project, &["test", "check", &built, "CARGO=cargo --offline"]);
    let mut inspect = Command::new(kit_binary());
    inspect.args(["inspect", "dist/my-registry.wasm"]).current_dir(&project);
    let (well, said) = run(inspect.env("XDG_CACHE_HOME", target().join("test-cache")));
    assert!(well && said.starts_with("my-registry 0.1.0"), "{said}");
}

#[test]
fn a_project_in_python_builds_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let project = made(folder.path(), "my-registry", "python");
    let tools = format!("TOOLS={}", repository().join("target/peers/componentize-py").display());
    make(&project, &["test", "check", &tools]);
    let failing = "        raise ValueError(f\"boom {uuid.uuid4()} {time.time()}\")\n";
    let marker = "        actions = grant.actions()\n";
    let provider = project.join("provider.py");
    change(&provider, "import re\n", "import re\nimport time\nimport uuid\n");
    change(&provider, marker, &format!("{failing}{marker}"));
    fails_with_fresh_numbers(&project, &tools, "ValueError: boom");
    change(&provider, "import re\n", "import random\nimport re\n");
    let said = fails(&project, &["all", &tools]);
    assert!(said.contains("use uuid or os.urandom"), "{said}");
}

fn change(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from}");
    std::fs::write(file, text.replace(from, to)).unwrap();
}

/// The report has the text of an exception, with a number and a time that differ between calls.
fn fails_with_fresh_numbers(project: &Path, tools: &str, exception: &str) {
    let said = fails(project, &["check", tools]);
    let words = said.split(exception).skip(1).map(|text| text.split_whitespace().take(2));
    let seen: BTreeSet<Vec<&str>> = words.map(Iterator::collect).collect();
    assert!(seen.len() > 1, "{said}");
    let year = jiff::Timestamp::now().as_second() / 10_000_000;
    assert!(said.contains(&format!(" {year}")), "{year}: {said}");
}

#[test]
#[ignore = "its tools weigh 385 MB: `make examples` runs it"]
fn a_project_in_javascript_builds_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let project = made(folder.path(), "my-registry", "js");
    let tools = format!("TOOLS={}", repository().join("target/peers/componentize-js").display());
    make(&project, &["test", "check", &tools]);
    let marker = "    const actions = grant.actions();\n";
    let failing = "    throw new Error(`boom ${Math.random()} ${Date.now()}`);\n";
    change(&project.join("provider.js"), marker, &format!("{failing}{marker}"));
    fails_with_fresh_numbers(&project, &tools, "boom");
}

/// Also a `CARGO_TARGET_DIR` of the author is used.
#[test]
fn a_project_has_the_modes_of_the_authors_own_umask() {
    let folder = tempfile::tempdir().unwrap();
    for (umask, expected) in [(0o022, [0o755, 0o644]), (0o077, [0o700, 0o600])] {
        let name = format!("with-{umask:o}");
        let mut command = Command::new("sh");
        let line = format!("umask {umask:o} && exec \"$0\" new {name} --lang rust");
        command.args(["-c", &line]).arg(kit_binary()).current_dir(folder.path());
        let (well, said) = run(&mut command);
        assert!(well, "{said}");
        let project = folder.path().join(name);
        let mode = |path: &str| {
            std::fs::metadata(project.join(path)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!([mode("src"), mode("src/lib.rs")], expected);
        assert_eq!([mode("."), mode("Makefile")], expected);
    }
    let mut command = Command::new("make");
    let built = ["--dry-run", "all", "test"];
    command.args(built).current_dir(folder.path().join("with-22")).env("CARGO_TARGET_DIR", "/x/y");
    let (well, said) = run(&mut command);
    assert!(well && said.matches("--target-dir /x/y").count() == 2, "{said}");
}

#[test]
fn a_name_that_is_none_and_a_folder_that_is_there_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    for (name, reason) in [
        ("../up", "expected a small letter"),
        ("Upper", "expected a small letter"),
        ("taken", "choose another"),
    ] {
        let mut command = Command::new(kit_binary());
        command.args(["new", name]).current_dir(folder.path());
        let (well, said) = run(&mut command);
        assert!(!well && said.contains(reason), "{name}: {said}");
    }
}
