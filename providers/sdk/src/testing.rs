//! In-memory doubles of the capabilities, so that a provider's logic runs under plain `cargo test`.
//!
//! Inside [`Host::run`], every capability answers as the host would if everything were within the
//! ceiling, and records the call. [`Host::fail`] makes any call fail with any [`Error`]. Outside
//! `run` every capability except `log` is refused, as the host does outside `issue`. A double
//! checks nothing: only the host, or a test that inspects the recorded calls, finds that a policy
//! is too wide.
//!
//! The state belongs to the thread and ends with `run`.
//!
//! ```
//! use rise_provider::testing::{self, Call, Host};
//! use rise_provider::{Actions, Error, aws};
//!
//! let grant = testing::grant("my-app").actions(Actions::PULL).lifetime(900).build();
//! assert_eq!(grant.project(), "my-app");
//!
//! let throttled = Error::Throttled(Some(5));
//! let host = Host::new()
//!     .fail(move |call| matches!(call, Call::EcrLogin { .. }).then(|| throttled.clone()));
//! let (login, calls) = host.run(|| aws::unscoped()?.ecr_login("eu-west-1"));
//! assert_eq!(login.unwrap_err(), Error::Throttled(Some(5)));
//! assert_eq!(calls, [Call::Unscoped, Call::EcrLogin { region: "eu-west-1".to_owned() }]);
//! ```

pub(crate) mod double;
mod exchange;

use std::rc::Rc;

use serde_json::Value;

pub use exchange::{Answer, Authorization, Body, Sent};

use crate::aws::Statement;
use crate::ecr_repositories::{Found, Setting};
use crate::log::Level;
use crate::{Actions, Error, Grant, Problem, Provider, Scope, Secret, export};

/// The `now` of a grant, and the base of the doubles' own times. Seconds since the Unix epoch.
pub const NOW: u64 = 1_800_000_000;

/// One call of a provider to a capability.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    missing_docs,
    reason = "the fields are the parameters of the function that the variant names"
)]
#[non_exhaustive]
pub enum Call {
    /// [`aws::assume_role`](crate::aws::assume_role)
    AssumeRole { role_arn: String, statements: Vec<Statement> },
    /// [`aws::unscoped`](crate::aws::unscoped)
    Unscoped,
    /// [`Session::ecr_login`](crate::aws::Session::ecr_login)
    EcrLogin { region: String },
    /// [`Session::ecr_public_login`](crate::aws::Session::ecr_public_login)
    EcrPublicLogin,
    /// [`Request::send`](crate::http::Request::send)
    Send(Sent),
    /// [`tokens::registry_token`](crate::tokens::registry_token)
    RegistryToken { service: String },
    /// [`tokens::identity_token`](crate::tokens::identity_token)
    IdentityToken { audience: String },
    /// [`assertions::sign`](crate::assertions::sign)
    Sign { key: Origin, header: String, claims: String },
    /// [`random::password`](crate::random::password)
    RandomPassword { length: u32, alphabet: String },
    /// [`random::text`](crate::random::text)
    RandomText { length: u32, alphabet: String },
    /// [`kept::keep`](crate::kept::keep)
    Keep { name: String, value: Origin, expires_at: u64 },
    /// [`kept::find`](crate::kept::find)
    FindKept { name: String },
    /// [`kept::forget`](crate::kept::forget)
    Forget { name: String },
    /// [`secrets::get`](crate::secrets::get)
    Secret { name: String },
    /// [`ecr_repositories::describe`](crate::ecr_repositories::describe)
    DescribeRepository,
    /// [`ecr_repositories::create`](crate::ecr_repositories::create)
    CreateRepository,
    /// [`ecr_repositories::configure`](crate::ecr_repositories::configure)
    ConfigureRepository(Setting),
    /// [`ecr_repositories::adopt`](crate::ecr_repositories::adopt)
    AdoptRepository,
    /// [`ecr_repositories::orphan`](crate::ecr_repositories::orphan)
    OrphanRepository,
    /// [`ecr_repositories::delete`](crate::ecr_repositories::delete)
    DeleteRepository,
    /// [`Grant::remember`]
    Remember { note: String },
    /// Any function of [`log`](crate::log)
    Log { level: Level, message: String },
}

/// Where a secret comes from, which is all that a double knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// [`Secret::new`], with its text.
    Written(String),
    /// The secret setting of this name.
    Configured(String),
    /// The password of an [`aws::RegistryLogin`](crate::aws::RegistryLogin).
    Aws,
    /// A registry token for this service.
    RegistryToken(String),
    /// An identity token for this audience.
    IdentityToken(String),
    /// A signed assertion.
    Assertion,
    /// [`random::password`](crate::random::password)
    Random,
    /// What is kept under this name.
    Kept(String),
    /// An answer, at this JSON Pointer.
    Http(String),
}

