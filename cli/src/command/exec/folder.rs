//! The private folder in which docker, buildx, podman, buildah and skopeo find logins while the
//! command runs. It has mode 0700 and contains the caller's own settings, without their logins.
//!
//! Each login is as narrow as its client can read it: by repository for buildx, podman, buildah and
//! skopeo, by host for docker. With `XDG_RUNTIME_DIR`, which is in memory, nothing reaches a disk.

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
use crate::{files, names};

const PREFIX: &str = "rise-exec-";
/// File that the folder's process keeps locked.
const LOCK: &str = "lock";
/// Younger folders may not have a lock yet.
const YOUNG: Duration = Duration::from_mins(1);
/// The most entries of a folder that are examined.
const ENTRIES: usize = 1_000;

pub(super) struct Folder {
    path: PathBuf,
    /// The caller's own `config.json` without logins.
    docker: Map<String, Value>,
    _lock: File,
}

impl Folder {
    pub(super) fn create<'a>(
        environment: &Environment,
        logins: impl Iterator<Item = &'a Kept>,
    ) -> Result<Self, Failure> {
        // Without it, docker works with its defaults.
        let mut docker = ConfigFile::of_docker(environment)
            .map_or_else(|_| Map::new(), |mut file| std::mem::take(file.json()));
        docker.retain(|name, _| name != "auths" && name != "credsStore");
        if let Some(helpers) = docker.get_mut("credHelpers").and_then(Value::as_object_mut) {
            // Docker would ask a helper and ignore the login in the folder.
            for login in logins {
                let host = &login.credentials.registry_url;
                helpers.retain(|key, _| !names::is_key_of(key, host));
            }
        }
        let base = base(environment);
        sweep(&base);
        let failed = |error: std::io::Error| {
            Failure::Files(format!(
                "credentials cannot be written to {}: {error}; set TMPDIR to a writable folder",
                base.display()
            ))
        };
        let path =
            base.join(format!("{PREFIX}{:016x}", RandomState::new().build_hasher().finish()));
        // Fails if the name exists, so another user's folder is never used.
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let lock =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path.join(LOCK));
        let lock = lock.and_then(|lock| lock.lock().map(|()| lock)).map_err(|error| {
            let _ = fs::remove_dir_all(&path);
            failed(error)
        })?;
        let folder = Self { path, docker, _lock: lock };
        folder.link_settings(environment).map_err(failed)?;
        Ok(folder)
    }

    /// Links to the caller's own plugins, contexts and builders.
    fn link_settings(&self, environment: &Environment) -> std::io::Result<()> {
        let docker = environment.path("DOCKER_CONFIG");
        let docker = docker.or_else(|| Some(environment.home().ok()?.join(".docker")));
        let buildx = environment.path("BUILDX_CONFIG");
        let buildx = buildx.or_else(|| Some(docker.as_ref()?.join("buildx")));
        DirBuilder::new().recursive(true).mode(0o700).create(self.buildx())?;
        link(docker.as_deref(), &self.docker(), &["config.json", "buildx"])?;
        link(buildx.as_deref(), &self.buildx(), &["config"])
    }

    /// Replaces each file atomically, so that a reader finds the old or the new login in full.
    pub(super) fn write<'a>(
        &mut self,
        logins: impl Iterator<Item = &'a Credentials>,
    ) -> Result<(), Failure> {
        let (mut by_host, mut by_image) = (Auths::default(), Auths::default());
        let mut hosts = Vec::new();
        let failed =
            |error: files::FileError| Failure::Files(format!("{}: {error}", self.path.display()));
        for credentials in logins {
            let host = &credentials.registry_url;
            by_image.add(&credentials.image, credentials);
            // Docker has one login per host, which is that of the first project.
            if !hosts.contains(&host) {
                hosts.push(host);
                by_host.add(names::docker_key(host), credentials);
            }
            let config = self.buildx().join("config");
            // Buildx looks for the host that it connects to.
            let scoped = config.join(names::api_host(host)).join(repository_path(credentials));
            files::private_directory(&scoped).map_err(failed)?;
            let mut alone = Auths::default();
            alone.add(names::docker_key(host), credentials);
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

/// The repository as a relative path. Its characters have been checked, and `..` is dropped here,
/// so the path stays below the folder.
fn repository_path(credentials: &Credentials) -> PathBuf {
    let segments = credentials.repository.split('/');
    segments.filter(|segment| !matches!(*segment, "" | "." | "..")).collect()
}

fn link(from: Option<&Path>, to: &Path, but: &[&str]) -> std::io::Result<()> {
    let entries = from.and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten();
    for entry in entries.take(ENTRIES).filter_map(Result::ok) {
        if but.iter().all(|name| entry.file_name() != *name) {
            symlink(
                fs::canonicalize(entry.path()).unwrap_or(entry.path()),
                to.join(entry.file_name()),
            )?;
        }
    }
    Ok(())
}

/// The folder for temporary files, in memory where the system has one.
fn base(environment: &Environment) -> PathBuf {
    let is_private = |metadata: fs::Metadata| metadata.is_dir() && files::is_ours_alone(&metadata);
    let in_memory = environment
        .path("XDG_RUNTIME_DIR")
        .filter(|path| path.is_absolute() && fs::metadata(path).is_ok_and(is_private));
    let named = || environment.path("TMPDIR").filter(|path| path.is_absolute());
    in_memory.or_else(named).unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// Removes folders of runs that were killed by SIGKILL: no process holds their lock.
fn sweep(base: &Path) {
    let own = rustix::process::geteuid().as_raw();
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.take(ENTRIES).filter_map(Result::ok) {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let ours_and_old = entry.metadata().is_ok_and(|metadata| {
            let modified = metadata.modified().ok();
            let age = modified.and_then(|time| time.elapsed().ok()).unwrap_or_default();
            metadata.is_dir() && metadata.uid() == own && age > YOUNG
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
