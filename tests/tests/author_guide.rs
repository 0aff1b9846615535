//! `docs/provider-author-guide.md` does what it says: its commands are run word for word, in an
//! empty folder.

use std::fs;
use std::process::Command;

use rise_broker_tests::{Port, binary, kit_binary, repository, target};

/// Applies the hunks of a diff without line numbers. The file has the old lines of a hunk once.
const APPLY: &str = r#"
import re, sys
name, hunks = None, []
for line in sys.stdin.read().splitlines():
    if line.startswith("+++ "):
        name = line[4:]
    elif line == "@@":
        hunks.append((name, [], []))
    elif not line.startswith("--- "):
        _, old, new = hunks[-1]
        if line[:1] in (" ", "-", ""): old.append(line[1:])
        if line[:1] in (" ", "+", ""): new.append(line[1:])
for name, old, new in hunks:
    text = open(name).read()
    old, new = ["\n".join(lines) + "\n" for lines in (old, new)]
    if text.count(old) != 1:
        sys.exit(f"{name} has these lines {text.count(old)} times:\n{old}")
    open(name, "w").write(text.replace(old, new))
"#;

/// The commands under this heading, in order, and the changes to apply between them.
fn commands(heading: &str) -> String {
    let guide = fs::read_to_string(repository().join("docs/provider-author-guide.md")).unwrap();
    let (_, section) = guide.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut commands = String::new();
    for block in section.split("\n```").skip(1).step_by(2) {
        match block.split_once('\n').unwrap() {
            ("sh", shell) => commands += &format!("{shell}\n"),
            ("diff", diff) => {
                commands += &format!("python3 \"$APPLY\" <<'DIFF'\n{diff}\nDIFF\n");
            }
            (other, _) => panic!("{heading}: a block of `{other}`"),
        }
    }
    assert!(commands.lines().count() > 3, "{heading}: {commands}");
    commands
}

/// Runs the commands and returns their output. Earlier builds and downloads are used again.
fn follow(headings: &[&str]) -> String {
    let heading = headings.join(", ");
    let folder = tempfile::tempdir().unwrap();
    let apply = folder.path().join("apply.py");
    fs::write(&apply, APPLY).unwrap();
    // The guide uses both programs, which lie in the same folder.
    let (programs, _) = (binary(), kit_binary());
    let programs = programs.parent().unwrap().display();
    let language = if heading.contains("Python") { "py" } else { "js" };
    let [port, listen, admin] = [(); 3].map(|()| Port::free());
    let address = |port: &Port| format!("127.0.0.1:{}", port.number());
    // Background processes end with the script, also where it fails.
    let script = format!(
        "PATH=\"{programs}:$PATH\"\n\
         trap 'kill $REGISTRY $BROKER 2>&- || true; wait; cat broker.log 2>&- || true' EXIT\n\
         REGISTRY= BROKER=\n{}\ntest \"$PWD\" = \"$START\"\n",
        headings.iter().map(|heading| commands(heading)).collect::<String>()
    );
    let mut shell = Command::new("timeout");
    shell
        .args(["540", "sh", "-eu", "-c", &script])
        .current_dir(folder.path())
        .env("START", folder.path())
        .env("APPLY", &apply)
        .env("PORT", port.number().to_string())
        .env("RISE_SERVER__LISTEN", address(&listen))
        .env("RISE_SERVER__ADMIN_LISTEN", address(&admin))
        .env("CARGO_NET_OFFLINE", "true")
        .env("XDG_CACHE_HOME", target().join("test-cache"));
    if heading.contains("Rust") {
        shell.env("TARGET", target().join("provider-new"));
    } else {
        let tools = format!("target/peers/componentize-{language}");
        shell.env("TOOLS", repository().join(tools));
    }
    let output = shell.output().unwrap();
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
