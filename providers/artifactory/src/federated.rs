//! An access token for an identity token of this broker: an identity mapping of Artifactory decides
//! what it opens. Only a token with the scope that the grant stands for is handed out.

use rise_provider::http::{Request, Response};
use rise_provider::{Actions, Credential, Error, Grant, Issued, Login, Secret, tokens};
use serde::Deserialize;
use serde_json::json;

use crate::settings::{Integration, Settings};
use crate::token;

/// The longest reason of Artifactory that a message repeats, in characters.
const LONGEST_REASON: usize = 200;

/// The answer of Artifactory, without its token.
#[derive(Deserialize)]
struct Answer {
    scope: Option<String>,
    username: Option<String>,
    expires_in: Option<u64>,
}

pub(crate) fn issue(
    settings: &Settings,
    integration: &Integration<'_>,
    grant: &Grant,
) -> Result<Issued, Error> {
    let scope = scope(settings, grant)?;
    let place = settings.place()?;
    let response = Request::post(&place.exchange)
        .json(&json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "subject_token": "",
            "provider_name": integration.name,
        }))
        .json_secret("/subject_token", &tokens::identity_token(integration.audience)?)
        .send()?;
    response.success().map_err(|error| explained(error, &response, grant))?;
    let token = response.take_secret("/access_token");
    let token =
        token.ok_or_else(|| Error::Failed("an answer without `access_token`".to_owned()))?;
    if response.take_secret("/refresh_token").is_some() {
        return Err(Error::Failed("a token that can be refreshed, which was not asked for".into()));
    }
    let answer: Answer = response.json()?;
    has_scope(&answer, &token, &scope)?;
    let username = username(&answer, &token)?;
    let ends = answer.expires_in.map(|seconds| grant.now().saturating_add(seconds));
    let expires_at = token.expires_at().into_iter().chain(ends).max();
    let credential = Credential::Basic(Login { username, password: token });
    Ok(Issued { credential, expires_at })
}

/// The scope that the identity mapping must give for this grant.
fn scope(settings: &Settings, grant: &Grant) -> Result<String, Error> {
    let Some(template) = &settings.token_scope else { return token::scope(settings, grant) };
    let actions = if grant.actions().contains(Actions::PUSH) { "push" } else { "pull" };
    Ok(template.replace("{project}", &grant.project()).replace("{actions}", actions))
}

/// The token itself counts, where it can be read, and the answer: both where both say something.
fn has_scope(answer: &Answer, token: &Secret, scope: &str) -> Result<(), Error> {
    let found = [token.claim("scp"), answer.scope.clone()];
    let found: Vec<String> = found.into_iter().flatten().collect();
    if found.is_empty() {
        return Err(Error::Failed("a token that does not say its scope".to_owned()));
    }
    match found.iter().find(|found| *found != scope) {
        Some(other) => Err(Error::Failed(format!(
            "a token with the scope `{other}`, and `{scope}` is what this grant stands for: \
             correct the identity mapping, or `token_scope`"
        ))),
        None => Ok(()),
    }
}

/// The user whose token it is: Artifactory takes it with no other name.
fn username(answer: &Answer, token: &Secret) -> Result<String, Error> {
    // `jfac@01h…/users/robot`
    let subject = token.claim("sub");
    let own = subject.as_deref().and_then(|subject| subject.rsplit('/').next());
    match (own, &answer.username) {
        (Some(own), Some(stated)) if own != stated => Err(Error::Failed(format!(
            "a token of the user `{own}`, and the answer says `{stated}`"
        ))),
        (Some(own), _) => Ok(own.to_owned()),
        (None, Some(stated)) => Ok(stated.clone()),
        (None, None) => Err(Error::Failed("a token that does not say its user".to_owned())),
    }
}

#[derive(Deserialize)]
struct Refusal {
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    message: String,
}

