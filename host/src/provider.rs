//! Providers: WebAssembly components that turn a grant into a credential.
//!
//! Every call gets a store and an instance of its own, so nothing that a provider remembers can get
//! from one caller to the next. A caller that goes away does not stop a call that has begun.

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
mod opening;
mod pins;
mod trial;
mod turn;

pub use call::{CallError, Finished, Provider};
pub use catalog::{Before, Catalog, RejectedFile, Scan};
pub use engine::Engine;
pub use export::{
    CheckCall, EndLeftoverCall, Export, FindLeftoversCall, IssueCall, LocateCall, NeedsCall,
    RepositoriesCall, ResolveCall, RevokeCall,
};
pub use inspect::TokenImports;
pub use load::{LoadError, Loader};
pub use opening::{OpeningSetting, opening_settings};
pub use pins::Pins;
pub use trial::Trial;
