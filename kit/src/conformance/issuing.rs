//! Checks `issue` while every capability works: the broker would accept the credential.

use super::doubles::PATIENCE;
use super::examples::Case;
use super::report::Report;
use crate::grant::grant;
use crate::probe::Probe;
use rise_broker::domain::{Actions, Clock, Credential, Deadline};
use rise_broker::issue::mint;

const CHECK: &str = "returns what the broker accepts, and asks for nothing beyond its settings";

pub(super) async fn check(case: &Case, report: &mut Report) {
    let mut wrong = Vec::new();
    for actions in ["pull", "pull,push"] {
        for seen in issue(case, actions).await {
            wrong.push(format!("to {actions}: {seen}"));
        }
    }
    report.record("issue", CHECK, wrong);
}

async fn issue(case: &Case, actions: &str) -> Vec<String> {
    let grant = Case::project().and_then(|project| {
        let actions = Actions::parse(actions.split(',')).map_err(|error| error.to_string())?;
        grant(&case.registry.name, &project, Some(actions))
    });
    let grant = match grant {
        Ok(grant) => grant,
        Err(error) => return vec![error],
    };
    let (registry, probe) = case.behind(case.upstream(), Probe::default());
    let deadline = Deadline::after(PATIENCE);
    let issued = mint(&registry, &grant, deadline, &Clock::system()).await;
    let mut wrong = case.violations(&probe.seen());
    match issued {
        Err(error) => wrong.push(error.to_string()),
        Ok(credentials) => {
            if let Credential::Basic { username, .. } = &credentials.credential
                && case.leaks(username)
            {
                wrong.push("a secret is in the user name".to_owned());
            }
        }
    }
    wrong
}
