//! Finds duplicate members of JSON objects by a tokenizer that is independent of serde.

use std::collections::BTreeSet;

/// Whether no object has a member twice. `bytes` must be valid JSON.
pub(super) fn each_occurs_once(bytes: &[u8]) -> bool {
    let mut open: Vec<Option<BTreeSet<String>>> = Vec::new();
    let mut at = 0;
    // Whether the next string is a member's name: after `{`, or after `,` in an object.
    let mut expects_name = false;
    while at < bytes.len() {
        match bytes[at] {
            b'{' => {
                open.push(Some(BTreeSet::new()));
                expects_name = true;
            }
            b'[' => {
                open.push(None);
                expects_name = false;
            }
            b'}' | b']' => {
                open.pop();
                expects_name = false;
            }
            b',' => expects_name = matches!(open.last(), Some(Some(_))),
            b'"' => {
                let end = end_of_text(bytes, at);
                if expects_name && let Some(Some(names)) = open.last_mut() {
                    let name: String = serde_json::from_slice(&bytes[at..=end]).unwrap();
                    if !names.insert(name) {
                        return false;
                    }
                }
                expects_name = false;
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    true
}

fn end_of_text(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at
}
