//! An access token for one grant, and the checks of what Artifactory answers.
//!
//! Artifactory enforces the scope of the token. What it answers says which scope that is: anything
//! but exactly what was asked for is rejected.

use rise_provider::http::Request;
use rise_provider::{Actions, Credential, Error, Grant, Issued, Login, Secret, SecretName};
use serde::Deserialize;
use serde_json::json;

use crate::settings::Settings;

/// Seconds that Artifactory's clock may be ahead.
const LEEWAY: u64 = 60;
/// Artifactory rejects a longer one.
const LONGEST_SCOPE: usize = 500;

/// The answer of Artifactory, without its token.
#[derive(Deserialize)]
struct Answer {
    scope: String,
    expires_in: Option<u64>,
}

pub(crate) fn issue(
    settings: &Settings,
    admin: &SecretName,
    grant: &Grant,
) -> Result<Issued, Error> {
    let scope = scope(settings, grant)?;
    let username =
        settings.username.clone().unwrap_or_else(|| format!("rise-{}", grant.id().to_lowercase()));
    let place = settings.place()?;
    let response = Request::post(&place.tokens)
        .bearer(&admin.get()?)
        .json(&json!({
            "grant_type": "client_credentials",
            "username": username,
            "scope": scope,
            "expires_in": grant.lifetime(),
            "refreshable": false,
            "include_reference_token": false,
            "audience": "jfrt@*",
            "description": format!("rise-broker, grant {}", grant.id()),
            // Artifactory forgets tokens of less than six hours, and could not revoke them.
            "force_revocable": true,
        }))
        .send()?;
    response.success()?;
    let token = response.take_secret("/access_token");
    let token =
        token.ok_or_else(|| Error::Failed("an answer without `access_token`".to_owned()))?;
    if response.take_secret("/refresh_token").is_some() {
        return Err(Error::Failed("a token that can be refreshed, which was not asked for".into()));
    }
    let answer: Answer = response.json()?;
    let expires_at = check(&answer, &token, &scope, &username, grant)?;
    let credential = Credential::Basic(Login { username, password: token });
    Ok(Issued { credential, expires_at: Some(expires_at) })
}

/// The grant in the words of Artifactory: a repository, a path with everything below it, and
/// letters for actions.
pub(crate) fn scope(settings: &Settings, grant: &Grant) -> Result<String, Error> {
    let granted = grant.actions();
    let actions = match (granted.contains(Actions::PUSH), settings.allow_overwrite) {
        (true, true) => "r,w,d",
        (true, false) => "r,w",
        (false, _) => "r",
    };
    if !granted.intersects(Actions::PULL | Actions::PUSH) {
        return Err(Error::Unsupported("a grant without pull and push".to_owned()));
    }
    let scope = format!("artifact:{}/{}/**:{actions}", settings.repository, grant.project());
    if scope.len() > LONGEST_SCOPE {
        return Err(Error::Unsupported(format!("a scope of more than {LONGEST_SCOPE} characters")));
    }
    Ok(scope)
}

