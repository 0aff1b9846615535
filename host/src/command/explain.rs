//! `rise-broker explain`: would this token get that credential, and if not, why? It says what the
//! HTTP API must not tell callers.
//!
//! It needs the settings and the token. From the network it fetches the issuer's keys only, and
//! with `--offline` nothing.

mod request;

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Outcome, load, print, texts, token_file};
use crate::config::Config;
use crate::domain::Clock;
use crate::identity::{
    Explanation, Identity, IssuerMemory, KeyAccess, KeyOrigin, TokenFinding, Verdict, shown,
};
use crate::rules::{AccessRequest, Evaluation, RuleCheck, RulePart, Rules};
use crate::telemetry::{self, LogFormat};
use request::{ExplainRequest, SettledRequest};

const UNSURE: &str = ", if the signature is valid";

#[derive(clap::Args)]
pub(super) struct ExplainArguments {
    #[command(flatten)]
    directory: super::ConfigDirectory,
    /// A file with the token; `-` for standard input. The token is not stored and not sent
    /// anywhere.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// The project that credentials are requested for.
    #[arg(long)]
    project: String,
    /// The registry's name. By default `default`, or the only registry.
    #[arg(long)]
    registry: Option<String>,
    /// Actions such as pull,push: of pull, push, create and delete. By default whatever the rules
    /// allow.
    #[arg(long)]
    actions: Option<String>,
    /// Fetch no keys. Signatures of issuers found by discovery cannot be checked then.
    #[arg(long)]
    offline: bool,
    /// Also print the checks that passed, and the rules for other issuers.
    #[arg(long)]
    verbose: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: &ExplainArguments) -> Outcome {
    let mut config = load(&arguments.directory.path()).await.map_err(texts)?;
    let request = ExplainRequest::parse(arguments, &config)?;
    // The log says why keys could not be fetched.
    config.log.format = LogFormat::Text;
    "warn".clone_into(&mut config.log.level);
    telemetry::start(&config.log);
    let token = token_file::read(&arguments.token_file)?;
    let Config { identity, rules, registries, .. } = config;
    // Opening the key would create one here, and the token was signed with another.
    let missing = identity.issuers.iter().find_map(|issuer| match &issuer.keys {
        KeyOrigin::Local { key_file } if !key_file.exists() => Some(key_file.display().to_string()),
        KeyOrigin::Local { .. } | KeyOrigin::Discovery(_) | KeyOrigin::JwksFile { .. } => None,
    });
    if let Some(path) = missing {
        return Err(vec![format!(
            "there is no key of issuer `local` at {path}: run this command where the broker runs"
        )]);
    }
    let identity = Identity::build(&identity, &IssuerMemory::default(), Clock::system())
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let keys = if arguments.offline { KeyAccess::Offline } else { KeyAccess::Fetch };
    let explanation = identity.explain(&token, keys).await;
    let subject = explanation.subject.as_ref();
    let request = request.settle(subject, &rules, &registries)?;
    let access = request.access();
    let report = ExplainReport::new(&rules, (&request, &access), &explanation, arguments.offline);
    if arguments.json {
        print(report.json());
    } else {
        print(report.text(arguments.verbose).trim_end());
    }
    // The report has the reason.
    if report.granted { Ok(()) } else { Err(Vec::new()) }
}

/// The result, for people and for programs.
struct ExplainReport<'a> {
    rules: &'a Rules,
    request: &'a SettledRequest,
    explanation: &'a Explanation,
    evaluations: Vec<Evaluation<'a>>,
    granted: bool,
    /// Why, in one sentence.
    because: String,
}

impl<'a> ExplainReport<'a> {
    fn new(
        rules: &'a Rules,
        (request, access): (&'a SettledRequest, &'a AccessRequest),
        explanation: &'a Explanation,
        offline: bool,
    ) -> Self {
        let subject = explanation.subject.as_ref();
        let evaluations =
            subject.map(|subject| rules.evaluate(subject, access)).unwrap_or_default();
        let admits = rules.shape(&request.registry).admits(&request.project);
        let decision = subject.map(|subject| request.decide(rules, subject));
        let (granted, because) = match decision {
            _ if explanation.has_failed() => (false, refusal(explanation)),
            _ if !explanation.is_verified() && !offline => {
                (false, "the token could not be checked".to_owned())
            }
            Some(Ok(granted)) => {
                let unsure = if explanation.is_verified() { "" } else { UNSURE };
                (true, format!("{} by {}{unsure}", granted.rights, granted.rules.join(", ")))
            }
            Some(Err(_)) if !admits => (false, "the registry has no such project".to_owned()),
            Some(Err(allowed)) if allowed.is_empty() => {
                let rules = rules
                    .iter()
                    .filter(|rule| subject.is_some_and(|subject| rule.issuer() == subject.issuer));
                let because = if rules.count() == 0 {
                    "no rule is for the token's issuer"
                } else {
                    "no rule allows it; the first failed condition of each is below"
                };
                (false, because.to_owned())
            }
            Some(Err(allowed)) => (false, format!("the rules allow {allowed} only")),
            None => (false, "the token cannot be read".to_owned()),
        };
        Self { rules, request, explanation, evaluations, granted, because }
    }

