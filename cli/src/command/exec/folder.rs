//! Where docker, buildx, podman, buildah and skopeo look for logins while the command runs: a folder of mode 0700 with the
//! caller's own settings, and instead of their logins ours.
//!
//! Logins are scoped as narrowly as each client can read them: by repository for buildx and for podman and its kin, by host for
//! docker itself. Where the system keeps a folder in memory for each user (`XDG_RUNTIME_DIR`), nothing reaches a disk.

use std::collections::hash_map::RandomState;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::broker::Credentials;
use crate::cache::Kept;
use crate::docker::{Auths, ConfigFile};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::files;

const PREFIX: &str = "rise-exec-";
/// Held by the process whose folder it is.
const LOCK: &str = "lock";
/// Younger folders may not have their lock yet.
const YOUNG: Duration = Duration::from_mins(1);
/// Entries that are looked at, of any folder.
const ENTRIES: usize = 1_000;

pub(super) struct Folder {
    path: PathBuf,
    /// The caller's own `config.json`, without logins.
    docker: Map<String, Value>,
    _lock: File,
}

impl Folder {
    pub(super) fn create<'a>(
        environment: &Environment,
        logins: impl Iterator<Item = &'a Kept>,
    ) -> Result<Self, Failure> {
        let mut docker = ConfigFile::of_docker(environment)?;
        let mut docker = std::mem::take(docker.json());
        docker.retain(|name, _| name != "auths" && name != "credsStore");
        if let Some(helpers) = docker.get_mut("credHelpers").and_then(Value::as_object_mut) {
            // A helper would be asked instead of us.
            logins.for_each(|it| drop(helpers.remove(&it.credentials.registry_url)));
        }
        let base = base(environment);
        sweep(&base);
        let failed = |error: std::io::Error| {
            Failure::Files(format!(
                "there is no place for credentials in {}: {error}; set TMPDIR to a folder that can be written to",
                base.display()
            ))
        };
        let path =
            base.join(format!("{PREFIX}{:016x}", RandomState::new().build_hasher().finish()));
        // Fails where something of that name is already: nobody else's folder is ever used.
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let lock =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path.join(LOCK));
        let lock = lock.and_then(|lock| lock.lock().map(|()| lock)).map_err(|error| {
            let _ = fs::remove_dir_all(&path);
            failed(error)
        })?;
        let folder = Self { path, docker, _lock: lock };
        folder.furnish(environment).map_err(failed)?;
        Ok(folder)
    }

    /// Plugins, contexts, builders and the like stay where they are, and are found from here.
    fn furnish(&self, environment: &Environment) -> std::io::Result<()> {
        let docker = environment.path("DOCKER_CONFIG");
        let docker = docker.or_else(|| Some(environment.home().ok()?.join(".docker")));
        let buildx = environment.path("BUILDX_CONFIG");
        let buildx = buildx.or_else(|| Some(docker.as_ref()?.join("buildx")));
        DirBuilder::new().recursive(true).mode(0o700).create(self.buildx())?;
        link(docker.as_deref(), &self.docker(), &["config.json", "buildx"])?;
        link(buildx.as_deref(), &self.buildx(), &["config"])
    }

    /// Each file at one stroke: whoever reads finds the old or the new login, whole.
    pub(super) fn write<'a>(
        &mut self,
        logins: impl Iterator<Item = &'a Credentials>,
    ) -> Result<(), Failure> {
        let (mut by_host, mut by_image) = (Auths::default(), Auths::default());
        let mut hosts = Vec::new();
        let failed =
            |error: files::FileError| Failure::Files(format!("{}: {error}", self.path.display()));
        for it in logins {
            by_image.add(&it.image, it);
            // The first project's: docker can hold one login for a host.
            if !hosts.contains(&&it.registry_url) {
                hosts.push(&it.registry_url);
                by_host.add(&it.registry_url, it);
            }
            let scoped = self.buildx().join("config").join(&it.registry_url).join(below(it));
            files::private_directory(&scoped).map_err(failed)?;
            let mut alone = Auths::default();
            alone.add(&it.registry_url, it);
            files::write_private(&scoped.join("config.json"), &alone.text()).map_err(failed)?;
        }
        let docker = by_host.text_with(&self.docker);
        files::write_private(&self.docker().join("config.json"), &docker).map_err(failed)?;
        files::write_private(&self.path.join("auth.json"), &by_image.text()).map_err(failed)
    }

    pub(super) fn variables(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("DOCKER_CONFIG", self.docker()),
            ("BUILDX_CONFIG", self.buildx()),
            ("REGISTRY_AUTH_FILE", self.path.join("auth.json")),
        ]
    }

    pub(super) fn remove(self) -> Result<(), String> {
        fs::remove_dir_all(&self.path).map_err(|error| {
            format!("{} cannot be removed: {error}; remove it", self.path.display())
        })
    }

    fn docker(&self) -> PathBuf {
        self.path.join("docker")
    }

    fn buildx(&self) -> PathBuf {
        self.path.join("docker/buildx")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The repository as a path below its host. Its segments have been checked for strange characters; `..` is one name more.
fn below(credentials: &Credentials) -> PathBuf {
    credentials.repository.split('/').filter(|it| !matches!(*it, "" | "." | "..")).collect()
}

fn link(from: Option<&Path>, to: &Path, but: &[&str]) -> std::io::Result<()> {
    let entries = from.and_then(|it| fs::read_dir(it).ok()).into_iter().flatten();
    for entry in entries.take(ENTRIES).filter_map(Result::ok) {
        if but.iter().all(|it| entry.file_name() != *it) {
            symlink(
                fs::canonicalize(entry.path()).unwrap_or(entry.path()),
                to.join(entry.file_name()),
            )?;
        }
    }
    Ok(())
}

/// In memory where there is such a place.
fn base(environment: &Environment) -> PathBuf {
    let in_memory = environment.path("XDG_RUNTIME_DIR").filter(|it| {
        it.is_absolute()
            && fs::metadata(it).is_ok_and(|at| at.is_dir() && files::is_ours_alone(&at))
    });
    let named = || environment.path("TMPDIR").filter(|it| it.is_absolute());
    in_memory.or_else(named).unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// Folders of runs that were killed with SIGKILL: nobody holds their lock.
fn sweep(base: &Path) {
    let own = rustix::process::geteuid().as_raw();
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.take(ENTRIES).filter_map(Result::ok) {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let ours_and_old = entry.metadata().is_ok_and(|at| {
            let age = at.modified().ok().and_then(|it| it.elapsed().ok()).unwrap_or_default();
            at.is_dir() && at.uid() == own && age > YOUNG
        });
        let abandoned = || match File::open(entry.path().join(LOCK)) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(_) => true,
        };
        if ours_and_old && abandoned() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
