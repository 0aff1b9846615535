//! Checks settings that no schema accepts. The provider may return an error of the contract or
//! ignore them. A trap is wrong.

use std::sync::Arc;

use serde_json::{Value, json};

use super::doubles::PATIENCE;
use super::examples::Case;
use super::report::Report;
use crate::grant::grant;
use crate::probe::Probe;
use rise_broker::domain::Deadline;
use rise_broker::provider::{CheckCall, IssueCall, LocateCall, ResolveCall};

pub(super) async fn check(case: &Case, report: &mut Report) {
    let mut wrong = Vec::new();
    for (what, settings) in texts(&case.registry.settings) {
        for seen in calls(case, &settings.into()).await {
            wrong.push(format!("{what}: {seen}"));
        }
    }
    report.record("odd input", "leads to an error of the contract, never to a trap", wrong);
}

/// Missing settings, other settings, and each setting with values of other types.
fn texts(right: &str) -> Vec<(String, String)> {
    let mut texts: Vec<(String, String)> = [
        ("no settings", ""),
        ("settings that are no JSON", "{"),
        ("settings that are null", "null"),
        ("settings that are a list", "[]"),
        ("settings without any", "{}"),
        ("settings that are text", "\"\u{202e}\u{1f4a5}\u{0}\""),
    ]
    .map(|(what, text)| (what.to_owned(), text.to_owned()))
    .to_vec();
    texts.push(("nested settings".to_owned(), format!("{}{}", "[".repeat(100), "]".repeat(100))));
    let Ok(Value::Object(map)) = serde_json::from_str::<Value>(right) else { return texts };
    let mut unknown = map.clone();
    unknown.insert("no-such-setting".to_owned(), json!({ "a": [1] }));
    texts.push(("an unknown setting".to_owned(), Value::Object(unknown).to_string()));
    let wrong = [
        Value::Null,
        json!(true),
        json!(-1),
        json!([[]]),
        json!({ "a": {} }),
        json!(""),
        json!("\u{1f4a5}\u{202e}\r\n\u{0}"),
        json!("../../{project}?*"),
        json!("x".repeat(100_000)),
    ];
    for name in map.keys() {
        for value in &wrong {
            let mut odd = map.clone();
            odd.insert(name.clone(), value.clone());
            let shown: String = value.to_string().chars().take(24).collect();
            texts.push((format!("{name} = {shown}"), Value::Object(odd).to_string()));
        }
    }
    texts
}

/// Calls every function with these settings.
async fn calls(case: &Case, settings: &Arc<str>) -> Vec<String> {
    let mut wrong = Vec::new();
    let provider = &case.registry.provider;
    let Ok(project) = Case::project() else { return wrong };
    let location = case.registry.locate(&project);
    let quiet = &case.registry.capabilities;
    let settings = || Arc::clone(settings);
    if let Err(error) = provider.call(CheckCall { settings: settings() }, quiet).await {
        wrong.push(format!("check: {error}"));
    }
    let locate = LocateCall { settings: settings(), project: project.clone() };
    if let Err(error) = provider.call(locate, quiet).await {
        wrong.push(format!("locate: {error}"));
    }
    let resolve = ResolveCall { settings: settings(), location };
    if let Err(error) = provider.call(resolve, quiet).await {
        wrong.push(format!("resolve: {error}"));
    }
    let (registry, probe) = case.behind(case.upstream(), Probe::default());
    let Ok(grant) = grant(&registry.name, &project, None) else { return wrong };
    let issue = IssueCall { settings: settings(), grant };
    let deadline = Deadline::after(PATIENCE);
    let issued = provider.call_until(issue, &registry.capabilities, deadline).await;
    match issued {
        Err(error) => wrong.push(format!("issue: {error}")),
        Ok(finished) => {
            if let Err(error) = finished.value
                && case.leaks(&error.to_string())
            {
                wrong.push("issue: a secret is in the text of its error".to_owned());
            }
        }
    }
    if probe.seen().lines.iter().any(|line| case.leaks(&line.text)) {
        wrong.push("issue: wrote a secret to the log".to_owned());
    }
    wrong
}
