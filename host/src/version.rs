//! The versions of the broker, of the contract, and of wasmtime.

pub const BROKER: &str = env!("CARGO_PKG_VERSION");
pub const CONTRACT: &str = "rise:registry@0.1.0";
/// The version that `Cargo.lock` pins.
pub const WASMTIME: &str = "48.0.8";
/// The output of `--version` after the name of the program.
pub const ALL: &str =
    concat!(env!("CARGO_PKG_VERSION"), "\ncontract rise:registry@0.1.0\nwasmtime 48.0.8");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_of_the_files() {
        let world = include_str!("../../wit/world.wit");
        assert!(world.contains(&format!("package {CONTRACT};")), "{CONTRACT}");
        let lock = include_str!("../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"wasmtime\"\nversion = \"{WASMTIME}\"")));
        assert_eq!(ALL, format!("{BROKER}\ncontract {CONTRACT}\nwasmtime {WASMTIME}"));
    }
}
