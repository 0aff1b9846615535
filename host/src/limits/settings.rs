//! The values of limits. Their settings and defaults: `config/traffic.rs`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use crate::domain::RegistryName;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: NonZeroU32,
    /// How many may come at once after a pause.
    pub burst: NonZeroU32,
}

/// The values of all limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Requests that are served at once.
    pub in_flight: usize,
    /// How many addresses, how many subjects and how many projects are remembered.
    pub keys: usize,
    /// Failed authentications of one address.
    pub address: Rate,
    /// Requests of one subject.
    pub subject: Rate,
    /// Granted requests for one project.
    pub project: Rate,
    /// The limits of a registry that is not in `registries`.
    pub registry: RegistryLimits,
    /// The pace of a registry that calls AWS and has no pace of its own.
    pub aws_pace: Rate,
    pub registries: BTreeMap<RegistryName, RegistryLimits>,
}

/// The limits on provider calls of one registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryLimits {
    /// Calls at once.
    pub in_flight: usize,
    /// How often a call may start.
    pub pace: Option<Rate>,
}

impl LimitSettings {
    pub(super) fn registry(&self, name: &RegistryName, uses_aws: bool) -> RegistryLimits {
        let stated = self.registries.get(name).copied().unwrap_or(self.registry);
        let default = uses_aws.then_some(self.aws_pace);
        RegistryLimits { pace: stated.pace.or(default), ..stated }
    }
}
