//! `docs/registries`: each example of settings on each page starts a broker as it is printed.

use std::fs;
use std::path::Path;

use rise_broker_tests::{OperatorKey, Settings, TestBroker, lines, repository};

/// Without rules nobody gets anything, and each example may be tried as it is.
const AUTH: &str = "[auth]\naudience = \"rise-registry\"\n[[auth.issuers]]\nname = \"local\"\n\
                    key_file = \"@STATE@/issuer.pem\"\n";
const KEYS: &str = "key_file = \"@STATE@/signing-keys.pem\"\n";
const ISSUER: &str = "issuer = \"https://broker.example.com\"\n";

/// The blocks of TOML that have a registry, without what they are indented by.
fn examples(page: &str) -> Vec<String> {
    let (mut block, mut examples) = (None, Vec::new());
    for line in page.lines() {
        match (line.trim(), &mut block) {
            ("```toml", _) => {
                let indent = line.len() - line.trim_start().len();
                block = Some((indent, String::new()));
            }
            ("```", Some((_, text))) => {
                examples.push(std::mem::take(text));
                block = None;
            }
            (_, Some((indent, text))) => {
                text.push_str(line.get(*indent..).unwrap_or_default());
                text.push('\n');
            }
            (_, None) => {}
        }
    }
    examples.retain(|example| example.contains("[registries.") && example.contains("type = "));
    examples
}

/// Writes what the example reads from files.
fn write_files(example: &str, key: &OperatorKey, folder: &Path) {
    for rest in example.split("${file:/etc/rise-broker/").skip(1) {
        let name = rest.split('}').next().unwrap();
        let content = match Path::new(name).extension().and_then(|extension| extension.to_str()) {
            Some("pem") => key.pem(),
            Some("json") => key.service_account("rise-broker@acme.iam.gserviceaccount.com"),
            _ => "a-secret-that-nobody-has".to_owned(),
        };
        fs::write(folder.join(name), content).unwrap();
    }
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(repository().join(folder)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn each_example_of_each_page_is_right() {
    let providers = names("providers");
    let providers: Vec<&str> =
        providers.iter().map(String::as_str).filter(|name| *name != "sdk").collect();
    let key = OperatorKey::rsa();
    let mut tried = 0;
    for page in names("docs/registries") {
        let text = fs::read_to_string(repository().join("docs/registries").join(&page)).unwrap();
        for example in examples(&text) {
            let signing = if example.contains("[signing]") {
                example.replacen(ISSUER, &format!("{ISSUER}{KEYS}"), 1)
            } else {
                format!("[signing]\n{ISSUER}{KEYS}{example}")
            };
            let text = signing.replace("/etc/rise-broker/", "@STATE@/");
            let settings = Settings::new(format!("{AUTH}{text}")).providers(&providers);
            write_files(&example, &key, &settings.path(""));
            let problems = TestBroker::with_settings(settings).try_start().await.err();
            assert_eq!(lines(&problems.unwrap_or_default()), "", "{page}:\n{example}");
            tried += 1;
        }
    }
    assert!(tried >= 20, "{tried} examples");
}
