//! The organization access token of one grant: made, found again, deleted.
//!
//! Docker Hub lets an organization have ten of them or a hundred, and counts those that have ended
//! until somebody deletes them. So the token would live for a day longer than its grant, and the
//! broker deletes it. Its label follows from the grant's id, so that it can be found if the broker
//! was killed before it knew the token's own id, and so that no other token is ever deleted.

use rise_provider::http::{Method, Request, Response, segment};
use rise_provider::{
    Actions, Credential, Error, Grant, Issued, Login, Secret, kept, remembered_id, time,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::settings::Settings;

const KEPT: &str = "login";
/// Seconds that a login of the API lives, if it does not say so itself.
const LOGIN: u64 = 600;
/// Seconds after which Docker Hub ends a token if the broker is gone for good.
const DAY: u64 = 86_400;
/// The most tokens that are listed at once, and the most pages of them.
const PAGE: u32 = 100;
const PAGES: u32 = 3;
/// The longest reason of Docker Hub that a message repeats, in characters.
const LONGEST_REASON: usize = 200;

/// What Docker Hub says of a token.
#[derive(Deserialize)]
struct AccessToken {
    id: String,
    label: String,
    #[serde(default)]
    resources: Value,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

#[derive(Deserialize)]
struct Listed {
    results: Vec<AccessToken>,
    next: Option<String>,
}

pub(crate) fn create(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
    let label = label(grant);
    let resources = json!([{
        "type": "TYPE_REPO",
        "path": settings.repository(&grant.project()),
        "scopes": [scope(grant)?],
    }]);
    let ends = grant.now() + u64::from(grant.lifetime()) + DAY;
    let request = Request::post(&settings.tokens()).json(&json!({
        "label": label,
        "description": format!("rise-broker, grant {}", grant.id()),
        "expires_at": time::to_rfc3339(ends),
        "resources": resources,
    }));
    let response = send(settings, grant, request)?;
    response.success().map_err(|error| explained(error, &response))?;
    let password = response.take_secret("/token");
    let made: AccessToken = response.json()?;
    // Before anything else can fail: from here on somebody has to delete it.
    grant.remember(&url(settings, &made.id))?;
    let password = password.ok_or_else(|| Error::Failed("an answer without `token`".to_owned()))?;
    if made.label != label || made.resources != resources {
        return Err(Error::Failed(format!(
            "a token `{}` for {}, and `{label}` for {resources} was asked for",
            made.label, made.resources
        )));
    }
    let username = settings.namespace.clone();
    let credential = Credential::Basic(Login { username, password });
    Ok(Issued { credential, expires_at: Some(ends) })
}

pub(crate) fn delete(
    settings: &Settings,
    grant: &Grant,
    remembered: Option<&str>,
) -> Result<(), Error> {
    let id = match remembered {
        Some(note) => find_by_id(settings, grant, remembered_id(note, &settings.tokens())?)?,
        None => find_by_label(settings, grant)?,
    };
    let Some(id) = id else { return Ok(()) };
    let request = Request::new(Method::Delete, &url(settings, &id));
    match send(settings, grant, request)?.success() {
        Ok(()) | Err(Error::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Adds the reason of Docker Hub and the remedy to a denial.
fn explained(error: Error, response: &Response) -> Error {
    let (Error::Denied(text) | Error::NotFound(text) | Error::Failed(text)) = error else {
        return error;
    };
    let reason = response.json::<Refusal>().map(|refusal| refusal.message).unwrap_or_default();
    let reason: String = reason.chars().take(LONGEST_REASON).collect();
    Error::Denied(format!(
        "{text}: {reason} (`username` must own the organization, whose plan has organization \
         access tokens: ten or a hundred, and those that have ended count until they are deleted; \
         the repository must exist)"
    ))
}

/// The token with this id, if it is the grant's.
fn find_by_id(settings: &Settings, grant: &Grant, id: &str) -> Result<Option<String>, Error> {
    let response = send(settings, grant, Request::get(&url(settings, id)))?;
    match response.success() {
        Ok(()) => {
            let found: AccessToken = response.json()?;
            Ok((found.id == id && found.label == label(grant)).then_some(found.id))
        }
        // It is gone, if it is Docker Hub that answers.
        Err(Error::NotFound(_)) => list(settings, grant, 1).map(|_| None),
        Err(error) => Err(error),
    }
}

fn find_by_label(settings: &Settings, grant: &Grant) -> Result<Option<String>, Error> {
    for page in 1..=PAGES {
        let Listed { results, next } = list(settings, grant, page)?;
        if let Some(found) = results.into_iter().find(|token| token.label == label(grant)) {
            return Ok(Some(found.id));
        }
        if next.is_none() {
            return Ok(None);
        }
    }
    Err(Error::Failed(format!("more than {PAGES} pages of access tokens")))
}

fn list(settings: &Settings, grant: &Grant, page: u32) -> Result<Listed, Error> {
    let url = format!("{}?page={page}&page_size={PAGE}", settings.tokens());
    let response = send(settings, grant, Request::get(&url))?;
    response.success()?;
    response.json()
}

fn url(settings: &Settings, id: &str) -> String {
    format!("{}/{}", settings.tokens(), segment(id))
}

/// Sends a request as the user of the settings. A login that Docker Hub rejects is forgotten, so
/// that the next call makes another one.
fn send(settings: &Settings, grant: &Grant, request: Request) -> Result<Response, Error> {
    let response = request.bearer(&login(settings, grant)?).send()?;
    if response.status() == 401 {
        kept::forget(KEPT)?;
    }
    Ok(response)
}

/// The login that is kept, or a new one.
fn login(settings: &Settings, grant: &Grant) -> Result<Secret, Error> {
    if let Some(login) = kept::find(KEPT)? {
        return Ok(login);
    }
    let response = Request::post(&settings.login())
        .json(&json!({ "identifier": settings.username, "secret": "" }))
        .json_secret("/secret", &settings.password.get()?)
        .send()?;
    response.success()?;
    let login = response.take_secret("/access_token");
    let login = login.ok_or_else(|| Error::Failed("a login without `access_token`".to_owned()))?;
    kept::keep(KEPT, &login, login.expires_at().unwrap_or(grant.now() + LOGIN))?;
    Ok(login)
}

fn label(grant: &Grant) -> String {
    format!("rise-{}", grant.id().to_lowercase())
}

/// The grant in the words of Docker Hub, where pushing includes pulling.
fn scope(grant: &Grant) -> Result<&'static str, Error> {
    if grant.actions().contains(Actions::PUSH) {
        Ok("scope-image-push")
    } else if grant.actions().contains(Actions::PULL) {
        Ok("scope-image-pull")
    } else {
        Err(Error::Unsupported("a grant without pull and push".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{
        self, Answer, Authorization, Body, Call, Host, NOW, Origin, Sent,
    };
    use rise_provider::{Provider as _, Revocation as _};

    use super::*;
    use crate::DockerHub;
    use crate::tests;

    const LABEL: &str = "rise-01arz3ndektsv4rrffq69g5fav";
    const ID: &str = "a7a5ef25-8889-43a0-8cc7-f2a94268e861";
    const URL: &str = "https://hub.docker.com/v2/orgs/acme/access-tokens/\
                       a7a5ef25-8889-43a0-8cc7-f2a94268e861";

    const OTHER: &str = "https://hub.docker.com/v2/orgs/acme/access-tokens/other";

    fn settings() -> Settings {
        tests::settings(&json!({ "issues": "organization-token" }))
    }

    /// Docker Hub with one token, of this label.
    fn answer(sent: &Sent, label: &str) -> Answer {
        let token = json!({ "id": ID, "label": label, "is_active": true });
        let path = sent.url.strip_prefix("https://hub.docker.com/v2/").unwrap();
        let path = path.split('?').next().unwrap();
        match (sent.method, path.strip_prefix("orgs/acme/access-tokens").unwrap_or(path)) {
            (Method::Post, "auth/token") => {
                Answer::new(200).body(r#"{"access_token":"a-login-of-minutes"}"#)
            }
            (Method::Post, "") => {
                let Body::Json(asked) = &sent.body else { panic!("no JSON") };
                let mut made = token;
                made["token"] = json!("t0p-secret");
                made["resources"] = asked["resources"].clone();
                Answer::new(201).body(&made.to_string())
            }
            (Method::Get, "") => {
                let listed = json!({ "results": [token], "next": null, "total": 1 });
                Answer::new(200).body(&listed.to_string())
            }
            (Method::Get, path) if path == format!("/{ID}") => {
                Answer::new(200).body(&token.to_string())
            }
            (Method::Delete, path) if path == format!("/{ID}") => Answer::new(204),
            _ => Answer::new(404).body(r#"{"message":"not found"}"#),
        }
    }

    fn host(label: &'static str) -> Host {
        Host::new().secret("password").http(move |sent| Ok(answer(sent, label)))
    }

    fn sent(calls: &[Call]) -> Vec<(Method, &str)> {
        let sent = calls.iter().filter_map(|call| {
            let Call::Send(sent) = call else { return None };
            Some((sent.method, sent.url.rsplit("/v2/").next().unwrap()))
        });
        sent.collect()
    }

    #[test]
    fn a_token_opens_one_repository_for_the_granted_actions() {
        for (actions, scope) in [
            (Actions::PULL, "scope-image-pull"),
            (Actions::PUSH, "scope-image-push"),
            (Actions::PULL | Actions::PUSH, "scope-image-push"),
        ] {
            let grant = testing::grant("my-app").actions(actions).lifetime(900).build();
            let (issued, calls) = host(LABEL).run(|| DockerHub::issue(&settings(), &grant));
            let issued = issued.unwrap();
            assert_eq!(issued.expires_at, Some(NOW + 900 + DAY));
            let Credential::Basic(login) = issued.credential else { panic!("no login") };
            assert_eq!(login.username, "acme");
            assert_eq!(testing::origin(&login.password), &Origin::Http("/token".to_owned()));
            assert!(calls.contains(&Call::Remember { note: URL.to_owned() }));
            let mut requests = calls
                .iter()
                .filter_map(|call| if let Call::Send(sent) = call { Some(sent) } else { None });
            let login = requests.next().unwrap();
            assert_eq!(
                login.body,
                Body::Json(json!({ "identifier": "bot", "secret": "<configured password>" }))
            );
            let made = requests.next().unwrap();
            let bearer = Origin::Http("/access_token".to_owned());
            assert_eq!(made.authorization, Some(Authorization::Bearer(bearer)));
            assert_eq!(
                made.body,
                Body::Json(json!({
                    "label": LABEL,
                    "description": "rise-broker, grant 01ARZ3NDEKTSV4RRFFQ69G5FAV",
                    "expires_at": "2027-01-16T08:15:00Z",
                    "resources": [{
                        "type": "TYPE_REPO", "path": "acme/my-app", "scopes": [scope],
                    }],
                }))
            );
        }
    }

    #[test]
    fn a_refusal_names_the_cap() {
        let refuses = |status: u16| {
            let host = Host::new().secret("password").kept("login");
            host.http(move |_| Ok(Answer::new(status).body(r#"{"message":"limit reached"}"#)))
        };
        let grant = testing::grant("my-app").build();
        for status in [400, 402, 403, 404, 409] {
            let (issued, _) = refuses(status).run(|| DockerHub::issue(&settings(), &grant));
            let Err(Error::Denied(text)) = issued else { panic!("{status}: {issued:?}") };
            assert!(text.contains("limit reached") && text.contains("ten or a hundred"), "{text}");
        }
        let (issued, _) = refuses(500).run(|| DockerHub::issue(&settings(), &grant));
        assert!(matches!(issued, Err(Error::Unavailable(_))), "{issued:?}");
    }

    #[test]
    fn a_login_is_kept_until_docker_hub_rejects_it() {
        let grant = testing::grant("my-app").build();
        let (issued, calls) =
            host(LABEL).kept("login").run(|| DockerHub::issue(&settings(), &grant));
        assert!(issued.is_ok());
        assert_eq!(sent(&calls), [(Method::Post, "orgs/acme/access-tokens")]);
        let rejects = Host::new().secret("password").kept("login");
        let rejects = rejects.http(|_| Ok(Answer::new(401).body("{}")));
        let (issued, calls) = rejects.run(|| DockerHub::issue(&settings(), &grant));
        assert!(matches!(issued, Err(Error::Denied(_))), "{issued:?}");
        assert!(calls.contains(&Call::Forget { name: "login".to_owned() }));
    }

    #[test]
    fn a_token_for_something_else_is_not_handed_out_but_remembered() {
        let wider = |sent: &Sent| {
            let mut made = answer(sent, LABEL);
            if sent.method == Method::Post && sent.url.ends_with("access-tokens") {
                let everything = json!([{
                    "type": "TYPE_REPO", "path": "*/*", "scopes": ["scope-image-push"],
                }]);
                let body = json!({
                    "id": ID, "label": LABEL, "token": "t0p-secret", "resources": everything,
                });
                made = Answer::new(201).body(&body.to_string());
            }
            Ok(made)
        };
        let grant = testing::grant("my-app").build();
        for host in [host("of-somebody"), Host::new().secret("password").http(wider)] {
            let (issued, calls) = host.run(|| DockerHub::issue(&settings(), &grant));
            assert!(matches!(issued, Err(Error::Failed(_))), "{issued:?}");
            assert!(calls.contains(&Call::Remember { note: URL.to_owned() }));
        }
    }

    #[test]
    fn the_token_of_the_grant_is_deleted_and_no_other() {
        let revoke = |host: Host, note: Option<&str>| {
            let grant = testing::grant("my-app").build();
            let (ended, calls) =
                host.kept("login").run(|| DockerHub::revoke(&settings(), &grant, note));
            let deleted =
                sent(&calls).contains(&(Method::Delete, &*format!("orgs/acme/access-tokens/{ID}")));
            (ended, deleted)
        };
        assert_eq!(revoke(host(LABEL), Some(URL)), (Ok(()), true));
        // By its label, if nobody knows its id.
        assert_eq!(revoke(host(LABEL), None), (Ok(()), true));
        // Docker Hub has given the id to something else, or has none.
        for (host, note) in
            [(host("release"), Some(URL)), (host("release"), None), (host(LABEL), Some(OTHER))]
        {
            assert_eq!(revoke(host, note), (Ok(()), false), "{note:?}");
        }
    }

    #[test]
    fn a_proxy_that_knows_nothing_is_not_taken_for_docker_hub() {
        let grant = testing::grant("my-app").build();
        for note in [Some(URL), None] {
            let host = Host::new().secret("password").kept("login");
            let host = host.http(|_| Ok(Answer::new(404).body("nginx")));
            let (ended, _) = host.run(|| DockerHub::revoke(&settings(), &grant, note));
            assert!(matches!(ended, Err(Error::NotFound(_))), "{ended:?}");
        }
    }

    /// A 404 of another organization would say nothing about the token, and stored tokens are not
    /// what was made.
    #[test]
    fn what_was_made_with_other_settings_is_not_taken_for_gone() {
        for changed in [
            json!({ "issues": "organization-token", "namespace": "other" }),
            json!({ "issues": "stored" }),
            json!({ "issues": "bearer" }),
        ] {
            let settings = tests::settings(&changed);
            let grant = testing::grant("my-app").build();
            let (ended, calls) =
                host(LABEL).run(|| DockerHub::revoke(&settings, &grant, Some(URL)));
            assert!(
                matches!(&ended, Err(Error::InvalidSettings(text)) if text.contains(URL)),
                "{changed}: {ended:?}"
            );
            assert_eq!(sent(&calls), []);
        }
    }
}
