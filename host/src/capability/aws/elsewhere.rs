//! Addresses that take the place of AWS: emulators, and the endpoints of a VPC.

use std::ffi::OsStr;

use super::settings::AwsSettings;
use crate::capability::printable;
use crate::config::Environment;

/// An address that takes the place of AWS.
pub(crate) struct Elsewhere {
    pub(crate) url: String,
    /// The setting or the variable that has it.
    pub(crate) named_by: &'static str,
}

/// Where calls of STS and ECR go, unless it is AWS. The setting has precedence, as in the SDK.
pub(crate) fn elsewhere(settings: &AwsSettings, environment: &Environment) -> Vec<Elsewhere> {
    const IGNORED: &str = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS";
    let service =
        if settings.is_public() { "AWS_ENDPOINT_URL_ECR_PUBLIC" } else { "AWS_ENDPOINT_URL_ECR" };
    let names = ["AWS_ENDPOINT_URL_STS", service, "AWS_ENDPOINT_URL"];
    if let Some(url) = settings.endpoint_url.clone() {
        return vec![Elsewhere { url, named_by: "endpoint_url" }];
    }
    let variable =
        |name: &str| environment.get(OsStr::new(name))?.to_str().filter(|text| !text.is_empty());
    if variable(IGNORED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Vec::new();
    }
    let found = |name: &'static str| {
        Some(Elsewhere { url: printable(variable(name)?, 256), named_by: name })
    };
    let mut all: Vec<Elsewhere> = names.into_iter().filter_map(found).collect();
    // The general one concerns the services without an own one.
    all.truncate(2);
    all
}
