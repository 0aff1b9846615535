//! The optional trait of a provider that can end the credentials that it issues.

use crate::{Error, Grant, Provider};

/// The end of a credential before the registry would end it, or because the registry never would.
///
/// Without it, credentials end by themselves. With it, the host ends each credential when the
/// granted lifetime is over, when its caller returns it, and when an operator says so. Pass it on
/// with `export_provider!(Example, revocation)`.
pub trait Revocation: Provider {
    /// Ends the credential that `issue` made for this grant. Capabilities work as in `issue`, for
    /// the grant's project. The grant has the id, project, actions and lifetime that it had in
    /// `issue`, and [`Grant::now`] is the time of this call.
    ///
    /// `remembered` is the last note that `issue` gave to [`Grant::remember`]. It is `None` if the
    /// broker does not know how far `issue` got: the credential, if there is one, has the name
    /// that `issue` gave it, so let that name follow from [`Grant::id`] alone.
    ///
    /// The host calls this again after every failure, and may call it after a success: a registry
    /// may make late what it was asked for in time. A credential that is gone, or that never was,
    /// is a success. Before you end what a note names, make sure that the name is that of this
    /// grant: the registry may have given the id to something else. Leave what somebody else made
    /// as it is, and return a success: this grant's credential is gone. Before you believe that it
    /// is gone, make sure that you asked where it was made: see [`remembered_id`].
    fn revoke(
        settings: &Self::Settings,
        grant: &Grant,
        remembered: Option<&str>,
    ) -> Result<(), Error>;
}

/// The id in a note that is the URL of a credential, `{collection}/{id}`. The settings may name
/// another registry, account or project by now. There, a 404 says nothing about the credential.
///
/// ```
/// use rise_provider::remembered_id;
///
/// let tokens = "https://registry.example.com/api/tokens";
/// assert_eq!(remembered_id("https://registry.example.com/api/tokens/7", tokens), Ok("7"));
/// assert!(remembered_id("https://old.example.com/api/tokens/7", tokens).is_err());
/// ```
///
/// # Errors
///
/// [`Error::InvalidSettings`] if the credential is not below this collection.
pub fn remembered_id<'a>(note: &'a str, collection: &str) -> Result<&'a str, Error> {
    let id = note.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/'));
    id.filter(|id| !id.is_empty() && !id.contains('/')).ok_or_else(|| {
        Error::InvalidSettings(format!(
            "`{note}` was made with other settings, and these name `{collection}`; restore the \
             settings until it has ended, or delete it by hand"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_the_collection_has_an_id_there() {
        let tokens = "https://a.example.com/tokens";
        for (note, expected) in [
            ("https://a.example.com/tokens/7", Some("7")),
            ("https://a.example.com/tokens/rise-1", Some("rise-1")),
            ("https://a.example.com/tokens/", None),
            ("https://a.example.com/tokens", None),
            ("https://a.example.com/tokens/7/8", None),
            ("https://a.example.com/tokens2/7", None),
            ("https://b.example.com/tokens/7", None),
            ("7", None),
        ] {
            assert_eq!(remembered_id(note, tokens).ok(), expected, "{note}");
        }
    }
}
