//! Fleets: many clients that need the same at once, each a process of its own, against the broker's
//! real binary with its default limits, in front of an AWS that enforces what IAM says.
//!
//! `benches/soak_fleet.rs` runs it in full, `tests/behaviour/fleet.rs` in small.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Child;
use std::time::{Duration, Instant};

use rise_broker::identity::LocalIssuer;
use serde_json::{Value, json};

use crate::broker::{audit_records, mint};
use crate::registry::ecr;
use crate::{AUTH, Installation, Ministack, Serving, TwoRoles, Workstation};

/// The result of one crowd.
#[derive(Debug)]
pub struct CrowdReport {
    /// Clients that ended with 0.
    pub succeeded: usize,
    /// The output of the others.
    pub failures: BTreeSet<String>,
    /// Until the last client had ended.
    pub elapsed: Duration,
    /// Of the push role.
    pub roles_assumed: usize,
    pub logins: usize,
    /// `issue.completed` of the crowd.
    pub records: usize,
    /// The mints that their credentials came from.
    pub mints: BTreeSet<String>,
}

/// A cold broker and its account.
pub struct Fleet {
    ministack: Ministack,
    roles: TwoRoles,
    installation: Installation,
    serving: Serving,
}

impl Fleet {
    /// # Panics
    /// If a peer is missing or the broker does not start.
    pub async fn start() -> Self {
        let ministack = Ministack::start().await;
        let roles = ministack.two_roles("rise/").await;
        let registry = ecr(ministack.endpoint())
            .with("region", ministack.region())
            .with("role_arn", roles.role_arn.as_str())
            .with("push_role_arn", roles.push_role_arn.as_str())
            .with("access_key_id", roles.base.access_key_id.as_str())
            .with("secret_access_key", roles.base.secret_access_key.as_str())
            .shared("subject");
        let installation = Installation::new(format!("{AUTH}{registry}"));
        let serving = installation.serve();
        Self { ministack, roles, installation, serving }
    }

    /// The jobs of a matrix: `rise-registry credentials`, each with a home and a token of its own,
    /// all with one `sub`.
    pub async fn matrix(&self, project: &str, jobs: usize) -> CrowdReport {
        let claims = json!({ "repository": format!("acme/{project}") });
        let arguments = ["credentials", "--project", project, "--format", "json"];
        self.crowd(jobs, &claims, "rise-registry", &arguments, |_| String::new()).await
    }

    /// `docker login` helpers of as many jobs.
    pub async fn helpers(&self, project: &str, jobs: usize) -> CrowdReport {
        let claims = json!({ "repository": format!("acme/{project}") });
        let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        let arguments = ["get"];
        self.crowd(jobs, &claims, "docker-credential-rise", &arguments, |_| host.to_owned()).await
    }

    /// The kubelets of as many nodes, which pull different images of one project.
    pub async fn kubelets(&self, project: &str, nodes: usize) -> CrowdReport {
        let claims = json!({ "role": "reader" });
        let request = |number: usize| {
            let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
            json!({
                "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
                "kind": "CredentialProviderRequest",
                "image": format!("{host}/rise/{project}:build-{number}"),
            })
            .to_string()
        };
        self.crowd(nodes, &claims, "docker-credential-rise", &["kubelet"], request).await
    }

    async fn crowd(
        &self,
        clients: usize,
        claims: &Value,
        program: &str,
        arguments: &[&str],
        stdin: impl Fn(usize) -> String,
    ) -> CrowdReport {
        let issuer = LocalIssuer::open_or_create(&self.installation.path("issuer.pem")).unwrap();
        let machines: Vec<Workstation> = (0..clients)
            .map(|_| {
                let machine = Workstation::new()
                    .with("RISE_URL", &self.serving.url)
                    .with("RISE_TOKEN", &mint(&issuer, claims));
                let repository = claims["repository"].as_str();
                match repository.and_then(|repository| repository.strip_prefix("acme/")) {
                    Some(project) => machine.with("RISE_PROJECT", project),
                    None => machine,
                }
            })
            .collect();
        let before = (self.roles_assumed().await, self.logins().await, self.completed().len());
        let started = Instant::now();
        let children: Vec<Child> = machines
            .iter()
            .enumerate()
            .map(|(number, machine)| {
                let mut child = machine.command(program, arguments).spawn().unwrap();
                let mut pipe = child.stdin.take().unwrap();
                let _ = pipe.write_all(stdin(number).as_bytes());
                child
            })
            .collect();
        let (mut succeeded, mut failures) = (0, BTreeSet::new());
        for child in children {
            let output = child.wait_with_output().unwrap();
            if output.status.success() {
                succeeded += 1;
            } else {
                failures.insert(String::from_utf8_lossy(&output.stderr).into_owned());
            }
        }
        let elapsed = started.elapsed();
        let completed = self.completed().split_off(before.2);
        let mint_of = |record: &Value| record["minted_by"].as_str().unwrap().to_owned();
        CrowdReport {
            succeeded,
            failures,
            elapsed,
            roles_assumed: self.roles_assumed().await - before.0,
            logins: self.logins().await - before.1,
            records: completed.len(),
            mints: completed.iter().map(mint_of).collect(),
        }
    }

    async fn roles_assumed(&self) -> usize {
        let assumed = self.ministack.recorded("AssumeRole").await;
        let push = self.roles.push_role_arn.as_str();
        assumed.iter().filter(|request| request.parameter("RoleArn") == Some(push)).count()
    }

    async fn logins(&self) -> usize {
        self.ministack.recorded("GetAuthorizationToken").await.len()
    }

    fn completed(&self) -> Vec<Value> {
        audit_records(&self.installation.path("audit"))
            .into_iter()
            .filter(|record| record["event"] == "issue.completed")
            .collect()
    }
}
