//! From one file to one provider. The order is fixed, and nothing of a file runs before its imports
//! were accepted:
//!
//! read once → size → digest → pin or signature → is it a component → imports and exports →
//! compile, in a process of its own → `describe`, in an instance without capabilities → the lock.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use wasmtime::component::Linker;

use super::call::{CallError, Guest, Provider};
use super::compile::{CompileError, Compiler};
use super::engine::CALLS_PER_PROVIDER;
use super::inspect::{CONTRACT, Interfaces, VERSION, inspect};
use super::pins::Pins;
use super::turn::Turns;
use super::{Catalog, Engine, compiled};
use crate::capability::wit;
use crate::capability::wit::endpoints::WithEndpointsPre;
use crate::capability::wit::exports::rise::registry::registry::Manifest;
use crate::capability::wit::leftovers::WithLeftoversPre;
use crate::capability::wit::repositories::WithRepositoriesPre;
use crate::capability::wit::revocation::WithRevocationPre;
use crate::capability::{self, CallState};
use crate::config::schema::Schema;
use crate::config::{ProvidersConfig, Wasi};
use crate::domain::Clock;
use crate::domain::name::is_dns_label;
use crate::files;

/// Why a file is not loaded. Each message states what the operator or the author can do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot be read: {0}; make it readable, or remove it")]
    Unreadable(#[from] std::io::Error),
    #[error(
        "larger than {0} bytes; raise `file_mib` in [providers.limits] if it is the right file"
    )]
    TooLarge(u64),
    #[error("not a WebAssembly component but {0}; build it for `wasm32-wasip2`")]
    NotComponent(&'static str),
    #[error("{0}")]
    Substitute(&'static str),
    #[error("damaged: {0}; build or copy it again")]
    Damaged(String),
    #[error(
        "made for version {0} of the contract, and this broker has version {VERSION}; rebuild it \
        with the SDK of this broker"
    )]
    OtherVersion(String),
    #[error(
        "wants `{0}`, which providers do not get; a provider reaches files, networks and the like \
        through capabilities only"
    )]
    Forbidden(String),
    #[error(
        "wants `{import}`, and providers get only the part of WASI that every program links; in \
        Rust, its code or a crate uses `std::fs` or `std::net`: send requests with \
        `rise_provider::http`, embed files with `include_str!`; an interpreter gets empty files \
        and closed sockets with `wasi = \"stubbed\"` in {table}"
    )]
    Wasi { import: String, table: String },
    #[error("not a provider: it does not export `{CONTRACT}registry@{VERSION}`")]
    NoExport,
    #[error("does not match the contract: {0}; rebuild it with the SDK of this broker")]
    Misfit(String),
    #[error("its `describe` fails, so remove the file or ask its author: {0}")]
    Describe(#[source] CallError),
    #[error("its `describe` returns something invalid, so ask its author: {0}")]
    Manifest(String),
    #[error("its name `{name}` is taken by {other}; remove one of the two files")]
    NameTaken { name: String, other: String },
    #[error("not a regular file; put the component itself there, or a link to it")]
    Irregular,
    #[error(
        "is still being written; to install it atomically, write it under another name and rename \
        it"
    )]
    BeingWritten,
    #[error(
        "is not in {0}; review what it imports, then allow it with `rise-broker provider lock`"
    )]
    NotLocked(String),
    #[error("not signed: {0}")]
    NotSigned(String),
    #[error(
        "asks for more than {lock} allows it: {more}; review it, then allow it with `rise-broker \
        provider lock`"
    )]
    AsksForMore { more: String, lock: String },
    #[error("does not compile: {0}; build it again, or ask its author")]
    Compile(#[from] CompileError),
    #[error("rejects the settings of a registry that uses it: {0}")]
    Settings(String),
}

