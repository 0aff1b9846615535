//! Settings that are right one by one and do not fit together.
//!
//! To add a pair: a line of [`warnings`].

use super::file::{AuditFile, ServerFile};
use super::node::Problem;
use super::{ProvidersConfig, Written};

/// The address space of a component. Larger memories are not reserved.
const LARGEST_MEMORY: usize = 4096 << 20;

pub(super) fn warnings(
    server: &ServerFile,
    audit: &AuditFile,
    providers: &ProvidersConfig,
    written: &Written,
) -> Vec<Problem> {
    let ServerFile { connections, connections_per_address: of_one, .. } = server;
    let AuditFile { warn_free_percent: warn, refuse_free_percent: refuse, .. } = audit;
    let limits = providers.limits("");
    let (request, call) = (server.timeouts.settings().request, limits.wall);
    let all = [
        (
            "/server/connections_per_address",
            of_one >= connections && server.trusted_proxies.is_empty(),
            format!(
                "{of_one} is not below `connections` ({connections}), so that one address can take \
                 all of them; lower it"
            ),
        ),
        (
            "/server/timeouts/request_ms",
            request < call,
            format!(
                "{} ms is less than a call of a provider may take (`wall_ms`, {}), so that \
                 requests end with 504 while AWS or a registry is slow; raise it, or lower \
                 `wall_ms`",
                request.as_millis(),
                call.as_millis()
            ),
        ),
        (
            "/audit/warn_free_percent",
            warn <= refuse,
            format!(
                "{warn} is not above `refuse_free_percent` ({refuse}), so that the first warning \
                 comes when nothing is issued any more; raise it"
            ),
        ),
        (
            "/providers/limits/memory_mib",
            limits.memory > LARGEST_MEMORY,
            format!(
                "{} MiB is more than a component can have, 4096; lower it",
                limits.memory >> 20
            ),
        ),
    ];
    let wrong = all.into_iter().filter(|(_, is_wrong, _)| *is_wrong);
    wrong.map(|(pointer, _, message)| written.problem(pointer, message)).collect()
}