/// Returns where `secret` comes from.
pub fn origin(secret: &Secret) -> &Origin {
    &secret.0.0
}

type Fail = dyn Fn(&Call) -> Option<Error>;
type Respond = dyn Fn(&Sent) -> Result<Answer, Error>;

/// A host that allows everything, except the calls that [`Host::fail`] names.
#[derive(Clone)]
pub struct Host {
    secrets: Vec<String>,
    kept: Vec<String>,
    login_expires_at: u64,
    repository: Option<Found>,
    fail: Option<Rc<Fail>>,
    respond: Option<Rc<Respond>>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            kept: Vec::new(),
            login_expires_at: NOW + 43_200,
            repository: None,
            fail: None,
            respond: None,
        }
    }
}

impl Host {
    /// Makes a host without secrets and without a registry that answers over HTTP.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a secret setting of this name.
    #[must_use]
    pub fn secret(mut self, name: &str) -> Self {
        self.secrets.push(name.to_owned());
        self
    }

    /// Adds what an earlier call has kept under this name.
    #[must_use]
    pub fn kept(mut self, name: &str) -> Self {
        self.kept.push(name.to_owned());
        self
    }

    /// Sets the expiry of ECR logins, in seconds since the Unix epoch. The default is twelve hours
    /// after [`NOW`].
    #[must_use]
    pub fn login_expires_at(mut self, expires_at: u64) -> Self {
        self.login_expires_at = expires_at;
        self
    }

    /// Sets the repository that ECR has already. The default is none.
    #[must_use]
    pub fn repository(mut self, found: Found) -> Self {
        self.repository = Some(found);
        self
    }

    /// Makes each call fail for which `fail` returns an error. `fail` must not call capabilities.
    #[must_use]
    pub fn fail(mut self, fail: impl Fn(&Call) -> Option<Error> + 'static) -> Self {
        self.fail = Some(Rc::new(fail));
        self
    }

    /// Answers HTTP requests with `respond`, which must not call capabilities.
    #[must_use]
    pub fn http(mut self, respond: impl Fn(&Sent) -> Result<Answer, Error> + 'static) -> Self {
        self.respond = Some(Rc::new(respond));
        self
    }

    /// Runs `work` with this host behind the capabilities. Returns its result, and every call in
    /// order.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> (T, Vec<Call>) {
        let _running = double::Running::start(self.clone());
        let made = work();
        (made, double::take_calls())
    }
}

/// Builds a grant to pull and push, for an hour.
pub fn grant(project: &str) -> NewGrant {
    NewGrant(double::Grant {
        id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
        project: project.to_owned(),
        actions: Actions::PULL | Actions::PUSH,
        lifetime: 3600,
        now: NOW,
    })
}

/// Builds a [`Grant`].
pub struct NewGrant(double::Grant);

impl NewGrant {
    /// Sets the id, a ULID. Another id is another grant.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.0.id);
        self
    }

    /// Sets the granted actions.
    #[must_use]
    pub fn actions(mut self, actions: Actions) -> Self {
        self.0.actions = actions;
        self
    }

    /// Sets the lifetime, in seconds.
    #[must_use]
    pub fn lifetime(mut self, lifetime: u32) -> Self {
        self.0.lifetime = lifetime;
        self
    }

    /// Sets the time of the host's clock, in seconds since the Unix epoch.
    #[must_use]
    pub fn now(mut self, now: u64) -> Self {
        self.0.now = now;
        self
    }

    /// Returns the grant.
    pub fn build(self) -> Grant {
        Grant(self.0)
    }
}

