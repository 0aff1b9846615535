//! PEM (RFC 7468): the text form of everything in key files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

pub(super) const PRIVATE_KEY: &str = "PRIVATE KEY";
pub(super) const CERTIFICATE: &str = "CERTIFICATE";
const COLUMNS: usize = 64;

/// The bytes of a text that is one block with this label and nothing else.
pub(super) fn decode(text: &str, label: &str) -> Option<Zeroizing<Vec<u8>>> {
    let body = text.trim().strip_prefix(&begin(label))?.strip_suffix(&end(label))?;
    // As large as it may become: a buffer that grows leaves copies behind that nobody wipes.
    let mut joined = Zeroizing::new(String::with_capacity(body.len()));
    body.lines().for_each(|line| joined.push_str(line.trim()));
    STANDARD.decode(joined.as_bytes()).ok().map(Zeroizing::new)
}

/// The block with this label.
pub(super) fn encode(bytes: &[u8], label: &str) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(bytes));
    let (begin, end) = (begin(label), end(label));
    let room = body.len() + body.len() / COLUMNS + begin.len() + end.len() + 4;
    let mut text = Zeroizing::new(String::with_capacity(room));
    text.push_str(&begin);
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, left) = rest.split_at(COLUMNS.min(rest.len()));
        text.push('\n');
        text.push_str(line);
        rest = left;
    }
    text.push('\n');
    text.push_str(&end);
    text.push('\n');
    text
}

/// Splits a text behind the end of its first block with this label: what stands before the block,
/// the block, and the rest.
pub(super) fn split<'a>(text: &'a str, label: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let begins = text.find(&begin(label))?;
    let (before, text) = text.split_at(begins);
    let end = end(label);
    let ends = text.find(&end)? + end.len();
    let (block, rest) = text.split_at(ends);
    Some((before, block, rest))
}

fn begin(label: &str) -> String {
    format!("-----BEGIN {label}-----")
}

fn end(label: &str) -> String {
    format!("-----END {label}-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for length in [0, 1, 47, 48, 49, 1000] {
            let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
            let text = encode(&bytes, CERTIFICATE);
            assert!(text.lines().all(|line| line.len() <= COLUMNS), "{length}");
            assert_eq!(decode(&text, CERTIFICATE).unwrap().as_slice(), bytes, "{length}");
            assert!(decode(&text, PRIVATE_KEY).is_none());
            let long = format!("a\n{}b\n", *text);
            let (before, block, rest) = split(&long, CERTIFICATE).unwrap();
            assert_eq!((before, block, rest), ("a\n", text.trim_end(), "\nb\n"), "{length}");
        }
        assert!(split("-----BEGIN CERTIFICATE-----\nAAAA\n", CERTIFICATE).is_none());
    }
}
