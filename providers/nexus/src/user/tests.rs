use std::cell::RefCell;
use std::rc::Rc;

use rise_provider::http::Method;
use rise_provider::testing::{self, Answer, Authorization, Body, Call, Host, Origin, Sent};
use rise_provider::{Actions, Leftovers, Provider, Revocation};
use serde_json::Value;

use super::*;
use crate::Nexus;
use crate::tests::settings;

const ID: &str = "rise-01arz3ndektsv4rrffq69g5fav";
const GRANT: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const USERS: &str = "https://nexus.example.com/service/rest/v1/security/users";
const NOTE: &str =
    "https://nexus.example.com/service/rest/v1/security/users/rise-01arz3ndektsv4rrffq69g5fav";
const ASKED: &str = "nexus.example.com/service/rest/v1/security/users";

fn usual() -> Settings {
    settings(&json!({}))
}

fn grant() -> Grant {
    testing::grant("my-app").build()
}

fn user(id: &str, first: &str, last: &str) -> Value {
    json!({
        "userId": id, "firstName": first, "lastName": last, "emailAddress": "a@example.invalid",
        "source": "default", "status": "active", "readOnly": false, "roles": ["rise-push"],
        "externalRoles": [],
    })
}

fn ours() -> Value {
    user(ID, "rise-broker", GRANT)
}

/// A Nexus with users.
#[derive(Clone, Default)]
struct Registry(Rc<RefCell<Vec<Value>>>);

impl Registry {
    fn with(users: impl IntoIterator<Item = Value>) -> Self {
        Self(Rc::new(RefCell::new(users.into_iter().collect())))
    }

    fn ids(&self) -> Vec<String> {
        let users = self.0.borrow();
        users.iter().map(|user| user["userId"].as_str().unwrap().to_owned()).collect()
    }

    fn answer(&self, sent: &Sent) -> Answer {
        let admin = Origin::Configured("password".to_owned());
        if sent.authorization != Some(Authorization::Basic("rise-admin".to_owned(), admin)) {
            return Answer::new(401);
        }
        let mut users = self.0.borrow_mut();
        let rest = sent.url.strip_prefix(USERS).unwrap();
        let id_of = |user: &Value| user["userId"].as_str().unwrap().to_owned();
        match (
            sent.method,
            rest.strip_prefix("?userId=").and_then(|rest| rest.strip_suffix("&source=default")),
            rest.strip_prefix('/'),
        ) {
            (Method::Post, None, None) => {
                let Body::Json(mut user) = sent.body.clone() else { panic!("expected JSON") };
                if users.iter().any(|other| other["userId"] == user["userId"]) {
                    let told = format!("User '{}' already exists.", id_of(&user));
                    return Answer::new(400).body(&told);
                }
                assert_eq!(user["password"], "<random>");
                let members = user.as_object_mut().unwrap();
                members.remove("password");
                members.insert("source".to_owned(), json!("default"));
                members.insert("readOnly".to_owned(), json!(false));
                let body = user.to_string();
                users.push(user);
                Answer::new(200).body(&body)
            }
            (Method::Get, Some(prefix), None) => {
                let found: Vec<_> =
                    users.iter().filter(|user| id_of(user).starts_with(prefix)).collect();
                Answer::new(200).body(&json!(found).to_string())
            }
            (Method::Delete, None, Some(id)) => {
                let before = users.len();
                users.retain(|user| id_of(user) != id);
                Answer::new(if users.len() < before { 204 } else { 404 })
            }
            asked => panic!("unexpected {asked:?}"),
        }
    }

    fn host(&self) -> Host {
        let registry = self.clone();
        Host::new().secret("password").http(move |sent| Ok(registry.answer(sent)))
    }
}

/// A host whose registry always answers the same.
fn answers(answer: Answer) -> Host {
    Host::new().secret("password").http(move |_| Ok(answer.clone()))
}

fn revoke(host: &Host, note: Option<&str>) -> (Result<(), Error>, Vec<Call>) {
    host.run(|| Nexus::revoke(&usual(), &grant(), note))
}

fn methods(calls: &[Call]) -> Vec<Method> {
    let method = |call: &Call| {
        let Call::Send(sent) = call else { return None };
        Some(sent.method)
    };
    calls.iter().filter_map(method).collect()
}

