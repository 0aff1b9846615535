//! Compiled code, kept between starts: `{state}/compiled/{sha256 of the component}-{engine}.cwasm`.
//!
//! **Invariant:** these files run as native code. The folder belongs to the broker's user alone,
//! and no compiled code is ever loaded from the providers' folder. Each file begins with the
//! SHA-256 of the rest: after a torn write or on a bad disk the component is compiled again.

use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::compile::Compiler;
use super::load::{LoadError, misfit, off_the_runtime};

const CHECKSUM: usize = 32;

/// Returns the component, from the cache or compiled now. Without a cache nothing is kept.
pub(super) async fn component(
    engine: &wasmtime::Engine,
    compiler: &Compiler,
    bytes: &Arc<[u8]>,
    digest: &str,
    cache: Option<&Path>,
) -> Result<Component, LoadError> {
    let name = || format!("{digest}-{:016x}.cwasm", compatibility(engine));
    let path = cache.map(|cache| cache.join(name()));
    if let Some(place) = path.clone() {
        let own = engine.clone();
        if let Some(component) = off_the_runtime(move || load(&own, &place)).await? {
            return Ok(component);
        }
    }
    let started = std::time::Instant::now();
    let code = compiler.run(bytes).await?;
    tracing::info!(
        digest,
        milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "compiled a provider"
    );
    let engine = engine.clone();
    off_the_runtime(move || {
        let component = deserialize(&engine, &code).map_err(misfit)?;
        if let Some(path) = path
            && let Err(error) = store(&path, &code)
        {
            tracing::warn!(
                %error,
                path = %path.display(),
                "cannot store compiled code, so that the next start compiles again"
            );
        }
        Ok(component)
    })
    .await?
}

fn compatibility(engine: &wasmtime::Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

fn load(engine: &wasmtime::Engine, path: &Path) -> Option<Component> {
    let bytes = read(path)?;
    let (checksum, compiled) = bytes.split_at_checked(CHECKSUM)?;
    let loaded = if Sha256::digest(compiled)[..] == *checksum {
        deserialize(engine, compiled)
    } else {
        Err(wasmtime::Error::msg("checksum"))
    };
    if let Err(error) = &loaded {
        tracing::warn!(
            %error,
            path = %path.display(),
            "compiled code is damaged, from another version or beyond a limit; compiling again"
        );
    }
    loaded.ok()
}

/// Accepts only a file that the broker's user wrote. If the folder was ever open to others,
/// somebody could have left a file there.
fn read(path: &Path) -> Option<Vec<u8>> {
    let no_links = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(no_links).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    let ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_file() || !ours || metadata.mode() & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            "a file of compiled code does not belong to the broker; compiling again"
        );
        return None;
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn store(path: &Path, compiled: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&Sha256::digest(compiled))?;
    file.write_all(compiled)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

fn deserialize(engine: &wasmtime::Engine, compiled: &[u8]) -> wasmtime::Result<Component> {
    #[expect(
        unsafe_code,
        reason = "the bytes are this engine's output, from a pipe or a folder of the broker alone"
    )]
    // SAFETY: `precompile_component` made these bytes in a child that succeeded, and `load` has
    // checked that they are the bytes that `store` wrote.
    unsafe {
        Component::deserialize(engine, compiled)
    }
}
