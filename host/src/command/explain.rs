//! `rise-broker explain`: would this token get that, and if not, why? All that the HTTP API does not say.
//!
//! Needs the settings and the token; of the network only an issuer's keys, and with `--offline` not even them.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use ulid::Ulid;
use zeroize::Zeroizing;

use super::{Outcome, load, print, texts};
use crate::config::Config;
use crate::domain::{Actions, Clock, Lifetime, Project, RegistryName, Secret};
use crate::identity::{
    Explanation, Identity, IssuerMemory, KeyAccess, KeyOrigin, TokenFinding, Verdict, shown,
};
use crate::registries::default_name;
use crate::rules::{AccessRequest, Evaluation, RuleCheck, RulePart, Rules};
use crate::telemetry::{self, LogFormat};

#[derive(clap::Args)]
pub(super) struct ExplainArguments {
    #[command(flatten)]
    directory: super::ConfigDirectory,
    /// A file with the token; `-` for standard input. It is not kept and not sent anywhere.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    #[arg(long)]
    project: String,
    /// Left out: `default`, else the only one.
    #[arg(long)]
    registry: Option<String>,
    /// Such as pull,push. Left out: whatever the rules allow.
    #[arg(long)]
    actions: Option<String>,
    /// Fetch no keys: the signature of an issuer that is found by discovery cannot be checked then.
    #[arg(long)]
    offline: bool,
    #[arg(long)]
    json: bool,
}

/// Larger than any token that is accepted, so that one that is too large is explained too.
const MOST_READ: u64 = 64 << 10;

pub(super) async fn run(arguments: &ExplainArguments) -> Outcome {
    let mut config = load(&arguments.directory.config_dir).await.map_err(texts)?;
    let request = request(arguments, &config)?;
    // Why keys could not be fetched.
    config.log.format = LogFormat::Text;
    "warn".clone_into(&mut config.log.level);
    telemetry::start(&config.log);
    let token = read_token(&arguments.token_file)?;
    let Config { identity, rules, .. } = config;
    // Opening it would make one, and what is asked about is another machine's.
    let missing = identity.issuers.iter().find_map(|issuer| match &issuer.keys {
        KeyOrigin::Local { key_file } if !key_file.exists() => Some(key_file.display().to_string()),
        KeyOrigin::Local { .. } | KeyOrigin::Discovery(_) | KeyOrigin::JwksFile { .. } => None,
    });
    if let Some(path) = missing {
        return Err(vec![format!(
            "the key of issuer `local` is not at {path}: run this where the broker runs"
        )]);
    }
    let identity = Identity::build(identity, &IssuerMemory::default(), Clock::system())
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let keys = if arguments.offline { KeyAccess::Offline } else { KeyAccess::Fetch };
    let explanation = identity.explain(&token, keys).await;
    let report = ExplainReport::new(&rules, &request, &explanation, arguments.offline);
    if arguments.json {
        print(report.json());
    } else {
        print(report.text().trim_end());
    }
    if report.granted { Ok(()) } else { Err(vec![report.because]) }
}

fn request(arguments: &ExplainArguments, config: &Config) -> Result<AccessRequest, Vec<String>> {
    let wrong = |name: &str, error: &dyn std::fmt::Display| vec![format!("--{name}: {error}")];
    let project: Project = arguments.project.parse().map_err(|error| wrong("project", &error))?;
    let registry: RegistryName = match &arguments.registry {
        Some(name) => name.parse().map_err(|error| wrong("registry", &error))?,
        None => default_name(&config.registries)
            .map_err(|error| vec![format!("{error}: name one by --registry")])?
            .clone(),
    };
    let actions = arguments.actions.as_deref().map(|it| Actions::parse([it])).transpose();
    let actions = actions.map_err(|error| wrong("actions", &error))?;
    let (id, lifetime) = (Ulid::nil(), Lifetime::default());
    Ok(AccessRequest { id, registry, project, actions, lifetime, client: None })
}

fn read_token(path: &Path) -> Result<Secret, Vec<String>> {
    let mut text = Zeroizing::new(String::with_capacity(8192));
    let read = if path == Path::new("-") {
        std::io::stdin().take(MOST_READ).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MOST_READ).read_to_string(&mut text))
    };
    read.map_err(|error| vec![format!("--token-file {}: {error}", path.display())])?;
    Ok(Secret::new(text.trim().to_owned()))
}

/// What there is to say, for people and for programs.
struct ExplainReport<'a> {
    rules: &'a Rules,
    request: &'a AccessRequest,
    explanation: &'a Explanation,
    evaluations: Vec<Evaluation<'a>>,
    granted: bool,
    /// In one sentence.
    because: String,
}

