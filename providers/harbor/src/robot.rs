//! A robot account for one grant: made, found again, deleted.
//!
//! Its name follows from the grant's id, so that it can be found if the broker was killed before it
//! knew the robot's own id, and so that no other robot is ever deleted.

use rise_provider::http::{Method, Request, segment};
use rise_provider::{Actions, Credential, Error, Grant, Issued, Leftover, Login, remembered_id};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::settings::Settings;

/// Harbor counts in days.
const DAYS: u32 = 1;
/// The most that Harbor lists at once.
const PAGE: usize = 100;
/// A call may send eight requests, and one of them asks for the project.
const PAGES: usize = 7;
const PREFIX: &str = "rise-";

/// What Harbor says of a robot.
#[derive(Deserialize)]
struct Robot {
    id: u64,
    name: String,
    #[serde(default)]
    expires_at: Option<i64>,
}

#[derive(Deserialize)]
struct HarborProject {
    project_id: u64,
}

pub(crate) fn create(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
    let name = name_of(&grant.id());
    let response = send(
        settings,
        Request::post(&settings.api("robots")).json(&json!({
            "name": name,
            "description": format!("rise-broker, grant {}", grant.id()),
            "level": "project",
            "duration": DAYS,
            "disable": false,
            "permissions": [{
                "kind": "project",
                "namespace": settings.project,
                "access": access(grant)?,
            }],
        })),
    )?;
    response.success()?;
    let password = response.take_secret("/secret");
    let robot: Robot = response.json()?;
    // Before anything else can fail: from here on somebody has to delete it.
    grant.remember(&format!("{}/{}", settings.api("robots"), robot.id))?;
    let password = password.ok_or_else(|| Error::Failed("a robot without `secret`".to_owned()))?;
    if !is_named(&robot.name, settings, &name) {
        return Err(Error::Failed(format!(
            "a robot with the name `{}`, and `{name}` of the project `{}` was asked for",
            robot.name, settings.project
        )));
    }
    // -1: never.
    let expires_at = robot.expires_at.and_then(|at| u64::try_from(at).ok());
    let credential = Credential::Basic(Login { username: robot.name, password });
    Ok(Issued { credential, expires_at })
}

