//! What is loaded: every `*.wasm` of the providers' folder, looked at before it is compiled.
//!
//! The order is fixed: read once → size → digest → is it a component → what does it import and export → compile →
//! `describe` in an instance without capabilities. Nothing of a file runs before its imports were found acceptable.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wit_component::DecodedWasm;
use wit_parser::WorldItem;

use super::call::{CallError, Guest, Provider};
use super::engine::CALLS_PER_PROVIDER;
use super::{Engine, compiled};
use crate::capability::{self, CallState};
use crate::config::ProvidersConfig;
use crate::config::node::Problem;
use crate::config::schema::Schema;
use crate::domain::Clock;
use crate::domain::name::is_dns_label;
use crate::wit;
use crate::wit::exports::rise::registry::registry::Manifest;

/// The package and version of `wit/`.
const CONTRACT: &str = "rise:registry/";
pub const VERSION: &str = "0.1.0";
/// What every component begins with; a core module has another version, compiled code another magic.
const PREAMBLE: [u8; 8] = [0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];
/// No folder of providers is this full by intention.
const MAX_FILES: usize = 256;

/// All loaded providers.
pub struct Catalog {
    providers: Vec<Arc<Provider>>,
    by_name: BTreeMap<String, usize>,
}

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
}

impl Catalog {
    /// Loads the whole folder, as far as it can be loaded. It is to be used only without problems.
    pub async fn load(
        config: &ProvidersConfig,
        engine: &Engine,
        cache: &Path,
        clock: &Clock,
    ) -> (Self, Vec<Problem>) {
        let mut catalog = Self { providers: Vec::new(), by_name: BTreeMap::new() };
        let loader = Loader::new(engine, cache, clock).map_err(|error| {
            let message = format!("cannot link its own capabilities, please report it: {error}");
            Problem::new("this program", "", message)
        });
        let (files, loader) = match (list(config), loader) {
            (Ok(files), Ok(loader)) => (files, loader),
            (Err(problem), _) | (_, Err(problem)) => return (catalog, vec![problem]),
        };
        let mut problems = Vec::new();
        for file in files {
            let added = loader.load(config, &file).await.and_then(|provider| catalog.add(provider));
            if let Err(error) = added {
                problems.push(Problem::new(&file.display().to_string(), "", error.to_string()));
            }
        }
        (catalog, problems)
    }

    /// One file alone, for those who look at it before it is anybody's provider.
    pub async fn of_file(
        file: &Path,
        config: &ProvidersConfig,
        engine: &Engine,
        cache: &Path,
        clock: &Clock,
    ) -> Result<Self, LoadError> {
        let mut catalog = Self { providers: Vec::new(), by_name: BTreeMap::new() };
        let provider =
            Loader::new(engine, cache, clock).map_err(misfit)?.load(config, file).await?;
        catalog.add(provider)?;
        Ok(catalog)
    }

    /// The provider that `type = "…"` names.
    pub fn find(&self, name: &str) -> Option<&Arc<Provider>> {
        self.by_name.get(name).and_then(|index| self.providers.get(*index))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.iter()
    }

    /// Every name and alias, for a message.
    pub fn names(&self) -> String {
        self.by_name.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    fn add(&mut self, provider: Provider) -> Result<(), LoadError> {
        let names: Vec<String> = [&provider.manifest.name]
            .into_iter()
            .chain(&provider.manifest.aliases)
            .cloned()
            .collect();
        for name in &names {
            if let Some(other) = self.find(name) {
                return Err(LoadError::NameTaken {
                    name: name.clone(),
                    other: other.file.display().to_string(),
                });
            }
        }
        self.by_name.extend(names.into_iter().map(|name| (name, self.providers.len())));
        self.providers.push(Arc::new(provider));
        Ok(())
    }
}

/// The `*.wasm` of the folder, in order of their names.
fn list(config: &ProvidersConfig) -> Result<Vec<PathBuf>, Problem> {
    let directory = config.directory.display();
    let problem = |message: String| Problem::at(&config.origin, "providers.directory", message);
    let entries = fs::read_dir(&config.directory).map_err(|error| {
        problem(format!("cannot read `{directory}`: {error}; build the providers there by `make providers`, or name another folder"))
    })?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "wasm"))
        .filter(|path| {
            !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        })
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(problem(format!(
            "no `.wasm` file is in `{directory}`; build the providers there by `make providers`, or name another folder"
        )));
    }
    if files.len() > MAX_FILES {
        return Err(problem(format!("more than {MAX_FILES} providers are in `{directory}`")));
    }
    Ok(files)
}

struct Loader<'a> {
    engine: &'a Engine,
    linker: Linker<CallState>,
    cache: &'a Path,
    clock: &'a Clock,
}

impl<'a> Loader<'a> {
    fn new(engine: &'a Engine, cache: &'a Path, clock: &'a Clock) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(&engine.wasmtime);
        capability::add_to_linker(&mut linker)?;
        Ok(Self { engine, linker, cache, clock })
    }

