//! The double behind the capabilities: the functions of `host/wasm.rs`, on the [`Host`] of a
//! thread.

mod http;
mod repository;

use std::cell::RefCell;
use std::marker::PhantomData;

use serde_json::Value;

use super::exchange::from_base64url;
use super::{Call, Host, NOW, Origin};
use crate::aws::{RegistryLogin, Statement};
use crate::log::Level;
use crate::{Actions, Error};
pub(crate) use http::*;
pub(crate) use repository::*;

/// The longest claim that a provider gets, in bytes.
const LONGEST_CLAIM: usize = 1 << 10;

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
            Origin::RegistryToken(_) => Some(NOW + 900),
            Origin::IdentityToken(_) => Some(NOW + 300),
            Origin::Http(_) => self.claims()?.get("exp")?.as_u64(),
            Origin::Written(_)
            | Origin::Configured(_)
            | Origin::Kept(_)
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

pub(crate) fn log(level: Level, message: &str) {
    // It works outside `issue` too, so a missing host is not an error.
    let _ = ask(Call::Log { level, message: message.to_owned() }, |_| Ok(()));
}
