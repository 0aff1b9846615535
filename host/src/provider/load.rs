//! From one file to one provider. The order is fixed, and nothing of a file runs before its imports were found acceptable:
//!
//! read once → size → digest → pin or signature → is it a component → what does it import and export → compile, in a process
//! of its own → `describe` in an instance without capabilities → what the lock allows it.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use wasmtime::component::Linker;

use super::call::{CallError, Guest, Provider};
use super::compile::{CompileError, Compiler};
use super::engine::CALLS_PER_PROVIDER;
use super::inspect::{CONTRACT, Imports, VERSION, inspect};
use super::pins::Pins;
use super::turn::Turns;
use super::{Catalog, Engine, compiled};
use crate::capability::{self, CallState};
use crate::config::schema::Schema;
use crate::config::{ProvidersConfig, Wasi};
use crate::domain::Clock;
use crate::domain::name::is_dns_label;
use crate::wit;
use crate::wit::exports::rise::registry::registry::Manifest;

/// Why a file is not a provider. Each says what the operator or author can do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot be read: {0}; make it readable, or remove it")]
    Unreadable(#[from] std::io::Error),
    #[error("larger than {0} bytes; raise `file_mib` in [providers.limits] if that is meant")]
    TooLarge(u64),
    #[error("not a WebAssembly component but {0}; build it for `wasm32-wasip2`")]
    NotComponent(&'static str),
    #[error("damaged: {0}; build or copy it again")]
    Damaged(String),
    #[error(
        "made for version {0} of the contract, and this broker has {VERSION}; rebuild it with the SDK of this version"
    )]
    OtherVersion(String),
    #[error(
        "wants `{0}`, a capability that this broker does not have yet; remove the file until it does"
    )]
    NotYet(String),
    #[error(
        "wants `{0}`, which providers do not get; files, sockets and the like are reached through capabilities only"
    )]
    Forbidden(String),
    #[error(
        "wants `{import}`, and of WASI providers get only what every program links; build it without (componentize-py: `--stub-wasi`), or let it have empty files and closed sockets by `wasi = \"stubbed\"` in [providers.{name}]"
    )]
    Wasi { import: String, name: String },
    #[error("does not export `{CONTRACT}registry@{VERSION}`, so it is no provider")]
    NoExport,
    #[error("does not fit the contract: {0}")]
    Misfit(String),
    #[error("cannot say what it is, remove the file or ask its author: {0}")]
    Describe(#[source] CallError),
    #[error("describes itself wrongly: {0}")]
    Manifest(String),
    #[error("its name `{name}` is taken by {other}; remove one of the two files")]
    NameTaken { name: String, other: String },
    #[error("not a regular file; put the component itself there, or a link to it")]
    Irregular,
    #[error(
        "is still being written; put it there under another name and rename it, so that it is there at once"
    )]
    BeingWritten,
    #[error("is not in {0}; look at what it asks for and allow it by `rise-broker provider lock`")]
    NotLocked(String),
    #[error("not signed: {0}")]
    NotSigned(String),
    #[error(
        "asks for more than {lock} allows it: {more}; look at it and allow it by `rise-broker provider lock`"
    )]
    AsksForMore { more: String, lock: String },
    #[error("does not compile: {0}; build it again, or ask its author")]
    Compile(#[from] CompileError),
    #[error("refuses the settings of a registry that uses it: {0}")]
    Settings(String),
}

impl LoadError {
    /// How far the file came, as metrics name it.
    pub fn stage(&self) -> &'static str {
        match self {
            Self::Unreadable(_) | Self::Irregular | Self::BeingWritten => "read",
            Self::TooLarge(_) => "size",
            Self::NotLocked(_) | Self::AsksForMore { .. } => "lock",
            Self::NotSigned(_) => "signature",
            Self::NotComponent(_) | Self::Damaged(_) => "component",
            Self::OtherVersion(_)
            | Self::NotYet(_)
            | Self::Forbidden(_)
            | Self::Wasi { .. }
            | Self::NoExport => "imports",
            Self::Compile(_) | Self::Misfit(_) => "compile",
            Self::Describe(_) | Self::Manifest(_) | Self::NameTaken { .. } => "describe",
            Self::Settings(_) => "settings",
        }
    }
}

impl LoadError {
    /// Whether the compiler or the provider itself has been running to find it out.
    pub(super) fn is_costly(&self) -> bool {
        matches!(self, Self::Compile(_) | Self::Misfit(_) | Self::Describe(_))
    }
}

/// Turns files into providers of one engine.
pub struct Loader {
    pub(super) engine: Engine,
    linker: Linker<CallState>,
    /// For those that have `wasi = "stubbed"` and need it.
    stubbed: Linker<CallState>,
    /// The folder of compiled code.
    cache: PathBuf,
    clock: Clock,
    compiler: Compiler,
}

/// A file's bytes, which are not read again.
pub(super) struct Contents {
    pub bytes: Arc<[u8]>,
    pub digest: Arc<str>,
}