    async fn load(&self, config: &ProvidersConfig, file: &Path) -> Result<Provider, LoadError> {
        let bytes = read(file, config.widest().file)?;
        let digest: Arc<str> = hex::encode(Sha256::digest(&bytes)).into();
        let imports = inspect(&bytes)?;
        let (engine, cache) = (self.engine.wasmtime.clone(), self.cache.to_owned());
        let key = Arc::clone(&digest);
        let component =
            tokio::task::spawn_blocking(move || compiled::component(&engine, &bytes, &key, &cache))
                .await;
        let component = component.map_err(misfit)?.map_err(misfit)?;
        let component = self
            .linker
            .instantiate_pre(&component)
            .and_then(wit::ProviderPre::new)
            .map_err(misfit)?;
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
        };
        let manifest = guest.describe().await.map_err(LoadError::Describe)?;
        let schema = describe(&manifest, guest.limits.result)?;
        guest.limits = config.limits(&manifest.name);
        guest.name = manifest.name.as_str().into();
        Ok(Provider { manifest, schema, file: file.to_owned(), digest, imports, guest })
    }
}

fn misfit(error: impl std::fmt::Display) -> LoadError {
    LoadError::Misfit(capability::printable(&format!("{error:#}"), 512))
}

/// Reads the file once: what is looked at is what is compiled.
fn read(file: &Path, limit: u64) -> Result<Vec<u8>, LoadError> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(LoadError::TooLarge(limit)) } else { Ok(bytes) }
}

/// The capabilities that a component imports, if it is a provider and wants nothing that this host does not give.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Vec<&'static str>, LoadError> {
    if !bytes.starts_with(&PREAMBLE) {
        return Err(LoadError::NotComponent(match bytes {
            [] => "an empty file",
            [0x00, 0x61, 0x73, 0x6d, ..] => "a core module",
            [0x7f, b'E', b'L', b'F', ..] => "native code",
            _ => "something else",
        }));
    }
    let (resolve, world) = match wit_component::decode(bytes) {
        Ok(DecodedWasm::Component(resolve, world)) => (resolve, world),
        Ok(DecodedWasm::WitPackage(..)) => return Err(LoadError::NotComponent("a WIT package")),
        Err(error) => {
            return Err(LoadError::Damaged(capability::printable(&format!("{error:#}"), 256)));
        }
    };
    let Some(world) = resolve.worlds.get(world) else { return Err(LoadError::NoExport) };
    let names =
        |items: &mut dyn Iterator<Item = (&wit_parser::WorldKey, &WorldItem)>| -> Vec<String> {
            items.map(|(key, _)| resolve.name_world_key(key)).collect()
        };
    let mut imports = Vec::new();
    for name in names(&mut world.imports.iter()) {
        imports.extend(capability_of(&name)?);
    }
    let exports = names(&mut world.exports.iter());
    match exports.iter().find_map(|name| name.strip_prefix(CONTRACT)?.strip_prefix("registry@")) {
        Some(VERSION) => Ok(imports),
        Some(other) => Err(LoadError::OtherVersion(capability::printable(other, 32))),
        None => Err(LoadError::NoExport),
    }
}

/// Which capability an import asks for; `None` for what everybody gets.
fn capability_of(import: &str) -> Result<Option<&'static str>, LoadError> {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    if let Some(name) = interface.strip_prefix(CONTRACT) {
        if version != VERSION {
            return Err(LoadError::OtherVersion(capability::printable(version, 32)));
        }
        if capability::PLANNED.contains(&name) {
            return Err(LoadError::NotYet(name.to_owned()));
        }
        return match capability::IMPLEMENTED.iter().find(|it| **it == name) {
            Some(name) => Ok(Some(name)),
            None if name == "types" => Ok(None),
            None => Err(LoadError::Forbidden(capability::printable(import, 128))),
        };
    }
    if capability::WASI.contains(&interface) {
        Ok(None)
    } else {
        Err(LoadError::Forbidden(capability::printable(import, 128)))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_named() {
        let core = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
        let truncated = [&PREAMBLE[..], &[0x00, 0xff]].concat();
        for (bytes, expected) in [
            (&b""[..], "an empty file"),
            (&core, "a core module"),
            (b"\x7fELF....", "native code"),
            (b"(component)", "something else"),
            (&truncated, "damaged"),
            (&PREAMBLE, "no provider"),
        ] {
            let error = inspect(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn only_what_the_host_has_may_be_imported() {
        for (import, expected) in [
            ("rise:registry/types@0.1.0", Ok(None)),
            ("rise:registry/aws@0.1.0", Ok(Some("aws"))),
            ("wasi:cli/exit@0.2.6", Ok(None)),
            ("rise:registry/http@0.1.0", Ok(Some("http"))),
            ("rise:registry/tokens@0.1.0", Err("does not have yet")),
            ("rise:registry/aws@0.2.0", Err("version 0.2.0")),
            ("rise:registry/root@0.1.0", Err("do not get")),
            ("wasi:filesystem/types@0.2.6", Err("do not get")),
            ("wasi:sockets/tcp@0.2.6", Err("do not get")),
            ("wasi:http/outgoing-handler@0.2.6", Err("do not get")),
            ("env", Err("do not get")),
        ] {
            match (capability_of(import), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => {
                    assert!(found.to_string().contains(expected), "{found}");
                }
                (found, _) => panic!("{import}: {found:?}"),
            }
        }
    }
}
