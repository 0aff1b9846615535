//! `rise-provider check`: the conformance kit.

use std::path::{Path, PathBuf};

use crate::conformance::{self, Bench, Effort};
use rise_broker::command::{Outcome, print};
use rise_broker::config::environment;
use rise_broker::provider::compile::Compiler;
use rise_broker::state;

#[derive(clap::Args)]
pub(super) struct CheckArguments {
    /// The component, such as `dist/my-registry.wasm`.
    file: PathBuf,
    /// A TOML file with settings that work and the answers of the registry. By default
    /// `conformance.toml` beside the component or in the folder above.
    #[arg(long, value_name = "FILE")]
    examples: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: &CheckArguments) -> Outcome {
    let environment = environment();
    let cache = state::user_cache(&environment).map_err(|error| vec![error])?;
    let found = arguments.examples.clone().unwrap_or_else(|| beside(&arguments.file));
    let bench = Bench {
        effort: Effort::default(),
        environment: &environment,
        cache: &cache,
        compiler: Compiler::ThisProgram,
    };
    let report = conformance::check(&arguments.file, &found, &bench).await;
    if arguments.json {
        let text = serde_json::to_string_pretty(&report);
        print(text.map_err(|error| vec![error.to_string()])?);
    } else {
        print(&report);
    }
    if report.passed() {
        Ok(())
    } else {
        Err(vec![format!("{} does not keep to the contract", arguments.file.display())])
    }
}

fn beside(file: &Path) -> PathBuf {
    let name = "conformance.toml";
    let above = |levels: usize| file.ancestors().nth(levels).map(|folder| folder.join(name));
    let candidates = [above(1), above(2)].into_iter().flatten();
    candidates
        .clone()
        .find(|file| file.exists())
        .or_else(|| above(1))
        .unwrap_or_else(|| name.into())
}
