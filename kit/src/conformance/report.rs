//! The report of the kit, for people and as JSON.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use rise_broker::capability::printable;
use rise_broker::provider::Trial;

/// Enough to see a pattern. A provider that is wrong in one place is usually wrong a hundred times.
const MOST_FAILURES: usize = 64;

#[derive(Serialize)]
pub struct Report {
    file: PathBuf,
    name: String,
    version: String,
    sha256: String,
    #[serde(skip)]
    case: String,
    findings: Vec<Finding>,
    /// Measured figures.
    figures: Vec<Figure>,
}

#[derive(Serialize)]
pub struct Finding {
    pub area: &'static str,
    /// The registry of the examples that the finding is about; empty if it is about all.
    pub case: String,
    /// The rule that was checked.
    pub check: String,
    pub verdict: Verdict,
    /// The behaviour that the kit found instead, or a hint.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Passed,
    /// A hint. The provider passes all the same.
    Note,
    Failed,
}

#[derive(Serialize)]
struct Figure {
    name: String,
    value: String,
}

impl Report {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            name: String::new(),
            version: String::new(),
            sha256: String::new(),
            case: String::new(),
            findings: Vec::new(),
            figures: Vec::new(),
        }
    }

    pub(super) fn describe(&mut self, trial: &Trial) {
        self.name.clone_from(&trial.provider.manifest.name);
        self.version.clone_from(&trial.provider.manifest.version);
        trial.provider.digest.as_ref().clone_into(&mut self.sha256);
        let imports = trial.provider.imports.join(", ");
        self.pass(
            "file",
            format!("is a provider that this broker would load (imports: {imports})"),
        );
        self.figure("loaded in", format!("{:.1?}", trial.load_time));
    }

    /// Sets the registry of the examples that the next findings are about.
    pub(super) fn begin_case(&mut self, case: &str) {
        case.clone_into(&mut self.case);
    }

    pub(super) fn pass(&mut self, area: &'static str, check: impl Into<String>) {
        self.push(area, check, Verdict::Passed, "");
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers build the text for this call")]
    pub(super) fn fail(&mut self, area: &'static str, check: impl Into<String>, seen: String) {
        self.push(area, check, Verdict::Failed, &seen);
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers build the text for this call")]
    pub(super) fn hint(&mut self, area: &'static str, check: impl Into<String>, seen: String) {
        self.push(area, check, Verdict::Note, &seen);
    }

    /// Records one check of many things: passed, or failed once for each of `wrong`.
    pub(super) fn record(&mut self, area: &'static str, check: &str, mut wrong: Vec<String>) {
        if wrong.is_empty() {
            self.pass(area, check);
        }
        // A call often fails by what it was refused.
        let mut seen = BTreeSet::new();
        wrong.retain(|text| seen.insert(text.clone()));
        for seen in wrong.into_iter().take(8) {
            self.fail(area, check, seen);
        }
    }

    pub(super) fn figure(&mut self, name: impl Into<String>, value: String) {
        let colon = if self.case.is_empty() { "" } else { ": " };
        let name = format!("{}{colon}{}", self.case, name.into());
        self.figures.push(Figure { name, value });
    }

    fn push(
        &mut self,
        area: &'static str,
        check: impl Into<String>,
        verdict: Verdict,
        detail: &str,
    ) {
        if verdict == Verdict::Passed || self.findings.len() < MOST_FAILURES {
            let detail = printable(detail, 1024);
            let case = self.case.clone();
            self.findings.push(Finding { area, case, check: check.into(), verdict, detail });
        }
    }

    pub fn passed(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict != Verdict::Failed)
    }

    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, sha256, .. } = self;
        if name.is_empty() {
            writeln!(f, "{}", self.file.display())?;
        } else {
            writeln!(f, "{name} {version}  {}  sha256 {sha256}", self.file.display())?;
        }
        for Finding { area, case, check, verdict, detail } in &self.findings {
            let mark = match verdict {
                Verdict::Passed => "ok  ",
                Verdict::Note => "note",
                Verdict::Failed => "FAIL",
            };
            write!(f, "  {mark}  {area:<9}  {check}")?;
            write!(f, "{}{case}", if case.is_empty() { "" } else { ", " })?;
            writeln!(f, "{}{detail}", if detail.is_empty() { "" } else { ": " })?;
        }
        for Figure { name, value } in &self.figures {
            writeln!(f, "        {name}: {value}")?;
        }
        let failed =
            self.findings.iter().filter(|finding| finding.verdict == Verdict::Failed).count();
        match failed {
            0 => write!(f, "passed: {} checks", self.findings.len()),
            failed => write!(f, "failed: {failed} of {} checks", self.findings.len()),
        }
    }
}
