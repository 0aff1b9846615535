//! How much is allowed. What is written and its defaults: `config/traffic.rs`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use crate::domain::RegistryName;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: NonZeroU32,
    /// At once, after a pause.
    pub burst: NonZeroU32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Requests at once.
    pub in_flight: usize,
    /// Addresses, subjects and projects remembered, each.
    pub keys: usize,
    /// Failed authentications.
    pub address: Rate,
    pub subject: Rate,
    pub project: Rate,
    /// Of a registry that is not in `registries`.
    pub registry: RegistryLimits,
    /// Of calls to AWS, where a registry's own pace is not stated.
    pub aws_pace: Rate,
    pub registries: BTreeMap<RegistryName, RegistryLimits>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryLimits {
    /// Calls at once.
    pub in_flight: usize,
    /// Calls started.
    pub pace: Option<Rate>,
}

impl LimitSettings {
    pub(super) fn registry(&self, name: &RegistryName, uses_aws: bool) -> RegistryLimits {
        let stated = self.registries.get(name).copied().unwrap_or(self.registry);
        let default = uses_aws.then_some(self.aws_pace);
        RegistryLimits { pace: stated.pace.or(default), ..stated }
    }
}
