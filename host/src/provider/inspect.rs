//! Reads what a component imports and exports, without running or compiling any of it.

use wit_component::DecodedWasm;
use wit_parser::{Resolve, World, WorldItem};

use super::load::LoadError;
use crate::capability::{self, Capability};
use crate::hardening::survive;

/// The package and version of `wit/`.
pub(super) const CONTRACT: &str = "rise:registry/";
pub(crate) const VERSION: &str = "0.1.0";
/// The first bytes of every component. A core module has another version, and native code another
/// magic number.
const PREAMBLE: [u8; 8] = [0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];

/// The imports of a component, and what it exports besides `registry`.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an export of its own")]
pub(crate) struct Interfaces {
    pub capabilities: Vec<&'static str>,
    /// The interfaces of WASI that only providers with `wasi = "stubbed"` get.
    pub wasi: Vec<String>,
    pub has_endpoints: bool,
    pub has_repositories: bool,
    pub has_revocation: bool,
    pub has_leftovers: bool,
    pub tokens: TokenImports,
}

/// The functions of `tokens` that a component imports. A toolchain that links whole interfaces
/// imports both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenImports {
    /// Tokens for a registry.
    pub registry_token: bool,
    /// Tokens for a cloud.
    pub identity_token: bool,
}

/// Returns the interfaces of a component. It fails if the component is no provider, or imports
/// something that no provider gets.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Interfaces, LoadError> {
    if let Some(told) = substitute(bytes) {
        return Err(LoadError::Substitute(told));
    }
    if !bytes.starts_with(&PREAMBLE) {
        return Err(LoadError::NotComponent(match bytes {
            [] => "an empty file",
            [0x00, 0x61, 0x73, 0x6d, ..] => "a core module",
            [0x7f, b'E', b'L', b'F', ..] => "native code",
            _ => "something else",
        }));
    }
    // The decoder panics on some valid components that no compiler makes.
    let decoded = survive(|| wit_component::decode(bytes));
    let (resolve, world) = match decoded {
        Some(Ok(DecodedWasm::Component(resolve, world))) => (resolve, world),
        Some(Ok(DecodedWasm::WitPackage(..))) => {
            return Err(LoadError::NotComponent("a WIT package"));
        }
        Some(Err(error)) => {
            return Err(LoadError::Damaged(capability::printable(&format!("{error:#}"), 256)));
        }
        None => {
            let undecodable = "the types of its imports and exports cannot be decoded";
            return Err(LoadError::Damaged(undecodable.to_owned()));
        }
    };
    let Some(world) = resolve.worlds.get(world) else { return Err(LoadError::NoExport) };
    let names =
        |items: &mut dyn Iterator<Item = (&wit_parser::WorldKey, &WorldItem)>| -> Vec<String> {
            items.map(|(key, _)| resolve.name_world_key(key)).collect()
        };
    let mut interfaces = Interfaces::default();
    for name in names(&mut world.imports.iter()) {
        match import(&name)? {
            Import::ForAll => {}
            Import::Capability(name) => interfaces.capabilities.push(name),
            Import::Wasi => interfaces.wasi.push(capability::printable(&name, 128)),
        }
    }
    interfaces.tokens = token_imports(&resolve, world);
    let exports = names(&mut world.exports.iter());
    let version = |interface: &str| {
        let of = |name: &str| {
            name.strip_prefix(CONTRACT)?
                .strip_prefix(interface)?
                .strip_prefix('@')
                .map(str::to_owned)
        };
        exports.iter().find_map(|name| of(name))
    };
    interfaces.has_endpoints = version("endpoints").as_deref() == Some(VERSION);
    interfaces.has_repositories = version("repositories").as_deref() == Some(VERSION);
    interfaces.has_revocation = version("revocation").as_deref() == Some(VERSION);
    interfaces.has_leftovers = version("leftovers").as_deref() == Some(VERSION);
    match version("registry").as_deref() {
        Some(VERSION) => Ok(interfaces),
        Some(other) => Err(LoadError::OtherVersion(capability::printable(other, 32))),
        None => Err(LoadError::NoExport),
    }
}

