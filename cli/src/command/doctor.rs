//! `rise-registry doctor`: checks each step that a push needs, in the order of the other commands.
//!
//! **Invariant:** a step calls the function that the commands call, so it reports the same
//! [`Failure`].

mod steps;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::failure::Failure;
use crate::terminal::{self, Terminal};

const ABOUT: &str = "\
Requests a credential from the broker, sends it once to the registry, and stores it nowhere. If the
broker accepts each token only once, this uses up the token. The exit code is that of the first step
that fails; see `rise-registry --help`.";

#[derive(Args)]
#[command(after_help = ABOUT)]
pub(super) struct DoctorArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The result of one step.
enum Outcome {
    Good(String),
    Bad(Failure),
    /// The step was not reached, or its failure does not prevent a push.
    Skipped(String),
}

#[derive(Serialize)]
struct Step {
    name: &'static str,
    /// `ok`, `failed` or `skipped`.
    state: &'static str,
    says: String,
}

#[derive(Serialize)]
struct ReportForm<'a> {
    ok: bool,
    exit_code: u8,
    steps: &'a [Step],
}

struct Report {
    /// `None` if the report is printed as JSON at the end.
    terminal: Option<Terminal>,
    steps: Vec<Step>,
    exit_code: u8,
}

pub(super) fn run(app: Result<App, Failure>, arguments: &DoctorArguments) -> ExitCode {
    let terminal = app.as_ref().map(|app| app.terminal).unwrap_or_default();
    let terminal = (!arguments.json).then_some(terminal);
    let mut report = Report { terminal, steps: Vec::new(), exit_code: 0 };
    match app {
        Ok(app) => steps::check_all(&app, &mut report),
        Err(failure) => {
            report.add("settings", Outcome::Bad(failure));
            for step in steps::NAMES.iter().skip(1) {
                report.add(step, Outcome::Skipped("not reached".to_owned()));
            }
        }
    }
    if arguments.json {
        let Report { steps, exit_code, .. } = &report;
        let whole = ReportForm { ok: *exit_code == 0, exit_code: *exit_code, steps };
        terminal::line(&serde_json::to_string_pretty(&whole).unwrap_or_default());
    }
    ExitCode::from(report.exit_code)
}

impl Report {
    fn add(&mut self, step: &'static str, outcome: Outcome) {
        let (state, says) = match outcome {
            Outcome::Good(text) => ("ok", text),
            Outcome::Skipped(text) => ("skipped", text),
            Outcome::Bad(failure) => {
                if self.exit_code == 0 {
                    self.exit_code = failure.exit_code();
                }
                ("failed", failure.line())
            }
        };
        if let Some(terminal) = self.terminal {
            let mark = if state == "skipped" { "–" } else { terminal.mark(state == "ok") };
            terminal::line(&format!("{mark} {step:10}  {says}"));
        }
        self.steps.push(Step { name: step, state, says });
    }

    /// Adds a step and returns its result for the following steps.
    fn add_result<T>(
        &mut self,
        step: &'static str,
        result: Result<(T, String), Failure>,
    ) -> Option<T> {
        match result {
            Ok((found, text)) => {
                self.add(step, Outcome::Good(text));
                Some(found)
            }
            Err(failure) => {
                self.add(step, Outcome::Bad(failure));
                None
            }
        }
    }
}
