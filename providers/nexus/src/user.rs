//! A user of Nexus for one grant: made, found again, deleted.
//!
//! Its id follows from the grant's, so it can be found without a note. Its first and last name say
//! that it was made for this grant: a user without them belongs to somebody else, and is neither
//! handed out nor deleted.

use rise_provider::http::{Request, Response, segment};
use rise_provider::random::{self, LETTERS_AND_DIGITS};
use rise_provider::{Credential, Error, Grant, Issued, Leftover, Login, log, remembered_id};
use serde::Deserialize;
use serde_json::json;

use crate::settings::Settings;

/// The first name of every user that this provider makes. The last name is the id of the grant.
const FIRST_NAME: &str = "rise-broker";
/// Nexus requires an address, and never writes to it.
const ADDRESS: &str = "rise@example.invalid";
/// The id of such a user begins with it.
const PREFIX: &str = "rise-";
/// The users of Nexus itself. Others come from LDAP and the like.
const LOCAL: &str = "default";

/// A user as Nexus describes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    #[serde(rename = "userId")]
    id: String,
    source: String,
    #[serde(default)]
    first_name: Option<String>,
    #[serde(default)]
    last_name: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
}

impl User {
    /// Whether it was made for the grant with this id.
    fn is_of(&self, id: &str) -> bool {
        self.source == LOCAL
            && self.first_name.as_deref() == Some(FIRST_NAME)
            && self.last_name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(id))
    }
}

pub(crate) fn create(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
    let (role, id) = (settings.role(grant.actions())?, id_of(&grant.id()));
    let password = random::password(32, LETTERS_AND_DIGITS)?;
    let request = Request::post(&settings.users())
        .json(&json!({
            "userId": id,
            "firstName": FIRST_NAME,
            "lastName": grant.id(),
            "emailAddress": ADDRESS,
            "password": null,
            "status": "active",
            "roles": [role],
        }))
        .json_secret("/password", &password);
    let response = send(settings, request)?;
    if response.status() == 400 {
        return Err(rejected(settings, grant, role, &response));
    }
    success(&response, "nx-users-create")?;
    // Before anything else can fail: from here on somebody has to delete it.
    grant.remember(&format!("{}/{id}", settings.users()))?;
    let made: User = response.json()?;
    if made.id != id || !made.is_of(&grant.id()) || made.roles != [role] {
        return Err(Error::Failed(format!(
            "Nexus answered with a user `{}`, and `{id}` with the role `{role}` was asked for",
            excerpt(&made.id)
        )));
    }
    let credential = Credential::Basic(Login { username: id, password });
    Ok(Issued { credential, expires_at: None })
}

pub(crate) fn delete(
    settings: &Settings,
    grant: &str,
    remembered: Option<&str>,
) -> Result<(), Error> {
    if let Some(note) = remembered {
        remembered_id(note, &settings.users())?;
    }
    let id = id_of(grant);
    let Some(user) = find(settings, &id)? else { return Ok(()) };
    if !user.is_of(grant) {
        return of_somebody_else(&user, grant, remembered.is_some());
    }
    let url = format!("{}/{}", settings.users(), segment(&id));
    let response = send(settings, Request::delete(&url))?;
    if response.status() == 404 { Ok(()) } else { success(&response, "nx-users-delete") }
}

/// A user with the grant's id that has other names. `was_made`: Nexus has said that it made the
/// grant's user, so this may be that user, with a password that still works.
fn of_somebody_else(user: &User, grant: &str, was_made: bool) -> Result<(), Error> {
    let text = format!(
        "the user `{}` (source `{}`) has not the names of a user made by the broker",
        user.id,
        excerpt(&user.source)
    );
    if was_made {
        return Err(Error::Failed(format!(
            "{text}, although the broker made one: delete it if nobody needs it, or name it \
             `{FIRST_NAME}` `{grant}`"
        )));
    }
    log::warn(&format!("{text}: it belongs to somebody else and stays"));
    Ok(())
}

/// The users that this provider made for grants.
pub(crate) fn list(settings: &Settings) -> Result<Vec<Leftover>, Error> {
    let users = settings.users();
    let found = beginning_with(settings, PREFIX)?.into_iter().filter_map(|user| {
        let note = format!("{users}/{}", user.id);
        Leftover::named(&user.id, PREFIX, note).filter(|leftover| user.is_of(&leftover.id))
    });
    Ok(found.collect())
}

/// The user with this id.
fn find(settings: &Settings, id: &str) -> Result<Option<User>, Error> {
    Ok(beginning_with(settings, id)?.into_iter().find(|user| user.id == id))
}

/// The users whose ids begin with this text. Nexus lists them all at once.
fn beginning_with(settings: &Settings, start: &str) -> Result<Vec<User>, Error> {
    let url = format!("{}?userId={}&source={LOCAL}", settings.users(), segment(start));
    let response = send(settings, Request::get(&url))?;
    success(&response, "nx-users-read")?;
    response.json()
}

fn send(settings: &Settings, request: Request) -> Result<Response, Error> {
    request.basic(&settings.username, &settings.password.get()?).send()
}

/// The id of the user for the grant with this id.
fn id_of(grant: &str) -> String {
    format!("{PREFIX}{}", grant.to_lowercase())
}

/// Why Nexus answered 400: the user exists, or the role does not.
fn rejected(settings: &Settings, grant: &Grant, role: &str, response: &Response) -> Error {
    let (id, why) = (id_of(&grant.id()), excerpt(&response.text()));
    match find(settings, &id) {
        Ok(None) => Error::Denied(format!(
            "Nexus rejected the user `{id}`; does it have the role `{role}`? It wrote: {why}"
        )),
        Ok(Some(user)) if !user.is_of(&grant.id()) => Error::Denied(format!(
            "somebody else made a user `{id}`, which stays as it is; Nexus wrote: {why}"
        )),
        // A proxy sent the request twice. The broker calls `revoke` after this error.
        Ok(Some(_)) => Error::Failed(format!("Nexus has made the user `{id}` before")),
        Err(error) => Error::Failed(format!("Nexus wrote: {why}; and to look why: {error}")),
    }
}

/// Turns a status into an error that says what to change.
fn success(response: &Response, privilege: &str) -> Result<(), Error> {
    let status = response.status();
    response.success().map_err(|error| match (status, error) {
        (401, Error::Denied(text)) => {
            Error::Denied(format!("{text}: `username` or `password` is wrong"))
        }
        (403, Error::Denied(text)) => {
            Error::Denied(format!("{text}: the user needs the privilege {privilege}"))
        }
        (_, Error::NotFound(text)) => {
            Error::NotFound(format!("{text}: is `base_url` the URL of Nexus?"))
        }
        (_, error) => error,
    })
}

/// The beginning of what Nexus wrote, for a line of the log.
fn excerpt(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(plain).take(200).collect()
}

#[cfg(test)]
mod tests;
