//! The images of `deploy/image` and `deploy/nodes`, built by buildah, and containers of them, which
//! podman and runc start. Images, volumes and containers are in a folder of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::built::{beside, binary, repository};
use crate::process::{SYSTEM_PATH, standard_environment};
use crate::skipped;

/// The version of the images.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// No container outlives a test that was killed.
const LONGEST: &str = "--timeout=180";
/// Any user may lower a limit. The defaults of podman are above those of some machines.
const LIMITS: [&str; 2] = ["--ulimit=nofile=8192:8192", "--ulimit=nproc=1024:1024"];

/// A machine's images and containers. Dropping it removes them.
#[derive(Debug)]
pub struct Containers {
    folder: TempDir,
}

impl Containers {
    /// Notes that the test is skipped, and returns `None`, if no image can be built here.
    #[track_caller]
    pub fn new() -> Option<Self> {
        let is_missing = |name: &&str| {
            !SYSTEM_PATH.split(':').any(|folder| Path::new(folder).join(name).exists())
        };
        let needed = ["buildah", "podman", "runc", "minisign", "dpkg-query"];
        let missing = needed.into_iter().find(is_missing);
        if let Some(program) = missing {
            skipped(&format!("{program} is not installed"));
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            skipped("only root starts containers here");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("rise-containers-").tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            path("images"),
            path("run")
        );
        fs::write(folder.path().join("storage.conf"), storage).unwrap();
        Some(Self { folder })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(standard_environment(self.folder.path()))
            .env("CONTAINERS_STORAGE_CONF", self.path("storage.conf"))
            .current_dir(self.folder.path());
        // The build asks cargo for the crates.
        for name in ["CARGO_HOME", "RUSTUP_HOME", "HOME"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        let own = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{own}:{SYSTEM_PATH}"));
        command
    }

    /// Writes the programs of a `dist`, as `make dist` does, with one provider. The text is that of
    /// the file `revision`.
    pub fn dist(&self, provider: &str, revision: &str) -> PathBuf {
        let dist = self.path("dist");
        fs::create_dir_all(dist.join("bin")).unwrap();
        fs::create_dir_all(dist.join("providers")).unwrap();
        // A debug build is twice as large as its code.
        let program = dist.join("bin/rise-broker");
        let stripped = Command::new("strip").arg("-o").arg(&program).arg(binary()).status();
        if !stripped.is_ok_and(|status| status.success()) {
            fs::copy(binary(), &program).unwrap();
        }
        let provider = format!("providers/{provider}.wasm");
        fs::copy(repository().join("dist").join(&provider), dist.join(provider)).unwrap();
        fs::write(dist.join("revision"), revision).unwrap();
        dist
    }

    /// Writes the programs of callers into that `dist`, as `make client` does.
    pub fn client(&self, dist: &Path, revision: &str) {
        let program = beside("docker-credential-rise", "rise-cli");
        fs::copy(program, dist.join("bin/docker-credential-rise")).unwrap();
        fs::write(dist.join("client-revision"), revision).unwrap();
    }

    /// Runs `deploy/{recipe}/build` for the folder `to`, and returns what it prints.
    pub fn build(
        &self,
        recipe: &str,
        dist: &Path,
        to: &str,
        variables: &[(&str, &Path)],
    ) -> String {
        let mut command = self.command(repository().join("deploy").join(recipe).join("build"));
        command.arg(self.path(to)).env("DIST", dist).envs(variables.iter().copied());
        printed(command.output().unwrap())
    }

    /// Makes the layout in the folder `to` known, and returns the image's id.
    pub fn pull(&self, to: &str) -> String {
        // podman names the image by the path, in which it wants no capital letters.
        let layout = format!("oci:{to}/layout:{VERSION}");
        printed(self.podman(&["pull", "--quiet", &layout])).trim().to_owned()
    }

    pub fn podman(&self, arguments: &[&str]) -> Output {
        let mut command = self.command("podman");
        command
            .args(["--runtime", "runc", "--cgroup-manager", "cgroupfs"])
            .args(["--events-backend", "file", "--tmpdir"])
            .arg(self.path("tmp"))
            .args(arguments);
        command.output().unwrap()
    }

    /// Runs an image in this machine's network, with a read-only root and without capabilities, and
    /// returns what it prints. Notes that the test is skipped, and returns `None`, if no container
    /// can be started here.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Option<String> {
        let hardened = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"];
        let start = [&["run", "--network=host", LONGEST][..], &LIMITS, &hardened, arguments];
        let output = self.podman(&start.concat());
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code() == Some(125) || errors.contains("peration not permitted") {
            skipped(&format!("no container can be started here: {}", errors.trim()));
            return None;
        }
        Some(printed(output))
    }

    /// Starts the broker of `image` as docs/install/image.md says.
    #[track_caller]
    pub fn start(&self, image: &str, name: &str) -> Option<()> {
        let settings = format!("{}:/etc/rise-broker:ro", self.path("settings").display());
        let volumes = ["--volume", &settings, "--volume=rise-state:/var/lib/rise-broker"];
        let arguments = [&["--detach", "--name", name][..], &volumes, &[image]];
        self.run(&arguments.concat()).map(drop)
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let _ = self.podman(&["rm", "--all", "--force", "--time=0"]);
    }
}

/// What a program that succeeds prints.
#[track_caller]
fn printed(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
