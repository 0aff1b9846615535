//! `docs/issuers.md`: each example of a cluster, as printed, against the discovery document and the
//! token that such a cluster makes (`tests/cases/kubernetes`). Requests go through a proxy double,
//! so that the names in the examples are the real ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rise_broker_tests::registry::oci;
use rise_broker_tests::{Internet, Settings, Signer, TestBroker, logs, repository};
use serde_json::{Value, json};

/// The TOML blocks of the page, each with the heading above it.
fn examples() -> Vec<(String, String)> {
    let page = fs::read_to_string(repository().join("docs/issuers.md")).unwrap();
    let (mut heading, mut block, mut examples) = (String::new(), None, Vec::new());
    for line in page.lines() {
        match (line, &mut block) {
            ("```toml", _) => block = Some(String::new()),
            ("```", Some(text)) => {
                examples.push((heading.clone(), std::mem::take(text)));
                block = None;
            }
            (line, Some(text)) => text.push_str(&format!("{line}\n")),
            (line, None) => {
                if let Some(title) = line.strip_prefix('#').map(|rest| rest.trim_start_matches('#'))
                {
                    title.trim().clone_into(&mut heading);
                }
            }
        }
    }
    examples
}

fn case(heading: &str) -> Value {
    let name = heading.to_lowercase().replace(", ", "-").replace(' ', "-");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("cases/kubernetes/{name}.json"));
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Puts the files of the example into the folder.
fn with_files(example: &str, folder: &Path, certificate: &str, token: &str) -> String {
    let mut lines = Vec::new();
    for line in example.lines() {
        let written = [("ca_file", certificate), ("bearer_file", token)].into_iter().find_map(
            |(key, content)| {
                line.starts_with(key).then(|| {
                    let path: PathBuf = folder.join(key);
                    fs::write(&path, content).unwrap();
                    format!("{key} = \"{}\"", path.display())
                })
            },
        );
        lines.push(written.unwrap_or_else(|| line.to_owned()));
    }
    lines.join("\n")
}

fn settings(issuer: &str) -> String {
    let registry = oci("localhost:5000").account("demo", "demo-password");
    format!(
        r#"
[auth]
audience = "rise-registry"
{issuer}
[[rules]]
name = "ci"
issuer = "cluster"
claims = {{ "/kubernetes.io/serviceaccount/uid" = "4e-1" }}
projects = ["*"]
registries = ["prod"]
allow = ["pull", "push"]
{registry}"#
    )
}

fn token(signer: &Signer, claims: &Value) -> String {
    let now = jiff::Timestamp::now().as_second();
    let mut claims = claims.clone();
    claims["aud"] = json!(["rise-registry"]);
    (claims["iat"], claims["nbf"], claims["exp"]) = (json!(now), json!(now), json!(now + 3607));
    signer.sign(&claims)
}

#[tokio::test]
async fn every_cluster_of_the_page_works_as_printed() {
    const CLUSTERS: [&str; 8] =
        ["kubeadm", "kubeadm, from outside", "kind", "k3s", "EKS", "GKE", "AKS", "OpenShift"];
    let signer = Signer::new("k1");
    let examples = examples();
    for cluster in CLUSTERS {
        let found = examples.iter().find(|(heading, _)| heading == cluster);
        let (_, example) = found.unwrap_or_else(|| panic!("no example of {cluster}"));
        let case = case(cluster);
        let mut pages: BTreeMap<String, Value> =
            serde_json::from_value(case["pages"].clone()).unwrap();
        for page in pages.values_mut().filter(|page| *page == "keys") {
            *page = json!({ "keys": [signer.jwk()] });
        }
        let bearer = case["bearer"].as_str();
        let internet = Internet::start(pages, bearer).await;
        let folder = tempfile::tempdir().unwrap();
        let mut text =
            with_files(example, folder.path(), &internet.certificate, bearer.unwrap_or("none"));
        text.push_str(&format!("\nproxy = \"{}\"\n", internet.proxy));
        if !text.contains("ca_file") {
            let path = folder.path().join("roots.pem");
            fs::write(&path, &internet.certificate).unwrap();
            text.push_str(&format!("ca_file = \"{}\"\n", path.display()));
        }
        let broker = TestBroker::with_settings(Settings::new(settings(&text))).start().await;
        let answer = broker.credentials(&token(&signer, &case["claims"]), "project=my-app").await;
        assert_eq!(answer.status, 200, "{cluster}: {}\n{}", answer.text, logs::text());
        assert_eq!(internet.requests().len(), 2, "{cluster}: {:?}", internet.requests());
    }
}

#[tokio::test]
async fn every_other_example_of_the_page_is_right() {
    let registry = oci("localhost:5000").account("demo", "demo-password");
    let others = examples()
        .into_iter()
        .filter(|(_, text)| text.contains("[[auth.issuers]]") && !text.contains("kubernetes"));
    let mut tried = 0;
    for (heading, text) in others {
        let settings = Settings::new(format!("[auth]\naudience = \"x\"\n{text}{registry}"));
        TestBroker::with_settings(settings).start().await;
        assert!(!text.is_empty(), "{heading}");
        tried += 1;
    }
    assert!(tried >= 2, "{tried}");
}

#[tokio::test]
async fn a_proxy_that_is_away_is_named_without_its_password() {
    let issuer = "[[auth.issuers]]\nname = \"cluster\"\npreset = \"kubernetes\"\n\
        issuer = \"https://issuer.example\"\n\
        proxy = \"http://robot:proxy-canary-password@127.0.0.1:9\"";
    let signer = Signer::new("k1");
    let broker = TestBroker::with_settings(Settings::new(settings(issuer))).start().await;
    let claims = json!({ "iss": "https://issuer.example", "sub": "s" });
    let answer = broker.credentials(&token(&signer, &claims), "project=my-app").await;
    assert_eq!(answer.problem().as_deref(), Some("issuer-unavailable"), "{}", answer.text);
    let logs = logs::text();
    let told = "the proxy http://127.0.0.1:9 gives no connection to https://issuer.example/";
    assert!(logs.contains(told), "{logs}");
    assert!(!logs.contains("proxy-canary-password"), "{logs}");
}
