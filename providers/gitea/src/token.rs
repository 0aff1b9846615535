//! An access token of the bot user for one grant: made, and deleted.
//!
//! Its name follows from the grant's id. Gitea has one token of a name for each user, and deletes
//! by name, so that nothing else is ever deleted, and no id has to be known.

use rise_provider::http::{Method, Request, Response};
use rise_provider::{Actions, Credential, Error, Grant, Issued, Leftover, Login, remembered_id};
use serde::Deserialize;
use serde_json::json;

use crate::settings::Settings;

/// The most that Gitea lists at once.
const PAGE: usize = 50;
/// A call may send eight requests.
const PAGES: usize = 8;
const PREFIX: &str = "rise-";

/// What Gitea says of an access token.
#[derive(Deserialize)]
struct AccessToken {
    name: String,
}

pub(crate) fn create(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
    let name = name_of(&grant.id());
    let asked = json!({ "name": name, "scopes": [scope(grant)?] });
    let response = send(settings, Request::post(&settings.tokens()).json(&asked))?;
    response.success()?;
    let password = response.take_secret("/sha1");
    let token: AccessToken = response.json()?;
    // Before anything else can fail: from here on somebody has to delete it.
    grant.remember(&url_of(settings, &grant.id()))?;
    let password = password.ok_or_else(|| Error::Failed("a token without `sha1`".to_owned()))?;
    if token.name != name {
        return Err(Error::Failed(format!(
            "an access token with the name `{}`, and `{name}` was asked for",
            token.name
        )));
    }
    let credential = Credential::Basic(Login { username: settings.username.clone(), password });
    Ok(Issued { credential, expires_at: None })
}

pub(crate) fn delete(settings: &Settings, id: &str, remembered: Option<&str>) -> Result<(), Error> {
    let tokens = settings.tokens();
    if let Some(note) = remembered {
        remembered_id(note, &tokens)?;
    }
    let response = send(settings, Request::new(Method::Delete, &url_of(settings, id)))?;
    match response.success() {
        Ok(()) => Ok(()),
        // It is gone, if it is Gitea that answers.
        Err(Error::NotFound(_)) => {
            let response = send(settings, Request::get(&format!("{tokens}?page=1&limit=1")))?;
            response.success()?;
            response.json::<Vec<AccessToken>>().map(|_| ())
        }
        Err(error) => Err(error),
    }
}

/// The tokens of the bot user that are named after grants. Gitea lists the newest first, so the
/// last pages are read if there are many.
pub(crate) fn list(settings: &Settings) -> Result<Vec<Leftover>, Error> {
    let (mut tokens, all) = page(settings, 1)?;
    let pages = all.map(|all| all.div_ceil(tokens.len().max(1)));
    let numbers: Vec<usize> = match pages {
        Some(pages) => (2..=pages).rev().take(PAGES - 1).collect(),
        None => (2..=PAGES).collect(),
    };
    for number in numbers {
        let (more, _) = page(settings, number)?;
        if more.is_empty() {
            break;
        }
        tokens.extend(more);
    }
    let note = |name: &str| format!("{}/{name}", settings.tokens());
    let found = tokens.iter();
    let found = found.filter_map(|token| Leftover::named(&token.name, PREFIX, note(&token.name)));
    Ok(found.collect())
}

/// One page of the tokens, and how many there are in all. A proxy may drop the header.
fn page(settings: &Settings, number: usize) -> Result<(Vec<AccessToken>, Option<usize>), Error> {
    let url = format!("{}?page={number}&limit={PAGE}", settings.tokens());
    let response = send(settings, Request::get(&url))?;
    response.success()?;
    let all = response.header("x-total-count").and_then(|text| text.parse().ok());
    Ok((response.json()?, all))
}

fn send(settings: &Settings, request: Request) -> Result<Response, Error> {
    request.basic(&settings.username, &settings.password.get()?).send()
}

/// Gitea takes text that is no number for a name.
fn url_of(settings: &Settings, id: &str) -> String {
    format!("{}/{}", settings.tokens(), name_of(id))
}

/// The name of the token for the grant with this id.
fn name_of(id: &str) -> String {
    format!("{PREFIX}{}", id.to_lowercase())
}