#[test]
fn each_grant_gets_a_user_with_the_role_of_its_actions() {
    for (actions, role) in [
        (Actions::PULL, "rise-pull"),
        (Actions::PUSH, "rise-push"),
        (Actions::PULL | Actions::PUSH, "rise-push"),
    ] {
        let registry = Registry::default();
        let grant = testing::grant("my-app").actions(actions).build();
        let (issued, calls) = registry.host().run(|| Nexus::issue(&usual(), &grant));

        let issued = issued.unwrap();
        assert_eq!(issued.expires_at, None);
        let Credential::Basic(login) = issued.credential else { panic!("expected a login") };
        assert_eq!(login.username, ID);
        assert_eq!(testing::origin(&login.password), &Origin::Random);

        let sent = calls.iter().find_map(|call| {
            let Call::Send(sent) = call else { return None };
            Some(sent)
        });
        let expected = json!({
            "userId": ID, "firstName": "rise-broker", "lastName": GRANT,
            "emailAddress": "rise@example.invalid", "password": "<random>", "status": "active",
            "roles": [role],
        });
        assert_eq!(sent.unwrap().body, Body::Json(expected));
        assert_eq!(registry.ids(), [ID]);
    }
}

#[test]
fn the_note_follows_at_once_after_the_answer() {
    let (issued, calls) = Registry::default().host().run(|| Nexus::issue(&usual(), &grant()));
    assert!(issued.is_ok());
    let sent = calls.iter().position(|call| matches!(call, Call::Send(_))).unwrap();
    assert_eq!(calls[sent + 1], Call::Remember { note: NOTE.to_owned() });
}

#[test]
fn actions_without_a_role_are_refused_before_anything_is_sent() {
    for actions in [Actions::NONE, Actions::DELETE, Actions::PULL | Actions::DELETE] {
        let registry = Registry::default();
        let grant = testing::grant("my-app").actions(actions).build();
        let (issued, calls) = registry.host().run(|| Nexus::issue(&usual(), &grant));
        assert!(matches!(issued, Err(Error::Unsupported(_))));
        assert_eq!(calls, []);
    }
}

#[test]
fn what_nexus_says_is_handed_on() {
    for (status, expected) in [
        (
            401,
            Error::Denied(format!("POST {ASKED} answered 401: `username` or `password` is wrong")),
        ),
        (
            403,
            Error::Denied(format!(
                "POST {ASKED} answered 403: the user needs the privilege nx-users-create"
            )),
        ),
        (
            404,
            Error::NotFound(format!("POST {ASKED} answered 404: is `base_url` the URL of Nexus?")),
        ),
        (429, Error::Throttled(None)),
        (503, Error::Unavailable(format!("POST {ASKED} answered 503"))),
    ] {
        let (issued, calls) = answers(Answer::new(status)).run(|| Nexus::issue(&usual(), &grant()));
        assert_eq!(issued.unwrap_err(), expected);
        assert!(!calls.iter().any(|call| matches!(call, Call::Remember { .. })));
    }
    let slow = Answer::new(429).header("Retry-After", "9");
    assert_eq!(
        answers(slow).run(|| Nexus::issue(&usual(), &grant())).0.unwrap_err(),
        Error::Throttled(Some(9))
    );
    let away = Host::new().secret("password").http(|_| Err(Error::Unavailable("no".to_owned())));
    for result in
        [away.run(|| Nexus::issue(&usual(), &grant()).map(|_| ())).0, revoke(&away, None).0]
    {
        assert!(matches!(result, Err(Error::Unavailable(_))));
    }
}

#[test]
fn a_user_that_exists_is_neither_used_nor_deleted_nor_remembered() {
    let registry = Registry::with([user(ID, "Ada", "Lovelace")]);
    let (issued, calls) = registry.host().run(|| Nexus::issue(&usual(), &grant()));
    let expected = format!(
        "somebody else made a user `{ID}`, which stays as it is; Nexus wrote: \
         User '{ID}' already exists."
    );
    assert_eq!(issued.unwrap_err(), Error::Denied(expected));
    assert!(!calls.iter().any(|call| matches!(call, Call::Remember { .. })));

    // The broker calls this without a note.
    let (revoked, calls) = revoke(&registry.host(), None);
    assert_eq!((revoked, methods(&calls)), (Ok(()), vec![Method::Get]));
    assert_eq!(registry.ids(), [ID]);
}

/// The host answers the POST with 400, and a request for users with these.
fn rejects(users: Answer) -> Host {
    Host::new().secret("password").http(move |sent| {
        let rejected = Answer::new(400).body("Role 'rise-push' does not exist.");
        Ok(if sent.method == Method::Get { users.clone() } else { rejected })
    })
}

