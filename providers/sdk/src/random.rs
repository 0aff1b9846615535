//! Random text from the host: passwords that a provider chooses, and names that nobody can guess.
//!
//! A component that an interpreter runs may repeat random numbers that were drawn when it was
//! built; these are new in each call.

use crate::{Error, Secret, host};

/// The letters of the English alphabet in both cases, and the digits.
pub const LETTERS_AND_DIGITS: &str =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Makes a secret of `length` characters, at most 256. It goes to the registry and to the caller,
/// and the provider never sees it.
///
/// `alphabet` has 2 to 128 different printable characters of ASCII.
///
/// # Errors
///
/// [`Error::Failed`] for less than 64 bits of randomness: 11 letters and digits.
///
/// ```
/// use rise_provider::random::{self, LETTERS_AND_DIGITS};
/// use rise_provider::testing::{self, Origin};
///
/// let (password, _) = testing::Host::new().run(|| random::password(24, LETTERS_AND_DIGITS));
/// assert_eq!(testing::origin(&password?), &Origin::Random);
/// # Ok::<(), rise_provider::Error>(())
/// ```
pub fn password(length: u32, alphabet: &str) -> Result<Secret, Error> {
    host::random_password(length, alphabet).map(Secret)
}

/// Makes plain text of `length` characters, at most 256. It is for names, and must not become a
/// credential: that is [`password`], which the provider cannot read.
///
/// # Errors
///
/// [`Error::Failed`] for an alphabet or a length that is not possible.
///
/// ```
/// use rise_provider::{random, testing};
///
/// let (name, _) = testing::Host::new().run(|| random::text(8, "0123456789abcdef"));
/// assert_eq!(name?.len(), 8);
/// # Ok::<(), rise_provider::Error>(())
/// ```
pub fn text(length: u32, alphabet: &str) -> Result<String, Error> {
    host::random_text(length, alphabet)
}
