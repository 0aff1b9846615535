//! A token of a service account for an identity token of this broker. Only one that says when it
//! ends is handed out.

use rise_provider::http::{Request, Response};
use rise_provider::{Error, Grant, Secret, tokens};
use serde::Deserialize;
use serde_json::json;

use crate::settings::Settings;

/// The longest reason of Cloudsmith that a message repeats, in characters.
const LONGEST_REASON: usize = 200;

#[derive(Deserialize)]
struct Refusal {
    detail: String,
}

/// Returns a token of this service account, and its expiry.
pub(crate) fn exchange(
    settings: &Settings,
    service: &str,
    grant: &Grant,
) -> Result<(Secret, u64), Error> {
    let identity = tokens::identity_token(&settings.audience)?;
    let response = Request::post(&settings.exchange())
        .json(&json!({ "oidc_token": "", "service_slug": service }))
        .json_secret("/oidc_token", &identity)
        .send()?;
    response.success().map_err(|error| explained(error, &response, service, grant))?;
    let token = response.take_secret("/token");
    let token = token.ok_or_else(|| Error::Failed("an answer without `token`".to_owned()))?;
    // The account's own API key is no JWT, and never ends.
    let expires_at = token.expires_at();
    let expires_at = expires_at
        .ok_or_else(|| Error::Failed("a token that does not say when it ends".to_owned()))?;
    Ok((token, expires_at))
}

/// Adds the reason of Cloudsmith and the remedy.
fn explained(error: Error, response: &Response, service: &str, grant: &Grant) -> Error {
    let (Error::Denied(text) | Error::NotFound(text) | Error::Failed(text)) = error else {
        return error;
    };
    let reason = response.json::<Refusal>().map(|refusal| refusal.detail).unwrap_or_default();
    let reason: String = reason.chars().take(LONGEST_REASON).collect();
    Error::Denied(format!(
        "{text}: {reason} (the OpenID Connect settings of the organization must have the `issuer` \
         of [signing] as provider, accept the `sub` `{}` and `audience`, and list the service \
         account `{service}`; NAME is the `registry` of this line)",
        tokens::subject(grant)
    ))
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{self, Answer, Body, Call, Host, NOW, Origin, jwt};
    use rise_provider::{Actions, Credential, Issued, Provider as _, http::Method};
    use serde_json::Value;

    use super::*;
    use crate::Cloudsmith;
    use crate::tests::settings;

    fn issue(actions: Actions, status: u16, body: &Value) -> (Result<Issued, Error>, Vec<Call>) {
        let (settings, body) = (settings(&json!({})), body.to_string());
        let grant = testing::grant("my-app").actions(actions).build();
        let host = Host::new().http(move |_| Ok(Answer::new(status).body(&body)));
        host.run(|| Cloudsmith::issue(&settings, &grant))
    }

    #[test]
    fn the_account_for_the_actions_gets_a_token() {
        let body = json!({ "token": jwt(&json!({ "exp": NOW + 5400 })) });
        for (actions, service) in [
            (Actions::PULL, "puller-1a2b"),
            (Actions::PUSH, "pusher-3c4d"),
            (Actions::PULL | Actions::PUSH, "pusher-3c4d"),
        ] {
            let (issued, calls) = issue(actions, 201, &body);
            let issued = issued.unwrap();
            assert_eq!(issued.expires_at, Some(NOW + 5400));
            let Credential::Basic(login) = issued.credential else { panic!("no login") };
            assert_eq!(login.username, "token");
            assert_eq!(testing::origin(&login.password), &Origin::Http("/token".to_owned()));
            assert_eq!(calls.len(), 2, "{calls:?}");
            assert_eq!(calls[0], Call::IdentityToken { audience: "cloudsmith".to_owned() });
            let Call::Send(sent) = &calls[1] else { panic!("nothing was sent") };
            assert_eq!(sent.method, Method::Post);
            assert_eq!(sent.url, "https://api.cloudsmith.io/openid/acme/");
            assert_eq!(sent.authorization, None);
            let expected = json!({
                "oidc_token": "<identity-token cloudsmith>", "service_slug": service,
            });
            assert_eq!(sent.body, Body::Json(expected));
        }
    }

    #[test]
    fn a_token_that_does_not_end_is_rejected() {
        for (body, told) in [
            (json!({ "token": "the-api-key-of-the-account" }), "does not say when it ends"),
            (json!({ "token": jwt(&json!({ "sub": "puller" })) }), "does not say when it ends"),
            (json!({ "token": "" }), "without `token`"),
            (json!({}), "without `token`"),
        ] {
            let (issued, _) = issue(Actions::PULL, 201, &body);
            let error = issued.err().unwrap_or_else(|| panic!("{told}")).to_string();
            assert!(error.contains(told), "{told}: {error}");
        }
    }

    #[test]
    fn a_refusal_names_the_account_and_the_subject() {
        let refusal = json!({ "detail": "OIDC token cannot be authenticated." });
        for status in [400, 401, 403, 404, 422] {
            let (issued, _) = issue(Actions::PUSH, status, &refusal);
            let Err(Error::Denied(text)) = issued else { panic!("{status}: {issued:?}") };
            for part in [
                "cannot be authenticated",
                "`pusher-3c4d`",
                "`project:my-app:registry:NAME:actions:push`",
            ] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        let (issued, _) = issue(Actions::PULL, 500, &json!({}));
        assert!(matches!(issued, Err(Error::Unavailable(_))), "{issued:?}");
    }
}
