//! `rise-broker provider inspect`: shows what a file is and what it imports. Only its `describe`
//! runs, without capabilities.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::{Outcome, print};
use crate::capability::{in_words, printable};
use crate::config::{ProvidersConfig, environment};
use crate::provider::compile::Compiler;
use crate::provider::{OpeningSetting, Provider, Trial, inspect, opening_settings};
use crate::state;

#[derive(clap::Args)]
pub struct InspectArguments {
    /// The component.
    file: PathBuf,
    /// Print JSON, with the whole settings schema.
    #[arg(long)]
    json: bool,
}

pub async fn run(arguments: &InspectArguments) -> Outcome {
    let cache = state::user_cache(&environment()).map_err(|error| vec![error])?;
    let loaded =
        Trial::load(&arguments.file, &ProvidersConfig::roomy(), &cache, Compiler::ThisProgram)
            .await;
    let trial = loaded.map_err(|error| vec![error])?;
    let size = std::fs::metadata(&arguments.file)
        .map_err(|error| vec![format!("{}: {error}", arguments.file.display())])?
        .len();
    if arguments.json {
        print(format_args!("{:#}", as_json(&trial.provider, size)));
    } else {
        show(&trial.provider, size);
    }
    Ok(())
}

/// Whether it sends requests, and says by its settings which ones.
fn says_requests(provider: &Provider) -> bool {
    provider.guest.endpoints.is_some() && provider.imports.contains(&"http")
}

fn as_json(provider: &Provider, size: u64) -> Value {
    let imports =
        provider.imports.iter().map(|import| json!({ "name": import, "means": in_words(import) }));
    json!({
        "name": provider.manifest.name,
        "aliases": provider.manifest.aliases,
        "version": provider.manifest.version,
        "description": provider.manifest.description,
        "sha256": &*provider.digest,
        "bytes": size,
        "contract": inspect::VERSION,
        "imports": imports.collect::<Vec<_>>(),
        "wasi": provider.wasi,
        "opened_by": opening_settings(provider).iter().map(|it| it.name).collect::<Vec<_>>(),
        "says_requests": says_requests(provider),
        "manages_repositories": provider.guest.repositories.is_some(),
        "ends_credentials": provider.ends_credentials(),
        "settings_schema": provider.schema.document(),
    })
}

fn show(provider: &Provider, size: u64) {
    let manifest = &provider.manifest;
    print(format_args!("{} {}", manifest.name, manifest.version));
    print(format_args!("  {}", manifest.description));
    if !manifest.aliases.is_empty() {
        print(format_args!("  also called  {}", manifest.aliases.join(", ")));
    }
    print(format_args!("  file         {}, {} bytes", provider.file.display(), size));
    print(format_args!("  sha256       {}", provider.digest));
    print(format_args!("  contract     {}", inspect::VERSION));
    if provider.imports.is_empty() {
        print("  may          do nothing but compute");
    }
    for import in &provider.imports {
        print(format_args!("  may          {}", in_words(import)));
    }
    for OpeningSetting { name, opens, .. } in opening_settings(provider) {
        print(format_args!("  opens        {opens}, by the setting `{name}` if you write it"));
    }
    if says_requests(provider) {
        print("  says         which requests its settings need (`check` lists them)");
    }
    if provider.guest.repositories.is_some() {
        print("  manages      repositories, if [registries.NAME.repositories] says so");
    }
    if provider.ends_credentials() {
        print("  ends         each credential that it makes, when its grant is over or you say so");
    }
    if !provider.wasi.is_empty() {
        print("  needs        wasi = \"stubbed\": empty files, closed sockets");
    }
    let rows = rows(provider.schema.document());
    if rows.is_empty() {
        print("\nIt has no settings.");
        return;
    }
    print(format_args!("\nSettings of a registry with type = \"{}\":\n", manifest.name));
    let heading = ["NAME", "TYPE", "REQUIRED", "SECRET", "DEFAULT", "MEANS"].map(str::to_owned);
    table(&[vec![heading], rows].concat());
}

/// The cells of each setting: name, type, required, secret, default and meaning.
fn rows(schema: &Value) -> Vec<[String; 6]> {
    let required = schema.get("required").and_then(Value::as_array);
    let properties = schema.get("properties").and_then(Value::as_object);
    let row = |(name, setting): (&String, &Value)| {
        let is_required = required.is_some_and(|all| all.iter().any(|key| key == name.as_str()));
        let is_secret = is_secret(setting);
        let default = setting.get("default").filter(|default| !default.is_null() && !is_secret);
        let yes = |is_so: bool| if is_so { "yes" } else { "" }.to_owned();
        let meaning = setting.get("description").and_then(Value::as_str).unwrap_or_default();
        [
            printable(name, 64),
            kind(setting),
            yes(is_required),
            yes(is_secret),
            default.map(|default| printable(&default.to_string(), 64)).unwrap_or_default(),
            printable(&meaning.replace('\n', " "), 256),
        ]
    };
    properties.into_iter().flatten().map(row).collect()
}

fn is_secret(setting: &Value) -> bool {
    let variants = setting.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    std::iter::once(setting)
        .chain(variants)
        .any(|variant| variant.get("writeOnly") == Some(&Value::Bool(true)))
}

/// The type of a setting in words that fit TOML, the language of the settings.
fn kind(setting: &Value) -> String {
    if let Some(allowed) = setting.get("enum").and_then(Value::as_array) {
        let allowed: Vec<_> =
            allowed.iter().map(|value| printable(&value.to_string(), 32)).collect();
        return allowed.join(" or ");
    }
    let names: Vec<&str> = match setting.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => vec![],
    };
    let known = |name: &&str| match *name {
        "string" => Some("text"),
        "integer" => Some("whole number"),
        "number" => Some("number"),
        "boolean" => Some("true or false"),
        "array" => Some("list"),
        "object" => Some("table"),
        _ => None,
    };
    let words: Vec<&str> = names.iter().filter_map(known).collect();
    let variants = ["anyOf", "oneOf"].iter().find_map(|key| setting.get(key)?.as_array());
    match (words.is_empty(), variants) {
        (true, Some(variants)) => {
            let kinds = variants.iter().take(8).map(kind).filter(|kind| kind != "anything");
            kinds.collect::<Vec<_>>().join(" or ")
        }
        (true, None) => "anything".to_owned(),
        (false, _) => words.join(" or "),
    }
}

fn table(rows: &[[String; 6]]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    for row in rows {
        let cells = row.iter().enumerate().map(|(at, cell)| format!("{cell:<0$}", width(at)));
        print(format_args!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_told_in_a_table() {
        let schema = json!({
            "required": ["base_url"],
            "properties": {
                "base_url": { "type": "string", "description": "Where\nit is." },
                "token": { "type": ["string", "null"], "writeOnly": true, "default": null },
                "mode": { "enum": ["a", "b"] },
                "size": { "anyOf": [{ "type": "integer" }, { "type": "null" }], "default": 3 },
                "any": {},
            },
        });
        let cells = |name: &str| rows(&schema).into_iter().find(|row| row[0] == name).unwrap();
        assert_eq!(cells("base_url"), ["base_url", "text", "yes", "", "", "Where it is."]);
        assert_eq!(cells("token"), ["token", "text", "", "yes", "", ""]);
        assert_eq!(cells("mode")[1], "\"a\" or \"b\"");
        assert_eq!(cells("size"), ["size", "whole number", "", "", "3", ""]);
        assert_eq!(cells("any")[1], "anything");
    }
}
