//! Hints at habits that do no harm to the kit's double, and that the author may not know of.

use std::sync::Arc;

use super::doubles::PATIENCE;
use super::examples::Case;
use super::faults::kind;
use crate::contract::types::Error;
use crate::grant::grant;
use crate::probe::{Probe, Seen};
use rise_broker::domain::{Actions, Clock, Credentials, Deadline, EndedBy, Project};
use rise_broker::issue::mint;
use rise_broker::provider::IssueCall;

/// Credentials may end this many seconds after their grant: clocks differ, and registries round.
const LEEWAY: i64 = 300;
/// By how many seconds a credential outlives its grant, to see whether the provider notices.
const LATER: u64 = 1800;

/// The rule, and what the provider does.
pub(super) type Hint = (&'static str, String);

/// What one call of `issue` shows.
pub(super) fn of_call(case: &Case, seen: &Seen) -> Vec<Hint> {
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
pub(super) fn outlives(credentials: &Credentials, granted: u32) -> Option<Hint> {
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

/// A secret that two grants got, and that is none of the settings.
pub(super) fn same_secret(case: &Case, issued: &[Credentials]) -> Option<Hint> {
    let [first, second] = issued else { return None };
    let (first, second) = (first.credential.secret()?, second.credential.secret()?);
    let is_same = first.expose() == second.expose() && !case.leaks(first.expose());
    is_same.then(|| {
        let text = "two grants got the same, which is none of the settings: if the registry \
            answers it, write `{token}` in its place; if the provider makes it, use \
            `random.password`";
        ("each grant gets a secret of its own", text.to_owned())
    })
}

/// An expiry that the provider has computed itself.
pub(super) async fn guessed_end(case: &Case, project: &Project) -> Option<Hint> {
    if !case.asks_over_http() {
        return None;
    }
    let grant = grant(&case.registry, project, None, None).ok()?;
    let mut upstream = case.upstream(&grant);
    upstream.later = LATER;
    let upstream = Arc::new(upstream);
    let (registry, _) = case.behind_shared(Arc::clone(&upstream), Probe::default());
    let issued = mint(&registry, &grant, Deadline::after(PATIENCE), &Clock::system()).await.ok()?;
    let left = issued.expires_at?.as_second() - Clock::system().now().as_second();
    let granted = i64::from(grant.lifetime().seconds());
    if left > granted || issued.ended_by == EndedBy::Broker {
        return None;
    }
    let text = if upstream.told_end() {
        "the registry said a later time: return what the registry says"
    } else if issued.note.is_some() && !upstream.mentioned_end() {
        "no answer of the registry has one: return none, so that the broker has the credential \
         ended"
    } else {
        return None;
    };
    Some(("`expires_at` is what the registry said", text.to_owned()))
}

/// A project that gets nothing, probably because of its name: `my.app`. A call without an answer is
/// an error.
pub(super) async fn refused_name(case: &Case) -> Result<Option<Hint>, String> {
    let dotted = case.project()?.as_str().replace("my-app", "my.app").parse::<Project>();
    let Some(project) = dotted.ok().filter(|project| case.registry.shape.admits(project)) else {
        return Ok(None);
    };
    let pull = Actions::parse(["pull"]).map_err(|error| error.to_string())?;
    let grant = grant(&case.registry, &project, Some(pull), None)?;
    let (registry, _) = case.behind(case.upstream(&grant), Probe::default());
    let call = IssueCall { settings: Arc::clone(&registry.settings), grant };
    let deadline = Deadline::after(PATIENCE);
    let called = registry.provider.call_until(call, &registry.capabilities, deadline).await;
    let called = called.map_err(|error| format!("for `{project}`, to pull: {error}"))?;
    let text = match called.value {
        // `unavailable`: the examples may have answers for the other project alone.
        Ok(_) | Err(Error::Unavailable(_)) => return Ok(None),
        Err(error) => format!("`{project}` gets no credential: {}", kind(&error)),
    };
    Ok(Some(("projects of every form get credentials", text)))
}
