//! `[limits]`, and the timeouts and connections of `[server]`: their form and their meaning.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::node::Problem;
use super::{RegistryConfig, Written};
use crate::domain::{RegistryName, TrustedProxies};
use crate::limits::{LimitSettings, Rate, RegistryLimits};
use crate::rules::GuardrailFile;

/// `[limits]`: what rules may grant, and how much may be requested.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TrafficFile {
    /// The policy that no rule may exceed.
    pub policy: GuardrailFile,
    #[schemars(range(min = 1, max = 100_000))]
    pub in_flight: Option<u32>,
    #[schemars(range(min = 16, max = 10_000_000))]
    pub keys: Option<u32>,
    pub address: RateFile,
    pub subject: RateFile,
    pub project: RateFile,
    pub registry: RegistryLimitsFile,
    pub registries: BTreeMap<String, RegistryLimitsFile>,
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RateFile {
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_second: Option<u32>,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RegistryLimitsFile {
    #[schemars(range(min = 1, max = 10_000))]
    pub in_flight: Option<u32>,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_second: Option<u32>,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
}

/// The limits of a listener for connections of strangers.
#[derive(Clone, Debug)]
pub struct Edge {
    pub timeouts: Timeouts,
    pub connections: usize,
    /// Connections of one IPv4 address or IPv6 /56. Trusted proxies bring many callers and have no
    /// such bound.
    pub connections_per_address: usize,
    pub trusted_proxies: TrustedProxies,
}

/// How long anything may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub handshake: Duration,
    /// From the first byte of a request to the end of its headers.
    pub header: Duration,
    pub body: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Of a connection.
    pub lifetime: Duration,
    /// From headers to answer.
    pub request: Duration,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "the name of a setting contains its unit")]
pub(super) struct TimeoutsFile {
    #[schemars(range(min = 1, max = 600_000))]
    pub handshake_ms: Option<u64>,
    #[schemars(range(min = 1, max = 600_000))]
    pub header_ms: Option<u64>,
    #[schemars(range(min = 1, max = 600_000))]
    pub body_ms: Option<u64>,
    #[schemars(range(min = 1, max = 3_600_000))]
    pub idle_ms: Option<u64>,
    #[schemars(range(min = 1, max = 86_400_000))]
    pub lifetime_ms: Option<u64>,
    #[schemars(range(min = 1, max = 600_000))]
    pub request_ms: Option<u64>,
}

impl TimeoutsFile {
    pub(super) fn settings(&self) -> Timeouts {
        let time = |stated: Option<u64>, default| Duration::from_millis(stated.unwrap_or(default));
        Timeouts {
            handshake: time(self.handshake_ms, 5_000),
            header: time(self.header_ms, 5_000),
            body: time(self.body_ms, 5_000),
            idle: time(self.idle_ms, 30_000),
            lifetime: time(self.lifetime_ms, 600_000),
            request: time(self.request_ms, 10_000),
        }
    }
}

/// AWS allows an account and region 20 calls per second with a burst of 200 (its page on throttling
/// of ECR). These values are slightly lower.
const AWS_PACE: (u32, u32) = (18, 180);

/// A CI matrix has up to 256 jobs of one subject, which start at once and make two requests each:
/// twice that, for retries. Answers from the cache are cheap; mints have the pace of the registry.
const SUBJECT: (u32, u32) = (50, 1_000);
/// Two branches of one project at once.
const PROJECT: (u32, u32) = (100, 2_000);

impl TrafficFile {
    pub(super) fn settings(
        &self,
        known: &BTreeMap<RegistryName, RegistryConfig>,
        written: &Written,
        problems: &mut Vec<Problem>,
    ) -> LimitSettings {
        let aws_pace = rate(&RateFile::default(), AWS_PACE);
        let registry = |file: &RegistryLimitsFile| RegistryLimits {
            in_flight: size(file.in_flight.or(self.registry.in_flight), 64),
            pace: file.pace(AWS_PACE),
        };
        let mut registries = BTreeMap::new();
        for (text, file) in &self.registries {
            match text.parse().ok().filter(|name| known.contains_key(name)) {
                Some(name) => drop(registries.insert(name, registry(file))),
                None => problems.push(written.problem(
                    &format!("/limits/registries/{text}"),
                    format!("unknown registry `{text}`, expected the name of one of [registries]"),
                )),
            }
        }
        LimitSettings {
            in_flight: size(self.in_flight, 512),
            keys: size(self.keys, 100_000),
            address: rate(&self.address, (20, 40)),
            subject: rate(&self.subject, SUBJECT),
            project: rate(&self.project, PROJECT),
            registry: registry(&self.registry),
            aws_pace,
            registries,
        }
    }
}

impl RegistryLimitsFile {
    /// Returns `None` if neither value is stated.
    fn pace(&self, default: (u32, u32)) -> Option<Rate> {
        let stated = RateFile { per_second: self.per_second, burst: self.burst };
        (stated.per_second.is_some() || stated.burst.is_some()).then(|| rate(&stated, default))
    }
}

fn rate(file: &RateFile, (per_second, burst): (u32, u32)) -> Rate {
    let positive = |stated: Option<u32>, default| {
        NonZeroU32::new(stated.unwrap_or(default)).unwrap_or(NonZeroU32::MIN)
    };
    Rate { per_second: positive(file.per_second, per_second), burst: positive(file.burst, burst) }
}

fn size(stated: Option<u32>, default: u32) -> usize {
    usize::try_from(stated.unwrap_or(default)).unwrap_or(usize::MAX)
}
