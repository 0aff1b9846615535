//! Capabilities: the interfaces of `wit/` through which a provider reaches anything outside itself.
//!
//! To add one: its interface in `wit/` with an import in `wit/world.wit`, a module here with the
//! port (a trait), the ceiling and the glue for the generated trait, one row in [`CAPABILITIES`],
//! and a wrapper in the SDK.
//!
//! **Invariant:** every function that acts, except `log.write`, begins with `CallState::begin`, so
//! that a provider can do nothing outside the call that has a grant.

mod access;
pub mod assertions;
pub mod aws;
pub mod ecr_repositories;
mod grant;
pub mod http;
mod issued;
pub mod kept;
mod log;
pub(crate) mod memory;
mod observer;
mod random;
pub mod secrets;
mod state;
pub mod tokens;
mod wasi;
pub mod wit;

pub use access::Capabilities;
pub use grant::GrantHandle;
pub use observer::{CallUsage, Observer, Unobserved};
pub use state::CallState;
pub(crate) use state::withheld_text;
pub(crate) use wasi::{LINKED as WASI, STUBBED as STUBBED_WASI};

use wasmtime::component::Linker;

/// The longest secret that a provider may make or return, in bytes. No registry's credential is
/// longer.
pub(crate) const MAX_SECRET: usize = 16 << 10;

/// A limit of the call was exceeded in a host function. The error ends the call; the text names the
/// limit in the log.
#[derive(Debug, thiserror::Error)]
#[error("limit of {0}")]
pub(crate) struct LimitExceeded(pub(crate) &'static str);

/// One interface of the contract that a provider may import.
pub(crate) struct Capability {
    /// The name of the interface in `wit/`.
    pub(crate) name: &'static str,
    /// A description for operators, who read it before they allow a provider.
    pub(crate) in_words: &'static str,
    /// Whether a call can leave something behind outside this process: a session in AWS, a token at
    /// a registry. The audit log has a record of the intent before such a call.
    pub(crate) acts_outside: bool,
    add_to_linker: AddToLinker,
}

type AddToLinker = fn(&mut Linker<CallState>) -> wasmtime::Result<()>;

/// Every capability of `wit/world.wit`. The interface `types` is not one: it has the words that the
/// others are written in.
pub(crate) const CAPABILITIES: [Capability; 9] = [
    Capability {
        name: "log",
        in_words: "write to the broker's log",
        acts_outside: false,
        add_to_linker: log::add_to_linker,
    },
    Capability {
        name: "secrets",
        in_words: "pass on its registry's secrets, without reading them",
        acts_outside: false,
        add_to_linker: secrets::add_to_linker,
    },
    Capability {
        name: "aws",
        in_words: "assume AWS roles and get ECR logins, within its registry's ceiling",
        acts_outside: true,
        add_to_linker: aws::add_to_linker,
    },
    Capability {
        name: "http",
        in_words: "send requests to its registry's own addresses",
        acts_outside: true,
        add_to_linker: http::add_to_linker,
    },
    Capability {
        name: "tokens",
        in_words: "have the broker sign tokens for what was granted, within its registry's ceiling",
        acts_outside: true,
        add_to_linker: tokens::add_to_linker,
    },
    Capability {
        name: "assertions",
        in_words: "have the broker sign assertions with its registry's keys",
        acts_outside: true,
        add_to_linker: assertions::add_to_linker,
    },
    Capability {
        name: "random",
        in_words: "have the broker make random passwords and names",
        acts_outside: false,
        add_to_linker: random::add_to_linker,
    },
    Capability {
        name: "kept",
        in_words: "keep its registry's logins for later calls, without reading them",
        acts_outside: false,
        add_to_linker: kept::add_to_linker,
    },
    Capability {
        name: "ecr-repositories",
        in_words: "create, configure and retire repositories of ECR that the broker owns, one for \
                   each project",
        acts_outside: true,
        add_to_linker: ecr_repositories::add_to_linker,
    },
];

impl Capability {
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        CAPABILITIES.iter().find(|capability| capability.name == name)
    }
}

/// Describes the capability of this name for operators, also a name that this broker does not
/// know: a lock may come from another version.
pub(crate) fn in_words(name: &str) -> &'static str {
    Capability::find(name)
        .map_or("use a capability that this broker does not know", |capability| capability.in_words)
}

/// Links all that this host implements. A component gets only what it imports, and its imports were
/// checked before.
pub(crate) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    wasi::add_to_linker(linker)?;
    grant::add_to_linker(linker)?;
    CAPABILITIES.iter().try_for_each(|capability| (capability.add_to_linker)(linker))
}

/// Links the same, and empty stubs for the rest of WASI: for providers with `wasi = "stubbed"`.
pub(crate) fn add_stubbed_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    add_to_linker(linker)?;
    wasi::stubs_to_linker(linker)
}

/// Makes text of a guest fit for a log: no control characters, at most `limit` bytes.
pub fn printable(text: &str, limit: usize) -> String {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let clean = |char: char| if char.is_control() { ' ' } else { char };
    text.get(..end).unwrap_or_default().chars().map(clean).collect::<String>().trim_end().to_owned()
}