/// The grant in the words of Gitea, where writing includes reading.
fn scope(grant: &Grant) -> Result<&'static str, Error> {
    let granted = grant.actions();
    if granted.contains(Actions::PUSH) {
        Ok("write:package")
    } else if granted.contains(Actions::PULL) {
        Ok("read:package")
    } else {
        Err(Error::Unsupported("a grant without pull and push".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{self, Answer, Authorization, Body, Call, Host, Sent};
    use rise_provider::{Leftovers, Provider, Revocation};

    use super::*;
    use crate::Gitea;
    use crate::tests::settings;

    const TOKENS: &str = "https://gitea.example.com/api/v1/users/Rise-Bot/tokens";
    const NAME: &str = "rise-01arz3ndektsv4rrffq69g5fav";

    fn answer(sent: &Sent, name: &str) -> Answer {
        let path = sent.url.strip_prefix(TOKENS).unwrap();
        match (sent.method, path.split('?').next().unwrap()) {
            (Method::Post, "") => {
                let made = json!({ "id": 7, "name": name, "sha1": "t0p-secret" });
                Answer::new(201).body(&made.to_string())
            }
            (Method::Get, "") => {
                Answer::new(200).body(&json!([{ "id": 7, "name": name }]).to_string())
            }
            (Method::Delete, path) if path == format!("/{name}") => Answer::new(204),
            _ => Answer::new(404).body(r#"{"message":"not found"}"#),
        }
    }

    fn host(name: &'static str) -> Host {
        Host::new().secret("password").http(move |sent| Ok(answer(sent, name)))
    }

    fn revoke(host: &Host, note: Option<&str>) -> (Result<(), Error>, Vec<(Method, String)>) {
        let grant = testing::grant("my-app").build();
        let (ended, calls) = host.run(|| Gitea::revoke(&settings(&json!({})), &grant, note));
        let sent = calls.iter().filter_map(|call| {
            let Call::Send(sent) = call else { return None };
            Some((sent.method, sent.url.strip_prefix(TOKENS).unwrap().to_owned()))
        });
        (ended, sent.collect())
    }

    #[test]
    fn a_token_has_exactly_the_granted_actions() {
        for (actions, expected) in [
            (Actions::PULL, "read:package"),
            (Actions::PUSH, "write:package"),
            (Actions::PULL | Actions::PUSH, "write:package"),
        ] {
            let grant = testing::grant("my-app").actions(actions).build();
            let (issued, calls) = host(NAME).run(|| Gitea::issue(&settings(&json!({})), &grant));
            let issued = issued.unwrap();
            let Credential::Basic(login) = issued.credential else { panic!("no login") };
            assert_eq!((login.username.as_str(), issued.expires_at), ("Rise-Bot", None));
            let Some(Call::Send(sent)) = calls.iter().find(|call| matches!(call, Call::Send(_)))
            else {
                panic!("nothing was sent");
            };
            assert!(matches!(&sent.authorization, Some(Authorization::Basic(user, _))
                if user == "Rise-Bot"));
            assert_eq!(sent.body, Body::Json(json!({ "name": NAME, "scopes": [expected] })));
            assert!(calls.contains(&Call::Remember { note: format!("{TOKENS}/{NAME}") }));
        }
    }

    #[test]
    fn a_token_with_another_name_is_not_handed_out_but_remembered() {
        let grant = testing::grant("my-app").build();
        let (issued, calls) = host("release").run(|| Gitea::issue(&settings(&json!({})), &grant));
        assert!(matches!(issued, Err(Error::Failed(_))));
        assert!(calls.contains(&Call::Remember { note: format!("{TOKENS}/{NAME}") }));
    }

    /// Whatever has its id by now.
    #[test]
    fn the_token_of_the_grant_is_deleted_by_its_name() {
        let deleted = (Method::Delete, format!("/{NAME}"));
        let token = format!("{TOKENS}/{NAME}");
        for note in [Some(token.as_str()), None] {
            let (ended, sent) = revoke(&host(NAME), note);
            assert_eq!((ended, sent), (Ok(()), vec![deleted.clone()]));
            let (ended, sent) = revoke(&host("release"), note);
            let asked = (Method::Get, "?page=1&limit=1".to_owned());
            assert_eq!((ended, sent), (Ok(()), vec![deleted.clone(), asked]));
        }
    }

    #[test]
    fn a_proxy_that_knows_nothing_is_not_taken_for_gitea() {
        let nothing =
            || Host::new().secret("password").http(|_| Ok(Answer::new(404).body("nginx")));
        let (ended, _) = revoke(&nothing(), None);
        assert!(matches!(ended, Err(Error::NotFound(_))), "{ended:?}");
        let page = Host::new().secret("password").http(|sent| {
            let is_delete = sent.method == Method::Delete;
            Ok(Answer::new(if is_delete { 404 } else { 200 }).body("<html>"))
        });
        assert!(matches!(revoke(&page, None).0, Err(Error::Failed(_))));
    }
    /// A 404 of another Gitea, or to another user, would say nothing about the token.
    #[test]
    fn what_was_made_with_other_settings_is_not_taken_for_gone() {
        for (at, user) in [("old.example.com", "Rise-Bot"), ("gitea.example.com", "Old-Bot")] {
            let note = format!("https://{at}/api/v1/users/{user}/tokens/{NAME}");
            let (ended, sent) = revoke(&host(NAME), Some(&note));
            assert!(matches!(&ended, Err(Error::InvalidSettings(text)) if text.contains(&note)));
            assert_eq!(sent, []);
        }
    }

    /// A bot user with so many tokens, the newest first; with or without Gitea's header.
    fn many(all: usize, with_header: bool) -> Host {
        Host::new().secret("password").http(move |sent| {
            let query = sent.url.strip_prefix(TOKENS).and_then(|rest| rest.strip_prefix("?page="));
            let page: usize = query.unwrap().split('&').next().unwrap().parse().unwrap();
            let numbers = (0..all).rev().skip((page - 1) * PAGE).take(PAGE);
            let names = numbers.map(|number| json!({ "name": format!("rise-{number:026}") }));
            let body = json!(names.collect::<Vec<_>>()).to_string();
            let answer = Answer::new(200).body(&body);
            Ok(if with_header { answer.header("X-Total-Count", &all.to_string()) } else { answer })
        })
    }

    #[test]
    fn of_many_tokens_the_oldest_are_listed() {
        for (all, with_header, found, requests) in [
            (0, true, 0, 1),
            (50, true, 50, 1),
            (51, true, 51, 2),
            (130, false, 130, 4),
            (1000, true, 400, 8),
            (1000, false, 400, 8),
        ] {
            let host = many(all, with_header);
            let (listed, calls) = host.run(|| Gitea::find(&settings(&json!({}))));
            let listed = listed.unwrap();
            let sent = calls.iter().filter(|call| matches!(call, Call::Send(_))).count();
            assert_eq!((listed.len(), sent), (found, requests), "{all} {with_header}");
            let oldest = listed.iter().map(|leftover| leftover.id.as_str()).min();
            let is_there = oldest == Some("00000000000000000000000000");
            assert_eq!(is_there, all > 0 && (with_header || all < 400), "{all} {with_header}");
        }
    }

    #[test]
    fn only_tokens_that_are_named_after_a_grant_are_listed() {
        let names = json!([
            { "name": "release" }, { "name": NAME }, { "name": "rise-nightly" },
            { "name": format!("{NAME}-2") }, { "name": NAME.to_uppercase() },
        ]);
        let host = Host::new().secret("password");
        let host = host.http(move |_| Ok(Answer::new(200).body(&names.to_string())));
        let (listed, _) = host.run(|| Gitea::find(&settings(&json!({}))));
        let note = format!("{TOKENS}/{NAME}");
        let id = "01arz3ndektsv4rrffq69g5fav".to_owned();
        let leftover = Leftover { id, note };
        assert!(listed.unwrap().iter().all(|found| *found == leftover));
        let (ended, calls) = self::host(NAME).run(|| Gitea::end(&settings(&json!({})), &leftover));
        assert_eq!(ended, Ok(()));
        assert!(calls.iter().any(|call| {
            matches!(call, Call::Send(sent)
                if sent.method == Method::Delete && sent.url == format!("{TOKENS}/{NAME}"))
        }));
    }
}