/// Adds the reason of Artifactory and the remedy.
fn explained(error: Error, response: &Response, grant: &Grant) -> Error {
    let refusal = response.json::<Refusal>().ok();
    let reason = refusal.and_then(|refusal| refusal.errors.into_iter().next());
    let reason = reason.map(|reason| reason.message).unwrap_or_default();
    let reason: String = reason.chars().take(LONGEST_REASON).collect();
    let remedy = format!(
        "add an identity mapping for the `sub` `{}` to the OIDC integration, and see its issuer \
         and audience; NAME is the `registry` of this line",
        tokens::subject(grant)
    );
    if let Error::NotFound(text) = &error {
        let cause = "`provider_name` is no OIDC integration of this Artifactory";
        return Error::Denied(format!("{text}: {cause}"));
    }
    let (Error::Denied(text) | Error::Failed(text)) = error else { return error };
    Error::Denied(format!("{text}: {reason} ({remedy})"))
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{self, Answer, Body, Call, Host, NOW, Origin, Sent, jwt};
    use rise_provider::{Provider as _, Scope};
    use serde_json::Value;

    use super::*;
    use crate::Artifactory;
    use crate::tests::settings;

    const SCOPE: &str = "artifact:docker-local/my-app/**:r,w";
    const PUSH: Actions = Actions::PULL.union(Actions::PUSH);

    fn token(scope: &str) -> String {
        jwt(&json!({ "sub": "jfac@01/users/ci-my-app", "scp": scope, "exp": NOW + 600 }))
    }

    fn issue(more: &Value, status: u16, body: &Value) -> (Result<Issued, Error>, Vec<Sent>) {
        let mut all = json!({ "provider_name": "rise-broker", "audience": "jfrog" });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (settings, body) = (settings(&all), body.to_string());
        let grant = testing::grant("my-app").actions(PUSH).build();
        let host = Host::new().http(move |_| Ok(Answer::new(status).body(&body)));
        let (issued, calls) = host.run(|| Artifactory::issue(&settings, &grant));
        let sent = calls
            .into_iter()
            .filter_map(|call| if let Call::Send(sent) = call { Some(sent) } else { None });
        (issued, sent.collect())
    }

    #[test]
    fn an_identity_token_is_exchanged_for_a_token_of_the_grant() {
        let body = json!({ "access_token": token(SCOPE), "expires_in": 600, "scope": SCOPE });
        let (issued, sent) = issue(&json!({}), 200, &body);
        let issued = issued.unwrap();
        assert_eq!(issued.expires_at, Some(NOW + 600));
        let Credential::Basic(login) = issued.credential else { panic!("no login") };
        assert_eq!(login.username, "ci-my-app");
        assert_eq!(testing::origin(&login.password), &Origin::Http("/access_token".to_owned()));
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].url, "https://company.jfrog.io/access/api/v1/oidc/token");
        assert_eq!(sent[0].authorization, None);
        assert_eq!(
            sent[0].body,
            Body::Json(json!({
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
                "subject_token": "<identity-token jfrog>",
                "provider_name": "rise-broker",
            }))
        );
    }

    #[test]
    fn the_scope_is_that_of_the_grant_or_nothing_is_issued() {
        let groups = "applied-permissions/groups:docker-{project}-{actions}";
        let own = "applied-permissions/groups:docker-my-app-push";
        for (template, found, told) in [
            (None, Some(SCOPE), None),
            (Some(groups), Some(own), None),
            (None, Some("applied-permissions/admin"), Some("`applied-permissions/admin`")),
            (
                None,
                Some("artifact:docker-local/other/**:r,w"),
                Some("correct the identity mapping"),
            ),
            (Some(groups), Some(&*own.replace("my-app", "other")), Some("docker-other-push`")),
            (Some(groups), Some(&*own.replace("push", "pull")), Some("docker-my-app-pull`")),
            (None, None, Some("does not say its scope")),
        ] {
            let token = found.map_or_else(|| "opaque-token".to_owned(), token);
            let body = json!({ "access_token": token, "expires_in": 600 });
            let (issued, _) = issue(&json!({ "token_scope": template }), 200, &body);
            match (issued, told) {
                (Ok(_), None) => {}
                (Err(error), Some(told)) => assert!(error.to_string().contains(told), "{error}"),
                (issued, told) => panic!("{told:?}: {issued:?}"),
            }
        }
        // The token says one thing, and the answer another.
        let body = json!({ "access_token": token(SCOPE), "scope": "applied-permissions/admin" });
        assert!(issue(&json!({}), 200, &body).0.is_err());
        let body = json!({ "access_token": token(SCOPE), "username": "admin" });
        assert!(issue(&json!({}), 200, &body).0.is_err());
        let body = json!({ "access_token": token(SCOPE), "refresh_token": "again-and-again" });
        assert!(issue(&json!({}), 200, &body).0.is_err());
    }

    #[test]
    fn a_denial_names_the_reason_and_the_remedy() {
        let body = json!({ "errors": [{ "code": "FORBIDDEN", "message": "no mapping" }] });
        for (status, told) in [
            (401, "no mapping (add an identity mapping for the `sub` `project:my-app:reg"),
            (403, "no mapping (add an identity mapping for the `sub` `project:my-app:reg"),
            (400, "no mapping (add an identity mapping for the `sub` `project:my-app:reg"),
            (404, "`provider_name` is no OIDC integration"),
        ] {
            let (issued, _) = issue(&json!({}), status, &body);
            let Err(Error::Denied(text)) = issued else { panic!("{status}: {issued:?}") };
            assert!(text.contains(told), "{status}: {text}");
        }
    }

    #[test]
    fn a_scope_that_is_the_same_for_all_projects_is_wide() {
        for (scope, expected) in [
            (None, Scope::Repository),
            (Some("applied-permissions/groups:{project}-{actions}"), Scope::Repository),
            (Some("applied-permissions/groups:docker-{actions}"), Scope::Registry),
        ] {
            let more =
                json!({ "provider_name": "rise", "audience": "jfrog", "token_scope": scope });
            assert_eq!(Artifactory::check(&settings(&more)), Ok(expected), "{scope:?}");
        }
    }
}
