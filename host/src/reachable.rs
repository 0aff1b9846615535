//! Resolves names for `reqwest`, to addresses that may be connected to and no others.
//!
//! The connection goes to the address that was checked, so a name that resolves to another address
//! a moment later (DNS rebinding) gains nothing. An address that is written in a URL is not
//! resolved; [`permits`] checks it.

use reqwest::Proxy;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::domain::Reach;
use crate::names;

pub(crate) struct Reachable {
    pub(crate) reach: Reach,
    /// The setting that allows private addresses, for the message.
    pub(crate) setting: &'static str,
}

/// A name may have many addresses.
const MOST_SHOWN: usize = 4;

#[derive(Debug, thiserror::Error)]
#[error("`{name}` has no address that the broker may connect to: it is at {}", refusals.join("; "))]
pub(crate) struct OutOfReach {
    name: String,
    refusals: Vec<String>,
}

impl Resolve for Reachable {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, setting) = (self.reach, self.setting);
        Box::pin(async move {
            let found = names::look_up(name.as_str()).await?;
            let permitted: Vec<_> =
                found.iter().copied().filter(|address| reach.permits(address.ip())).collect();
            if permitted.is_empty() {
                let refusals = found.iter().take(MOST_SHOWN);
                let refusals =
                    refusals.filter_map(|address| reach.refusal(address.ip(), setting)).collect();
                return Err(OutOfReach { name: name.as_str().to_owned(), refusals }.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// Whether the URL is on this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Why the host of the URL may not be connected to, as far as it is an address and not a name.
pub(crate) fn refusal(reach: Reach, url: &Url, setting: &str) -> Option<String> {
    match url.host() {
        Some(Host::Ipv4(address)) => reach.refusal(address.into(), setting),
        Some(Host::Ipv6(address)) => reach.refusal(address.into(), setting),
        Some(Host::Domain(_)) => None,
        None => Some("no host".to_owned()),
    }
}

/// Whether the host of the URL may be connected to, as far as it is an address and not a name.
pub(crate) fn permits(reach: Reach, url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => reach.permits(address.into()),
        Some(Host::Ipv6(address)) => reach.permits(address.into()),
        Some(Host::Domain(_)) => true,
        None => false,
    }
}

/// The HTTP proxy at this URL; `None` if it is no plain URL, or at an address that is never
/// connected to. A proxy resolves the names of its targets itself.
pub(crate) fn proxy(text: &str) -> Option<Proxy> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let is_plain = url.query().is_none() && url.fragment().is_none() && url.path() == "/";
    let is_reachable = permits(Reach::Internal, &url);
    Proxy::all(url).ok().filter(|_| is_plain && is_reachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_resolved_to_what_is_within_reach() {
        let resolve = async |reach| {
            let found = Reachable { reach, setting: "internal" };
            let found = found.resolve("localhost".parse().unwrap()).await;
            found.map(Iterator::count).map_err(|error| error.to_string())
        };
        assert!(resolve(Reach::Loopback).await.unwrap() > 0);
        assert!(resolve(Reach::Internal).await.unwrap() > 0);
        let refused = resolve(Reach::Public).await.unwrap_err();
        assert!(refused.contains("127.0.0.1") && refused.contains("internal = true"), "{refused}");
    }
}
