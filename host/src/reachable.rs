//! Resolves names for `reqwest`, to addresses that may be connected to and no others.
//!
//! The connection goes to the address that was checked, so a name that resolves to another address
//! a moment later (DNS rebinding) gains nothing. An address that is written in a URL is not
//! resolved; [`permits`] checks it.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::domain::Reach;
use crate::names;

pub(crate) struct Reachable {
    pub(crate) reach: Reach,
    /// The setting that allows private addresses, for the message.
    pub(crate) setting: &'static str,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "`{name}` has no address that the broker may connect to (it resolves to {found}); set \
     `{setting} = true` if a private address is meant"
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
            let found = names::look_up(name.as_str()).await?;
            let permitted: Vec<_> =
                found.iter().copied().filter(|address| reach.permits(address.ip())).collect();
            if permitted.is_empty() {
                let found: Vec<String> =
                    found.iter().map(|address| address.ip().to_string()).collect();
                let found = found.join(", ");
                let name = name.as_str().to_owned();
                return Err(OutOfReach { name, found, setting }.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
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
