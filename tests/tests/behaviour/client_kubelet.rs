//! The kubelet's credential provider protocol against the types of Kubernetes:
//! `credentialprovider.kubelet.k8s.io/v1`, as the released v1 reference of 1.34 has it (request
//! with `serviceAccountToken` since 1.33).
//!
//! The kubelet decodes strictly: it drops the whole answer if a member is not in the schema below.

use rise_broker_tests::{Installation, Printed, Serving, Workstation, audit_text};
use serde_json::{Value, json};

const VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";
const SETTINGS: &str = "[auth]\naudience = \"rise-registry\"\n[[auth.issuers]]\nname = \"local\"\n\
     key_file = \"issuer.pem\"\n\
    [[rules]]\nname = \"pods\"\nissuer = \"local\"\nclaims = { namespace = \"{project}\" }\n\
         projects = [\"*\"]\nregistries = [\"prod\"]\nallow = [\"pull\"]\n\
    [[rules]]\nname = \"node\"\nissuer = \"local\"\nclaims = { role = \"node\" }\n\
         projects = [\"*\"]\nregistries = [\"prod\"]\nallow = [\"pull\", \"push\"]\n\
    [registries.prod]\ntype = \"oci\"\nregistry_url = \"r.example.com:5000\"\n\
         namespace = \"rise\"\nusername = \"u\"\npassword = \"canary-5e1d\"\n\
         accept_scope = \"registry\"\n";

/// The schema of `CredentialProviderResponse` and `AuthConfig`, with the names of their JSON tags
/// in Go.
fn response_schema() -> Value {
    json!({
        "type": "object",
        "required": ["kind", "apiVersion", "cacheKeyType"],
        "additionalProperties": false,
        "properties": {
            "kind": { "const": "CredentialProviderResponse" },
            "apiVersion": { "const": VERSION },
            "cacheKeyType": { "enum": ["Image", "Registry", "Global"] },
            // metav1.Duration, in the format of Go's time.ParseDuration.
            "cacheDuration": { "type": "string", "pattern": "\
             ^([0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h))+$" },
            "auth": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "required": ["username", "password"],
                    "additionalProperties": false,
                    "properties": {
                        "username": { "type": "string" }, "password": { "type": "string" }
                    }
                }
            }
        }
    })
}

struct Node {
    installation: Installation,
    _serving: Serving,
    machine: Workstation,
}

impl Node {
    fn start() -> Self {
        let installation = Installation::new(SETTINGS);
        let token = token(&installation, &["role=node"]);
        let serving = installation.serve();
        let machine = Workstation::new().with("RISE_URL", &serving.url).with("RISE_TOKEN", &token);
        Self { installation, _serving: serving, machine }
    }

    fn ask(&self, request: &Value) -> Printed {
        self.machine.helper("kubelet", &request.to_string())
    }
}

fn token(installation: &Installation, claims: &[&str]) -> String {
    let mut arguments = vec!["token", "--subject", "node"];
    arguments.extend(claims.iter().flat_map(|claim| ["--claim", claim]));
    let printed = installation.run(&arguments);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    printed.stdout.trim().to_owned()
}

fn request(image: &str) -> Value {
    json!({ "apiVersion": VERSION, "kind": "CredentialProviderRequest", "image": image })
}

fn conforming(printed: &Printed) -> Value {
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""), "{printed:?}");
    let answer: Value = serde_json::from_str(&printed.stdout).unwrap();
    let validator = jsonschema::validator_for(&response_schema()).unwrap();
    let problems: Vec<_> = validator.iter_errors(&answer).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?}");
    answer
}

#[test]
fn a_node_gets_a_login_for_the_images_repository_alone() {
    let node = Node::start();
    let answer = conforming(&node.ask(&request("r.example.com:5000/rise/my-app")));
    assert_eq!(
        answer,
        json!({
            "apiVersion": VERSION, "kind": "CredentialProviderResponse", "cacheKeyType": "Image",
            // This is half of the ten minutes after which a credential without an end is requested
            // again.
            "cacheDuration": "300s",
            "auth": {
            "r.example.com:5000/rise/my-app": { "username": "u", "password": "canary-5e1d" }
        }
        })
    );
    // A tag or digest does not change the repository.
    let tagged = node.ask(&request("r.example.com:5000/rise/my-app:v1"));
    assert_eq!(conforming(&tagged), answer);
    // Nothing is on the node's disk, and the request was for pulling.
    assert!(
        node.machine
            .files()
            .iter()
            .all(|(_, bytes)| !String::from_utf8_lossy(bytes).contains("canary"))
    );
    let audit = audit_text(&node.installation.path("audit"));
    assert!(audit.contains("\"actions\":[\"pull\"]") && !audit.contains("\"push\"]"), "{audit}");
}

#[test]
fn a_pods_service_account_counts_and_not_the_node() {
    let node = Node::start();
    let pod = token(&node.installation, &["namespace=team-a"]);
    let with_token = |image: &str| {
        let mut request = request(image);
        request["serviceAccountToken"] = pod.as_str().into();
        request["serviceAccountAnnotations"] = json!({ "example.com/team": "a" });
        node.ask(&request)
    };
    let answer = conforming(&with_token("r.example.com:5000/rise/team-a"));
    assert_eq!(answer["auth"]["r.example.com:5000/rise/team-a"]["password"], "canary-5e1d");
    // The node may have it, the pod may not.
    let refused = with_token("r.example.com:5000/rise/team-b");
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
    assert!(
        refused.stderr.contains("denies the request") && !refused.stderr.contains(&pod),
        "{refused:?}"
    );
    conforming(&node.ask(&request("r.example.com:5000/rise/team-b")));
}

#[test]
fn what_is_no_request_gets_no_answer() {
    let node = Node::start();
    let mut other_version = request("r.example.com:5000/rise/my-app");
    other_version["apiVersion"] = "credentialprovider.kubelet.k8s.io/v1alpha1".into();
    let mut other_kind = request("r.example.com:5000/rise/my-app");
    other_kind["kind"] = "CredentialProviderResponse".into();
    let unknown = request("elsewhere.example.com/rise/my-app");
    for (request, expected) in [
        (String::new(), "set `apiVersion: credentialprovider.kubelet.k8s.io/v1`"),
        ("{}".to_owned(), "its JSON has another form"),
        (other_version.to_string(), "v1alpha1"),
        (other_kind.to_string(), "CredentialProviderResponse"),
        (unknown.to_string(), "denies the request"),
        ("x".repeat(70_000), "at most 65536 bytes"),
    ] {
        let printed = node.machine.helper("kubelet", &request);
        assert_eq!((printed.code, printed.stdout.as_str()), (Some(1), ""), "{printed:?}");
        assert!(
            printed.stderr.lines().count() == 1 && printed.stderr.contains(expected),
            "{printed:?}"
        );
    }
}
