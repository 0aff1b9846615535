//! How many connections each listener accepts, within the limit of open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Edge;

/// Also at most a quarter of [`OTHER_FILES`].
const ADMIN_CONNECTIONS: usize = 256;
/// Room for the broker's other open files: the audit log and connections to registries and clouds.
const OTHER_FILES: u64 = 512;

/// How many connections each listener accepts.
pub(super) struct Edges {
    pub public: Edge,
    pub admin: Edge,
}

impl Edges {
    /// Raises the limit of open files as far as the system allows, because every connection is an
    /// open file and many systems start processes with a limit of 1024. If that is not enough,
    /// fewer connections are accepted: strangers must not use up what the audit log and calls to
    /// registries need.
    pub(super) fn within_open_files(edge: &Edge) -> Self {
        let wanted = u64::try_from(edge.connections).unwrap_or(u64::MAX);
        let needed = wanted.saturating_add(OTHER_FILES);
        let allowed = raise_open_files(needed);
        let others = OTHER_FILES.min(allowed / 2);
        let connections = wanted.min(allowed.saturating_sub(others));
        if connections < wanted {
            tracing::warn!(
                allowed,
                needed,
                connections,
                "the limit of open files is lower than `server.connections` needs, so fewer \
                 connections are accepted; raise it (`LimitNOFILE`)"
            );
        }
        let bounded = |most| usize::try_from(most).unwrap_or(usize::MAX);
        Self {
            public: Edge { connections: bounded(connections), ..edge.clone() },
            admin: Edge { connections: ADMIN_CONNECTIONS.min(bounded(others / 4)), ..edge.clone() },
        }
    }
}

/// Returns how many files this process may open from now on.
fn raise_open_files(needed: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let (current, most) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if current >= needed {
        return current;
    }
    let raised = Rlimit { current: Some(needed.min(most)), maximum: limit.maximum };
    if setrlimit(Resource::Nofile, raised).is_ok() { needed.min(most) } else { current }
}