impl Loader {
    pub fn new(
        engine: &Engine,
        cache: PathBuf,
        clock: &Clock,
        compiler: Compiler,
    ) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(&engine.wasmtime);
        capability::add_to_linker(&mut linker)?;
        let mut stubbed = Linker::new(&engine.wasmtime);
        capability::add_stubbed_to_linker(&mut stubbed)?;
        Ok(Self { engine: engine.clone(), linker, stubbed, cache, clock: clock.clone(), compiler })
    }

    /// `before`: what is loaded already, of which the same bytes are taken as they are.
    pub(super) async fn load(
        &self,
        config: &ProvidersConfig,
        pins: &Pins,
        file: &Path,
        contents: Contents,
        before: Option<&Catalog>,
    ) -> Result<Arc<Provider>, LoadError> {
        let Contents { bytes, digest } = contents;
        pins.admit(file, &bytes, &digest)?;
        if let Some(known) = before.and_then(|it| it.of_file(file))
            && known.digest == digest
            && known.guest.limits == config.limits(&known.manifest.name)
        {
            may_import(&known.wasi, config.wasi(&known.manifest.name), &known.manifest.name)?;
            pins.allow(&known.manifest.name, &digest, &known.imports)?;
            return Ok(Arc::clone(known));
        }
        let Imports { capabilities: imports, wasi } = inspect(&bytes)?;
        may_import(&wasi, config.widest_wasi(), "NAME")?;
        let component = compiled::component(
            &self.engine.wasmtime,
            &self.compiler,
            &bytes,
            &digest,
            &self.cache,
        )
        .await?;
        let linker = if wasi.is_empty() { &self.linker } else { &self.stubbed };
        let component =
            linker.instantiate_pre(&component).and_then(wit::ProviderPre::new).map_err(misfit)?;
        // Which limits are its own is known once it has said its name.
        let limits = config.widest();
        let mut guest = Guest {
            engine: self.engine.clone(),
            component,
            name: "".into(),
            digest: Arc::clone(&digest),
            limits,
            clock: self.clock.clone(),
            permits: Arc::new(Semaphore::new(CALLS_PER_PROVIDER)),
            turns: Turns::default(),
        };
        let manifest = guest.describe().await.map_err(LoadError::Describe)?;
        let schema = describe(&manifest, guest.limits.result)?;
        may_import(&wasi, config.wasi(&manifest.name), &manifest.name)?;
        pins.allow(&manifest.name, &digest, &imports)?;
        guest.limits = config.limits(&manifest.name);
        guest.name = manifest.name.as_str().into();
        // The version before and this one share what one provider may take.
        if let Some(before) = before.and_then(|it| it.find(&manifest.name)) {
            guest.permits = Arc::clone(&before.guest.permits);
            guest.turns = before.guest.turns.clone();
        }
        let file = file.to_owned();
        Ok(Arc::new(Provider { manifest, schema, file, digest, imports, wasi, guest }))
    }
}

/// Asked of what any provider may before anything of a file runs, and again when its name is known.
fn may_import(wasi: &[String], allowed: Wasi, name: &str) -> Result<(), LoadError> {
    match (wasi.first(), allowed) {
        (Some(import), Wasi::None) => {
            Err(LoadError::Wasi { import: import.clone(), name: name.to_owned() })
        }
        (_, Wasi::Stubbed) | (None, Wasi::None) => Ok(()),
    }
}

pub(super) fn misfit(error: impl std::fmt::Display) -> LoadError {
    LoadError::Misfit(capability::printable(&format!("{error:#}"), 512))
}

/// Megabytes are read, hashed and mapped.
pub(super) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LoadError> {
    tokio::task::spawn_blocking(work).await.map_err(misfit)
}

/// Reads the file once: what is looked at is what is compiled. A link may lead anywhere; a pipe or a device may not be there.
pub(super) fn read(file: &Path, limit: u64) -> Result<Contents, LoadError> {
    let no_wait = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let open = OpenOptions::new().read(true).custom_flags(no_wait).open(file)?;
    if !open.metadata()?.is_file() {
        return Err(LoadError::Irregular);
    }
    let mut bytes = Vec::new();
    open.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(LoadError::TooLarge(limit));
    }
    let digest = hex::encode(Sha256::digest(&bytes)).into();
    Ok(Contents { bytes: bytes.into(), digest })
}

/// Checks what a provider says of itself, and compiles its schema.
fn describe(manifest: &Manifest, limit: usize) -> Result<Schema, LoadError> {
    let wrong = |text: &str| LoadError::Manifest(text.to_owned());
    let size = manifest.settings_schema.len() + manifest.description.len() + manifest.version.len();
    if size > limit || manifest.aliases.len() > 16 {
        return Err(wrong("more text than a result may hold"));
    }
    if [&manifest.version, &manifest.description].iter().any(|it| it.chars().any(char::is_control))
    {
        return Err(wrong("its version or description holds control characters"));
    }
    if ![&manifest.name].into_iter().chain(&manifest.aliases).all(|name| is_dns_label(name)) {
        return Err(wrong("a name or alias is not made of `a-z`, `0-9` and `-`"));
    }
    let document: serde_json::Value = serde_json::from_str(&manifest.settings_schema)
        .map_err(|_| wrong("its settings schema is not JSON"))?;
    if !document.is_object() {
        return Err(wrong("its settings schema is not a JSON object"));
    }
    let schema = Schema::new(document)
        .map_err(|error| LoadError::Manifest(capability::printable(&error.to_string(), 256)))?;
    if !schema.finds_every_secret() {
        return Err(wrong(
            "its settings schema has a `writeOnly` outside `properties`, `items` and `additionalProperties`, where it would not be heeded",
        ));
    }
    Ok(schema)
}
