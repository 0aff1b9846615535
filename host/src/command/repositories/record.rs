//! The audit log of commands: a folder of its own, because a serving broker holds the lock of the
//! other one.

use std::io::ErrorKind;

use super::Opened;
use crate::audit::{Audit, StartError};
use crate::state;

/// Opens the log, and records that the command starts. If this fails, nothing is changed.
pub(super) async fn open(opened: &Opened, accept_broken: bool) -> Result<Audit, Vec<String>> {
    let Opened { config, foundation, .. } = opened;
    let settings = config.audit.of_commands();
    let shown = settings.directory.display().to_string();
    let failed = |why: String| vec![format!("nothing was changed: the audit log {shown}: {why}")];
    // A folder of root's in those of the broker's user would lock that user out.
    let folders = [&config.state_directory, &config.audit.directory];
    folders.into_iter().try_for_each(|folder| state::private(folder)).map_err(failed)?;
    let (clock, metrics) = (foundation.clock.clone(), foundation.engine.metrics.clone());
    let audit = Audit::open(settings, clock, metrics).map_err(failed)?;
    match audit.start(accept_broken).await {
        Ok(()) => Ok(audit),
        Err(StartError::Io { source }) if source.kind() == ErrorKind::ResourceBusy => Err(failed(
            "another `rise-broker repositories apply` runs; wait until it ends".to_owned(),
        )),
        Err(error) => Err(failed(error.to_string())),
    }
}
