//! What the kernel reports about this process. `None` if it does not report it.

use std::fs;

use rustix::process::{Resource, getrlimit};

pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

pub(crate) fn open_files() -> Option<u64> {
    // One of them is the folder that this function reads.
    u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?.checked_sub(1)
}

pub(crate) fn most_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_reports_everything() {
        assert!(resident_bytes().unwrap() > 1 << 20);
        let files = open_files().unwrap();
        assert!((3..most_files().unwrap()).contains(&files), "{files}");
    }
}
