//! The optional trait of a provider that can end the credentials that it issues.

use crate::{Error, Grant, Provider};

/// The end of a credential before the registry would end it, or because the registry never would.
///
/// Without it, credentials end by themselves. With it, the host ends each credential when the
/// granted lifetime is over, when its caller returns it, and when an operator says so. Pass it on
/// with `export_provider!(Example, revocation)`.
pub trait Revocation: Provider {
    /// Ends the credential that `issue` made for this grant. Capabilities work as in `issue`, for
    /// the grant's project.
    ///
    /// `remembered` is the last note that `issue` gave to [`Grant::remember`]. It is `None` if the
    /// broker does not know how far `issue` got: the credential, if there is one, has the name
    /// that `issue` gave it, so let that name follow from [`Grant::id`] alone.
    ///
    /// The host calls this again after every failure, and may call it after a success. A
    /// credential that is gone, or that never was, is a success. Before you end what a note names,
    /// make sure that the name is that of this grant: the registry may have given the id to
    /// something else.
    fn revoke(
        settings: &Self::Settings,
        grant: &Grant,
        remembered: Option<&str>,
    ) -> Result<(), Error>;
}
