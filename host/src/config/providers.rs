//! `[providers]`: the folder of the providers, and which of them may be loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minisign_verify::PublicKey;

use super::Written;
use super::file::{LimitsFile, ProviderFile, ProvidersFile, Require, Wasi};
use super::node::{Origin, Problem};

#[derive(Clone)]
pub struct ProvidersConfig {
    pub directory: PathBuf,
    /// The origin of `directory`, for messages.
    pub origin: Origin,
    pub require: Require,
    pub lock_file: PathBuf,
    pub lock_origin: Origin,
    /// Whether the settings state `lock_file`.
    pub lock_is_written: bool,
    /// Not empty if signatures are required.
    pub signing_keys: Vec<PublicKey>,
    wasi: Wasi,
    limits: LimitsFile,
    named: BTreeMap<String, ProviderFile>,
}

/// The limits of one provider call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallLimits {
    pub cpu: Duration,
    pub wall: Duration,
    /// The sum of all memories in bytes.
    pub memory: usize,
    pub table_elements: usize,
    pub handles: usize,
    /// Bytes that a guest may pass to one host call.
    pub host_call: usize,
    /// Bytes of the result of `describe`. The result of `issue` has lower limits.
    pub result: usize,
    pub log_lines: usize,
    pub log_line: usize,
    pub aws_calls: usize,
    pub http_calls: usize,
    /// The size of the component's file in bytes.
    pub file: u64,
}

/// `directory` is the folder of the settings, which contains the lock by default.
pub(super) fn config(
    directory: &Path,
    file: ProvidersFile,
    written: &Written,
    problems: &mut Vec<Problem>,
) -> ProvidersConfig {
    let origin = |pointer| written.0.nearest(pointer).origin.clone();
    ProvidersConfig {
        signing_keys: signing_keys(&file, written, problems),
        directory: file.directory,
        origin: origin("/providers/directory"),
        require: file.require,
        lock_is_written: file.lock_file.is_some(),
        lock_file: file.lock_file.unwrap_or_else(|| directory.join("providers.lock")),
        lock_origin: origin("/providers/lock_file"),
        wasi: file.wasi,
        limits: file.limits,
        named: file.named,
    }
}

fn signing_keys(
    file: &ProvidersFile,
    written: &Written,
    problems: &mut Vec<Problem>,
) -> Vec<PublicKey> {
    let mut keys = Vec::new();
    for (index, text) in file.signing_keys.iter().enumerate() {
        match PublicKey::from_base64(text) {
            Ok(key) => keys.push(key),
            Err(error) => {
                let message = format!(
                    "not a minisign public key: {error}; write the last line of the `.pub` file"
                );
                problems
                    .push(written.problem(&format!("/providers/signing_keys/{index}"), message));
            }
        }
    }
    if file.require == Require::Signed && file.signing_keys.is_empty() {
        let message = "empty, but `require = \"signed\"` needs at least one key; write the last \
            line of the `.pub` file of minisign";
        problems.push(written.problem("/providers/signing_keys", message));
    }
    keys
}

impl ProvidersConfig {
    /// Limits that fit components of every language, to inspect a single file without settings.
    pub fn roomy() -> Self {
        let limits = LimitsFile {
            cpu_ms: Some(2_000),
            memory_mib: Some(256),
            file_mib: Some(64),
            ..LimitsFile::default()
        };
        let origin = Origin::file("this command");
        Self {
            directory: PathBuf::new(),
            origin: origin.clone(),
            require: Require::Any,
            lock_file: PathBuf::new(),
            lock_origin: origin,
            lock_is_written: false,
            signing_keys: Vec::new(),
            wasi: Wasi::Stubbed,
            limits,
            named: BTreeMap::new(),
        }
    }

    /// The names of providers that have a table of their own.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// Returns the limits of the provider with this name.
    pub fn limits(&self, name: &str) -> CallLimits {
        limits(self.named.get(name).map_or(&self.limits, |provider| &provider.limits), &self.limits)
    }

    /// Returns the WASI imports that the provider with this name may have.
    pub fn wasi(&self, name: &str) -> Wasi {
        self.named.get(name).and_then(|provider| provider.wasi).unwrap_or(self.wasi)
    }

    /// Returns the widest WASI setting of all providers, because the name of a provider is unknown
    /// until it is loaded.
    pub fn widest_wasi(&self) -> Wasi {
        let named = self.named.values().filter_map(|provider| provider.wasi);
        named.fold(self.wasi, std::cmp::Ord::max)
    }

    /// Returns limits that are large enough for every provider; they determine the size of the
    /// pool.
    pub fn widest(&self) -> CallLimits {
        let mut widest = self.limits("");
        for name in self.named.keys() {
            let limits = self.limits(name);
            widest.cpu = widest.cpu.max(limits.cpu);
            widest.wall = widest.wall.max(limits.wall);
            widest.handles = widest.handles.max(limits.handles);
            widest.host_call = widest.host_call.max(limits.host_call);
            widest.result = widest.result.max(limits.result);
            widest.memory = widest.memory.max(limits.memory);
            widest.table_elements = widest.table_elements.max(limits.table_elements);
            widest.file = widest.file.max(limits.file);
        }
        widest
    }
}

fn limits(own: &LimitsFile, all: &LimitsFile) -> CallLimits {
    let pick = |of: fn(&LimitsFile) -> Option<u64>, default| {
        of(own).or_else(|| of(all)).unwrap_or(default)
    };
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    CallLimits {
        cpu: Duration::from_millis(pick(|file| file.cpu_ms, 100)),
        wall: Duration::from_millis(pick(|file| file.wall_ms, 8_000)),
        memory: size(pick(|file| file.memory_mib, 64).saturating_mul(1 << 20)),
        table_elements: size(pick(|file| file.table_elements, 20_000)),
        handles: size(pick(|file| file.handles, 1_000)),
        host_call: size(pick(|file| file.host_call_kib, 2_048).saturating_mul(1 << 10)),
        result: size(pick(|file| file.result_kib, 64).saturating_mul(1 << 10)),
        log_lines: size(pick(|file| file.log_lines, 32)),
        log_line: size(pick(|file| file.log_line_bytes, 512)),
        aws_calls: size(pick(|file| file.aws_calls, 4)),
        http_calls: size(pick(|file| file.http_calls, 8)),
        file: pick(|file| file.file_mib, 32).saturating_mul(1 << 20),
    }
}
