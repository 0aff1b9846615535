//! `docs/provider-author-guide.md` does what it says: its commands are run word for word, in an empty folder.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests are not covered by the `…-in-tests` switches"
)]

use std::fs;
use std::process::Command;

use rise_broker_tests::Port;
use rise_broker_tests::broker::{binary, repository, target};

/// The commands under this heading, in order.
fn commands(heading: &str) -> String {
    let guide = fs::read_to_string(repository().join("docs/provider-author-guide.md")).unwrap();
    let (_, section) = guide.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|it| it.split("```").next().unwrap());
    let commands = blocks.collect::<String>();
    assert!(commands.contains("rise-broker provider new"), "{heading}: {commands}");
    commands
}

/// What was printed, if all went well. What was built and downloaded before is used again.
fn follow(heading: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let programs = binary();
    let programs = programs.parent().unwrap().display();
    let language = if heading.contains("Python") { "py" } else { "js" };
    let port = Port::free();
    // What was put into the background ends with the script.
    let script = format!(
        "export PATH=\"{programs}:$PATH\"\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{}",
        commands(heading)
    );
    let mut bash = Command::new("timeout");
    bash.args(["540", "bash", "-euo", "pipefail", "-c", &script])
        .current_dir(folder.path())
        .env("PORT", port.number().to_string())
        .env("CARGO_NET_OFFLINE", "true")
        .env("XDG_CACHE_HOME", target().join("test-cache"));
    if heading.contains("Rust") {
        bash.env("TARGET", target().join("provider-new"));
    } else {
        let tools = format!("target/peers/componentize-{language}");
        bash.env("TOOLS", repository().join(tools));
    }
    let output = bash.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{heading}: {said}");
    said
}

#[test]
fn in_rust() {
    let said = follow("In Rust");
    for expected in ["passed: ", "may          send requests", "http.send", "for-my-app"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn in_python() {
    assert!(follow("In Python").contains("passed: "));
}

#[test]
#[ignore = "its tools weigh 385 MB: `make examples` runs it"]
fn in_javascript() {
    assert!(follow("In JavaScript").contains("passed: "));
}
