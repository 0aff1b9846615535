//! A deploy token for one grant: made, found again, deleted.
//!
//! Its name follows from the grant's id, so that it can be found if the broker was killed before it
//! knew the token's own id, and so that no other token is ever deleted.

use rise_provider::http::{Method, Request, Response};
use rise_provider::{
    Actions, Credential, Error, Grant, Issued, Leftover, Login, remembered_id, time,
};
use serde::Deserialize;
use serde_json::json;

use crate::settings::Settings;

const DAY: u64 = 86_400;
/// The most that GitLab lists at once.
const PAGE: u32 = 100;
/// A call may send eight requests, and one of them deletes.
const PAGES: u32 = 6;
const PREFIX: &str = "rise-";

/// What GitLab says of a deploy token.
#[derive(Deserialize)]
struct DeployToken {
    id: u64,
    name: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    expires_at: Option<String>,
}

pub(crate) fn create(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
    let (tokens, name) = (settings.tokens(&grant.project()), name_of(&grant.id()));
    let response = send(
        settings,
        Request::post(&tokens).json(&json!({
            "name": name,
            "scopes": scopes(grant)?,
            "expires_at": time::to_rfc3339(midnight(grant)),
        })),
    )?;
    response.success()?;
    let password = response.take_secret("/token");
    let token: DeployToken = response.json()?;
    // Before anything else can fail: from here on somebody has to delete it.
    grant.remember(&format!("{tokens}/{}", token.id))?;
    let password = password.ok_or_else(|| Error::Failed("a token without `token`".to_owned()))?;
    if token.name != name {
        return Err(Error::Failed(format!(
            "a deploy token with the name `{}`, and `{name}` was asked for",
            token.name
        )));
    }
    let expires_at = token.expires_at.and_then(|text| time::rfc3339(&text));
    let credential = Credential::Basic(Login { username: token.username, password });
    Ok(Issued { credential, expires_at })
}