#[test]
fn a_missing_role_is_told_and_nothing_is_left_to_end() {
    let longer = user(&format!("{ID}-2"), "rise-broker", GRANT);
    for users in [json!([]), json!([longer])] {
        let host = rejects(Answer::new(200).body(&users.to_string()));
        let expected = format!(
            "Nexus rejected the user `{ID}`; does it have the role `rise-push`? \
             It wrote: Role 'rise-push' does not exist."
        );
        let issued = host.run(|| Nexus::issue(&usual(), &grant())).0;
        assert_eq!(issued.unwrap_err(), Error::Denied(expected));
    }
}

#[test]
fn a_user_that_a_proxy_made_by_sending_twice_is_left_to_revoke() {
    let ours = Answer::new(200).body(&json!([ours()]).to_string());
    for users in [ours, Answer::new(503)] {
        let (issued, calls) = rejects(users).run(|| Nexus::issue(&usual(), &grant()));
        // The broker calls `revoke` after `failed`.
        assert!(matches!(issued, Err(Error::Failed(_))));
        assert_eq!(methods(&calls), [Method::Post, Method::Get]);
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_remembered_and_not_issued() {
    let mut other_role = ours();
    other_role["roles"] = json!(["nx-anonymous"]);
    let mut other_source = ours();
    other_source["source"] = json!("LDAP");
    for body in [
        "<html>".to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
        user("rise-other", "rise-broker", GRANT).to_string(),
        user(ID, "rise-broker", "another grant").to_string(),
        other_role.to_string(),
        other_source.to_string(),
    ] {
        let host = answers(Answer::new(200).body(&body));
        let (issued, calls) = host.run(|| Nexus::issue(&usual(), &grant()));
        assert!(matches!(issued, Err(Error::Failed(_))), "{body}");
        assert!(calls.iter().any(|call| matches!(call, Call::Remember { .. })));
    }
}

#[test]
fn a_failed_note_fails_the_grant_and_its_user_can_be_found() {
    let registry = Registry::default();
    let host = registry.host().fail(|call| {
        let failed = || Error::Failed("full".to_owned());
        matches!(call, Call::Remember { .. }).then(failed)
    });
    let (issued, _) = host.run(|| Nexus::issue(&usual(), &grant()));
    assert_eq!(issued.unwrap_err(), Error::Failed("full".to_owned()));
    assert_eq!(registry.ids(), [ID]);
    assert_eq!(revoke(&registry.host(), None).0, Ok(()));
    assert_eq!(registry.ids(), [""; 0]);
}

#[test]
fn a_user_is_deleted_with_and_without_a_note_and_again() {
    for note in [Some(NOTE), None] {
        let registry = Registry::with([ours()]);
        let (revoked, calls) = revoke(&registry.host(), note);
        assert_eq!((revoked, methods(&calls)), (Ok(()), vec![Method::Get, Method::Delete]));
        assert_eq!(registry.ids(), [""; 0]);

        let (again, calls) = revoke(&registry.host(), note);
        assert_eq!((again, methods(&calls)), (Ok(()), vec![Method::Get]));
    }
}

#[test]
fn a_user_whose_id_begins_with_ours_stays() {
    let longer = format!("{ID}-2");
    let others = || user(&longer, "rise-broker", GRANT);
    let registry = Registry::with([others(), ours()]);
    assert_eq!(revoke(&registry.host(), Some(NOTE)).0, Ok(()));
    assert_eq!(registry.ids(), [longer.as_str()]);

    let (revoked, calls) = revoke(&registry.host(), None);
    assert_eq!((revoked, methods(&calls)), (Ok(()), vec![Method::Get]));
    assert_eq!(registry.ids(), [longer.as_str()]);
}

#[test]
fn a_user_of_somebody_else_stays() {
    let mut of_ldap = ours();
    of_ldap["source"] = json!("LDAP");
    let mut nameless = ours();
    nameless.as_object_mut().unwrap().remove("lastName");
    for other in [user(ID, "Ada", "Lovelace"), user(ID, "rise-broker", "X"), of_ldap, nameless] {
        let registry = Registry::with([other]);
        assert_eq!(revoke(&registry.host(), None).0, Ok(()));
        // Nexus has said that it made the user, so the end cannot be taken for granted.
        let (revoked, _) = revoke(&registry.host(), Some(NOTE));
        assert!(matches!(revoked, Err(Error::Failed(_))));
        assert_eq!(registry.ids(), [ID]);
    }
}

#[test]
fn an_end_that_is_not_sure_is_an_error() {
    for (status, body) in
        [(200, "<html>"), (200, "{}"), (200, "[{}]"), (404, ""), (401, ""), (400, "")]
    {
        for note in [None, Some(NOTE)] {
            let (revoked, _) = revoke(&answers(Answer::new(status).body(body)), note);
            assert!(revoked.is_err(), "{status} {body}");
        }
    }
    // Found, but not deleted.
    for (status, is_over) in [(204, true), (404, true), (403, false), (500, false), (400, false)] {
        let host = Host::new().secret("password").http(move |sent| {
            let found = Answer::new(200).body(&json!([ours()]).to_string());
            Ok(if sent.method == Method::Get { found } else { Answer::new(status) })
        });
        assert_eq!(revoke(&host, Some(NOTE)).0.is_ok(), is_over, "{status}");
    }
}

#[test]
fn the_user_of_another_grant_stays() {
    let registry = Registry::with([ours()]);
    let other = testing::grant("my-app").id("01BX5ZZKBKACTAV9WEVGEMMVRZ").build();
    let users = "https://nexus.example.com/service/rest/v1/security/users";
    for note in [None, Some(NOTE), Some(&*format!("{users}/rise-01bx5zzkbkactav9wevgemmvrz"))] {
        let host = registry.host();
        let (revoked, calls) = host.run(|| Nexus::revoke(&settings(&json!({})), &other, note));
        assert_eq!((revoked, methods(&calls)), (Ok(()), vec![Method::Get]), "{note:?}");
        assert_eq!(registry.ids(), [ID]);
    }
}

#[test]
fn another_nexus_is_not_asked() {
    for note in [ID, "https://old.example.com/service/rest/v1/security/users/rise-1"] {
        let registry = Registry::with([ours()]);
        let (revoked, calls) = revoke(&registry.host(), Some(note));
        assert!(matches!(revoked, Err(Error::InvalidSettings(_))), "{note}");
        assert_eq!((methods(&calls), registry.ids()), (vec![], vec![ID.to_owned()]), "{note}");
    }
}

#[test]
fn a_long_answer_does_not_fill_the_error() {
    let host = answers(Answer::new(400).body(&"x\n".repeat(5000)));
    let (issued, _) = host.run(|| Nexus::issue(&usual(), &grant()));
    let Err(Error::Failed(text)) = issued else { panic!("expected a failure") };
    assert!(text.len() < 512 && !text.contains('\n'));
}

#[test]
fn only_users_that_the_broker_made_are_listed_and_deleted() {
    let older =
        user("rise-01bx5zzkbkactav9wevgemmvrz", "rise-broker", "01BX5ZZKBKACTAV9WEVGEMMVRZ");
    let ldap = json!({ "source": "LDAP" });
    let mut elsewhere = ours();
    elsewhere.as_object_mut().unwrap().extend(ldap.as_object().unwrap().clone());
    let registry = Registry::with([
        ours(),
        older,
        elsewhere,
        user("rise-admin", "rise-broker", "admin"),
        user("rise-01arz3ndektsv4rrffq69g5faz", "Ada", "Lovelace"),
        user("rise-01arz3ndektsv4rrffq69g5fax", "rise-broker", GRANT),
    ]);
    let (listed, _) = registry.host().run(|| Nexus::find(&usual()));
    let listed = listed.unwrap();
    let ids: Vec<&str> = listed.iter().map(|leftover| leftover.id.as_str()).collect();
    assert_eq!(ids, ["01arz3ndektsv4rrffq69g5fav", "01bx5zzkbkactav9wevgemmvrz"]);
    assert_eq!(listed[0].note, NOTE);
    let registry = Registry::with([ours(), user("rise-admin", "Ada", "Lovelace")]);
    let (ended, _) = registry.host().run(|| Nexus::end(&usual(), &listed[0]));
    assert_eq!((ended, registry.ids()), (Ok(()), vec!["rise-admin".to_owned()]));
    let other = Registry::with([user(ID, "Ada", "Lovelace")]);
    let (ended, _) = other.host().run(|| Nexus::end(&usual(), &listed[0]));
    assert!(matches!(ended, Err(Error::Failed(_))), "{ended:?}");
    assert_eq!(other.ids(), [ID]);
}
