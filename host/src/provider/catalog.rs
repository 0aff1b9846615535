//! The loaded providers: one for each `*.wasm` file of the providers' folder that could be loaded.
//! For a file that could not be loaded, the catalog keeps the provider that was loaded before.
//!
//! A catalog does not change. A reload makes the next one, which shares the providers whose files
//! are still the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::call::Provider;
use super::folder::{self, INSTALL};
use super::load::{self, LoadError, Loader};
use super::pins::Pins;
use crate::config::ProvidersConfig;
use crate::config::node::Problem;

/// All loaded providers.
#[derive(Clone)]
pub struct Catalog {
    providers: Vec<Arc<Provider>>,
    by_name: BTreeMap<String, usize>,
    pins: Arc<Pins>,
}

/// A file that was not loaded, and why.
#[derive(Clone, Debug)]
pub struct RejectedFile {
    pub file: PathBuf,
    /// SHA-256 of the file, if it could be read.
    pub digest: Option<Arc<str>>,
    pub error: Arc<LoadError>,
}

impl From<&RejectedFile> for Problem {
    fn from(refused: &RejectedFile) -> Self {
        Self::new(&refused.file.display().to_string(), "", refused.error.to_string())
    }
}

/// The result of loading the folder.
pub struct Scan {
    pub catalog: Catalog,
    pub refused: Vec<RejectedFile>,
    /// Providers that stay loaded although their files are gone.
    pub gone: Vec<Arc<Provider>>,
}

/// The state before a reload.
pub struct Before<'a> {
    pub catalog: &'a Catalog,
    /// Names that registries use. A provider with such a name stays loaded if its file is gone.
    pub needed: &'a BTreeSet<String>,
    /// Files that somebody is still writing. They are not read.
    pub restless: &'a BTreeSet<PathBuf>,
    /// Files that were rejected. The same bytes are not compiled again.
    pub refused: &'a [RejectedFile],
}

impl Before<'_> {
    /// The error that these very bytes had before, if finding it again would be expensive.
    fn known_error(&self, file: &Path, digest: &str) -> Option<Arc<LoadError>> {
        let is_same = |rejected: &&RejectedFile| {
            rejected.file == file
                && rejected.digest.as_deref() == Some(digest)
                && rejected.error.is_costly()
        };
        self.refused.iter().find(is_same).map(|rejected| Arc::clone(&rejected.error))
    }
}

impl Catalog {
    /// Loads every file of the folder that can be loaded.
    pub async fn load(
        config: &ProvidersConfig,
        pins: Arc<Pins>,
        loader: &Loader,
        before: Option<&Before<'_>>,
    ) -> Result<Scan, Problem> {
        let files = folder::list(config)?;
        if files.is_empty() && before.is_none() {
            let message =
                format!("no `.wasm` file is in `{}`; {INSTALL}", config.directory.display());
            return Err(Problem::at(&config.origin, "providers.directory", message));
        }
        let old = before.map(|before| before.catalog);
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        for file in &files {
            let is_restless = before.is_some_and(|before| before.restless.contains(file));
            let contents = if is_restless {
                Err(LoadError::BeingWritten)
            } else {
                let (file, limit) = (file.clone(), config.widest().file);
                load::off_the_runtime(move || load::read(&file, limit)).await.flatten()
            };
            let digest = contents.as_ref().ok().map(|contents| Arc::clone(&contents.digest));
            let provider = match contents {
                Ok(contents) => match before
                    .and_then(|before| before.known_error(file, &contents.digest))
                {
                    Some(error) => Err(error),
                    None => loader.load(config, &pins, file, contents, old).await.map_err(Arc::new),
                },
                Err(error) => Err(Arc::new(error)),
            };
            match provider {
                Ok(provider) => taken.push(provider),
                Err(error) => refused.push(RejectedFile { file: file.clone(), digest, error }),
            }
        }
        // A name stays with the file that has it: neither a new file nor a changed one takes it.
        let rank = |provider: &Arc<Provider>| {
            let known = old?.of_file(&provider.file);
            Some(known.map_or(2, |known| usize::from(!Arc::ptr_eq(known, provider))))
        };
        taken.sort_by_key(rank);
        let mut catalog = Self { providers: Vec::new(), by_name: BTreeMap::new(), pins };
        for provider in taken {
            let (file, digest) = (provider.file.clone(), Some(Arc::clone(&provider.digest)));
            if let Err(error) = catalog.add(provider) {
                refused.push(RejectedFile { file, digest, error: Arc::new(error) });
            }
        }
        let gone = before.map(|before| catalog.keep(before, &files)).unwrap_or_default();
        Ok(Scan { catalog, refused, gone })
    }

