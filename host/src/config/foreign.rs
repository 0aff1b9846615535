//! Variables that other programs read, and that somebody may expect the broker to read.

use std::ffi::OsStr;

use super::layers::Environment;
use super::node::Problem;
use crate::identity::{DiscoverySettings, IdentitySettings, KeyOrigin};

const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// Names that other programs give the folder of their settings.
const FOLDERS: [&str; 4] =
    ["RISE_CONFIG", "RISE_CONFIG_DIR", "RISE_CONFIG_FILE", "RISE_CONFIG_PATH"];

/// Returns a problem for each variable that is set and has no effect.
pub(super) fn variables(environment: &Environment, identity: &IdentitySettings) -> Vec<Problem> {
    let is_set =
        |name: &str| environment.get(OsStr::new(name)).is_some_and(|value| !value.is_empty());
    let first = |names: &[&'static str]| names.iter().copied().find(|name| is_set(name));
    let told = |name: &str, message: &str| {
        Problem::new(&format!("the variable {name}"), "", format!("is not read; {message}"))
    };
    let folder = first(&FOLDERS).map(|name| {
        told(name, "name the folder of the settings by --config-dir, in a unit or a manifest, too")
    });
    let log = first(&["RUST_LOG"])
        .map(|name| told(name, "set `level` of [log], or the variable RISE_LOG__LEVEL"));
    let proxy = first(&PROXIES).filter(|_| goes_out(identity)).map(|name| {
        told(name, "an issuer has a `proxy` of its own, and a registry `proxy` in `ceiling.http`")
    });
    [folder, log, proxy].into_iter().flatten().collect()
}

/// Whether keys are fetched from a host outside without a proxy.
fn goes_out(identity: &IdentitySettings) -> bool {
    identity.issuers.iter().any(|issuer| match &issuer.keys {
        KeyOrigin::Discovery(DiscoverySettings { proxy, internal, .. }) => {
            proxy.is_none() && !internal
        }
        KeyOrigin::JwksFile { .. } | KeyOrigin::Local { .. } => false,
    })
}
