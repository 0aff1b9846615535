//! `random`: passwords that a provider chooses without seeing them, and plain text for names.
//!
//! An interpreter may have frozen its own random numbers when the component was built, and a
//! password that a guest makes is text in its memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use wasmtime::component::{Linker, Resource};
use zeroize::Zeroizing;

use super::CallState;
use super::secrets::{SecretHandle, SecretOrigin};
use super::state::HasState;
use crate::capability::wit::rise::registry::random;
use crate::capability::wit::rise::registry::types::Error;
use crate::domain::Secret;

const LONGEST: u32 = 256;
/// Of an alphabet, in characters. 128 keeps a random byte fair enough to reject few of them.
const MOST_LETTERS: usize = 128;
/// A password with less can be guessed by trying.
const LEAST_BITS: f64 = 64.0;

pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    random::add_to_linker::<CallState, HasState>(linker, |state| state)
}

impl random::Host for CallState {
    fn password(
        &mut self,
        length: u32,
        alphabet: String,
    ) -> wasmtime::Result<Result<Resource<SecretHandle>, Error>> {
        let made = self.begin("random.password").and_then(|_| password(length, &alphabet));
        let text = match made {
            Ok(text) => text,
            Err(error) => return Ok(Err(error)),
        };
        let secret = Arc::new(Secret::new(text.as_str().to_owned()));
        let (origin, name) = (SecretOrigin::Random, "random".into());
        Ok(Ok(self.give(SecretHandle { secret, origin, name, expires_at: None })?))
    }

    fn text(&mut self, length: u32, alphabet: String) -> wasmtime::Result<Result<String, Error>> {
        let made = self.begin("random.text").and_then(|_| draw(length, &alphabet));
        Ok(made.map(|text| text.as_str().to_owned()))
    }
}

fn password(length: u32, alphabet: &str) -> Result<Zeroizing<String>, Error> {
    let text = draw(length, alphabet)?;
    let bits = f64::from(length) * f64::from(u8::try_from(alphabet.len()).unwrap_or(0)).log2();
    if bits >= LEAST_BITS {
        Ok(text)
    } else {
        Err(Error::Failed(format!(
            "a random password of {length} characters, each one of {}, has {} bits of randomness, \
             and {LEAST_BITS} are the least; make it longer",
            alphabet.len(),
            bits.floor()
        )))
    }
}

/// Draws characters of the alphabet, each equally likely.
fn draw(length: u32, alphabet: &str) -> Result<Zeroizing<String>, Error> {
    let letters = alphabet.as_bytes();
    let distinct: BTreeSet<&u8> = letters.iter().collect();
    let is_alphabet = (2..=MOST_LETTERS).contains(&letters.len())
        && distinct.len() == letters.len()
        && letters.iter().all(u8::is_ascii_graphic);
    if !is_alphabet || !(1..=LONGEST).contains(&length) {
        return Err(Error::Failed(format!(
            "random text needs a length of 1 to {LONGEST} and an alphabet of 2 to {MOST_LETTERS} \
             different printable characters of ASCII, without blanks"
        )));
    }
    // Bytes beyond the last whole multiple of the alphabet would make its first letters likelier.
    let fair = 256 / letters.len() * letters.len();
    let mut text = Zeroizing::new(String::with_capacity(length as usize));
    let mut bytes = Zeroizing::new([0_u8; 64]);
    while text.len() < length as usize {
        let filled = SystemRandom::new().fill(&mut *bytes);
        filled.map_err(|_| Error::Failed("the host has no random numbers".to_owned()))?;
        let usable = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair);
        let drawn = usable.filter_map(|byte| letters.get(byte % letters.len()));
        let left = length as usize - text.len();
        text.extend(drawn.take(left).map(|letter| char::from(*letter)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz0123456789";

    #[test]
    fn text_has_its_length_and_its_alphabet() {
        for (length, alphabet) in [(1, "ab"), (256, LETTERS), (65, "!~")] {
            let text = draw(length, alphabet).unwrap();
            assert_eq!(text.len(), length as usize);
            assert!(text.chars().all(|letter| alphabet.contains(letter)), "{}", *text);
        }
        assert_ne!(*draw(20, LETTERS).unwrap(), *draw(20, LETTERS).unwrap());
        // Of 4,000 letters each of three is drawn about 1,333 times; 40 sigma would be 1,200.
        let text = (0..16).map(|_| draw(250, "abc").unwrap().to_string()).collect::<String>();
        for letter in ['a', 'b', 'c'] {
            let count = text.matches(letter).count();
            assert!((1000..1700).contains(&count), "{letter}: {count}");
        }
    }

    #[test]
    fn what_is_no_alphabet_is_refused() {
        let long = (33_u8..127).map(char::from).collect::<String>() + LETTERS;
        for (length, alphabet) in
            [(0, LETTERS), (257, LETTERS), (8, ""), (8, "a"), (8, "aa"), (8, "a b"), (8, "äö")]
        {
            assert!(draw(length, alphabet).is_err(), "{length} {alphabet}");
        }
        assert!(draw(8, &long).is_err());
    }

    #[test]
    fn a_password_that_can_be_guessed_is_refused() {
        for (length, alphabet, is_accepted) in
            [(12, LETTERS, false), (13, LETTERS, true), (63, "01", false), (64, "01", true)]
        {
            assert_eq!(password(length, alphabet).is_ok(), is_accepted, "{length} {alphabet}");
        }
    }
}