/// What a download or a checkout leaves in the place of a file, and what to do.
fn substitute(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.trim_ascii_start();
    let is_page =
        |tag: &[u8]| start.get(..tag.len()).is_some_and(|it| it.eq_ignore_ascii_case(tag));
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        Some("a pointer of Git LFS, not the file itself; run `git lfs pull`, and install it again")
    } else if is_page(b"<!doctype html") || is_page(b"<html") {
        Some("a web page, not the file itself; download it again, from an address without a login")
    } else if bytes.starts_with(&[0x1f, 0x8b]) {
        Some("compressed by gzip; decompress it")
    } else {
        None
    }
}

fn token_imports(resolve: &Resolve, world: &World) -> TokenImports {
    let tokens = format!("{CONTRACT}tokens@{VERSION}");
    let imports = |function: &str| {
        world.imports.iter().any(|(key, item)| {
            let WorldItem::Interface { id, .. } = item else { return false };
            let interface = resolve.interfaces.get(*id);
            resolve.name_world_key(key) == tokens
                && interface.is_some_and(|interface| interface.functions.contains_key(function))
        })
    };
    TokenImports {
        registry_token: imports("registry-token"),
        identity_token: imports("identity-token"),
    }
}

#[derive(Debug, PartialEq)]
enum Import {
    /// Every provider gets it.
    ForAll,
    Capability(&'static str),
    /// A provider with `wasi = "stubbed"` gets it.
    Wasi,
}

fn import(import: &str) -> Result<Import, LoadError> {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    if let Some(name) = interface.strip_prefix(CONTRACT) {
        if version != VERSION {
            return Err(LoadError::OtherVersion(capability::printable(version, 32)));
        }
        return match Capability::find(name) {
            Some(capability) => Ok(Import::Capability(capability.name)),
            None if name == "types" => Ok(Import::ForAll),
            None => Err(LoadError::Forbidden(capability::printable(import, 128))),
        };
    }
    if capability::WASI.contains(&interface) {
        Ok(Import::ForAll)
    } else if capability::STUBBED_WASI.contains(&interface) {
        Ok(Import::Wasi)
    } else {
        Err(LoadError::Forbidden(capability::printable(import, 128)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_named() {
        let core = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
        let truncated = [&PREAMBLE[..], &[0x00, 0xff]].concat();
        // A resource under two names, and a function of the second: the decoder panics.
        let undecodable = [
            &PREAMBLE[..],
            b"\x07%\x01B\x04\x04\x00\x01a\x03\x01\x04\x00\x01b\x03\x00\x00\x01@\x00\x01\x00",
            b"\x04\x00\x0b[static]b.f\x01\x02\n\x1e\x01\x00\x19rise:registry/types@0.1.0\x05\x00",
        ];
        let undecodable = undecodable.concat();
        for (bytes, expected) in [
            (&b""[..], "an empty file"),
            (&core, "a core module"),
            (b"\x7fELF....", "native code"),
            (b"(component)", "something else"),
            (&truncated, "damaged"),
            (&undecodable, "damaged: the types of its imports and exports cannot be decoded"),
            (&PREAMBLE, "not a provider"),
        ] {
            let error = inspect(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn only_what_the_host_has_may_be_imported() {
        for (name, expected) in [
            ("rise:registry/types@0.1.0", Ok(Import::ForAll)),
            ("rise:registry/aws@0.1.0", Ok(Import::Capability("aws"))),
            ("wasi:cli/exit@0.2.6", Ok(Import::ForAll)),
            ("rise:registry/http@0.1.0", Ok(Import::Capability("http"))),
            ("rise:registry/kept@0.1.0", Ok(Import::Capability("kept"))),
            ("rise:registry/ecr-repositories@0.1.0", Ok(Import::Capability("ecr-repositories"))),
            ("wasi:filesystem/types@0.2.6", Ok(Import::Wasi)),
            ("wasi:sockets/tcp@0.2.6", Ok(Import::Wasi)),
            ("rise:registry/tokens@0.1.0", Ok(Import::Capability("tokens"))),
            ("rise:registry/aws@0.2.0", Err("version 0.2.0")),
            ("rise:registry/root@0.1.0", Err("do not get")),
            ("wasi:http/outgoing-handler@0.2.6", Err("do not get")),
            ("env", Err("do not get")),
        ] {
            match (import(name), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => {
                    assert!(found.to_string().contains(expected), "{found}");
                }
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
    }
}
