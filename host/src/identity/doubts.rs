//! Addresses and audiences of issuers that are valid and probably not meant: no token would fit, or
//! tokens that were made for another service would.
//!
//! To add one: a case of [`of_issuer`], or a row of [`OTHERS`].

use url::Url;

use super::preset::Preset;
use super::settings::{DiscoverySettings, KeyOrigin};

/// Audiences that jobs ask tokens for to use another service: their beginning, and the service.
const OTHERS: [(&str, &str); 9] = [
    ("sts.amazonaws.com", "AWS"),
    ("sts.amazonaws.com.cn", "AWS"),
    ("https://github.com/", "whatever accepts GitHub's default"),
    ("https://gitlab.com", "whatever accepts GitLab's default"),
    ("https://kubernetes.default.svc", "the API server of its cluster"),
    ("https://iam.googleapis.com/", "Google Cloud"),
    ("//iam.googleapis.com/", "Google Cloud"),
    ("api://AzureADTokenExchange", "Azure"),
    ("sigstore", "Sigstore"),
];

/// Last parts of the addresses of key sets.
const KEY_SETS: [&str; 4] = ["jwks", "jwks.json", "keys", "certs"];

/// Presets of services with one public address.
const PUBLIC: [Preset; 4] =
    [Preset::GithubActions, Preset::Gitlab, Preset::Buildkite, Preset::Google];

/// Why tokens probably have another `iss`.
pub(super) fn of_issuer(issuer: &str) -> Option<String> {
    if let Some((before, _)) = issuer.split_once("/.well-known/") {
        return Some(format!(
            "`issuer` is the address of a document, and no token has it as `iss`; set it to what \
             stands before `/.well-known/`: `{before}`"
        ));
    }
    let last = issuer.rsplit('/').next().unwrap_or_default();
    if KEY_SETS.contains(&last) {
        return Some(format!(
            "`issuer` ends in `/{last}`, as the address of keys does; set it to the `iss` of the \
             tokens, under which the broker finds the keys"
        ));
    }
    let mut public = PUBLIC.into_iter().filter_map(Preset::issuer);
    if let Some(known) = public.find(|known| issuer != *known && issuer == format!("{known}/")) {
        return Some(format!(
            "`issuer` ends in `/`, and the `iss` of its tokens does not, so each of them is \
             rejected; write `{known}`"
        ));
    }
    let url = Url::parse(issuer).ok().filter(|url| url.scheme() == "https")?;
    let authority = issuer.strip_prefix("https://")?.split('/').next()?;
    (authority != url.authority()).then(|| {
        format!(
            "`issuer` has the host `{authority}`, and services write it as `{}`; the `iss` of \
             tokens must be equal to the byte",
            url.authority()
        )
    })
}

/// What else the audience is for.
pub(super) fn of_audience(audience: &str) -> Option<String> {
    let is_below = |start: &str| audience == start || audience.starts_with(&format!("{start}."));
    let is_meant = |(start, _): &&(&str, &str)| {
        if start.ends_with('/') { audience.starts_with(start) } else { is_below(start) }
    };
    let (_, service) = OTHERS.iter().find(is_meant)?;
    Some(format!(
        "`audience` is `{audience}`, which tokens for {service} have too, so that whoever gets one \
         of those can use it here; choose a name of this broker alone, such as \"rise-registry\""
    ))
}

/// What a cluster's own address needs.
pub(super) fn of_keys(keys: &KeyOrigin) -> Option<String> {
    let KeyOrigin::Discovery(settings) = keys else { return None };
    let DiscoverySettings { issuer, discovery_url, internal, ca_file, .. } = settings;
    let url = Url::parse(discovery_url.as_ref().unwrap_or(issuer)).ok()?;
    let host = url.host_str()?;
    let is_api_server = host.starts_with("kubernetes.default");
    let is_service = |host: &str| host.rsplit('.').next() == Some("svc");
    let is_inside = is_service(host.strip_suffix(".cluster.local").unwrap_or(host));
    if !(is_api_server || is_inside) {
        return None;
    }
    let internal = (!internal).then_some("`internal = true`");
    let authority = ca_file.is_none() && is_api_server;
    let authority =
        authority.then_some("`ca_file = \"/var/run/secrets/kubernetes.io/serviceaccount/ca.crt\"`");
    let missing: Vec<&str> = internal.into_iter().chain(authority).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "{host} is inside the cluster, so its keys cannot be fetched without {}",
            missing.join(" and ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_issuers_and_audiences_are_beyond_doubt() {
        for issuer in [
            "https://token.actions.githubusercontent.com",
            "https://gitlab.example.com",
            "https://login.microsoftonline.com/8f1c2f6e/v2.0",
            "https://oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE",
            "https://dex.example.com:8443/dex/",
            "https://tenant.eu.auth0.com/",
            "urn:rise:local",
        ] {
            assert_eq!(of_issuer(issuer), None, "{issuer}");
        }
        for audience in ["rise-registry", "https://broker.example.com", "vault", "sigstore-mirror"]
        {
            assert_eq!(of_audience(audience), None, "{audience}");
        }
    }
}
