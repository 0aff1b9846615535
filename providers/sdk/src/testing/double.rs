//! The double behind the capabilities: the functions of `host/wasm.rs`, on the [`Host`] of a
//! thread.

use std::cell::RefCell;
use std::marker::PhantomData;

use serde_json::Value;

use super::{Answer, Authorization, Body, Call, Host, NOW, Origin, Sent};
use crate::aws::{RegistryLogin, Statement};
use crate::http::Method;
use crate::log::Level;
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

pub(crate) struct Secret(pub(super) Origin);

impl Secret {
    pub(crate) fn new(text: &str) -> Self {
        Self(Origin::Written(text.to_owned()))
    }

    /// Only secrets that the broker signs have an expiry.
    pub(crate) fn expires_at(&self) -> Option<u64> {
        match self.0 {
            Origin::RegistryToken(_) | Origin::IdentityToken(_) => Some(NOW + 900),
            Origin::Written(_)
            | Origin::Configured(_)
            | Origin::Aws
            | Origin::Assertion
            | Origin::Http(_) => None,
        }
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

pub(crate) fn secret(name: &str) -> Result<Secret, Error> {
    ask(Call::Secret { name: name.to_owned() }, |host| {
        if host.secrets.iter().any(|it| it == name) {
            Ok(Secret(Origin::Configured(name.to_owned())))
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
            password: crate::Secret(Secret(Origin::Aws)),
            expires_at: host.login_expires_at,
        })
    })
}

pub(crate) fn registry_token(service: &str) -> Result<Secret, Error> {
    let call = Call::RegistryToken { service: service.to_owned() };
    ask(call, |_| Ok(Secret(Origin::RegistryToken(service.to_owned()))))
}

pub(crate) fn identity_token(audience: &str) -> Result<Secret, Error> {
    let call = Call::IdentityToken { audience: audience.to_owned() };
    ask(call, |_| Ok(Secret(Origin::IdentityToken(audience.to_owned()))))
}

pub(crate) fn sign(key: &Secret, header: &str, claims: &str) -> Result<Secret, Error> {
    let call =
        Call::Sign { key: key.0.clone(), header: header.to_owned(), claims: claims.to_owned() };
    ask(call, |_| Ok(Secret(Origin::Assertion)))
}

pub(crate) fn log(level: Level, message: &str) {
    // It works outside `issue` too, so a missing host is not an error.
    let _ = ask(Call::Log { level, message: message.to_owned() }, |_| Ok(()));
}

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
    ask(Call::Send(sent.clone()), |host| {
        let respond = host.respond.as_ref();
        let answer = respond
            .map_or_else(|| Err(Error::Unavailable("nobody answers".to_owned())), |it| it(&sent))?;
        Ok(Response(RefCell::new(answer)))
    })
}

pub(crate) struct Response(RefCell<Answer>);

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.0.borrow().status
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let answer = self.0.borrow();
        answer
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.clone())
    }

    pub(crate) fn text(&self) -> String {
        self.0.borrow().body.clone()
    }

    pub(crate) fn take_secret(&self, pointer: &str) -> Option<Secret> {
        let mut answer = self.0.borrow_mut();
        let secret = Secret(Origin::Http(pointer.to_owned()));
        if pointer.is_empty() {
            "null".clone_into(&mut answer.body);
            return Some(secret);
        }
        let mut body: Value = serde_json::from_str(&answer.body).ok()?;
        let text = body.pointer(pointer)?.as_str()?.to_owned();
        remove(&mut body, &text);
        answer.body = body.to_string();
        Some(secret)
    }
}

/// A secret that appears twice in a body must not be readable in its other place.
fn remove(value: &mut Value, text: &str) {
    match value {
        Value::String(it) if it == text => *value = Value::Null,
        Value::Array(items) => items.iter_mut().for_each(|it| remove(it, text)),
        Value::Object(members) => members.values_mut().for_each(|it| remove(it, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub(crate) fn success(response: &Response) -> Result<(), Error> {
    let status = response.status();
    let text = format!("the registry answered {status}");
    let pause = response.header("retry-after").and_then(|it| it.parse().ok());
    match (status, pause) {
        (200..=299, _) => Ok(()),
        (401 | 403 | 407, _) => Err(Error::Denied(text)),
        (404 | 410, _) => Err(Error::NotFound(text)),
        (429, pause) | (503, pause @ Some(_)) => Err(Error::Throttled(pause)),
        (408 | 425 | 500..=599, _) => Err(Error::Unavailable(text)),
        _ => Err(Error::Failed(text)),
    }
}