pub(crate) fn delete(
    settings: &Settings,
    tokens: &str,
    id: &str,
    remembered: Option<&str>,
) -> Result<(), Error> {
    let name = name_of(id);
    let found = match remembered {
        Some(note) => {
            let id = remembered_id(note, tokens)?;
            is_there(settings, tokens, id, &name)?.then(|| note.to_owned())
        }
        None => find_by_name(settings, tokens, &name)?.map(|id| format!("{tokens}/{id}")),
    };
    let Some(url) = found else { return Ok(()) };
    let response = send(settings, Request::new(Method::Delete, &url))?;
    match response.success() {
        Ok(()) | Err(Error::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the token with this id is the one that was made for the grant.
fn is_there(settings: &Settings, tokens: &str, id: &str, name: &str) -> Result<bool, Error> {
    let response = send(settings, Request::get(&format!("{tokens}/{id}")))?;
    match response.success() {
        Ok(()) => {
            let token: DeployToken = response.json()?;
            Ok(token.id.to_string() == id && token.name == name)
        }
        // It is gone, if it is GitLab that answers.
        Err(Error::NotFound(_)) => page(settings, tokens, 1).map(|_| false),
        Err(error) => Err(error),
    }
}

/// Those that have ended are left out, so the list is short.
fn find_by_name(settings: &Settings, tokens: &str, name: &str) -> Result<Option<u64>, Error> {
    for number in 1..=PAGES {
        let (found, is_last) = page(settings, tokens, number)?;
        if let Some(token) = found.iter().find(|token| token.name == name) {
            return Ok(Some(token.id));
        }
        if is_last {
            return Ok(None);
        }
    }
    Err(Error::Failed(format!(
        "`{name}` is not among the first {} active deploy tokens of the GitLab project; delete \
         tokens that nobody uses",
        PAGES * PAGE
    )))
}

/// The tokens of these that are named after grants and have not ended.
pub(crate) fn list(settings: &Settings, tokens: &str) -> Result<Vec<Leftover>, Error> {
    let mut leftovers = Vec::new();
    for number in 1..=PAGES {
        let (found, is_last) = page(settings, tokens, number)?;
        leftovers.extend(found.iter().filter_map(|token| {
            Leftover::named(&token.name, PREFIX, format!("{tokens}/{}", token.id))
        }));
        if is_last {
            break;
        }
    }
    Ok(leftovers)
}

/// One page of the tokens that have not ended, and whether it is the last one.
fn page(settings: &Settings, tokens: &str, number: u32) -> Result<(Vec<DeployToken>, bool), Error> {
    let url = format!("{tokens}?active=true&per_page={PAGE}&page={number}");
    let response = send(settings, Request::get(&url))?;
    response.success()?;
    let found: Vec<DeployToken> = response.json()?;
    // A proxy may drop the header.
    let is_last = response.header("x-next-page").map_or(found.is_empty(), |next| next.is_empty());
    Ok((found, is_last))
}

fn send(settings: &Settings, request: Request) -> Result<Response, Error> {
    request.header_secret("PRIVATE-TOKEN", &settings.private_token.get()?).send()
}

/// The name of the token for the grant with this id.
fn name_of(id: &str) -> String {
    format!("{PREFIX}{}", id.to_lowercase())
}

/// GitLab ends deploy tokens at midnight UTC: the first one at which the grant is over.
fn midnight(grant: &Grant) -> u64 {
    (grant.now() + u64::from(grant.lifetime())).div_ceil(DAY) * DAY
}

/// The grant in the words of GitLab, where pushing needs pulling.
fn scopes(grant: &Grant) -> Result<&'static [&'static str], Error> {
    let granted = grant.actions();
    if granted.contains(Actions::PUSH) {
        Ok(&["read_registry", "write_registry"])
    } else if granted.contains(Actions::PULL) {
        Ok(&["read_registry"])
    } else {
        Err(Error::Unsupported("a grant without pull and push".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{self, Answer, Body, Call, Host, Sent};
    use rise_provider::{Leftovers, Provider, Revocation};
    use serde_json::Value;

    use super::*;
    use crate::Gitlab;
    use crate::tests::settings;

    const TOKENS: &str = "https://gitlab.example.com/api/v4/projects/group%2Fapp/deploy_tokens";
    const TOKEN: &str = "https://gitlab.example.com/api/v4/projects/group%2Fapp/deploy_tokens/7";
    const NAME: &str = "rise-01arz3ndektsv4rrffq69g5fav";

    fn shown(id: u64, name: &str) -> Value {
        json!({
            "id": id, "name": name, "username": format!("gitlab+deploy-token-{id}"),
            "expires_at": "2027-01-16T00:00:00.000Z", "revoked": false, "expired": false,
        })
    }

    fn answer(sent: &Sent, id: u64, name: &str) -> Answer {
        let path = sent.url.strip_prefix(TOKENS).unwrap();
        match (sent.method, path.split('?').next().unwrap()) {
            (Method::Post, "") => {
                let mut made = shown(id, name);
                made["token"] = json!("t0p-secret");
                Answer::new(201).body(&made.to_string())
            }
            (Method::Get, "") => {
                let list = json!([shown(id, name)]).to_string();
                Answer::new(200).header("x-next-page", "").body(&list)
            }
            (Method::Get, path) if path == format!("/{id}") => {
                Answer::new(200).body(&shown(id, name).to_string())
            }
            (Method::Delete, path) if path == format!("/{id}") => Answer::new(204),
            _ => Answer::new(404).body(r#"{"message":"404 Not found"}"#),
        }
    }

    fn host(id: u64, name: &'static str) -> Host {
        Host::new().secret("private_token").http(move |sent| Ok(answer(sent, id, name)))
    }

    fn requests(calls: &[Call]) -> Vec<(Method, String)> {
        let sent = calls.iter().filter_map(|call| {
            let Call::Send(sent) = call else { return None };
            Some((sent.method, sent.url.strip_prefix(TOKENS).unwrap().to_owned()))
        });
        sent.collect()
    }

    fn revoke(host: &Host, note: Option<&str>) -> (Result<(), Error>, Vec<(Method, String)>) {
        let grant = testing::grant("my-app").build();
        let (ended, calls) = host.run(|| Gitlab::revoke(&settings(&json!({})), &grant, note));
        (ended, requests(&calls))
    }

    #[test]
    fn a_token_has_exactly_the_granted_actions() {
        let both = vec!["read_registry", "write_registry"];
        for (actions, expected) in [
            (Actions::PULL, vec!["read_registry"]),
            (Actions::PUSH, both.clone()),
            (Actions::PULL | Actions::PUSH, both),
        ] {
            let grant = testing::grant("my-app").actions(actions).build();
            let (issued, calls) =
                host(7, NAME).run(|| Gitlab::issue(&settings(&json!({})), &grant));
            let issued = issued.unwrap();
            let Credential::Basic(login) = issued.credential else { panic!("no login") };
            assert_eq!(login.username, "gitlab+deploy-token-7");
            assert_eq!(issued.expires_at, Some(1_800_057_600));
            let Some(Call::Send(sent)) = calls.iter().find(|call| matches!(call, Call::Send(_)))
            else {
                panic!("nothing was sent");
            };
            let Body::Json(body) = &sent.body else { panic!("no JSON") };
            assert_eq!(body["name"], NAME);
            assert_eq!(body["scopes"], json!(expected));
            assert!(calls.contains(&Call::Remember { note: TOKEN.to_owned() }));
        }
    }

    /// The double's clock says 2027-01-15T08:00:00Z.
    #[test]
    fn a_token_ends_at_the_first_midnight_at_which_the_grant_is_over() {
        for (lifetime, expected) in [
            (600, "2027-01-16T00:00:00Z"),
            (16 * 3600 - 1, "2027-01-16T00:00:00Z"),
            (16 * 3600, "2027-01-16T00:00:00Z"),
            (16 * 3600 + 1, "2027-01-17T00:00:00Z"),
        ] {
            let grant = testing::grant("my-app").lifetime(lifetime).build();
            let (_, calls) = host(7, NAME).run(|| Gitlab::issue(&settings(&json!({})), &grant));
            let sent = calls.iter().find_map(|call| {
                let Call::Send(Sent { body: Body::Json(body), .. }) = call else { return None };
                Some(body["expires_at"].clone())
            });
            assert_eq!(sent, Some(json!(expected)), "{lifetime}");
        }
    }

    #[test]
    fn a_token_with_another_name_is_not_handed_out_but_remembered() {
        let grant = testing::grant("my-app").build();
        let (issued, calls) =
            host(7, "release").run(|| Gitlab::issue(&settings(&json!({})), &grant));
        assert!(matches!(issued, Err(Error::Failed(_))));
        assert!(calls.contains(&Call::Remember { note: TOKEN.to_owned() }));
    }

    #[test]
    fn the_token_of_the_grant_is_deleted_and_no_other() {
        let deleted = (Method::Delete, "/7".to_owned());
        let (ended, sent) = revoke(&host(7, NAME), Some(TOKEN));
        assert_eq!((ended, sent.last()), (Ok(()), Some(&deleted)));
        // By its name, if nobody knows its id.
        let (ended, sent) = revoke(&host(7, NAME), None);
        assert_eq!((ended, sent.last()), (Ok(()), Some(&deleted)));
        // GitLab has given the id to another token, or has none.
        for (host, note) in [
            (host(7, "release"), Some(TOKEN)),
            (host(7, "release"), None),
            (host(8, NAME), Some(TOKEN)),
        ] {
            let (ended, sent) = revoke(&host, note);
            assert_eq!(ended, Ok(()));
            assert!(!sent.iter().any(|(method, _)| *method == Method::Delete), "{sent:?}");
        }
    }

    /// A list of pages, of which one has the token; with or without GitLab's header.
    fn pages(of_token: u32, pages: u32, with_header: bool) -> Host {
        Host::new().secret("private_token").http(move |sent| {
            let path = sent.url.strip_prefix(TOKENS).unwrap();
            let Some((_, page)) = path.split_once("&page=") else { return Ok(Answer::new(204)) };
            let number: u32 = page.parse().unwrap();
            let name = if number == of_token { NAME } else { "other" };
            let list = if number > pages { json!([]) } else { json!([shown(7, name)]) };
            let answer = Answer::new(200).body(&list.to_string());
            let next = if number < pages { (number + 1).to_string() } else { String::new() };
            Ok(if with_header { answer.header("x-next-page", &next) } else { answer })
        })
    }

    #[test]
    fn the_list_is_read_to_its_end_but_not_for_ever() {
        for with_header in [true, false] {
            let (ended, sent) = revoke(&pages(3, 5, with_header), None);
            assert_eq!((ended, sent.len()), (Ok(()), 4));
            assert_eq!(sent.last().unwrap().0, Method::Delete);
        }
        assert_eq!(revoke(&pages(9, 3, true), None).1.len(), 3);
        // Nothing says that it is the last page.
        assert_eq!(revoke(&pages(9, 3, false), None).1.len(), 4);
        let (ended, sent) = revoke(&pages(99, 99, true), None);
        assert!(matches!(ended, Err(Error::Failed(_))), "{ended:?}");
        assert_eq!(sent.len(), 6);
    }

    #[test]
    fn a_proxy_that_knows_nothing_is_not_taken_for_gitlab() {
        for note in [Some(TOKEN), None] {
            let host =
                Host::new().secret("private_token").http(|_| Ok(Answer::new(404).body("nginx")));
            let (ended, _) = revoke(&host, note);
            assert!(matches!(ended, Err(Error::NotFound(_))), "{ended:?}");
        }
    }
    /// A 404 of another GitLab, or for another project, would say nothing about the token.
    #[test]
    fn what_was_made_with_other_settings_is_not_taken_for_gone() {
        for note in [TOKEN.replace("gitlab.", "old."), TOKEN.replace("%2Fapp", "%2Fold")] {
            let (ended, sent) = revoke(&host(7, NAME), Some(&note));
            assert!(matches!(&ended, Err(Error::InvalidSettings(text)) if text.contains(&note)));
            assert_eq!(sent, []);
        }
    }

    #[test]
    fn tokens_that_are_named_after_a_grant_are_listed_page_by_page() {
        let leftover =
            Leftover { id: "01arz3ndektsv4rrffq69g5fav".to_owned(), note: TOKEN.to_owned() };
        for (of_token, all, found, requests) in [(3, 3, 1, 3), (9, 3, 0, 3), (99, 99, 0, 6)] {
            let host = pages(of_token, all, true);
            let (listed, calls) = host.run(|| Gitlab::find(&settings(&json!({}))));
            assert_eq!(listed, Ok(vec![leftover.clone(); found]));
            assert_eq!(self::requests(&calls).len(), requests, "{of_token} {all}");
        }
        let deleted = (Method::Delete, "/7".to_owned());
        for (name, is_deleted) in [(NAME, true), ("release", false)] {
            let (ended, calls) =
                host(7, name).run(|| Gitlab::end(&settings(&json!({})), &leftover));
            assert_eq!(ended, Ok(()));
            assert_eq!(requests(&calls).contains(&deleted), is_deleted, "{name}");
        }
    }

    #[test]
    fn a_gitlab_project_for_each_project_has_no_list_of_all() {
        let each = settings(&json!({ "project": "group/{project}" }));
        let (listed, calls) = host(7, NAME).run(|| Gitlab::find(&each));
        assert!(matches!(listed, Err(Error::Unsupported(_))), "{listed:?}");
        assert_eq!(requests(&calls), []);
    }
}