impl<'a> ExplainReport<'a> {
    fn new(
        rules: &'a Rules,
        request: &'a AccessRequest,
        explanation: &'a Explanation,
        offline: bool,
    ) -> Self {
        let subject = explanation.subject.as_ref();
        let evaluations = subject.map(|it| rules.evaluate(it, request)).unwrap_or_default();
        let decision = subject.map(|it| rules.authorize(it.clone(), request.clone()));
        let (granted, because) = match decision {
            _ if explanation.has_failed() => (false, refusal(explanation)),
            _ if !explanation.is_verified() && !offline => {
                (false, "the token could not be checked".to_owned())
            }
            Some(Ok(grant)) if explanation.is_verified() => {
                (true, format!("{} by {}", grant.actions(), grant.rules().join(", ")))
            }
            Some(Ok(grant)) => (
                true,
                format!(
                    "{} by {}, if its signature is good",
                    grant.actions(),
                    grant.rules().join(", ")
                ),
            ),
            Some(Err(denied)) if denied.allowed.is_empty() => {
                (false, "no rule allows it".to_owned())
            }
            Some(Err(denied)) => (false, format!("the rules allow {} only", denied.allowed)),
            None => (false, "the token cannot be read".to_owned()),
        };
        Self { rules, request, explanation, evaluations, granted, because }
    }

    fn text(&self) -> String {
        let mut lines = vec!["token".to_owned()];
        for finding in &self.explanation.findings {
            lines.extend(finding_lines(finding));
        }
        let AccessRequest { project, registry, actions, .. } = self.request;
        let wanted = actions.map_or_else(|| "anything".to_owned(), |it| it.to_string());
        lines.push(format!("rules, for {wanted} on project `{project}` in registry `{registry}`"));
        if self.rules.guardrail().denies_push(project) {
            lines.push("  ✗ [limits.policy] denies pushes to the project".to_owned());
        }
        for evaluation in &self.evaluations {
            let rule = evaluation.rule;
            let trial = if rule.is_on_trial() { ", on trial: grants nothing" } else { "" };
            lines.push(format!(
                "  {} rule `{}`, allows {}{trial}",
                mark(evaluation.matches()),
                rule.name(),
                rule.allow()
            ));
            lines.extend(evaluation.checks.iter().map(|check| self.check_line(*check)));
        }
        lines.push(format!(
            "{}: {}",
            if self.granted { "granted" } else { "denied" },
            self.because
        ));
        lines.join("\n")
    }

    fn check_line(&self, check: RuleCheck<'_>) -> String {
        let line = format!("      {} {check}", mark(check.held()));
        if check.held() { line } else { format!("{line}; found {}", self.found(check)) }
    }

    fn found(&self, check: RuleCheck<'_>) -> String {
        let subject = self.explanation.subject.as_ref();
        match check.part {
            RulePart::Issuer(_) => subject.map(|it| format!("`{}`", it.issuer)).unwrap_or_default(),
            RulePart::Registry => format!("`{}`", self.request.registry),
            RulePart::Project => format!("`{}`", self.request.project),
            RulePart::Claim(condition) => subject
                .and_then(|it| condition.find(&it.claims))
                .map_or_else(|| "none".to_owned(), |value| shown(&value.to_string())),
        }
    }

    fn json(&self) -> String {
        let subject = self.explanation.subject.as_ref();
        let rules: Vec<Value> = self.evaluations.iter().map(|it| self.rule_json(it)).collect();
        let report = json!({
            "granted": self.granted,
            "because": self.because,
            "project": self.request.project.as_str(),
            "registry": self.request.registry.as_str(),
            "actions": self.request.actions,
            "issuer": subject.map(|it| &it.issuer),
            "sub": subject.map(|it| &it.sub),
            "token": self.explanation.findings,
            "push_denied_by_policy": self.rules.guardrail().denies_push(&self.request.project),
            "rules": rules,
        });
        format!("{report:#}")
    }

    fn rule_json(&self, evaluation: &Evaluation<'_>) -> Value {
        let check = |check: &RuleCheck<'_>| json!({ "condition": check.condition(), "held": check.held(), "found": self.found(*check) });
        json!({
            "rule": evaluation.rule.name(),
            "allow": evaluation.rule.allow(),
            "on_trial": evaluation.rule.is_on_trial(),
            "matches": evaluation.matches(),
            "checks": evaluation.checks.iter().map(check).collect::<Vec<_>>(),
        })
    }
}

/// By the first check that failed, as the broker would.
fn refusal(explanation: &Explanation) -> String {
    let failed = explanation.findings.iter().find(|it| it.verdict == Verdict::Failed);
    let because = failed.and_then(|it| it.because.as_deref()).unwrap_or_default();
    format!("the token would be refused: {because}")
}

fn finding_lines(finding: &TokenFinding) -> Vec<String> {
    let (sign, because) = match finding.verdict {
        Verdict::Passed => ("✓", None),
        Verdict::Failed => ("✗", finding.because.as_ref()),
        Verdict::Unknown => ("?", finding.because.as_ref()),
    };
    let because = because.map(|it| format!(": no, {it}")).unwrap_or_default();
    let because = if sign == "?" { because.replacen("no, ", "not known, ", 1) } else { because };
    let mut lines = vec![format!("  {sign} {}{because}", finding.says)];
    lines.extend(finding.expected.as_ref().map(|it| format!("      expected {it}")));
    lines.extend(finding.found.as_ref().map(|it| format!("      found {it}")));
    lines
}

fn mark(held: bool) -> &'static str {
    if held { "✓" } else { "✗" }
}
