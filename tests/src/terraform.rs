//! Terraform with the modules of `deploy/`, and the AWS provider from a folder of this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Ministack, repository};

/// Folders where Terraform itself looks for providers, or where machines without a network have
/// them.
const MIRRORS: [&str; 4] = [
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
    "/usr/share/terraform/providers",
    "/opt/tf-plugins",
];

/// A copy of `deploy/` in which Terraform runs.
pub struct Terraform {
    directory: TempDir,
    root: PathBuf,
    endpoint: Option<String>,
}

impl Terraform {
    /// The module in this folder of `deploy/`, initialized. `Err` says what the machine lacks.
    ///
    /// # Panics
    /// If the provider is there and the module cannot be initialized.
    pub fn init(folder: &str) -> Result<Self, &'static str> {
        let mirror = env::var("RISE_TERRAFORM_MIRROR").ok();
        let mirror = mirror.or_else(|| {
            MIRRORS.into_iter().find(|mirror| has_aws(Path::new(mirror))).map(str::to_owned)
        });
        let mirror = mirror.ok_or("no mirror of Terraform providers has hashicorp/aws")?;
        if Command::new("terraform").arg("version").output().is_err() {
            return Err("terraform is not installed");
        }
        let directory = tempfile::tempdir().unwrap();
        copy(&repository().join("deploy/modules"), &directory.path().join("modules"));
        copy(&repository().join("deploy/terraform"), &directory.path().join("terraform"));
        let source =
            format!("provider_installation {{ filesystem_mirror {{ path = {mirror:?} }} }}\n");
        fs::write(directory.path().join("terraform.rc"), source).unwrap();
        let root = directory.path().join(folder);
        let terraform = Self { directory, root, endpoint: None };
        terraform.run(&["init", "-input=false"]);
        Ok(terraform)
    }

    /// The module in this folder with these files beside its own, applied to an AWS of its own.
    ///
    /// On a busy machine `CreateRole` is told, once in dozens of times, that the role exists, as if
    /// the AWS provider had sent the request twice. Such a run says nothing about the module, and
    /// is done once more.
    ///
    /// # Panics
    /// If it cannot be applied.
    pub async fn applied(
        folder: &str,
        files: &[(&str, &str)],
    ) -> Result<(Self, Ministack), &'static str> {
        let mut is_first = true;
        loop {
            let mut terraform = Self::init(folder)?;
            let aws = Ministack::start().await;
            terraform.endpoint = Some(aws.endpoint().to_owned());
            for (name, text) in files {
                fs::write(terraform.root.join(name), text).unwrap();
            }
            match terraform.try_run(&["apply", "-input=false", "-auto-approve"]) {
                Ok(_) => return Ok((terraform, aws)),
                Err(error) if is_first && error.contains("EntityAlreadyExists") => {
                    eprintln!("once more, after: {error}");
                    is_first = false;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Runs the command and returns its output.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "120", "terraform"]).args(arguments).arg("-no-color");
        command
            .current_dir(&self.root)
            .env("TF_CLI_CONFIG_FILE", self.directory.path().join("terraform.rc"))
            .env("CHECKPOINT_DISABLE", "1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ACCESS_KEY_ID", "123456789012")
            .env("AWS_SECRET_ACCESS_KEY", "unchecked");
        if let Some(endpoint) = &self.endpoint {
            command.env("AWS_ENDPOINT_URL", endpoint);
        }
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        // What went wrong comes first: a runner cuts the middle out of a long message.
        let said = || format!("terraform {arguments:?}: {stderr}\n{stdout}");
        if output.status.success() { Ok(stdout) } else { Err(said()) }
    }

    /// The value of an output, also of a sensitive one.
    pub fn output(&self, name: &str) -> Value {
        serde_json::from_str(&self.run(&["output", "-json", name])).unwrap()
    }
}

/// Whether a mirror has the provider: it has a folder for each registry that it is a copy of.
fn has_aws(mirror: &Path) -> bool {
    let registries = fs::read_dir(mirror).into_iter().flatten().flatten();
    registries.into_iter().any(|registry| registry.path().join("hashicorp/aws").is_dir())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            // What somebody's `terraform init` has left.
            if entry.file_name() != ".terraform" {
                copy(&entry.path(), &to.join(entry.file_name()));
            }
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
