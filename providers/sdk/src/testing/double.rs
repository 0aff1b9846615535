//! The double behind the capabilities: the functions of `host/wasm.rs`, on the [`Host`] of a
//! thread.

use std::cell::RefCell;
use std::marker::PhantomData;

use serde_json::Value;

use super::exchange::from_base64url;
use super::{Answer, Authorization, Body, Call, Host, NOW, Origin, Sent};
use crate::aws::{RegistryLogin, Statement};
use crate::ecr_repositories::{Found, Owner, Setting};
use crate::http::Method;
use crate::log::Level;
use crate::time::days;
use crate::{Actions, Error};

thread_local! {
    static HERE: RefCell<Option<(Host, Vec<Call>)>> = const { RefCell::new(None) };
}

/// Connects the capabilities of this thread to a host until it is dropped, also by a panic in a
/// test.
pub(super) struct Running(PhantomData<*const ()>);

impl Running {
    pub(super) fn start(host: Host) -> Self {
        HERE.set(Some((host, Vec::new())));
        Self(PhantomData)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

/// The calls since `start`.
pub(super) fn take_calls() -> Vec<Call> {
    HERE.take().map(|(_, calls)| calls).unwrap_or_default()
}

/// Records `call` and returns the host's answer.
fn ask<T>(call: Call, answer: impl FnOnce(&Host) -> Result<T, Error>) -> Result<T, Error> {
    HERE.with_borrow_mut(|here| {
        let Some((host, calls)) = here else {
            return Err(Error::Refused(
                "capabilities are for `issue`, inside `testing::Host::run`".to_owned(),
            ));
        };
        let failure = host.fail.as_ref().and_then(|fail| fail(&call));
        calls.push(call);
        failure.map_or_else(|| answer(host), Err)
    })
}

/// Where it comes from, and the text if a test or an answer has one.
pub(crate) struct Secret(pub(super) Origin, Option<String>);

impl Secret {
    pub(crate) fn new(text: &str) -> Self {
        Self(Origin::Written(text.to_owned()), None)
    }

    fn from(origin: Origin) -> Self {
        Self(origin, None)
    }

    /// A JWT has an expiry, whoever signed it.
    pub(crate) fn expires_at(&self) -> Option<u64> {
        match self.0 {
            Origin::RegistryToken(_) | Origin::IdentityToken(_) => Some(NOW + 900),
            Origin::Kept(_) => Some(NOW + 3600),
            Origin::Http(_) => self.claims()?.get("exp")?.as_u64(),
            Origin::Written(_)
            | Origin::Configured(_)
            | Origin::Aws
            | Origin::Random
            | Origin::Assertion => None,
        }
    }

    pub(crate) fn claim(&self, name: &str) -> Option<String> {
        let claims = self.claims()?;
        let claim = claims.get(name)?.as_str()?;
        (claim.len() <= LONGEST_CLAIM).then(|| claim.to_owned())
    }

    /// The claims of a JWT that came over `http`.
    fn claims(&self) -> Option<Value> {
        let mut parts = self.1.as_ref()?.split('.');
        let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
        let claims = from_base64url(claims).filter(|_| parts.next().is_none())?;
        serde_json::from_slice(&claims).ok()
    }
}

pub(crate) struct Grant {
    pub(super) id: String,
    pub(super) project: String,
    pub(super) actions: Actions,
    pub(super) lifetime: u32,
    pub(super) now: u64,
}

impl Grant {
    pub(crate) fn id(&self) -> String {
        self.id.clone()
    }

    pub(crate) fn project(&self) -> String {
        self.project.clone()
    }

    pub(crate) fn lifetime(&self) -> u32 {
        self.lifetime
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }
}

pub(crate) fn actions(grant: &Grant) -> Actions {
    grant.actions
}

/// The longest note, in bytes.
const LONGEST_NOTE: usize = 1 << 10;

pub(crate) fn remember(_: &Grant, note: &str) -> Result<(), Error> {
    if note.is_empty() || note.len() > LONGEST_NOTE || note.chars().any(char::is_control) {
        let asked =
            "to remember a note that is empty, longer than 1 KiB, or has control characters";
        return Err(Error::Refused(asked.to_owned()));
    }
    ask(Call::Remember { note: note.to_owned() }, |_| Ok(()))
}

pub(crate) fn secret(name: &str) -> Result<Secret, Error> {
    ask(Call::Secret { name: name.to_owned() }, |host| {
        if host.secrets.iter().any(|it| it == name) {
            Ok(Secret::from(Origin::Configured(name.to_owned())))
        } else {
            Err(Error::InvalidSettings(format!("there is no secret setting `{name}`")))
        }
    })
}

pub(crate) struct Session(());

pub(crate) fn assume_role(role_arn: &str, statements: Vec<Statement>) -> Result<Session, Error> {
    ask(Call::AssumeRole { role_arn: role_arn.to_owned(), statements }, |_| Ok(Session(())))
}

pub(crate) fn unscoped() -> Result<Session, Error> {
    ask(Call::Unscoped, |_| Ok(Session(())))
}

pub(crate) fn ecr_login(_: &Session, region: &str) -> Result<RegistryLogin, Error> {
    ask(Call::EcrLogin { region: region.to_owned() }, |host| {
        Ok(RegistryLogin {
            endpoint: format!("https://123456789012.dkr.ecr.{region}.amazonaws.com"),
            username: "AWS".to_owned(),
            password: crate::Secret(Secret::from(Origin::Aws)),
            expires_at: host.login_expires_at,
        })
    })
}

pub(crate) fn ecr_public_login(_: &Session) -> Result<RegistryLogin, Error> {
    ask(Call::EcrPublicLogin, |host| {
        Ok(RegistryLogin {
            endpoint: "https://public.ecr.aws".to_owned(),
            username: "AWS".to_owned(),
            password: crate::Secret(Secret::from(Origin::Aws)),
            expires_at: host.login_expires_at,
        })
    })
}

pub(crate) fn registry_token(service: &str) -> Result<Secret, Error> {
    let call = Call::RegistryToken { service: service.to_owned() };
    ask(call, |_| Ok(Secret::from(Origin::RegistryToken(service.to_owned()))))
}

pub(crate) fn identity_token(audience: &str) -> Result<Secret, Error> {
    let call = Call::IdentityToken { audience: audience.to_owned() };
    ask(call, |_| Ok(Secret::from(Origin::IdentityToken(audience.to_owned()))))
}

pub(crate) fn sign(key: &Secret, header: &str, claims: &str) -> Result<Secret, Error> {
    let call =
        Call::Sign { key: key.0.clone(), header: header.to_owned(), claims: claims.to_owned() };
    ask(call, |_| Ok(Secret::from(Origin::Assertion)))
}

pub(crate) fn random_password(length: u32, alphabet: &str) -> Result<Secret, Error> {
    let call = Call::RandomPassword { length, alphabet: alphabet.to_owned() };
    ask(call, |_| Ok(Secret::from(Origin::Random)))
}

/// Not random, so that a test knows what was sent.
pub(crate) fn random_text(length: u32, alphabet: &str) -> Result<String, Error> {
    let call = Call::RandomText { length, alphabet: alphabet.to_owned() };
    ask(call, |_| Ok(alphabet.chars().cycle().take(length as usize).collect()))
}

pub(crate) fn keep(name: &str, value: &Secret, expires_at: u64) -> Result<(), Error> {
    let call = Call::Keep { name: name.to_owned(), value: value.0.clone(), expires_at };
    let (origin, is_taken) = (&value.0, matches!(value.0, Origin::Http(_)));
    let refused = || Error::Refused(format!("to keep a secret that comes from {origin}"));
    ask(call, |_| if is_taken { Ok(()) } else { Err(refused()) })?;
    HERE.with_borrow_mut(|here| {
        if let Some((host, _)) = here {
            host.kept.push(name.to_owned());
        }
    });
    Ok(())
}

pub(crate) fn find_kept(name: &str) -> Result<Option<Secret>, Error> {
    ask(Call::FindKept { name: name.to_owned() }, |host| {
        let is_kept = host.kept.iter().any(|kept| kept == name);
        Ok(is_kept.then(|| Secret::from(Origin::Kept(name.to_owned()))))
    })
}

pub(crate) fn forget(name: &str) -> Result<(), Error> {
    ask(Call::Forget { name: name.to_owned() }, |_| Ok(()))?;
    HERE.with_borrow_mut(|here| {
        if let Some((host, _)) = here {
            host.kept.retain(|kept| kept != name);
        }
    });
    Ok(())
}

pub(crate) fn describe_repository() -> Result<Option<Found>, Error> {
    ask(Call::DescribeRepository, |host| Ok(host.repository.clone()))
}

/// Makes a call, and if it works changes the repository.
fn change<T>(
    call: Call,
    change: impl FnOnce(&mut Option<Found>) -> Result<T, Error>,
) -> Result<T, Error> {
    ask(call, |_| Ok(()))?;
    HERE.with_borrow_mut(|here| {
        let Some((host, _)) = here else { return Err(Error::Failed("no host".to_owned())) };
        change(&mut host.repository)
    })
}

/// Changes a repository of this owner, as the host does.
fn change_of(owner: Owner, call: Call, then: impl FnOnce(&mut Option<Found>)) -> Result<(), Error> {
    change(call, |repository| {
        if repository.as_ref().map(|found| found.owner) != Some(owner) {
            return Err(Error::Refused("to change a repository of another owner".to_owned()));
        }
        then(repository);
        Ok(())
    })
}

/// A new repository has everything but its lifecycle policy.
pub(crate) fn create_repository() -> Result<bool, Error> {
    change(Call::CreateRepository, |repository| {
        let is_new = repository.is_none();
        let differs = vec![Setting::Lifecycle];
        repository.get_or_insert(Found { owner: Owner::Broker, orphaned_at: None, differs });
        Ok(is_new)
    })
}

pub(crate) fn configure_repository(part: Setting) -> Result<(), Error> {
    change_of(Owner::Broker, Call::ConfigureRepository(part), |repository| {
        if let Some(found) = repository {
            found.differs.retain(|other| *other != part);
        }
    })
}

pub(crate) fn adopt_repository() -> Result<(), Error> {
    change(Call::AdoptRepository, |repository| {
        if let Some(found) = repository {
            (found.owner, found.orphaned_at) = (Owner::Broker, None);
        }
        Ok(())
    })
}

pub(crate) fn orphan_repository() -> Result<(), Error> {
    change_of(Owner::Broker, Call::OrphanRepository, |repository| {
        if let Some(found) = repository {
            (found.owner, found.orphaned_at) = (Owner::Orphaned, Some(NOW));
        }
    })
}

/// Deletes an orphan of any time before [`NOW`].
pub(crate) fn delete_repository() -> Result<(), Error> {
    change_of(Owner::Orphaned, Call::DeleteRepository, |repository| *repository = None)
}

pub(crate) fn log(level: Level, message: &str) {
    // It works outside `issue` too, so a missing host is not an error.
    let _ = ask(Call::Log { level, message: message.to_owned() }, |_| Ok(()));
}

/// The longest claim that a provider gets, in bytes.
const LONGEST_CLAIM: usize = 1 << 10;
/// The longest secret that an answer may have, in bytes.
const LONGEST_SECRET: usize = 16 << 10;
/// The longest pause that a caller is asked for, in seconds.
const LONGEST_PAUSE: u64 = 3600;

/// Interior mutability, because the methods of a WIT resource get a shared handle.
pub(crate) struct Request(RefCell<Sent>);

pub(crate) fn request(method: Method, url: &str) -> Request {
    let headers = Vec::new();
    Request(RefCell::new(Sent {
        method,
        url: url.to_owned(),
        headers,
        authorization: None,
        body: Body::None,
    }))
}

impl Request {
    pub(crate) fn header(&self, name: &str, value: &str) {
        self.0.borrow_mut().headers.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn header_secret(&self, name: &str, value: &Secret) {
        self.header(name, &value.0.to_string());
    }

    pub(crate) fn bearer(&self, token: &Secret) {
        self.0.borrow_mut().authorization = Some(Authorization::Bearer(token.0.clone()));
    }

    pub(crate) fn basic(&self, username: &str, password: &Secret) {
        self.0.borrow_mut().authorization =
            Some(Authorization::Basic(username.to_owned(), password.0.clone()));
    }

    pub(crate) fn json(&self, text: &str) {
        let body = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        self.0.borrow_mut().body = Body::Json(body);
    }

    pub(crate) fn json_secret(&self, pointer: &str, value: &Secret) {
        if let Body::Json(body) = &mut self.0.borrow_mut().body
            && let Some(place) = body.pointer_mut(pointer)
        {
            *place = Value::from(value.0.to_string());
        }
    }

    pub(crate) fn form(&self, name: &str, value: &str) {
        let mut sent = self.0.borrow_mut();
        let field = (name.to_owned(), value.to_owned());
        match &mut sent.body {
            Body::Form(fields) => fields.push(field),
            Body::None | Body::Json(_) => sent.body = Body::Form(vec![field]),
        }
    }

    pub(crate) fn form_secret(&self, name: &str, value: &Secret) {
        self.form(name, &value.0.to_string());
    }
}

pub(crate) fn send(request: Request) -> Result<Response, Error> {
    let sent = request.0.into_inner();
    let asked = asked(&sent);
    ask(Call::Send(sent.clone()), |host| {
        let respond = host.respond.as_ref();
        let answer = respond
            .map_or_else(|| Err(Error::Unavailable("nobody answers".to_owned())), |it| it(&sent))?;
        Ok(Response { asked, answer: RefCell::new(answer) })
    })
}

/// Method, host and path, as in the host's messages.
fn asked(sent: &Sent) -> String {
    let method = format!("{:?}", sent.method).to_uppercase();
    let url = sent.url.split(['?', '#']).next().unwrap_or_default();
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let root = if url.contains('/') { "" } else { "/" };
    format!("{method} {url}{root}")
}

pub(crate) struct Response {
    asked: String,
    answer: RefCell<Answer>,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.answer.borrow().status
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let answer = self.answer.borrow();
        answer
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.clone())
    }

    pub(crate) fn text(&self) -> String {
        self.answer.borrow().body.clone()
    }

    pub(crate) fn take_secret(&self, pointer: &str) -> Option<Secret> {
        let mut answer = self.answer.borrow_mut();
        let json = serde_json::from_str::<Value>(&answer.body).ok();
        let string = json.as_ref().and_then(|json| json.pointer(pointer)).and_then(Value::as_str);
        let whole = || pointer.is_empty().then(|| answer.body.trim_end_matches(['\r', '\n']));
        let is_secret = |text: &&str| (1..=LONGEST_SECRET).contains(&text.len());
        let secret = string.or_else(whole).filter(is_secret)?.to_owned();
        answer.headers.retain(|(_, value)| !holds(value, &secret));
        let mut json = json.filter(|_| !pointer.is_empty()).unwrap_or(Value::Null);
        remove(&mut json, &secret);
        answer.body = json.to_string();
        Some(Secret(Origin::Http(pointer.to_owned()), Some(secret)))
    }
}

/// Whether `text` has the secret. A short one would appear everywhere, so it counts only as a
/// whole.
fn holds(text: &str, secret: &str) -> bool {
    text == secret || (secret.len() >= 4 && text.contains(secret))
}

/// A secret that appears twice in a body must not be readable in its other place.
fn remove(value: &mut Value, secret: &str) {
    match value {
        Value::String(text) if holds(text, secret) => *value = Value::Null,
        Value::Array(items) => items.iter_mut().for_each(|item| remove(item, secret)),
        Value::Object(members) => {
            members.retain(|key, _| !holds(key, secret));
            members.values_mut().for_each(|member| remove(member, secret));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub(crate) fn success(response: &Response) -> Result<(), Error> {
    let status = response.status();
    let text = format!("{} answered {status}", response.asked);
    let pause = response.header("retry-after").and_then(|text| pause_in(&text));
    match (status, pause) {
        (200..=299, _) => Ok(()),
        (401 | 403 | 407, _) => Err(Error::Denied(text)),
        (404 | 410, _) => Err(Error::NotFound(text)),
        (429, pause) | (503, pause @ Some(_)) => Err(Error::Throttled(pause)),
        (408 | 425 | 500..=599, _) => Err(Error::Unavailable(text)),
        (300..=399, _) => Err(Error::Failed(format!("{text}, and redirects are not followed"))),
        _ => Err(Error::Failed(text)),
    }
}

/// Reads `Retry-After`, which has seconds or a date.
fn pause_in(text: &str) -> Option<u32> {
    let seconds = text.trim().parse::<u32>().ok().map(u64::from);
    let seconds = seconds.or_else(|| Some(date(text)?.saturating_sub(NOW)))?;
    u32::try_from(seconds.min(LONGEST_PAUSE)).ok()
}

/// Reads a date of HTTP (RFC 9110), such as `Fri, 15 Jan 2027 08:01:30 GMT`, as seconds since the
/// Unix epoch.
fn date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = (1..).zip(MONTHS).find(|(_, name)| *name == month)?.0;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    let since_epoch = days(year, month, day)?;
    Some(since_epoch * 86_400 + hours * 3600 + minutes * 60 + seconds)
}
