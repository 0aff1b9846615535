//! What a registry's token says that it opens: the claim `access` of the Distribution specification
//! for registry tokens.
//!
//! **Invariant:** the claim only ever rejects a token. The host does not verify the signature, and
//! does not know whether the registry keeps to the claim: answers state `enforced_by: provider`.

use serde::Deserialize;

use super::IssueError;
use crate::capability::printable;
use crate::capability::secrets::jwt_claims;
use crate::domain::{Action, Actions, Location};

/// The longest scope that a message shows, in bytes.
const LONGEST_SHOWN: usize = 200;

/// One resource that the token opens.
#[derive(Deserialize)]
struct Access {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

/// Rejects a token that says that it is for something else than these actions on the repository at
/// `location`, or for less. A token without the claim, or with one of another form, may be for
/// anything, and passes. `children` tells whether what lies below the repository belongs to it.
///
/// A grant to push may include pulls: registries add them, because clients read before they push.
pub(super) fn check(
    token: &str,
    location: &Location,
    actions: Actions,
    children: bool,
) -> Result<(), IssueError> {
    let claim = jwt_claims(token).and_then(|mut claims| Some(claims.get_mut("access")?.take()));
    let access = claim.map(serde_json::from_value::<Vec<Access>>);
    let Some(Ok(access)) = access else { return Ok(()) };
    let repository = location.repository.as_str();
    let is_ours = |access: &Access| {
        let below = access.name.strip_prefix(repository);
        let below = below.is_some_and(|rest| rest.is_empty() || children && rest.starts_with('/'));
        access.kind == "repository" && below
    };
    let may = |action: &String| match action.as_str() {
        "pull" => !actions.is_empty(),
        "push" => actions.contains(Action::Push),
        _ => false,
    };
    if let Some(wide) = access.iter().find(|it| !is_ours(it) || !it.actions.iter().all(may)) {
        let Access { kind, name, actions } = wide;
        let scope = printable(&format!("{kind}:{name}:{}", actions.join(",")), LONGEST_SHOWN);
        let text = format!("returned a token that opens `{scope}`, which was not granted");
        return Err(IssueError::ProviderFailed(text));
    }
    let opens = |action: Action| {
        let own = access.iter().filter(|access| access.name == repository);
        own.flat_map(|access| &access.actions).any(|it| it == action.as_str())
    };
    match Action::ALL.into_iter().find(|action| actions.contains(*action) && !opens(*action)) {
        None => Ok(()),
        Some(missing) => Err(IssueError::UpstreamDenied(format!(
            "the registry's token does not open {} on `{repository}`: give the broker's account \
             there that permission",
            missing.as_str()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    fn found(access: &Value, actions: Actions, children: bool) -> Option<String> {
        let claims = json!({ "access": access }).to_string();
        let token = format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let found = check(&token, &location(), actions, children);
        found.err().map(|error| error.to_string())
    }

    fn location() -> Location {
        let host = "r.example.com".parse().unwrap();
        Location { host, repository: "team/my-app".to_owned() }
    }

    fn of(name: &str, actions: &[&str]) -> Value {
        json!({ "type": "repository", "name": name, "actions": actions })
    }

    #[test]
    fn a_token_for_the_grant_is_accepted() {
        for (access, actions) in [
            (json!([of("team/my-app", &["pull"])]), Actions::PULL),
            (json!([of("team/my-app", &["push", "pull"])]), Actions::PULL_AND_PUSH),
            (json!([of("team/my-app", &["push"])]), Actions::PUSH),
            (json!([of("team/my-app", &["pull", "push"])]), Actions::PUSH),
            (
                json!([of("team/my-app", &["pull"]), of("team/my-app", &["push"])]),
                Actions::PULL_AND_PUSH,
            ),
        ] {
            assert_eq!(found(&access, actions, false), None, "{access}");
        }
        let below = json!([of("team/my-app", &["pull"]), of("team/my-app/web", &["pull"])]);
        assert_eq!(found(&below, Actions::PULL, true), None);
    }

    #[test]
    fn a_token_for_something_else_is_not() {
        for (access, told) in [
            (json!([of("team/other", &["pull"])]), "opens `repository:team/other:pull`"),
            (json!([of("team/my-app-2", &["pull"])]), "opens `repository:team/my-app-2:pull`"),
            (json!([of("team/my-app/web", &["pull"])]), "opens `repository:team/my-app/web:pull`"),
            (json!([of("team", &["pull"])]), "opens `repository:team:pull`"),
            (json!([of("team/my-app", &["pull", "push"])]), ":pull,push`, which was not granted"),
            (json!([of("team/my-app", &["*"])]), "opens `repository:team/my-app:*`"),
            (json!([of("team/my-app", &["pull"]), of("x", &[])]), "opens `repository:x:`"),
            (
                json!([{ "type": "registry", "name": "catalog", "actions": ["*"] }]),
                "opens `registry:catalog:*`",
            ),
            (json!([of("team/my-app", &[])]), "does not open pull on `team/my-app`"),
            (json!([]), "does not open pull"),
        ] {
            let said = found(&access, Actions::PULL, false).unwrap_or_default();
            assert!(said.contains(told), "{access}: {said}");
        }
        let pull = json!([of("team/my-app", &["pull"])]);
        let said = found(&pull, Actions::PULL_AND_PUSH, false).unwrap_or_default();
        assert!(said.contains("does not open push"), "{said}");
    }

    #[test]
    fn a_token_that_says_nothing_may_be_for_anything() {
        for access in
            [json!(null), json!("all"), json!(["pull"]), json!([{ "Type": "repository" }])]
        {
            assert_eq!(found(&access, Actions::PULL, false), None, "{access}");
        }
        assert!(check("opaque", &location(), Actions::PULL, false).is_ok());
    }
}
