//! Names are resolved here, and only to addresses that may be connected to: for whatever is fetched with `reqwest`.
//!
//! The connection goes to the very address that was looked at: a name that means another one a moment later (DNS rebinding)
//! gains nothing. An address written as such in a URL never comes here; [`permits`] is for that.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::domain::Reach;

pub(crate) struct Reachable {
    pub(crate) reach: Reach,
    /// The setting that lets private addresses in, for the message.
    pub(crate) setting: &'static str,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "`{name}` has no address that may be asked ({found}): state `{setting} = true` if it is meant to be a private one"
)]
pub(crate) struct OutOfReach {
    name: String,
    found: String,
    setting: &'static str,
}

impl Resolve for Reachable {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, setting) = (self.reach, self.setting);
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let permitted: Vec<_> =
                found.iter().copied().filter(|it| reach.permits(it.ip())).collect();
            if permitted.is_empty() {
                let found: Vec<String> = found.iter().map(|it| it.ip().to_string()).collect();
                let found = found.join(", ");
                let name = name.as_str().to_owned();
                return Err(OutOfReach { name, found, setting }.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// Whether an address in the URL, if it has one and no name, may be connected to.
pub(crate) fn permits(reach: Reach, url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => reach.permits(address.into()),
        Some(Host::Ipv6(address)) => reach.permits(address.into()),
        Some(Host::Domain(_)) => true,
        None => false,
    }
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