    /// Keeps the earlier provider of each file that could not be loaded, and each provider that is
    /// needed although its file is gone. Returns the latter.
    fn keep(&mut self, before: &Before<'_>, files: &[PathBuf]) -> Vec<Arc<Provider>> {
        let mut gone = Vec::new();
        for old in before.catalog.iter() {
            let is_gone = !files.contains(&old.file) || self.of_file(&old.file).is_some();
            let is_needed = old.names().any(|name| before.needed.contains(name));
            let is_kept = is_needed || !is_gone;
            // A provider whose name is taken has been replaced.
            if is_kept && self.add(Arc::clone(old)).is_ok() && is_gone {
                gone.push(Arc::clone(old));
            }
        }
        gone
    }

    /// The same catalog with `old` in place of the provider that was loaded from its file.
    #[must_use]
    pub(crate) fn reverted_to(&self, old: &Arc<Provider>) -> Self {
        let mut catalog =
            Self { providers: Vec::new(), by_name: BTreeMap::new(), pins: Arc::clone(&self.pins) };
        // The names of `old` are free: its file had them, and no other file could take them.
        let _ = catalog.add(Arc::clone(old));
        for provider in self.providers.iter().filter(|provider| provider.file != old.file) {
            let _ = catalog.add(Arc::clone(provider));
        }
        catalog
    }

    /// The provider that `type = "…"` names.
    pub fn find(&self, name: &str) -> Option<&Arc<Provider>> {
        self.by_name.get(name).and_then(|index| self.providers.get(*index))
    }

    pub(crate) fn of_file(&self, file: &Path) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| provider.file == file)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.iter()
    }

    /// Whether the lock has exactly this provider: an operator has reviewed it.
    pub fn is_locked(&self, provider: &Provider) -> bool {
        self.pins.is_locked(&provider.digest)
    }

    /// Whether both catalogs have the same providers under the same lock.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let pairs = self.providers.iter().zip(&other.providers);
        self.providers.len() == other.providers.len()
            && pairs.into_iter().all(|(one, other)| Arc::ptr_eq(one, other))
            && self.pins.lock() == other.pins.lock()
    }

    /// Every name and alias, for a message.
    pub fn names(&self) -> String {
        self.by_name.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Loads one file for inspection. No lock and no signature is required.
    pub(crate) async fn load_single(
        file: &Path,
        config: &ProvidersConfig,
        loader: &Loader,
    ) -> Result<Self, LoadError> {
        let pins = Arc::new(Pins::none(config));
        let contents = load::read(file, config.widest().file)?;
        let provider = loader.load(config, &pins, file, contents, None).await?;
        let mut catalog = Self { providers: Vec::new(), by_name: BTreeMap::new(), pins };
        catalog.add(provider)?;
        Ok(catalog)
    }

    fn add(&mut self, provider: Arc<Provider>) -> Result<(), LoadError> {
        for name in provider.names() {
            if let Some(other) = self.find(name) {
                return Err(LoadError::NameTaken {
                    name: name.to_owned(),
                    other: other.file.display().to_string(),
                });
            }
        }
        self.by_name.extend(provider.names().map(|name| (name.to_owned(), self.providers.len())));
        self.providers.push(provider);
        Ok(())
    }
}