    /// Without `verbose`, only what decided: failed checks, and the rules of the token's issuer.
    fn text(&self, verbose: bool) -> String {
        let verdict = if self.granted { "granted" } else { "denied" };
        let mut lines = vec![format!("{verdict}: {}", self.because), "token".to_owned()];
        let findings = self.explanation.findings.iter();
        let is_told = |finding: &&TokenFinding| verbose || finding.verdict != Verdict::Passed;
        let told: Vec<&TokenFinding> = findings.filter(is_told).collect();
        if told.is_empty() {
            lines.push("  ✓ every check passed".to_owned());
        }
        lines.extend(told.into_iter().flat_map(finding_lines));
        let SettledRequest { project, registry, wanted } = self.request;
        let wanted = wanted.map_or_else(|| "any action".to_owned(), |rights| rights.to_string());
        lines.push(format!("rules, for {wanted} on project `{project}` in registry `{registry}`"));
        let shape = self.rules.shape(registry);
        if !shape.admits(project) {
            lines.push(format!("  ✗ registry `{registry}` has projects {shape}"));
        }
        if self.rules.guardrail().denies_changes(project) {
            lines.push("  ✗ [limits.policy] allows only pull of the project".to_owned());
        }
        let mut others = 0;
        for evaluation in &self.evaluations {
            let rule = evaluation.rule;
            let is_other =
                |check: &RuleCheck<'_>| matches!(check.part, RulePart::Issuer(_)) && !check.held();
            if !verbose && evaluation.checks.iter().any(is_other) {
                others += 1;
                continue;
            }
            let trial = if rule.is_on_trial() { ", on trial: it grants nothing" } else { "" };
            lines.push(format!(
                "  {} rule `{}`, allows {}{trial}",
                mark(evaluation.matches()),
                rule.name(),
                rule.allow()
            ));
            let told = evaluation.checks.iter().filter(|check| verbose || !check.held());
            lines.extend(told.map(|check| self.check_line(*check)));
        }
        if others > 0 {
            lines.push(format!(
                "  (rules for other issuers: {others}; --verbose shows them and all checks)"
            ));
        }
        lines.join("\n")
    }

    fn check_line(&self, check: RuleCheck<'_>) -> String {
        let line = format!("      {} {check}", mark(check.held()));
        if check.held() { line } else { format!("{line}; found {}", self.found(check)) }
    }

    fn found(&self, check: RuleCheck<'_>) -> String {
        let subject = self.explanation.subject.as_ref();
        match check.part {
            RulePart::Issuer(_) => {
                subject.map(|subject| format!("`{}`", subject.issuer)).unwrap_or_default()
            }
            RulePart::Registry => format!("`{}`", self.request.registry),
            RulePart::Project => format!("`{}`", self.request.project),
            RulePart::Claim(condition) => subject
                .and_then(|subject| condition.find(&subject.claims))
                .map_or_else(|| "none".to_owned(), |value| shown(&value.to_string())),
        }
    }

    fn json(&self) -> String {
        let subject = self.explanation.subject.as_ref();
        let rules: Vec<Value> =
            self.evaluations.iter().map(|evaluation| self.rule_json(evaluation)).collect();
        let report = json!({
            "granted": self.granted,
            "because": self.because,
            "project": self.request.project.as_str(),
            "registry": self.request.registry.as_str(),
            "actions": self.request.wanted,
            "issuer": subject.map(|subject| &subject.issuer),
            "sub": subject.map(|subject| &subject.sub),
            "token": self.explanation.findings,
            "push_denied_by_policy": self.rules.guardrail().denies_changes(&self.request.project),
            "rules": rules,
        });
        format!("{report:#}")
    }

    fn rule_json(&self, evaluation: &Evaluation<'_>) -> Value {
        let check = |check: &RuleCheck<'_>| {
            json!({
                "condition": check.condition(),
                "held": check.held(),
                "found": self.found(*check),
            })
        };
        json!({
            "rule": evaluation.rule.name(),
            "allow": evaluation.rule.allow(),
            "on_trial": evaluation.rule.is_on_trial(),
            "matches": evaluation.matches(),
            "checks": evaluation.checks.iter().map(check).collect::<Vec<_>>(),
        })
    }
}

/// The first check that failed, which is the one that the broker reports.
fn refusal(explanation: &Explanation) -> String {
    let failed = explanation.findings.iter().find(|finding| finding.verdict == Verdict::Failed);
    let because = failed.and_then(|finding| finding.because.as_deref()).unwrap_or_default();
    format!("the token is rejected: {because}")
}

fn finding_lines(finding: &TokenFinding) -> Vec<String> {
    let (sign, because) = match finding.verdict {
        Verdict::Passed => ("✓", None),
        Verdict::Failed => ("✗", finding.because.as_ref()),
        Verdict::Unknown => ("?", finding.because.as_ref()),
    };
    let because = because.map(|because| format!(": no, {because}")).unwrap_or_default();
    let because = if sign == "?" { because.replacen("no, ", "unknown, ", 1) } else { because };
    let mut lines = vec![format!("  {sign} {}{because}", finding.says)];
    lines.extend(finding.expected.as_ref().map(|expected| format!("      expected {expected}")));
    lines.extend(finding.found.as_ref().map(|found| format!("      found {found}")));
    lines
}

fn mark(held: bool) -> &'static str {
    if held { "✓" } else { "✗" }
}
