//! A bearer token of Docker Hub's token server: for one repository, for five minutes. The host
//! compares what it says that it opens with the grant.

use rise_provider::http::Request;
use rise_provider::{Actions, Credential, Error, Grant, Issued};
use serde::Deserialize;

use crate::settings::Settings;

/// The answer, without its token.
#[derive(Deserialize)]
struct Answer {
    expires_in: Option<u64>,
}

pub(crate) fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
    let repository = settings.repository(&grant.project());
    let actions = actions(grant)?;
    let url = format!(
        "{}?service=registry.docker.io&scope=repository:{repository}:{actions}",
        settings.realm()
    );
    let response =
        Request::get(&url).basic(&settings.username, &settings.password.get()?).send()?;
    response.success()?;
    let token = response.take_secret("/token");
    let token = token.ok_or_else(|| Error::Failed("an answer without `token`".to_owned()))?;
    let Answer { expires_in } = response.json()?;
    let ends = expires_in.map(|seconds| grant.now().saturating_add(seconds));
    let expires_at = token.expires_at().or(ends);
    let expires_at = expires_at
        .ok_or_else(|| Error::Failed("a token that does not say when it ends".to_owned()))?;
    Ok(Issued { credential: Credential::Bearer(token), expires_at: Some(expires_at) })
}

/// Docker Hub lets nobody push who may not pull.
fn actions(grant: &Grant) -> Result<&'static str, Error> {
    if grant.actions().contains(Actions::PUSH) {
        Ok("pull,push")
    } else if grant.actions().contains(Actions::PULL) {
        Ok("pull")
    } else {
        Err(Error::Unsupported("a grant without pull and push".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{self, Answer, Authorization, Call, Host, NOW, Origin, jwt};
    use rise_provider::{Provider as _, http::Method};
    use serde_json::{Value, json};

    use super::*;
    use crate::DockerHub;
    use crate::tests::settings;

    fn issue(actions: Actions, body: &Value) -> (Result<Issued, Error>, Vec<Call>) {
        let (settings, body) = (settings(&json!({ "issues": "bearer" })), body.to_string());
        let grant = testing::grant("my-app").actions(actions).build();
        let host = Host::new().secret("password");
        let host = host.http(move |_| Ok(Answer::new(200).body(&body)));
        host.run(|| DockerHub::issue(&settings, &grant))
    }

    #[test]
    fn the_request_is_for_the_repository_and_the_actions() {
        let body = json!({
            "token": jwt(&json!({ "exp": NOW + 300, "access": [] })), "expires_in": 300,
        });
        for (actions, asked) in [
            (Actions::PULL, "pull"),
            (Actions::PUSH, "pull,push"),
            (Actions::PULL | Actions::PUSH, "pull,push"),
        ] {
            let (issued, calls) = issue(actions, &body);
            let issued = issued.unwrap();
            assert_eq!(issued.expires_at, Some(NOW + 300));
            let Credential::Bearer(token) = issued.credential else { panic!("no bearer") };
            assert_eq!(testing::origin(&token), &Origin::Http("/token".to_owned()));
            let Some(Call::Send(sent)) = calls.last() else { panic!("nothing was sent") };
            let url = format!(
                "https://auth.docker.io/token?service=registry.docker.io&\
                 scope=repository:acme/my-app:{asked}"
            );
            assert_eq!((sent.method, &sent.url), (Method::Get, &url));
            let password = Origin::Configured("password".to_owned());
            let login = Authorization::Basic("bot".to_owned(), password);
            assert_eq!(sent.authorization, Some(login));
        }
    }

    #[test]
    fn a_token_that_is_no_jwt_ends_when_the_answer_says() {
        let (issued, _) = issue(Actions::PULL, &json!({ "token": "opaque", "expires_in": 300 }));
        assert_eq!(issued.unwrap().expires_at, Some(NOW + 300));
        for body in [json!({ "token": "opaque" }), json!({ "expires_in": 300 })] {
            let (issued, _) = issue(Actions::PULL, &body);
            assert!(matches!(issued, Err(Error::Failed(_))), "{body}");
        }
    }
}
