//! One provider call that makes a new credential, and the verification of what it returned.

use std::sync::Arc;

use super::IssueError;
use super::error;
use super::verify::{Returned, verify};
use crate::domain::{Clock, Credentials, Deadline};
use crate::provider::{Finished, IssueCall};
use crate::registries::Registry;
use crate::rules::Grant;

/// Calls the registry's provider for `grant`. Limits and audit records are up to the caller:
/// [`Issuing`](super::Issuing) for a server, nobody for the commands that try out a provider.
pub async fn mint(
    registry: &Registry,
    grant: &Arc<Grant>,
    deadline: Deadline,
    clock: &Clock,
) -> Result<Credentials, IssueError> {
    let issue = IssueCall { settings: Arc::clone(&registry.settings), grant: Arc::clone(grant) };
    let called = registry.provider.call_until(issue, &registry.capabilities, deadline).await;
    let Finished { value, mut state } = called?;
    let returned = value.map_err(|error| error::returned(error, &state))?;
    let returned = Returned::take(returned, &mut state)?;
    let credentials = verify(returned, registry, grant, clock.now())?;
    Ok(Credentials { session: state.session, ..credentials })
}
