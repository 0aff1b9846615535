//! Checks `issue` while every capability works: the broker would accept the credential.

use super::doubles::PATIENCE;
use super::examples::Case;
use super::habits::{self, Hint};
use super::report::Report;
use crate::grant::grant;
use crate::probe::Probe;
use rise_broker::domain::{Actions, Clock, Credential, Credentials, Deadline, Project, Scope};
use rise_broker::issue::mint;

const AREA: &str = "issue";
const CHECK: &str = "returns what the broker accepts, and asks for nothing beyond its settings";

pub(super) async fn check(case: &Case, report: &mut Report) {
    let (mut wrong, mut hints) = (Vec::new(), Vec::new());
    for project in case.projects() {
        let mut issued = Vec::new();
        for actions in ["pull", "pull,push"] {
            let tried = issue(case, &project, actions, &mut hints).await;
            issued.extend(tried.credentials);
            let seen = tried.wrong.into_iter();
            wrong.extend(seen.map(|seen| format!("for `{project}`, to {actions}: {seen}")));
        }
        hints.extend(habits::same_secret(case, &issued));
        hints.extend(habits::guessed_end(case, &project).await);
        let has_credential = issued.iter().any(|issued| issued.credential.secret().is_some());
        // Images that everybody may pull need a credential for a push alone, and a job that pushes
        // may have a login of its own.
        let scope = case.registry.scope;
        if wrong.is_empty() && !has_credential && scope != Scope::None {
            wrong.push(format!(
                "for `{project}`: it returned no credential, although `check` says that \
                 credentials open a {scope}: let `check` return the scope `none`, or return the \
                 credential"
            ));
        }
    }
    match habits::refused_name(case).await {
        Ok(hint) => hints.extend(hint),
        Err(seen) => wrong.push(seen),
    }
    report.record(AREA, CHECK, wrong);
    hints.sort();
    hints.dedup();
    for (check, seen) in hints {
        report.hint(AREA, check, seen);
    }
}

/// What came of one call of `issue`.
#[derive(Default)]
struct Tried {
    wrong: Vec<String>,
    credentials: Option<Credentials>,
}

async fn issue(case: &Case, project: &Project, actions: &str, hints: &mut Vec<Hint>) -> Tried {
    let actions = Actions::parse(actions.split(',')).map_err(|error| error.to_string());
    let grant = actions.and_then(|actions| grant(&case.registry, project, Some(actions), None));
    let grant = match grant {
        Ok(grant) => grant,
        Err(error) => return Tried { wrong: vec![error], ..Tried::default() },
    };
    let (registry, probe) = case.behind(case.upstream(&grant), Probe::default());
    let deadline = Deadline::after(PATIENCE);
    let issued = mint(&registry, &grant, deadline, &Clock::system()).await;
    let seen = probe.seen();
    hints.extend(habits::of_call(case, &seen));
    let mut tried = Tried { wrong: case.violations(&seen), credentials: None };
    match issued {
        Err(error) => tried.wrong.push(error.to_string()),
        Ok(credentials) => {
            if let Credential::Basic { username, .. } = &credentials.credential
                && case.leaks(username)
            {
                tried.wrong.push("a secret is in the user name".to_owned());
            }
            hints.extend(habits::outlives(&credentials, grant.lifetime().seconds()));
            tried.credentials = Some(credentials);
        }
    }
    tried
}
