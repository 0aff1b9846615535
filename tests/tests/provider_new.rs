//! A project that `rise-provider new` writes builds and passes its tests and the conformance kit,
//! without a network.

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
    let kit = format!("KIT={}", kit_binary().display());
    let mut command = Command::new("make");
    command
        .args(arguments)
        .arg(kit)
        .current_dir(project)
        .env("XDG_CACHE_HOME", target().join("test-cache"));
    let (well, said) = run(&mut command);
    assert!(well, "make {arguments:?}: {said}");
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
    make(&project, &["check", &tools]);
}

#[test]
#[ignore = "its tools weigh 385 MB: `make examples` runs it"]
fn a_project_in_javascript_builds_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let project = made(folder.path(), "my-registry", "js");
    let tools = format!("TOOLS={}", repository().join("target/peers/componentize-js").display());
    make(&project, &["check", &tools]);
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
        ("../up", "expected a letter"),
        ("Upper", "expected a letter"),
        ("taken", "choose another"),
    ] {
        let mut command = Command::new(kit_binary());
        command.args(["new", name]).current_dir(folder.path());
        let (well, said) = run(&mut command);
        assert!(!well && said.contains(reason), "{name}: {said}");
    }
}
