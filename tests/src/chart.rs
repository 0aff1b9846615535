//! The Helm chart of `deploy/helm`, rendered by Helm's own code, and the schemas of Kubernetes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::process::python_program;
use crate::repository;

/// What a set of values becomes.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// What `helm lint` finds, as its severity and text.
    pub findings: Vec<Value>,
    pub objects: Vec<Value>,
    /// What `helm install` prints.
    pub notes: String,
}

impl Rendered {
    /// The only object of this kind with this end of its name.
    ///
    /// # Panics
    /// If there is none, or several.
    pub fn one(&self, kind: &str, end: &str) -> &Value {
        let is_it = |object: &&Value| {
            object["kind"] == kind && object["metadata"]["name"].as_str().unwrap().ends_with(end)
        };
        let found: Vec<&Value> = self.objects.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{kind} {end}: {found:#?}");
        found[0]
    }

    /// The settings that the broker gets.
    pub fn settings(&self) -> &str {
        self.one("ConfigMap", "rise-broker")["data"]["default.yaml"].as_str().unwrap()
    }
}

/// Renders the chart with these sets of values in YAML, each with a name. `Err` is what Helm says.
pub fn render(cases: &[(&str, &str)]) -> BTreeMap<String, Result<Rendered, String>> {
    let chart = repository().join("deploy/helm/rise-broker");
    let cases: BTreeMap<&str, &str> = cases.iter().copied().collect();
    let asked = json!({ "chart": chart, "cases": cases, "files": [] });
    let answer = script("clients", "helm_chart.py", &asked);
    let read = |case: &Value| match case["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(Rendered {
            findings: list(&case["findings"]),
            objects: list(&case["objects"]),
            notes: case["notes"].as_str().unwrap().to_owned(),
        }),
    };
    let cases = answer["cases"].as_object().unwrap();
    cases.iter().map(|(name, case)| (name.clone(), read(case))).collect()
}

/// A YAML file of the repository with one document.
///
/// # Panics
/// If it has several.
pub fn read_yaml(path: &str) -> Value {
    let documents = read_documents(path);
    assert_eq!(documents.len(), 1, "{path}");
    documents[0].clone()
}

/// The documents of a YAML file of the repository.
pub fn read_documents(path: &str) -> Vec<Value> {
    let chart = repository().join("deploy/helm/rise-broker");
    let asked = json!({ "chart": chart, "cases": {}, "files": [repository().join(path)] });
    list(&script("clients", "helm_chart.py", &asked)["files"][0])
}

/// Checks objects with the schemas of these versions of Kubernetes. Returns what is wrong, and the
/// kinds that Kubernetes itself does not have.
pub fn check_manifests(objects: &[Value], versions: &[&str]) -> (Vec<Value>, Vec<Value>) {
    let asked = json!({ "objects": objects, "versions": versions });
    let answer = script("manifests", "kubernetes_schemas.py", &asked);
    (list(&answer["problems"]), list(&answer["unknown"]))
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().unwrap().clone()
}

/// Runs a script of `tests/peers` with JSON on its standard input, and returns what it prints.
fn script(environment: &str, name: &str, input: &Value) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name);
    let mut command = Command::new("timeout");
    command.arg("60").arg(python_program(environment, "python")).arg(file);
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{name}: {error}"))
}
