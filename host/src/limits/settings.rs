//! The values of limits. Their settings and defaults: `config/traffic.rs`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use crate::domain::{AwsAccount, RegistryName};

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
    /// The pace of AWS accounts if `registry` has none.
    pub aws_pace: Rate,
    /// Each with the pace of its own, if it has one.
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

/// What has one pace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PaceOf {
    Registry(RegistryName),
    Aws(AwsAccount),
}

impl LimitSettings {
    /// The limits of a registry, and of what its pace is. `account`: the one that it calls.
    pub(super) fn registry(
        &self,
        name: &RegistryName,
        account: Option<AwsAccount>,
    ) -> (RegistryLimits, PaceOf) {
        let usual = RegistryLimits { pace: None, ..self.registry };
        let stated = self.registries.get(name).copied().unwrap_or(usual);
        let of_aws = account.as_ref().map(|_| self.aws_pace);
        let pace = stated.pace.or(self.registry.pace).or(of_aws);
        let of = match account {
            Some(account) if stated.pace.is_none() => PaceOf::Aws(account),
            Some(_) | None => PaceOf::Registry(name.clone()),
        };
        (RegistryLimits { pace, ..stated }, of)
    }
}

impl PaceOf {
    /// For its name in a store that brokers share.
    pub(super) fn parts(&self) -> Vec<&str> {
        match self {
            Self::Registry(name) => vec![name.as_str()],
            Self::Aws(AwsAccount { service, account, region }) => vec![service, account, region],
        }
    }
}
