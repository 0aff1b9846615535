//! `docs/provider-author-guide.md` does what it says: its commands are run word for word, in an
//! empty folder.

use std::fs;
use std::path::Path;
use std::process::Command;

use rise_broker_tests::{Port, binary, kit_binary, repository, target};

/// The commands under this heading, in order.
fn commands(heading: &str) -> String {
    let guide = fs::read_to_string(repository().join("docs/provider-author-guide.md")).unwrap();
    let (_, section) = guide.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let commands = blocks.collect::<String>();
    assert!(commands.lines().count() > 3, "{heading}: {commands}");
    commands
}

/// The files of this repository that `make run` needs, copied: the test must not change this
/// clone's providers and settings.
fn copy_of_the_broker(into: &Path) {
    for folder in ["config", "deploy/development", "dist/providers"] {
        let copied = Command::new("cp")
            .args(["--recursive", "--parents", folder])
            .arg(into)
            .current_dir(repository())
            .status();
        assert!(copied.unwrap().success(), "{folder}; run `make providers` first");
    }
    let _ = fs::remove_file(into.join("config/local.toml"));
}

/// Runs the commands and returns their output. Earlier builds and downloads are used again.
fn follow(headings: &[&str]) -> String {
    let heading = headings.join(", ");
    let (folder, clone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    copy_of_the_broker(clone.path());
    // The guide uses both programs, which lie in the same folder.
    let (programs, _) = (binary(), kit_binary());
    let programs = programs.parent().unwrap().display();
    let language = if heading.contains("Python") { "py" } else { "js" };
    let [port, listen, admin, demo] = [(); 4].map(|()| Port::free());
    let address = |port: &Port| format!("127.0.0.1:{}", port.number());
    // Background processes end with the script. `make run` builds what is already built, and starts
    // the broker.
    let script = format!(
        "export PATH=\"{programs}:$PATH\"\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n\
         make() {{ if [ \"$1\" = run ]; then exec deploy/development/run.sh \
              {programs}/rise-broker; else command make \"$@\"; fi; }}\n{}",
        headings.iter().map(|heading| commands(heading)).collect::<String>()
    );
    let mut bash = Command::new("timeout");
    bash.args(["540", "bash", "-euo", "pipefail", "-c", &script])
        .current_dir(folder.path())
        .env("PORT", port.number().to_string())
        .env("CLONE", clone.path())
        .env("RISE_SERVER__LISTEN", address(&listen))
        .env("RISE_SERVER__ADMIN_LISTEN", address(&admin))
        .env("RISE_REGISTRIES__DEMO__REGISTRY_URL", format!("localhost:{}", demo.number()))
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
fn the_guide_works_in_rust_and_through_the_broker() {
    let said = follow(&["In Rust", "Through the broker"]);
    let answered = r#""username":"ci","password":"for-my-app""#;
    for expected in ["passed: ", "may          send requests", "http.send", "for-my-app", answered]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn the_guide_works_in_python() {
    assert!(follow(&["In Python"]).contains("passed: "));
}

#[test]
#[ignore = "its tools weigh 385 MB: `make examples` runs it"]
fn the_guide_works_in_javascript() {
    assert!(follow(&["In JavaScript"]).contains("passed: "));
}
