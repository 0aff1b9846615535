//! The conformance kit: whether a provider keeps to the contract, whatever it is asked and whatever
//! it is answered.
//!
//! A provider is loaded, linked, limited and verified as `serve` would. Only what lies behind its
//! capabilities is a double: AWS that says yes, and a registry that answers what the author's
//! `conformance.toml` says. So a provider that passes has been seen to work, and one that fails is
//! told what it did.
//!
//! To add a check: a function in one of the files below that reports what it saw, called in
//! [`check`]; a guest in `tests/guests/` that fails it.
//!
//! **Invariant:** nothing outside this machine is asked, and no secret of `conformance.toml` is
//! used: canaries take its place.

mod doubles;
mod endurance;
mod examples;
mod faults;
mod issuing;
mod odd;
mod places;
mod report;

pub use report::{Finding, Report, Verdict};

use std::path::Path;

use examples::Examples;
use rise_broker::config::Environment;
use rise_broker::provider::Trial;
use rise_broker::provider::compile::Compiler;

/// How much is done: a suite of tests has no time for all of it each time.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Calls one after the other, and at once.
    pub sequential: u32,
    pub parallel: u32,
}

impl Default for Effort {
    fn default() -> Self {
        Self { sequential: 1000, parallel: 64 }
    }
}

/// What a check is done with.
pub struct Bench<'a> {
    pub effort: Effort,
    pub environment: &'a Environment,
    /// The folder of compiled code.
    pub cache: &'a Path,
    /// Not this program where a test calls.
    pub compiler: Compiler,
}

/// Checks the provider in `file` on the settings and answers in `examples`.
pub async fn check(file: &Path, examples: &Path, bench: &Bench<'_>) -> Report {
    let mut report = Report::new(file);
    let examples = match Examples::load(examples, bench) {
        Ok(examples) => examples,
        Err(problems) => {
            for problem in &problems {
                report.fail("examples", "can be read", problem.to_string());
            }
            return report;
        }
    };
    let trial = Trial::load(file, examples.providers(), bench.cache, bench.compiler.clone()).await;
    let trial = match trial {
        Ok(trial) => trial,
        Err(error) => {
            report.fail("file", "is a provider that this broker would load", error);
            return report;
        }
    };
    report.describe(&trial);
    let Some(cases) = examples.cases(&trial, &mut report).await else { return report };
    for case in &cases {
        report.enter(case.name());
        places::check(case, &mut report).await;
        odd::check(case, &mut report).await;
        report.all("places", "nothing but the log is called outside issue", case.called_outside());
        issuing::check(case, &mut report).await;
    }
    if report.passed() {
        for case in &cases {
            report.enter(case.name());
            faults::check(case, &mut report).await;
        }
    }
    if report.passed() {
        for case in &cases {
            report.enter(case.name());
            endurance::check(case, bench.effort, &mut report).await;
        }
    }
    report
}
