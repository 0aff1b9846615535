//! Providers: WebAssembly components that turn a grant into a credential.
//!
//! Every call gets a fresh store and a fresh instance, so nothing that a provider remembers can get from one caller to the
//! next, and runs in a task that owns them, so a caller that goes away cannot cut it in half.

mod call;
pub mod catalog;
pub mod compile;
mod compiled;
mod engine;
mod export;
pub mod folder;
pub(crate) mod inspect;
mod load;
pub mod lock;
mod pins;
mod trial;
mod turn;

pub use call::{CallError, Finished, Provider};
pub use catalog::{Before, Catalog, RejectedFile, Scan};
pub use engine::Engine;
pub use export::{CheckCall, Export, IssueCall, LocateCall, ResolveCall};
pub use load::{LoadError, Loader};
pub use pins::Pins;
pub use trial::Trial;
