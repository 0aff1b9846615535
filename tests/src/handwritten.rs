//! Providers written by hand in WebAssembly's text form. They have what a Rust compiler does not
//! produce: tables that grow, several memories, a `describe` without end, functions that take
//! minutes to compile.
//!
//! Everything else is correct: they issue `client-auth`, which hands out nothing.

use std::fmt::Write as _;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::repository;

const SCHEMA: &str = r#"{"type":"object","properties":{"registry_url":{"type":"string"}}}"#;

/// The parts in which a provider differs from a correct one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Handwritten<'a> {
    pub name: &'a str,
    /// Further memories, tables and functions.
    pub fields: &'a str,
    /// Instructions at the start of `describe`.
    pub describe: &'a str,
    /// Instructions at the start of `issue`.
    pub issue: &'a str,
}

impl Handwritten<'_> {
    /// # Panics
    /// If the text does not parse.
    pub fn component(self) -> Vec<u8> {
        let mut module = wat::parse_str(self.text()).unwrap();
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(repository().join("wit")).unwrap();
        let world = resolve.select_world(&[package], Some("provider")).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
    }

    /// Text begins at 1024, results lie at 64, and arguments from the host come after 8192.
    fn text(self) -> String {
        let Self { name, fields, describe, issue } = self;
        let schema = SCHEMA.replace('"', "\\\"");
        let registry = "rise:registry/registry@0.1.0";
        format!(
            r#"(module
  (memory (export "memory") 2)
  {fields}
  (data (i32.const 1024) "{name}")
  (data (i32.const 1280) "1.0.0")
  (data (i32.const 1536) "{schema}")
  (data (i32.const 2048) "{name}.example.com")
  (global $free (mut i32) (i32.const 8192))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.get $free)
    (global.set $free (i32.and (i32.add (i32.add (global.get $free) (local.get 3)) (i32.const 7)) (i32.const -8))))
  (func (export "{registry}#describe") (result i32)
    {describe}
    (i32.store (i32.const 64) (i32.const 1024))
    (i32.store (i32.const 68) (i32.const {name_length}))
    (i32.store (i32.const 80) (i32.const 1280))
    (i32.store (i32.const 84) (i32.const 5))
    (i32.store (i32.const 88) (i32.const 1024))
    (i32.store (i32.const 92) (i32.const {name_length}))
    (i32.store (i32.const 96) (i32.const 1536))
    (i32.store (i32.const 100) (i32.const {schema_length}))
    (i32.const 64))
  ;; ok(none)
  (func (export "{registry}#check") (param i32 i32) (result i32)
    (i32.store (i32.const 68) (i32.const 3))
    (i32.const 64))
  (func (export "{registry}#locate") (param i32 i32 i32 i32) (result i32)
    (i32.store (i32.const 68) (i32.const 2048))
    (i32.store (i32.const 72) (i32.const {host_length}))
    (i32.store (i32.const 76) (local.get 2))
    (i32.store (i32.const 80) (local.get 3))
    (i32.const 64))
  (func (export "{registry}#resolve") (param i32 i32 i32 i32 i32 i32) (result i32)
    (i32.store (i32.const 64) (i32.const 1))
    (i32.store (i32.const 68) (local.get 4))
    (i32.store (i32.const 72) (local.get 5))
    (i32.const 64))
  ;; ok(client-auth, none) is all zeros
  (func (export "{registry}#issue") (param i32 i32 i32) (result i32)
    {issue}
    (i32.const 64)))"#,
            name_length = name.len(),
            schema_length = SCHEMA.len(),
            host_length = name.len() + ".example.com".len(),
        )
    }
}

/// Functions of little text that take a compiler long: each adds and multiplies its argument some
/// thousand times, and all values stay alive until the end.
pub fn endless_to_compile(functions: usize) -> String {
    const VALUES: usize = 4_000;
    let mut text = String::new();
    for function in 0..functions {
        let _ =
            writeln!(text, "(func (export \"f{function}\") (param i64) (result i64) local.get 0");
        for value in 0..VALUES {
            let _ = writeln!(text, "local.get 0 i64.const {value} i64.add local.get 0 i64.mul");
        }
        text.push_str(&"i64.xor\n".repeat(VALUES));
        text.push_str(")\n");
    }
    text
}
