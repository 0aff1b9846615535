//! skopeo, a real OCI client, with a home of its own: it sees only the credentials that a test
//! gives it.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::OciLayout;
use crate::process::{SYSTEM_PATH, find_program, standard_environment};

const LONGEST_RUN: Duration = Duration::from_secs(30);

/// Runs skopeo. To push an [`crate::OciLayout`] to a [`crate::DockerRegistry`]: `["copy",
/// "--dest-tls-verify=false", "--preserve-digests", &layout.reference(),
/// "docker://HOST/REPOSITORY:TAG"]`.
#[derive(Debug)]
pub struct Skopeo {
    home: TempDir,
    path: String,
}

/// The exit status and output of a run.
#[derive(Debug)]
pub struct Ran {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Skopeo {
    #[allow(clippy::new_without_default, reason = "makes a directory")]
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("rise-skopeo-").tempdir().unwrap();
        Self { home, path: SYSTEM_PATH.into() }
    }

    /// Looks for programs in this folder first: for `docker-credential-*`.
    pub fn add_to_path(&mut self, directory: &Path) {
        self.path = format!("{}:{}", directory.display(), self.path);
    }

    /// Stores a login, as `docker login` does. Replaces all earlier settings.
    pub fn log_in(&self, registry: &str, user: &str, password: &str) {
        let auth = STANDARD.encode(format!("{user}:{password}"));
        self.write_auth_file(&json!({ "auths": { registry: { "auth": auth } } }).to_string());
    }

    /// Lets it ask `docker-credential-{helper}` for the credentials of `registry`. Replaces all
    /// earlier settings.
    pub fn use_credential_helper(&self, registry: &str, helper: &str) {
        self.write_auth_file(&json!({ "credHelpers": { registry: helper } }).to_string());
    }

    /// Its `HOME`, for the files of a credential helper.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// # Panics
    /// If it is not installed (`make peers`), or runs for longer than 30 s.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        let run = Command::new(find_program("skopeo"))
            // The tests are not about signatures of images.
            .arg("--insecure-policy")
            .args(arguments)
            .env_clear()
            .envs(standard_environment(self.home.path()))
            .env("PATH", &self.path)
            .env("REGISTRY_AUTH_FILE", self.home.path().join("auth.json"))
            .env("XDG_RUNTIME_DIR", self.home.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let ran = tokio::time::timeout(LONGEST_RUN, run).await;
        let ran = ran
            .unwrap_or_else(|_| panic!("skopeo {arguments:?} took longer than {LONGEST_RUN:?}"))
            .unwrap();
        Ran {
            success: ran.status.success(),
            stdout: String::from_utf8_lossy(&ran.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&ran.stderr).into_owned(),
        }
    }

    /// Copies an image to a registry that speaks plain http: `HOST/REPOSITORY:TAG`.
    ///
    /// # Errors
    /// What it printed.
    ///
    /// # Panics
    /// As [`Skopeo::run`].
    pub async fn push(&self, layout: &OciLayout, image: &str) -> Result<(), String> {
        let image = format!("docker://{image}");
        let to = ["copy", "--dest-tls-verify=false", "--preserve-digests"];
        let ran = self.run(&[&to[..], &[&layout.reference(), &image]].concat()).await;
        if ran.success { Ok(()) } else { Err(ran.stderr) }
    }

    /// Copies an image from a registry that speaks plain http to a folder.
    ///
    /// # Errors
    /// What it printed.
    ///
    /// # Panics
    /// As [`Skopeo::run`].
    pub async fn pull(&self, image: &str, to: &Path) -> Result<(), String> {
        let (image, copy) = (format!("docker://{image}"), format!("oci:{}:tiny", to.display()));
        let ran = self.run(&["copy", "--src-tls-verify=false", &image, &copy]).await;
        if ran.success { Ok(()) } else { Err(ran.stderr) }
    }

    fn write_auth_file(&self, text: &str) {
        fs::write(self.home.path().join("auth.json"), text).unwrap();
    }
}
