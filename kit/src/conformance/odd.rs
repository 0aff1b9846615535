//! Checks settings that no schema accepts. The provider may return an error of the contract or
//! ignore them. A trap is wrong.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::doubles::PATIENCE;
use super::examples::Case;
use super::report::Report;
use crate::grant::grant;
use crate::probe::Probe;
use rise_broker::domain::Deadline;
use rise_broker::provider::{CheckCall, Finished, IssueCall, LocateCall, ResolveCall, RevokeCall};

pub(super) async fn check(case: &Case, report: &mut Report) {
    let (mut wrong, mut paths) = (Vec::new(), BTreeSet::new());
    for (what, settings) in texts(&case.registry.settings) {
        for seen in calls(case, &settings.into(), &mut paths).await {
            wrong.push(format!("{what}: {seen}"));
        }
    }
    if let Some(path) = paths.first() {
        let text = format!("`check` returns the path `{path}`, expected `/{path}` or empty text");
        report.hint("odd input", "the path of a problem is a JSON Pointer", text);
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

/// Calls every function with these settings. Collects paths of problems that are no JSON Pointers.
async fn calls(case: &Case, settings: &Arc<str>, paths: &mut BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let provider = &case.registry.provider;
    let Ok(project) = case.project() else { return wrong };
    let location = case.registry.locate(&project);
    let quiet = &case.registry.capabilities;
    let settings = || Arc::clone(settings);
    match provider.call(CheckCall { settings: settings() }, quiet).await {
        Err(error) => wrong.push(format!("check: {error}")),
        Ok(Finished { value: Ok(_), .. }) => {}
        Ok(Finished { value: Err(problems), .. }) => {
            let odd = |path: &String| !path.is_empty() && !path.starts_with('/');
            paths.extend(problems.into_iter().map(|problem| problem.path).filter(odd));
        }
    }
    let locate = LocateCall { settings: settings(), project: project.clone() };
    if let Err(error) = provider.call(locate, quiet).await {
        wrong.push(format!("locate: {error}"));
    }
    let resolve = ResolveCall { settings: settings(), location };
    if let Err(error) = provider.call(resolve, quiet).await {
        wrong.push(format!("resolve: {error}"));
    }
    let Ok(grant) = grant(&case.registry, &project, None, None) else { return wrong };
    let (registry, probe) = case.behind(case.upstream(&grant), Probe::default());
    let issue = IssueCall { settings: settings(), grant: Arc::clone(&grant) };
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
    let revoke = RevokeCall { settings: settings(), grant: grant.into(), note: None };
    match provider.call_until(revoke, &registry.capabilities, Deadline::after(PATIENCE)).await {
        Err(error) => wrong.push(format!("revoke: {error}")),
        Ok(finished) => {
            if finished.value.is_err_and(|error| case.leaks(&error.to_string())) {
                wrong.push("revoke: a secret is in the text of its error".to_owned());
            }
        }
    }
    if case.logged_secret(&probe.seen()) {
        wrong.push("wrote a secret to the log".to_owned());
    }
    wrong
}
