//! Requests, and answers of which the provider sees no secret.

use std::cell::RefCell;

use serde_json::Value;

use super::super::{Answer, Authorization, Body, Call, NOW, Origin, Sent};
use super::{Secret, ask};
use crate::Error;
use crate::http::Method;
use crate::time::days;

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
