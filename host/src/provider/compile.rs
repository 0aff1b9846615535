//! Compiling in a process of its own: `rise-broker compile` reads a component from standard input
//! and writes native code to standard output.
//!
//! A component can be made so that compiling it takes minutes or gigabytes; wasmtime does not count
//! that as a bug. The child limits itself before it reads the first byte, and the parent kills a
//! child that takes too long.
//!
//! **Invariant:** the output of a child is stored only if the child succeeded, and is used only if
//! the engine accepts it as its own.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::engine;
use crate::capability::printable;

/// How much one compilation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// CPU time of all threads of the child together.
    pub cpu_seconds: u64,
    /// Elapsed time. It is longer than the CPU time, for a machine that is busy.
    pub wall: Duration,
    pub address_space: u64,
}

impl Default for Bounds {
    /// A Python interpreter of 18 MiB takes five seconds (twelve in a debug build) and a gigabyte.
    fn default() -> Self {
        Self { cpu_seconds: 30, wall: Duration::from_mins(2), address_space: 4 << 30 }
    }
}

impl Bounds {
    /// A child that reaches the memory limit of the cgroup would end the broker with it.
    fn here() -> Self {
        let bounds = Self::default();
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limit = memory_limit(&cgroup, Path::new("/sys/fs/cgroup"));
        let most = limit.map_or(u64::MAX, |limit| limit / 4 * 3);
        Self { address_space: bounds.address_space.min(most), ..bounds }
    }
}

/// The lowest `memory.max` of the process with this `/proc/PID/cgroup`. Only version 2 of cgroups
/// has it.
fn memory_limit(cgroup: &str, root: &Path) -> Option<u64> {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = root.join(own);
    let around = folder.ancestors().take_while(|folder| folder.starts_with(root));
    let limits = around.filter_map(|folder| {
        let text = fs::read_to_string(folder.join("memory.max")).ok()?;
        // `max` is no limit.
        text.trim().parse().ok()
    });
    limits.min()
}

/// A lower priority than everything else: a compiler would use every core.
const NICE: i32 = 10;
/// No component is larger (`file_mib` is a setting), and neither is its native code.
const MOST_INPUT: u64 = 1 << 30;
const MOST_OUTPUT: u64 = 1 << 30;
const MOST_COMPLAINT: u64 = 4 << 10;

/// The program whose command `compile` is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// This program, also after its file was replaced by another version.
    ThisProgram,
    /// Another program, for tests: a test's own program has no such command. No setting leads here.
    Program(PathBuf, Bounds),
}

#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error(
        "took longer than {} s of CPU time, {} s in all or {} MiB to compile",
        .0.cpu_seconds,
        .0.wall.as_secs(),
        .0.address_space >> 20
    )]
    Exhausted(Bounds),
    #[error("{0}")]
    Invalid(String),
    #[error("the compiler could not be run: {0}")]
    Io(#[from] std::io::Error),
}

impl Compiler {
    /// Native code for `component`.
    pub(super) async fn run(&self, component: &[u8]) -> Result<Vec<u8>, CompileError> {
        let (program, bounds) = match self {
            // The kernel's name for the program's file, whatever has become of its path.
            Self::ThisProgram => (PathBuf::from("/proc/self/exe"), Bounds::here()),
            Self::Program(program, bounds) => (program.clone(), *bounds),
        };
        // No environment and no open file: the child gets nothing that has a secret.
        let mut child = Command::new(program)
            .arg("compile")
            .arg(format!("--cpu-seconds={}", bounds.cpu_seconds))
            .arg(format!("--address-space={}", bounds.address_space))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(std::io::Error::other("no pipes").into());
        };
        let (mut compiled, mut complaint) = (Vec::new(), Vec::new());
        let work = async {
            let feed = async move {
                // A child that gives up early reports the reason itself.
                let _ = stdin.write_all(component).await;
                let _ = stdin.shutdown().await;
            };
            let (mut stdout, mut stderr) = (stdout.take(MOST_OUTPUT), stderr.take(MOST_COMPLAINT));
            let read = async {
                tokio::try_join!(
                    stdout.read_to_end(&mut compiled),
                    stderr.read_to_end(&mut complaint)
                )
            };
            let ((), read) = tokio::join!(feed, read);
            read?;
            child.wait().await
        };
        let exhausted = CompileError::Exhausted(bounds);
        let Ok(status) = tokio::time::timeout(bounds.wall, work).await else {
            return Err(exhausted);
        };
        let complaint = String::from_utf8_lossy(&complaint);
        let complaint = complaint.strip_prefix("error: ").unwrap_or(&complaint);
        match status?.code() {
            Some(0) => Ok(compiled),
            Some(_) => Err(CompileError::Invalid(printable(complaint, 512))),
            // An abort for lack of memory, or a signal at the end of the CPU time.
            None => Err(exhausted),
        }
    }
}

/// The work of the child. It must run before any other thread exists.
pub fn main(cpu_seconds: u64, address_space: u64) -> Result<(), String> {
    let limit = |resource, most: u64| {
        // Nobody can raise the limit that the broker itself was started with.
        let most = getrlimit(resource).maximum.map_or(most, |own| own.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(|error| format!("cannot limit itself: {error}"))
    };
    limit(Resource::As, address_space)?;
    limit(Resource::Cpu, cpu_seconds)?;
    rustix::process::nice(NICE).map_err(|error| format!("cannot lower its priority: {error}"))?;
    let mut component = Vec::new();
    let read = std::io::stdin().lock().take(MOST_INPUT).read_to_end(&mut component);
    read.map_err(|error| format!("cannot read: {error}"))?;
    let engine = engine::compiling().map_err(|error| format!("{error:#}"))?;
    let compiled = engine.precompile_component(&component).map_err(|error| format!("{error:#}"))?;
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(&compiled)
        .and_then(|()| stdout.flush())
        .map_err(|error| format!("cannot write: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_the_cgroups_counts() {
        let root = tempfile::tempdir().unwrap();
        let limit = |cgroup: &str| memory_limit(cgroup, root.path());
        let write = |folder: &str, text: &str| {
            fs::create_dir_all(root.path().join(folder)).unwrap();
            fs::write(root.path().join(folder).join("memory.max"), text).unwrap();
        };
        write("system.slice/broker.service", "max\n");
        assert_eq!(limit("0::/system.slice/broker.service\n"), None);
        write("system.slice", "2147483648\n");
        assert_eq!(limit("0::/system.slice/broker.service\n"), Some(2 << 30));
        write("system.slice/broker.service", "1073741824\n");
        assert_eq!(limit("0::/system.slice/broker.service\n"), Some(1 << 30));
        // In a container, the root is the container's own.
        write("", "536870912\n");
        assert_eq!(limit("0::/\n"), Some(512 << 20));
        // Version 1.
        assert_eq!(limit("4:memory:/docker/0123\n"), None);
    }
}
