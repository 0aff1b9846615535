//! The conformance kit: checks that a provider keeps to the contract, for every kind of call and
//! for every kind of answer.
//!
//! The provider is loaded, linked, limited and verified as `serve` would. Only the upstreams behind
//! its capabilities are doubles: an AWS that allows everything, and a registry with the answers of
//! the author's `conformance.toml`.
//!
//! To add a check: a function in one of the files below that reports what it found, a call of it in
//! [`check`], and a guest in `tests/guests/` that fails it.
//!
//! **Invariant:** the kit sends no request to another machine, and uses no secret of
//! `conformance.toml`: canaries take their place.

mod answers;
mod declared;
mod doubles;
mod endurance;
mod example_key;
mod examples;
mod exchange;
mod faults;
mod habits;
mod issuing;
mod leftovers;
mod object;
mod odd;
mod places;
mod report;
mod repositories;
mod repository;
mod revocation;

pub use declared::{Declared, Opened};
pub use report::{Finding, Report, Verdict};

use std::path::Path;

use answers::ExampleAnswer;
use examples::{Case, Examples};
use rise_broker::config::Environment;
use rise_broker::provider::Trial;
use rise_broker::provider::compile::Compiler;

/// How many calls are made. Automatic tests make fewer.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Calls one after the other.
    pub sequential: u32,
    /// Calls at once.
    pub parallel: u32,
}

impl Default for Effort {
    fn default() -> Self {
        Self { sequential: 1000, parallel: 64 }
    }
}

/// The surroundings of a check.
pub struct Bench<'a> {
    pub effort: Effort,
    pub environment: &'a Environment,
    /// The folder for compiled code.
    pub cache: &'a Path,
    /// The program that compiles. A test's own program cannot.
    pub compiler: Compiler,
}

/// Checks the provider in `file` with the settings and answers in `examples`.
pub async fn check(file: &Path, examples: &Path, bench: &Bench<'_>) -> Report {
    let mut report = Report::new(file);
    let Some(cases) = cases(file, examples, bench, &mut report).await else { return report };
    for case in &cases {
        report.begin_case(case.name());
        places::check(case, &mut report).await;
        odd::check(case, &mut report).await;
        report.record(
            "places",
            "nothing but the log is called outside issue",
            case.called_outside(),
        );
        issuing::check(case, &mut report).await;
        repositories::check(case, &mut report).await;
        revocation::check(case, &mut report).await;
        leftovers::check(case, &mut report).await;
    }
    if report.passed() {
        for case in &cases {
            report.begin_case(case.name());
            faults::check(case, &mut report).await;
            revocation::check_faults(case, &mut report).await;
            leftovers::check_faults(case, &mut report).await;
        }
        report.begin_case("");
        unused(&cases, &mut report);
    }
    if report.passed() {
        for case in &cases {
            report.begin_case(case.name());
            endurance::check(case, bench.effort, &mut report).await;
        }
    }
    report
}

/// Returns what the provider in `file` does with each example.
///
/// # Errors
///
/// What is wrong with the provider or an example.
pub async fn declared(
    file: &Path,
    examples: &Path,
    bench: &Bench<'_>,
) -> Result<Vec<Declared>, String> {
    let mut report = Report::new(file);
    let cases = cases(file, examples, bench, &mut report).await;
    let cases = cases.ok_or_else(|| report.to_string())?;
    let mut declared = Vec::new();
    for case in &cases {
        declared.push(declared::of(case).await?);
    }
    Ok(declared)
}

/// Loads the provider with its examples. Returns `None` if one is wrong; the report has the reason.
async fn cases(
    file: &Path,
    examples: &Path,
    bench: &Bench<'_>,
    report: &mut Report,
) -> Option<Vec<Case>> {
    let examples = match Examples::load(examples, bench) {
        Ok(examples) => examples,
        Err(problems) => {
            for problem in &problems {
                report.fail("examples", "can be read", problem.to_string());
            }
            return None;
        }
    };
    let trial = Trial::load(file, examples.providers(), bench.cache, bench.compiler.clone()).await;
    let trial = match trial {
        Ok(trial) => trial,
        Err(error) => {
            report.fail("file", "is a provider that this broker would load", error);
            return None;
        }
    };
    report.describe(&trial);
    examples.cases(&trial, report).await
}

/// Hints at answers that the provider never asked for, which may be what the author forgot to ask,
/// and at placeholders that name nothing.
fn unused(cases: &[Case], report: &mut Report) {
    let answers = cases.first().map(Case::answers).unwrap_or_default();
    for (index, answer) in answers.iter().enumerate().filter(|(_, answer)| answer.is_unused()) {
        let ExampleAnswer { method, path, .. } = answer;
        let seen = format!("answers.{index} ({method} {path}): no request got it");
        report.hint("examples", "each of the [[answers]] is used", seen);
    }
    for (index, answer) in answers.iter().enumerate() {
        let ExampleAnswer { method, path, .. } = answer;
        for name in answer.unnamed() {
            let seen = format!(
                "answers.{index} ({method} {path}): no request had what `{{{name}}}` names, so it \
                 stays in the answer as it is"
            );
            report.hint("examples", "each placeholder names a part of a request", seen);
        }
    }
}