impl LoadError {
    /// The stage of loading that failed, as metrics name it.
    pub fn stage(&self) -> &'static str {
        match self {
            Self::Unreadable(_) | Self::Irregular | Self::BeingWritten => "read",
            Self::TooLarge(_) => "size",
            Self::NotLocked(_) | Self::AsksForMore { .. } => "lock",
            Self::NotSigned(_) => "signature",
            Self::NotComponent(_) | Self::Substitute(_) | Self::Damaged(_) => "component",
            Self::OtherVersion(_) | Self::Forbidden(_) | Self::Wasi { .. } | Self::NoExport => {
                "imports"
            }
            Self::Compile(_) | Self::Misfit(_) => "compile",
            Self::Describe(_) | Self::Manifest(_) | Self::NameTaken { .. } => "describe",
            Self::Settings(_) => "settings",
        }
    }

    /// Whether the decoder, the compiler or the provider itself had to run to find this error.
    pub(super) fn is_costly(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Compile(_) | Self::Misfit(_) | Self::Describe(_))
    }
}

/// Makes providers of one engine from files.
pub struct Loader {
    pub(super) engine: Engine,
    linker: Linker<CallState>,
    /// For providers that need `wasi = "stubbed"`.
    stubbed: Linker<CallState>,
    /// The folder of compiled code.
    cache: Option<PathBuf>,
    clock: Clock,
    compiler: Compiler,
}

/// The bytes of a file. The file is not read again.
pub(super) struct Contents {
    pub bytes: Arc<[u8]>,
    pub digest: Arc<str>,
}

impl Loader {
    pub fn new(
        engine: &Engine,
        cache: Option<PathBuf>,
        clock: &Clock,
        compiler: Compiler,
    ) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(&engine.wasmtime);
        capability::add_to_linker(&mut linker)?;
        let mut stubbed = Linker::new(&engine.wasmtime);
        capability::add_stubbed_to_linker(&mut stubbed)?;
        Ok(Self { engine: engine.clone(), linker, stubbed, cache, clock: clock.clone(), compiler })
    }

    /// Loads one file. `before` is the catalog of now: a provider with the same bytes is taken from
    /// it.
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
        if let Some(known) = before.and_then(|catalog| catalog.of_file(file))
            && known.digest == digest
            && known.guest.limits == config.limits(&known.manifest.name)
        {
            let name = &known.manifest.name;
            check_wasi(&known.wasi, config.wasi(name), Some(name))?;
            pins.allow(&known.manifest.name, &digest, &known.imports)?;
            return Ok(Arc::clone(known));
        }
        let interfaces = interfaces(Arc::clone(&bytes)).await?;
        let Interfaces { capabilities: imports, wasi, tokens, .. } = interfaces;
        check_wasi(&wasi, config.widest_wasi(), None)?;
        let component = compiled::component(
            &self.engine.wasmtime,
            &self.compiler,
            &bytes,
            &digest,
            self.cache.as_deref(),
        )
        .await?;
        let linker = if wasi.is_empty() { &self.linker } else { &self.stubbed };
        let ready = linker.instantiate_pre(&component).map_err(misfit)?;
        let again = || ready.clone();
        let endpoints = optional(interfaces.has_endpoints, || WithEndpointsPre::new(again()))?;
        let repositories =
            optional(interfaces.has_repositories, || WithRepositoriesPre::new(again()))?;
        let revocation = optional(interfaces.has_revocation, || WithRevocationPre::new(again()))?;
        let leftovers = optional(interfaces.has_leftovers, || WithLeftoversPre::new(again()))?;
        let component = wit::ProviderPre::new(ready).map_err(misfit)?;
        // The provider's own limits are known when its name is.
        let limits = config.widest();
        let mut guest = Guest {
            engine: self.engine.clone(),
            component,
            endpoints,
            repositories,
            revocation,
            leftovers,
            name: "".into(),
            digest: Arc::clone(&digest),
            limits,
            clock: self.clock.clone(),
            permits: Arc::new(Semaphore::new(CALLS_PER_PROVIDER)),
            turns: Turns::default(),
        };
        let manifest = guest.describe().await.map_err(LoadError::Describe)?;
        let schema = describe(&manifest, guest.limits.result)?;
        check_wasi(&wasi, config.wasi(&manifest.name), Some(&manifest.name))?;
        pins.allow(&manifest.name, &digest, &imports)?;
        guest.limits = config.limits(&manifest.name);
        guest.name = manifest.name.as_str().into();
        // This version shares the permits of the version before.
        if let Some(before) = before.and_then(|catalog| catalog.find(&manifest.name)) {
            guest.permits = Arc::clone(&before.guest.permits);
            guest.turns = before.guest.turns.clone();
        }
        let file = file.to_owned();
        Ok(Arc::new(Provider { manifest, schema, file, digest, imports, tokens, wasi, guest }))
    }
}