pub(crate) fn delete(settings: &Settings, id: &str, remembered: Option<&str>) -> Result<(), Error> {
    let name = name_of(id);
    let robots = settings.api("robots");
    let found = match remembered {
        Some(note) => {
            is_there(settings, note, remembered_id(note, &robots)?, &name)?.then(|| note.to_owned())
        }
        None => find_by_name(settings, &name)?.map(|id| format!("{robots}/{id}")),
    };
    let Some(url) = found else { return Ok(()) };
    let response = send(settings, Request::new(Method::Delete, &url))?;
    match response.success() {
        Ok(()) | Err(Error::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the robot at this URL is the one that was made for the grant. The settings may name
/// another project of Harbor by now.
fn is_there(settings: &Settings, url: &str, id: &str, name: &str) -> Result<bool, Error> {
    let response = send(settings, Request::get(url))?;
    match response.success() {
        Ok(()) => {
            let robot: Robot = response.json()?;
            Ok(robot.id.to_string() == id && robot.name.ends_with(&format!("+{name}")))
        }
        // It is gone, if it is Harbor that answers.
        Err(Error::NotFound(_)) => project_id(settings).map(|_| false),
        Err(error) => Err(error),
    }
}

fn find_by_name(settings: &Settings, name: &str) -> Result<Option<u64>, Error> {
    let project = project_id(settings)?;
    let query = segment(&format!("Level=project,ProjectID={project},name=~{name}"));
    let url = format!("{}?page_size={PAGE}&q={query}", settings.api("robots"));
    let response = send(settings, Request::get(&url))?;
    response.success()?;
    let robots: Vec<Robot> = response.json()?;
    Ok(robots.into_iter().find(|robot| is_named(&robot.name, settings, name)).map(|robot| robot.id))
}

/// The robots of the project that are named after grants, the oldest first.
pub(crate) fn list(settings: &Settings) -> Result<Vec<Leftover>, Error> {
    let project = project_id(settings)?;
    let query = segment(&format!("Level=project,ProjectID={project},name=~{PREFIX}"));
    let robots = settings.api("robots");
    let start = format!("{}+", settings.project);
    let mut found = Vec::new();
    for page in 1..=PAGES {
        let url = format!("{robots}?page={page}&page_size={PAGE}&sort=creation_time&q={query}");
        let response = send(settings, Request::get(&url))?;
        response.success()?;
        let listed: Vec<Robot> = response.json()?;
        let is_last = listed.len() < PAGE;
        found.extend(listed.into_iter().filter_map(|robot| {
            let (_, name) = robot.name.split_once(&start)?;
            Leftover::named(name, PREFIX, format!("{robots}/{}", robot.id))
        }));
        if is_last {
            break;
        }
    }
    Ok(found)
}

/// Harbor's own id of the project.
fn project_id(settings: &Settings) -> Result<u64, Error> {
    let url = settings.api(&format!("projects/{}", settings.project));
    let response = send(settings, Request::get(&url))?;
    response.success()?;
    Ok(response.json::<HarborProject>()?.project_id)
}

fn send(settings: &Settings, request: Request) -> Result<rise_provider::http::Response, Error> {
    request.basic(&settings.username, &settings.password.get()?).send()
}

/// The name of the robot for the grant with this id.
fn name_of(id: &str) -> String {
    format!("{PREFIX}{}", id.to_lowercase())
}

/// The full name is a configured prefix, the project and the name: `robot$team+name`.
fn is_named(full: &str, settings: &Settings, name: &str) -> bool {
    full.ends_with(&format!("{}+{name}", settings.project))
}

/// The grant in the words of Harbor, where pushing needs pulling.
fn access(grant: &Grant) -> Result<Value, Error> {
    let allow = |action: &str| json!({ "resource": "repository", "action": action });
    let granted = grant.actions();
    if granted.contains(Actions::PUSH) {
        Ok(json!([allow("pull"), allow("push")]))
    } else if granted.contains(Actions::PULL) {
        Ok(json!([allow("pull")]))
    } else {
        Err(Error::Unsupported("a grant without pull and push".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use rise_provider::testing::{self, Answer, Authorization, Body, Call, Host, Sent};
    use rise_provider::{Leftovers, Provider, Revocation};

    use super::*;
    use crate::Harbor;
    use crate::tests::settings;

    const ROBOT: &str = "https://harbor.example.com/api/v2.0/robots/7";
    const NAME: &str = "robot$team+rise-01arz3ndektsv4rrffq69g5fav";

    fn answer(sent: &Sent, id: u64, name: &str) -> Answer {
        let robot = json!({ "id": id, "name": name, "expires_at": 1_800_086_400_u64 });
        let path = sent.url.strip_prefix("https://harbor.example.com/api/v2.0/").unwrap();
        let path = path.split('?').next().unwrap();
        match (sent.method, path) {
            (Method::Post, "robots") => {
                let mut made = robot;
                made["secret"] = json!("t0p-secret");
                Answer::new(201).body(&made.to_string())
            }
            (Method::Get, "projects/team") => Answer::new(200).body(r#"{"project_id":3}"#),
            (Method::Get, "robots") => Answer::new(200).body(&json!([robot]).to_string()),
            (Method::Get, path) if path == format!("robots/{id}") => {
                Answer::new(200).body(&robot.to_string())
            }
            (Method::Delete, path) if path == format!("robots/{id}") => Answer::new(200),
            _ => Answer::new(404).body("{}"),
        }
    }

    fn host(id: u64, name: &'static str) -> Host {
        Host::new().secret("password").http(move |sent| Ok(answer(sent, id, name)))
    }

    fn requests(calls: &[Call]) -> Vec<(Method, String)> {
        let sent = calls.iter().filter_map(|call| {
            let Call::Send(sent) = call else { return None };
            Some((sent.method, sent.url.clone()))
        });
        sent.map(|(method, url)| (method, url.rsplit("/v2.0/").next().unwrap().to_owned()))
            .collect()
    }

    #[test]
    fn a_robot_has_exactly_the_granted_actions() {
        for (actions, expected) in [
            (Actions::PULL, vec!["pull"]),
            (Actions::PUSH, vec!["pull", "push"]),
            (Actions::PULL | Actions::PUSH, vec!["pull", "push"]),
        ] {
            let grant = testing::grant("my-app").actions(actions).build();
            let (issued, calls) =
                host(7, NAME).run(|| Harbor::issue(&settings(&json!({})), &grant));
            let Credential::Basic(login) = issued.unwrap().credential else { panic!("no login") };
            assert_eq!(login.username, NAME);
            let Some(Call::Send(sent)) = calls.iter().find(|call| matches!(call, Call::Send(_)))
            else {
                panic!("nothing was sent");
            };
            assert!(matches!(&sent.authorization, Some(Authorization::Basic(user, _))
                if user == "robot$rise"));
            let Body::Json(body) = &sent.body else { panic!("no JSON") };
            assert_eq!(body["name"], "rise-01arz3ndektsv4rrffq69g5fav");
            assert_eq!(body["permissions"].as_array().unwrap().len(), 1);
            assert_eq!(body["permissions"][0]["namespace"], "team");
            let access = body["permissions"][0]["access"].as_array().unwrap();
            let access: Vec<&str> =
                access.iter().map(|allow| allow["action"].as_str().unwrap()).collect();
            assert_eq!(access, expected);
            assert!(calls.contains(&Call::Remember { note: ROBOT.to_owned() }));
        }
    }

    #[test]
    fn a_robot_with_another_name_is_not_handed_out_but_remembered() {
        let grant = testing::grant("my-app").build();
        let (issued, calls) = host(7, "robot$other+rise-01arz3ndektsv4rrffq69g5fav")
            .run(|| Harbor::issue(&settings(&json!({})), &grant));
        assert!(matches!(issued, Err(Error::Failed(_))));
        assert!(calls.contains(&Call::Remember { note: ROBOT.to_owned() }));
    }

    #[test]
    fn the_robot_of_the_grant_is_deleted_and_no_other() {
        let revoke = |host: Host, note: Option<&str>| {
            let grant = testing::grant("my-app").build();
            let (ended, calls) = host.run(|| Harbor::revoke(&settings(&json!({})), &grant, note));
            (ended, requests(&calls))
        };
        let deleted = (Method::Delete, "robots/7".to_owned());
        let (ended, sent) = revoke(host(7, NAME), Some(ROBOT));
        assert_eq!((ended, sent.last()), (Ok(()), Some(&deleted)));
        // By its name, if nobody knows its id.
        let (ended, sent) = revoke(host(7, NAME), None);
        assert_eq!((ended, sent.last()), (Ok(()), Some(&deleted)));
        // Harbor has given the id to another robot, or has none.
        for (host, note) in [
            (host(7, "robot$team+release"), Some(ROBOT)),
            (host(7, "robot$team+release"), None),
            (host(8, NAME), Some(ROBOT)),
        ] {
            let (ended, sent) = revoke(host, note);
            assert_eq!(ended, Ok(()));
            assert!(!sent.iter().any(|(method, _)| *method == Method::Delete), "{sent:?}");
        }
    }

    #[test]
    fn a_proxy_that_knows_nothing_is_not_taken_for_harbor() {
        let host = Host::new().secret("password").http(|_| Ok(Answer::new(404).body("nginx")));
        let grant = testing::grant("my-app").build();
        for note in [Some(ROBOT), None] {
            let (ended, _) = host.run(|| Harbor::revoke(&settings(&json!({})), &grant, note));
            assert!(matches!(ended, Err(Error::NotFound(_))), "{ended:?}");
        }
    }

    #[test]
    fn what_harbor_answers_decides_what_happens_next() {
        for (status, expected) in [
            (
                401,
                Error::Denied("GET harbor.example.com/api/v2.0/robots/7 answered 401".to_owned()),
            ),
            (429, Error::Throttled(None)),
            (
                500,
                Error::Unavailable(
                    "GET harbor.example.com/api/v2.0/robots/7 answered 500".to_owned(),
                ),
            ),
        ] {
            let host = Host::new().secret("password").http(move |_| Ok(Answer::new(status)));
            let grant = testing::grant("my-app").build();
            let (ended, _) =
                host.run(|| Harbor::revoke(&settings(&json!({})), &grant, Some(ROBOT)));
            assert_eq!(ended, Err(expected));
        }
    }

    /// A 404 of another Harbor would say nothing about the robot.
    #[test]
    fn a_robot_of_another_harbor_is_not_taken_for_gone() {
        let grant = testing::grant("my-app").build();
        let note = ROBOT.replace("harbor.", "old.");
        let (ended, calls) =
            host(7, NAME).run(|| Harbor::revoke(&settings(&json!({})), &grant, Some(&note)));
        assert!(matches!(&ended, Err(Error::InvalidSettings(text)) if text.contains(&note)));
        assert_eq!(requests(&calls), []);
    }

    /// The settings name another project by now, and the robot has not moved.
    #[test]
    fn a_robot_of_the_project_before_is_deleted() {
        let grant = testing::grant("my-app").build();
        let settings = settings(&json!({ "project": "new-team" }));
        let (ended, calls) = host(7, NAME).run(|| Harbor::revoke(&settings, &grant, Some(ROBOT)));
        let deleted = (Method::Delete, "robots/7".to_owned());
        assert_eq!((ended, requests(&calls).last()), (Ok(()), Some(&deleted)));
    }

    /// What people, other programs and other projects named is none of the broker's.
    #[test]
    fn only_robots_that_are_named_after_a_grant_are_listed() {
        let names = [
            NAME,
            "robot$team+rise-01bx5zzkbkactav9wevgemmvrz",
            "robot$team+rise-nightly",
            "robot$team+rise-01arz3ndektsv4rrffq69g5fav-2",
            "robot$team+x-rise-01arz3ndektsv4rrffq69g5fav",
            "robot$other+rise-01arz3ndektsv4rrffq69g5fav",
            "robot$rise",
        ];
        let host = Host::new().secret("password").http(move |sent| {
            let robots = names.iter().zip(1..).map(|(name, id)| json!({ "id": id, "name": name }));
            let robots: Vec<Value> = robots.collect();
            Ok(if sent.url.contains("/robots?page=1&page_size=100&sort=creation_time&q=") {
                Answer::new(200).body(&json!(robots).to_string())
            } else {
                answer(sent, 7, NAME)
            })
        });
        let (found, calls) = host.run(|| Harbor::find(&settings(&json!({}))));
        let robots = "https://harbor.example.com/api/v2.0/robots";
        let expected = [
            ("01arz3ndektsv4rrffq69g5fav", format!("{robots}/1")),
            ("01bx5zzkbkactav9wevgemmvrz", format!("{robots}/2")),
        ];
        let expected = expected.map(|(id, note)| Leftover { id: id.to_owned(), note });
        assert_eq!(found, Ok(expected.to_vec()));
        assert!(requests(&calls).iter().all(|(method, _)| *method == Method::Get));
    }

    #[test]
    fn pages_are_read_until_one_is_not_full() {
        for (robots, expected) in [(0, 1), (99, 1), (100, 2), (250, 3), (2000, PAGES)] {
            let host = Host::new().secret("password").http(move |sent| {
                let Some(query) = sent.url.split("robots?page=").nth(1) else {
                    return Ok(answer(sent, 7, NAME));
                };
                let page: usize = query.split('&').next().unwrap().parse().unwrap();
                let on_page = robots.min(page * PAGE).saturating_sub((page - 1) * PAGE);
                let list = vec![json!({ "id": 7, "name": NAME }); on_page];
                Ok(Answer::new(200).body(&json!(list).to_string()))
            });
            let (found, calls) = host.run(|| Harbor::find(&settings(&json!({}))));
            assert_eq!(found.unwrap().len(), robots.min(PAGES * PAGE));
            // The first one asks for the project.
            assert_eq!(requests(&calls).len(), expected + 1, "{robots}");
        }
    }

    #[test]
    fn a_leftover_is_deleted_if_its_name_is_that_of_its_id() {
        let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let deleted = (Method::Delete, "robots/7".to_owned());
        for (name, is_deleted) in
            [(NAME, true), ("robot$team+rise-nightly", false), ("robot$team+release", false)]
        {
            let leftover = Leftover { id: id.to_owned(), note: ROBOT.to_owned() };
            let (ended, calls) =
                host(7, name).run(|| Harbor::end(&settings(&json!({})), &leftover));
            assert_eq!((ended, requests(&calls).contains(&deleted)), (Ok(()), is_deleted));
        }
    }
}
