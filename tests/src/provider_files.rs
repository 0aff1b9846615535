//! Providers' files as operators and accidents leave them in the folder.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{binary, repository, target};

/// The SHA-256 in hex, as the broker prints it.
pub fn digest(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The component of a real provider.
pub fn component(name: &str) -> Vec<u8> {
    let file = repository().join(format!("dist/providers/{name}.wasm"));
    fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; run `make providers` first", file.display()))
}

/// The component of a guest.
pub fn guest(name: &str) -> Vec<u8> {
    let file = target().join(format!("guests/{name}.wasm"));
    fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; run `make guests` first", file.display()))
}

/// The same component with one more custom section: other bytes, the same behaviour.
pub fn noted(component: &[u8], note: &str) -> Vec<u8> {
    let name = "note";
    let length = u8::try_from(1 + name.len() + note.len()).unwrap();
    assert!(length < 128, "one byte of LEB128");
    let name_length = u8::try_from(name.len()).unwrap();
    [component, &[0, length, name_length], name.as_bytes(), note.as_bytes()].concat()
}

/// A valid component of 79 bytes on which the decoder of the broker panics: it imports a resource
/// under two names, and a function of the second.
pub fn undecodable() -> Vec<u8> {
    let preamble = b"\x00asm\r\x00\x01\x00";
    let types = b"\x07%\x01B\x04\x04\x00\x01a\x03\x01\x04\x00\x01b\x03\x00\x00\x01@\x00\x01\x00";
    let import =
        b"\x04\x00\x0b[static]b.f\x01\x02\n\x1e\x01\x00\x19rise:registry/types@0.1.0\x05\x00";
    [&preamble[..], &types[..], &import[..]].concat()
}

/// Files that are no providers, each with the stage at which the broker finds out.
pub fn broken(good: &[u8]) -> [(&'static str, Vec<u8>); 6] {
    let component = [0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];
    [
        ("component", good[..good.len() / 2].to_vec()),
        ("component", [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00].to_vec()),
        ("component", fs::read(binary()).unwrap()[..4096].to_vec()),
        // This component exports nothing.
        ("imports", component.to_vec()),
        ("imports", guest("wants-filesystem")),
        ("component", undecodable()),
    ]
}

/// Installs the file atomically: writes it under a temporary name, then renames it.
pub fn drop_in(folder: &Path, name: &str, bytes: &[u8]) {
    let temporary = folder.join(format!(".{name}.new"));
    fs::write(&temporary, bytes).unwrap();
    fs::rename(&temporary, folder.join(name)).unwrap();
}