/// Makes the text of a JWT with these claims, which no key has signed.
pub fn jwt(claims: &Value) -> String {
    format!(
        "{}.{}.c2lnbmF0dXJl",
        exchange::base64url(r#"{"alg":"RS256"}"#),
        exchange::base64url(&claims.to_string())
    )
}

/// Returns the JSON Schema that the host gets for the settings of `P`.
pub fn schema<P: Provider>() -> Value {
    export::schema::<P>().to_value()
}

/// Runs `check` with settings as the host passes them: JSON, with names in place of secrets.
pub fn check<P: Provider>(settings: &Value) -> Result<Scope, Vec<Problem>> {
    export::check::<P>(&settings.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Request;
    use crate::{aws, log, secrets, tokens};

    #[test]
    fn every_error_can_be_had_from_a_capability() {
        let text = || "said by the test".to_owned();
        for error in [
            Error::InvalidSettings(text()),
            Error::Refused(text()),
            Error::Denied(text()),
            Error::NotFound(text()),
            Error::Throttled(Some(1)),
            Error::Throttled(None),
            Error::Unavailable(text()),
            Error::Unsupported(text()),
            Error::Failed(text()),
        ] {
            let expected = error.clone();
            let host = Host::new().fail(move |_| Some(error.clone()));
            assert_eq!(host.run(|| tokens::registry_token("x")).0.unwrap_err(), expected);
        }
    }

    #[test]
    fn outside_of_a_run_only_log_is_left() {
        let _ = Host::new().secret("password").run(|| secrets::get("password"));

        assert!(matches!(secrets::get("password"), Err(Error::Refused(_))));
        assert!(matches!(aws::unscoped(), Err(Error::Refused(_))));
        log::info("nobody reads this");
    }

    #[test]
    fn a_request_is_recorded_as_it_was_sent() {
        let host = Host::new().secret("key").http(|_| Ok(Answer::new(204).header("X-Id", "7")));
        let (id, calls) = host.run(|| {
            let key = secrets::get("key")?;
            let request = Request::post("https://r.io/t")
                .basic("ci", &key)
                .form("a", "b")
                .form_secret("c", &key);
            Ok::<_, Error>(request.send()?.header("x-id"))
        });
        assert_eq!(id, Ok(Some("7".to_owned())));

        let Some(Call::Send(sent)) = calls.last() else { panic!("nothing was sent") };
        let key = Origin::Configured("key".to_owned());
        assert_eq!(sent.authorization, Some(Authorization::Basic("ci".to_owned(), key)));
        let fields = [("a", "b"), ("c", "<configured key>")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(sent.body, Body::Form(fields.to_vec()));
    }

    #[test]
    fn statuses_mean_errors() {
        for (status, expected) in [
            (200, Ok(())),
            (403, Err(Error::Denied("GET r.io/ answered 403".to_owned()))),
            (404, Err(Error::NotFound("GET r.io/ answered 404".to_owned()))),
            (429, Err(Error::Throttled(Some(9)))),
            (503, Err(Error::Throttled(Some(9)))),
            (500, Err(Error::Unavailable("GET r.io/ answered 500".to_owned()))),
            (400, Err(Error::Failed("GET r.io/ answered 400".to_owned()))),
        ] {
            let host =
                Host::new().http(move |_| Ok(Answer::new(status).header("Retry-After", "9")));
            assert_eq!(host.run(|| Request::get("https://r.io").send()?.success()).0, expected);
        }
    }

    #[test]
    fn a_pause_may_be_a_date() {
        for (text, pause) in [
            ("Fri, 15 Jan 2027 08:01:30 GMT", Some(90)),
            ("Sun, 29 Feb 2032 00:00:00 GMT", Some(3600)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(0)),
            ("99999", Some(3600)),
            ("soon", None),
            ("Fri, 15 Jan", None),
        ] {
            let host = Host::new().http(move |_| Ok(Answer::new(429).header("Retry-After", text)));
            let expected = Err(Error::Throttled(pause));
            assert_eq!(host.run(|| Request::get("https://r.io").send()?.success()).0, expected);
        }
    }

    #[test]
    fn only_text_is_taken_as_a_secret() {
        let long = "x".repeat((16 << 10) + 1);
        for (body, pointer, taken) in [
            (r#"{"token":"t0p"}"#.to_owned(), "/token", true),
            (r#"{"token":""}"#.to_owned(), "/token", false),
            (r#"{"token":7}"#.to_owned(), "/token", false),
            ("t0p".to_owned(), "/token", false),
            ("t0p\n".to_owned(), "", true),
            ("\n".to_owned(), "", false),
            (format!(r#"{{"token":"{long}"}}"#), "/token", false),
            (long, "", false),
        ] {
            let shown = body.chars().take(20).collect::<String>();
            let host = Host::new().http(move |_| Ok(Answer::new(200).body(&body)));
            let (found, _) = host.run(|| {
                Ok::<_, Error>(Request::get("https://r.io").send()?.take_secret(pointer).is_some())
            });
            assert_eq!(found, Ok(taken), "{shown} at `{pointer}`");
        }
    }

    #[test]
    fn a_secret_that_stands_twice_in_an_answer_is_gone_twice() {
        let host = Host::new()
            .http(|_| Ok(Answer::new(200).body(r#"{"token":"s","access_token":"s","n":1}"#)));
        let (text, _) = host.run(|| {
            let response = Request::get("https://r.io").send()?;
            assert!(response.take_secret("/n").is_none());
            assert!(response.take_secret("/token").is_some());
            Ok::<_, Error>(response.text())
        });
        assert_eq!(text, Ok(r#"{"access_token":null,"n":1,"token":null}"#.to_owned()));
    }
}