/// Compares what Artifactory made with what was asked for. Returns the expiry.
fn check(
    answer: &Answer,
    token: &Secret,
    scope: &str,
    username: &str,
    grant: &Grant,
) -> Result<u64, Error> {
    let wrong = |what: &str, found: &str, asked: &str| {
        Err(Error::Failed(format!(
            "a token with the {what} `{found}`, and `{asked}` was asked for"
        )))
    };
    if answer.scope != scope {
        return wrong("scope", &answer.scope, scope);
    }
    // The token itself counts, where it can be read: it is a JWT unless Artifactory is very old.
    if let Some(own) = token.claim("scp").filter(|own| own != scope) {
        return wrong("scope", &own, scope);
    }
    // `jfac@01h…/users/rise-01…`
    let subject = token.claim("sub");
    let owner = subject.as_deref().and_then(|subject| subject.rsplit('/').next());
    if let Some(owner) = owner.filter(|owner| *owner != username) {
        return wrong("user", owner, username);
    }
    let ends = answer.expires_in.map(|seconds| grant.now().saturating_add(seconds));
    let expires_at = token.expires_at().into_iter().chain(ends).max();
    let latest = grant.now() + u64::from(grant.lifetime());
    match expires_at {
        // `expires_in` 0, or none, is a token that never ends.
        Some(at) if at > grant.now() && at <= latest + LEEWAY => Ok(at.min(latest)),
        _ => wrong(
            "expiry",
            &expires_at.map_or_else(|| "never".to_owned(), |at| at.to_string()),
            &latest.to_string(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{self, Answer, Authorization, Body, Call, Host, NOW, Origin, jwt};
    use rise_provider::{Provider as _, http::Method};
    use serde_json::Value;

    use super::*;
    use crate::Artifactory;
    use crate::tests::settings;

    const USER: &str = "rise-01arz3ndektsv4rrffq69g5fav";
    const SCOPE: &str = "artifact:docker-local/my-app/**:r,w";

    fn token(sub: &str, scope: &str, exp: u64) -> String {
        jwt(&json!({ "sub": format!("jfac@01/users/{sub}"), "scp": scope, "exp": exp }))
    }

    fn answer(token: &str, scope: &str, expires_in: impl Into<Value>) -> Value {
        json!({
            "token_id": "id",
            "access_token": token,
            "expires_in": expires_in.into(),
            "scope": scope,
            "token_type": "Bearer"
        })
    }

    fn issue(more: &Value, body: &Value, actions: Actions) -> (Result<Issued, Error>, Vec<Call>) {
        let mut all = json!({ "access_token": "access_token" });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (settings, body) = (settings(&all), body.to_string());
        let grant = testing::grant("my-app").actions(actions).lifetime(900).build();
        let host = Host::new().secret("access_token");
        let host = host.http(move |_| Ok(Answer::new(200).body(&body)));
        host.run(|| Artifactory::issue(&settings, &grant))
    }

    const PUSH: Actions = Actions::PULL.union(Actions::PUSH);

    #[test]
    fn the_request_has_the_granted_scope_and_nothing_more() {
        let body = answer(&token(USER, SCOPE, NOW + 900), SCOPE, 900);
        let (issued, calls) = issue(&json!({}), &body, PUSH);
        let issued = issued.unwrap();
        assert_eq!(issued.expires_at, Some(NOW + 900));
        let Credential::Basic(login) = issued.credential else { panic!("no login") };
        assert_eq!(login.username, USER);
        assert_eq!(testing::origin(&login.password), &Origin::Http("/access_token".to_owned()));
        let Some(Call::Send(sent)) = calls.last() else { panic!("nothing was sent") };
        assert_eq!(sent.method, Method::Post);
        assert_eq!(sent.url, "https://company.jfrog.io/access/api/v1/tokens");
        let admin = Origin::Configured("access_token".to_owned());
        assert_eq!(sent.authorization, Some(Authorization::Bearer(admin)));
        assert_eq!(
            sent.body,
            Body::Json(json!({
                "grant_type": "client_credentials",
                "username": USER,
                "scope": SCOPE,
                "expires_in": 900,
                "refreshable": false,
                "include_reference_token": false,
                "audience": "jfrt@*",
                "description": "rise-broker, grant 01ARZ3NDEKTSV4RRFFQ69G5FAV",
                "force_revocable": true,
            }))
        );
    }

    #[test]
    fn actions_and_settings_decide_the_letters() {
        for (more, actions, letters) in [
            (json!({}), Actions::PULL, "r"),
            (json!({}), PUSH, "r,w"),
            (json!({ "allow_overwrite": true }), Actions::PULL, "r"),
            (json!({ "allow_overwrite": true }), PUSH, "r,w,d"),
        ] {
            let scope = format!("artifact:docker-local/my-app/**:{letters}");
            let body = answer(&token(USER, &scope, NOW + 900), &scope, 900);
            let (issued, _) = issue(&more, &body, actions);
            assert!(issued.is_ok(), "{more} {issued:?}");
        }
        let body = answer(&token("ci", SCOPE, NOW + 900), SCOPE, 900);
        let (issued, _) = issue(&json!({ "username": "ci" }), &body, PUSH);
        let Credential::Basic(login) = issued.unwrap().credential else { panic!("no login") };
        assert_eq!(login.username, "ci");
    }

    #[test]
    fn what_is_not_what_was_asked_for_is_rejected() {
        let good = token(USER, SCOPE, NOW + 900);
        let wide = "applied-permissions/admin";
        let other = "artifact:docker-local/other/**:r,w";
        let mut refreshable = answer(&good, SCOPE, 900);
        refreshable["refresh_token"] = json!("refresh-me");
        for (body, told) in [
            (answer(&good, wide, 900), "the scope `applied-permissions/admin`"),
            (answer(&good, other, 900), "the scope `artifact:docker-local/other/**:r,w`"),
            (answer(&good, &format!("{SCOPE} {other}"), 900), "the scope"),
            (answer(&token(USER, wide, NOW + 900), SCOPE, 900), "the scope"),
            (answer(&token("admin", SCOPE, NOW + 900), SCOPE, 900), "the user `admin`"),
            (answer(&token(USER, SCOPE, NOW + 9000), SCOPE, 900), "the expiry"),
            (answer(&good, SCOPE, 9000), "the expiry"),
            (answer(&token(USER, SCOPE, NOW), SCOPE, 0), "the expiry"),
            (answer("opaque", SCOPE, Value::Null), "the expiry `never`"),
            (refreshable, "can be refreshed"),
            (json!({ "scope": SCOPE }), "without `access_token`"),
            (json!({ "access_token": good }), "makes no sense"),
        ] {
            let (issued, _) = issue(&json!({}), &body, PUSH);
            let error = issued.err().unwrap_or_else(|| panic!("{told}")).to_string();
            assert!(error.contains(told), "{told}: {error}");
        }
    }

    #[test]
    fn a_token_that_is_no_jwt_is_taken_by_its_answer() {
        let (issued, _) = issue(&json!({}), &answer("opaque-token", SCOPE, 900), PUSH);
        assert_eq!(issued.unwrap().expires_at, Some(NOW + 900));
    }
}