async fn interfaces(bytes: Arc<[u8]>) -> Result<Interfaces, LoadError> {
    off_the_runtime(move || inspect(&bytes)).await?
}

/// The component as one that has an optional export, if it has it.
fn optional<T>(
    is_exported: bool,
    prepare: impl FnOnce() -> wasmtime::Result<T>,
) -> Result<Option<T>, LoadError> {
    is_exported.then(prepare).transpose().map_err(misfit)
}

/// Checks the imports of WASI: before anything of the file runs against the widest setting, and
/// again when the provider's name is known.
fn check_wasi(wasi: &[String], allowed: Wasi, name: Option<&str>) -> Result<(), LoadError> {
    match (wasi.first(), allowed) {
        (Some(import), Wasi::None) => {
            let table = name.map_or_else(
                || "its own table below [providers]".to_owned(),
                |name| format!("[providers.{name}]"),
            );
            Err(LoadError::Wasi { import: import.clone(), table })
        }
        (_, Wasi::Stubbed) | (None, Wasi::None) => Ok(()),
    }
}

pub(super) fn misfit(error: impl std::fmt::Display) -> LoadError {
    LoadError::Misfit(capability::printable(&format!("{error:#}"), 512))
}

/// Runs work that reads, hashes or maps megabytes on a thread for blocking work.
pub(super) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LoadError> {
    tokio::task::spawn_blocking(work).await.map_err(misfit)
}

/// Reads the file once, so that the bytes that are checked are the bytes that are compiled. A link
/// may lead anywhere; a pipe or a device is rejected.
pub(super) fn read(file: &Path, limit: u64) -> Result<Contents, LoadError> {
    let unreadable = |error: std::io::Error| {
        if error.kind() == ErrorKind::InvalidInput {
            LoadError::Irregular
        } else if error.kind() == ErrorKind::FileTooLarge {
            LoadError::TooLarge(limit)
        } else {
            LoadError::Unreadable(error)
        }
    };
    let bytes = files::read(file, limit).map_err(unreadable)?;
    let digest = hex::encode(Sha256::digest(&bytes)).into();
    Ok(Contents { bytes: bytes.into(), digest })
}

/// Checks what `describe` returned, and compiles the schema.
fn describe(manifest: &Manifest, limit: usize) -> Result<Schema, LoadError> {
    let wrong = |text: &str| LoadError::Manifest(text.to_owned());
    let size = manifest.settings_schema.len() + manifest.description.len() + manifest.version.len();
    if size > limit || manifest.aliases.len() > 16 {
        return Err(wrong("more text than a result may have"));
    }
    if [&manifest.version, &manifest.description]
        .iter()
        .any(|text| text.chars().any(char::is_control))
    {
        return Err(wrong("the version or the description has control characters"));
    }
    if ![&manifest.name].into_iter().chain(&manifest.aliases).all(|name| is_dns_label(name)) {
        return Err(wrong("a name or alias has other characters than `a-z`, `0-9` and `-`"));
    }
    let document: serde_json::Value = serde_json::from_str(&manifest.settings_schema)
        .map_err(|_| wrong("the settings schema is not JSON"))?;
    if !document.is_object() {
        return Err(wrong("the settings schema is not a JSON object"));
    }
    let schema = Schema::new(document)
        .map_err(|error| LoadError::Manifest(capability::printable(&error.to_string(), 256)))?;
    if !schema.finds_every_secret() {
        return Err(wrong(
            "the settings schema has a `writeOnly` outside `properties`, `items` and \
            `additionalProperties`, where it would have no effect",
        ));
    }
    Ok(schema)
}
