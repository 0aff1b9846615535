//! The optional trait of a provider that finds its credentials at the registry by their names.

use crate::{Error, Revocation};

/// Credentials of which the broker has no record any more, because its log was lost or comes from a
/// backup. Their names are all that is left of them.
///
/// The host judges what is a leftover: a credential whose id is so old that no broker can still
/// have it out. It ends one only if the operator says so. Pass it on with
/// `export_provider!(Example, revocation, leftovers)`.
pub trait Leftovers: Revocation {
    /// Returns the credentials whose names are those that `issue` gives, of whatever grant, those
    /// that are in use among them. It leaves out what people and other programs made.
    ///
    /// There is no grant. [`log`](crate::log), [`secrets`](crate::secrets) and
    /// [`http`](crate::http) work, and `http` only for `GET` and `HEAD` at endpoints without
    /// `{project}`. If there are more credentials than the requests of one call can list, return
    /// those that were made first. [`Error::Unsupported`] means that the registry cannot list them
    /// with these settings.
    fn find(settings: &Self::Settings) -> Result<Vec<Leftover>, Error>;

    /// Ends a credential that [`find`](Leftovers::find) returned a moment ago. There is no grant,
    /// and the same capabilities work, `http` with every method at endpoints without `{project}`.
    ///
    /// As in [`revoke`](Revocation::revoke), a credential that is gone is a success. Before you end
    /// what the note names, make sure that the name is that of this id.
    fn end(settings: &Self::Settings, leftover: &Leftover) -> Result<(), Error>;
}

/// A credential at the registry that is named after a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The id of the grant, as the name has it, in upper or lower case.
    pub id: String,
    /// What [`Leftovers::end`] needs to find it again, such as its URL: at most 1 KiB, for people
    /// to read, and no secret.
    pub note: String,
}

impl Leftover {
    /// The leftover with this name and note, if the name is `prefix` and the id of a grant in lower
    /// case.
    ///
    /// ```
    /// use rise_provider::Leftover;
    ///
    /// let note = "https://registry.example.com/tokens/7";
    /// let leftover = Leftover::named("rise-01arz3ndektsv4rrffq69g5fav", "rise-", note);
    /// assert_eq!(leftover.map(|found| found.id).as_deref(), Some("01arz3ndektsv4rrffq69g5fav"));
    /// assert_eq!(Leftover::named("rise-nightly", "rise-", note), None);
    /// ```
    pub fn named(name: &str, prefix: &str, note: impl Into<String>) -> Option<Self> {
        let id = name.strip_prefix(prefix).filter(|id| is_id(id))?;
        Some(Self { id: id.to_owned(), note: note.into() })
    }
}

/// Whether the text is a ULID in lower case.
fn is_id(text: &str) -> bool {
    let is_letter =
        |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() && !b"ilou".contains(&byte);
    text.len() == 26
        && text.bytes().all(is_letter)
        && text.bytes().next().is_some_and(|byte| matches!(byte, b'0'..=b'7'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_prefix_with_an_id_is_a_name() {
        let id = "01arz3ndektsv4rrffq69g5fav";
        for (name, expected) in [
            (format!("rise-{id}"), true),
            (format!("rise-{}", id.to_uppercase()), false),
            (format!("rise-{id}2"), false),
            (format!("rise-{}", &id[1..]), false),
            (format!("rise-8{}", &id[1..]), false),
            (format!("rise-{}u", &id[1..]), false),
            (format!("x-rise-{id}"), false),
            (id.to_owned(), false),
            ("rise-admin".to_owned(), false),
            ("rise-".to_owned(), false),
            (format!("rise-{}é", &id[2..]), false),
        ] {
            assert_eq!(Leftover::named(&name, "rise-", "note").is_some(), expected, "{name}");
        }
    }
}
