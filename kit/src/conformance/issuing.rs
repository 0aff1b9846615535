//! Checks `issue` while every capability works: the broker would accept the credential.

use super::doubles::PATIENCE;
use super::examples::Case;
use super::report::Report;
use crate::grant::grant;
use crate::probe::{Probe, Seen};
use rise_broker::domain::{Actions, Clock, Credential, Credentials, Deadline, Project, Scope};
use rise_broker::issue::mint;

const AREA: &str = "issue";
/// Credentials may end this many seconds after their grant: clocks differ, and registries round.
const LEEWAY: i64 = 300;
const CHECK: &str = "returns what the broker accepts, and asks for nothing beyond its settings";

pub(super) async fn check(case: &Case, report: &mut Report) {
    let (mut wrong, mut hints) = (Vec::new(), Vec::new());
    for project in case.projects() {
        let mut has_credential = false;
        for actions in ["pull", "pull,push"] {
            let tried = issue(case, &project, actions, &mut hints).await;
            has_credential |= tried.has_credential;
            let seen = tried.wrong.into_iter();
            wrong.extend(seen.map(|seen| format!("for `{project}`, to {actions}: {seen}")));
        }
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
    report.record(AREA, CHECK, wrong);
    hints.sort();
    hints.dedup();
    for (check, seen) in hints {
        report.hint(AREA, check, seen);
    }
}

type Hint = (&'static str, String);

/// What came of one call of `issue`.
#[derive(Default)]
struct Tried {
    wrong: Vec<String>,
    has_credential: bool,
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
    hints.extend(habits(case, &seen));
    let mut tried = Tried { wrong: case.violations(&seen), has_credential: false };
    match issued {
        Err(error) => tried.wrong.push(error.to_string()),
        Ok(credentials) => {
            tried.has_credential = credentials.credential.secret().is_some();
            if let Credential::Basic { username, .. } = &credentials.credential
                && case.leaks(username)
            {
                tried.wrong.push("a secret is in the user name".to_owned());
            }
            hints.extend(outlives(&credentials, grant.lifetime().seconds()));
        }
    }
    tried
}

/// Habits that do no harm here, and that the author may not know of.
fn habits(case: &Case, seen: &Seen) -> Vec<Hint> {
    let mut hints = Vec::new();
    if seen.made_secrets.iter().any(|text| case.leaks(text)) {
        let text = "it read the credential as text and made a secret of it; `take-secret` moves it \
            out of the answer before anything can log it";
        hints.push(("a credential is best taken out of an answer unread", text.to_owned()));
    }
    if !seen.printed.is_empty() {
        let text = format!("it wrote `{}`, which no broker logs", seen.printed);
        hints.push(("text for operators goes to `log`, not to standard output", text));
    }
    hints
}

/// A credential that works for much longer than its grant.
fn outlives(credentials: &Credentials, granted: u32) -> Option<Hint> {
    let check = "a credential ends with its grant";
    // The host rejects what a registry made without an expiry, unless the settings accept that.
    let Some(expires_at) = credentials.expires_at else {
        let has_secret = credentials.credential.secret().is_some();
        let text = "it never expires, and nothing ends it: the settings accept that";
        return has_secret.then(|| (check, text.to_owned()));
    };
    let left = expires_at.as_second() - Clock::system().now().as_second();
    let granted = i64::from(granted);
    (left > granted + LEEWAY).then(|| {
        let text = format!(
            "it lives for {left} s and {granted} s were granted: nothing ends it earlier, so let \
             the registry make it for `lifetime` seconds if it can"
        );
        (check, text)
    })
}
