//! The password of a robot for an identity token of this broker. Only one that is the robot's own
//! and that ends by itself is handed out.

use rise_provider::http::{Request, Response};
use rise_provider::{Error, Grant, Secret, tokens};
use serde::Deserialize;

use crate::settings::Settings;

/// The longest reason of Quay that a message repeats, in characters.
const LONGEST_REASON: usize = 200;

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// Returns the password of this robot, and its expiry.
pub(crate) fn exchange(
    settings: &Settings,
    username: &str,
    grant: &Grant,
) -> Result<(Secret, u64), Error> {
    let token = tokens::identity_token(&settings.audience)?;
    let response = Request::get(&settings.exchange()).basic(username, &token).send()?;
    response.success().map_err(|error| explained(error, &response, username, grant))?;
    let password = response.take_secret("/token");
    let password = password.ok_or_else(|| Error::Failed("an answer without `token`".to_owned()))?;
    if let Some(other) = password.claim("sub").filter(|subject| subject != username) {
        return Err(Error::Failed(format!(
            "a password of the robot `{other}`, and `{username}` was asked for"
        )));
    }
    // The robot's own password is no JWT, and never ends.
    let expires_at = password.expires_at();
    let expires_at =
        expires_at.ok_or_else(|| Error::Failed("a password that does not end".to_owned()))?;
    Ok((password, expires_at))
}

/// Adds the reason of Quay and the remedy.
fn explained(error: Error, response: &Response, username: &str, grant: &Grant) -> Error {
    let (Error::Denied(text) | Error::NotFound(text) | Error::Failed(text)) = error else {
        return error;
    };
    let reason = response.json::<Refusal>().map(|refusal| refusal.error).unwrap_or_default();
    let reason: String = reason.chars().take(LONGEST_REASON).collect();
    Error::Denied(format!(
        "{text}: {reason} (the federation of the robot `{username}` must have the `subject` `{}`, \
         the `issuer` of [signing], whose keys Quay fetches over https, and `audience`; NAME is \
         the `registry` of this line)",
        tokens::subject(grant)
    ))
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{self, Answer, Authorization, Body, Call, Host, NOW, Origin, jwt};
    use rise_provider::{Actions, Credential, Issued, Provider as _, http::Method};
    use serde_json::{Value, json};

    use super::*;
    use crate::Quay;
    use crate::tests::settings;

    fn issue(
        more: &Value,
        actions: Actions,
        (status, body): (u16, Value),
    ) -> (Result<Issued, Error>, Vec<Call>) {
        let (settings, grant) = (settings(more), testing::grant("my-app").actions(actions).build());
        let host = Host::new().http(move |_| Ok(Answer::new(status).body(&body.to_string())));
        host.run(|| Quay::issue(&settings, &grant))
    }

    fn token(robot: &str) -> Value {
        json!({ "token": jwt(&json!({ "sub": robot, "exp": NOW + 3600, "access": {} })) })
    }

    #[test]
    fn the_robot_for_the_actions_gets_its_password() {
        let shared = json!({ "pull_robot": "puller", "push_robot": "pusher" });
        for (more, actions, robot) in [
            (json!({}), Actions::PULL, "acme+my-app_pull"),
            (json!({}), Actions::PUSH, "acme+my-app_push"),
            (json!({}), Actions::PULL | Actions::PUSH, "acme+my-app_push"),
            (shared.clone(), Actions::PULL, "acme+puller"),
            (shared, Actions::PULL | Actions::PUSH, "acme+pusher"),
        ] {
            let (issued, calls) = issue(&more, actions, (200, token(robot)));
            let issued = issued.unwrap();
            assert_eq!(issued.expires_at, Some(NOW + 3600));
            let Credential::Basic(login) = issued.credential else { panic!("no login") };
            assert_eq!(login.username, robot);
            assert_eq!(testing::origin(&login.password), &Origin::Http("/token".to_owned()));
            assert_eq!(calls.len(), 2, "{calls:?}");
            assert_eq!(calls[0], Call::IdentityToken { audience: "quay".to_owned() });
            let Call::Send(sent) = &calls[1] else { panic!("nothing was sent") };
            assert_eq!(sent.method, Method::Get);
            assert_eq!(sent.url, "https://quay.io/oauth2/federation/robot/token");
            let identity = Origin::IdentityToken("quay".to_owned());
            assert_eq!(sent.authorization, Some(Authorization::Basic(robot.to_owned(), identity)));
            assert_eq!(sent.body, Body::None);
        }
    }

    #[test]
    fn what_is_not_the_password_of_the_robot_is_rejected() {
        for (body, told) in [
            (token("acme+other_pull"), "of the robot `acme+other_pull`"),
            (json!({ "token": "THE-ROBOTS-OWN-PASSWORD" }), "does not end"),
            (json!({ "token": jwt(&json!({ "sub": "acme+my-app_pull" })) }), "does not end"),
            (json!({ "token": "" }), "without `token`"),
            (json!({}), "without `token`"),
        ] {
            let (issued, _) = issue(&json!({}), Actions::PULL, (200, body));
            let error = issued.err().unwrap_or_else(|| panic!("{told}")).to_string();
            assert!(error.contains(told), "{told}: {error}");
        }
    }

    #[test]
    fn a_refusal_names_the_robot_and_the_subject() {
        let refusal = json!({ "error": "Token does not match robot" });
        for status in [400, 401, 403, 404] {
            let (issued, _) = issue(&json!({}), Actions::PULL, (status, refusal.clone()));
            let Err(Error::Denied(text)) = issued else { panic!("{status}: {issued:?}") };
            for part in [
                "Token does not match robot",
                "`acme+my-app_pull`",
                "`project:my-app:registry:NAME:actions:pull`",
            ] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        let (issued, _) = issue(&json!({}), Actions::PULL, (500, json!({})));
        assert!(matches!(issued, Err(Error::Unavailable(_))), "{issued:?}");
    }
}
