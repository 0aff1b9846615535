//! The requests of README.md and `docs/http-api.md`, sent by curl, get the answers that are shown.

use std::process::Command;

use rise_broker_tests::{Installation, repository};
use serde_json::{Value, json};

/// Commands and the JSON below them.
fn examples(page: &str) -> Vec<(String, Value)> {
    let text = std::fs::read_to_string(repository().join(page)).unwrap();
    let mut found = Vec::new();
    let mut command = None;
    for block in text.split("\n```").skip(1).step_by(2) {
        let (language, content) = block.split_once('\n').unwrap();
        match (language, &command) {
            ("sh", _) => command = content.contains("curl -s -H").then(|| content.to_owned()),
            ("json", Some(sent)) => {
                found.push((sent.clone(), serde_json::from_str(content).unwrap()));
                command = None;
            }
            _ => {}
        }
    }
    found
}

/// Replaces what differs from run to run.
fn masked(mut answer: Value) -> Value {
    for path in ["/request_id", "/claims/exp", "/claims/iat", "/claims/jti"] {
        if let Some(value) = answer.pointer_mut(path) {
            *value = json!("…");
        }
    }
    answer
}

#[test]
fn documented_requests_get_the_documented_answers() {
    let settings = std::fs::read_to_string(repository().join("config/development.toml")).unwrap();
    let mut installation =
        Installation::new(settings.replace("state/", "").replace("\"text\"", "\"json\""));
    installation.unlimited();
    let claim = ["token", "--subject", "ci", "--claim", "repository=acme/my-app"];
    let token = installation.run(&claim).stdout.trim().to_owned();
    let serving = installation.serve();
    let pages = [("README.md", 1), ("docs/http-api.md", 4)];
    for (page, number) in pages {
        let examples = examples(page);
        assert_eq!(examples.len(), number, "{page}: {examples:?}");
        for (commands, documented) in examples {
            let commands = commands.replace("http://127.0.0.1:3000", &serving.url);
            let ran = Command::new("timeout")
                .args(["60", "sh", "-c", &commands])
                .env("BROKER", &serving.url)
                .env("TOKEN", &token)
                .output()
                .unwrap();
            let answers = serde_json::Deserializer::from_slice(&ran.stdout).into_iter::<Value>();
            let answers: Vec<_> = answers.map(|answer| masked(answer.unwrap())).collect();
            assert_eq!(answers.len(), commands.matches("curl -s").count(), "{commands}: {ran:?}");
            for answer in answers {
                assert_eq!(answer, masked(documented.clone()), "{page}: {commands}");
            }
        }
    }
}
