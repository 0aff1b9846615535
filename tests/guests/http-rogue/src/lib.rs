//! Calls `http` like a provider for the imaginary registry, and then does something forbidden.
//! `misbehave` selects what.
//!
//! It knows its configured secret, because the tests use a fixed one. A real provider never does.

use rise_provider::http::{self, Method, Request, Response};
use rise_provider::{
    Credential, Error, Grant, Issued, Location, Login, Problem, Provider, Scope, Secret,
    SecretName, log,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

struct HttpRogue;

rise_provider::export_provider!(HttpRogue);

/// The `admin_token` that the tests configure.
const KNOWN: &str = "canary-admin-token-1f0c";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    base_url: String,
    admin_token: SecretName,
    /// Another server, which must get no request.
    other_url: Option<String>,
    misbehave: Misbehave,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Misbehave {
    /// Behaves, for comparison.
    No,
    OtherHost,
    OtherPort,
    OtherPath,
    OtherMethod,
    OtherProject,
    /// The project's own URL, for comparison.
    OwnProject,
    /// A URL with the project as it is.
    PlainSlash,
    /// A URL below the project's, which can be that of another project.
    BelowProject,
    PrivateAddress,
    Metadata,
    MetadataName,
    Userinfo,
    Fragment,
    DotSegments,
    EncodedSlash,
    EncodedSlashAbove,
    EncodedSlashBeside,
    EncodedSlashOfOthers,
    Backslash,
    LineBreakInHeader,
    HostHeader,
    LengthHeader,
    AuthorizationHeader,
    MethodOverride,
    LineBreakInUrl,
    TooMany,
    HugeBody,
    HugeHeaders,
    ManyRequests,
    /// The secret as text, where only a handle is allowed.
    SecretInUrl,
    SecretInHeader,
    SecretInBody,
    SecretInUserName,
    /// The registry repeats the request, and the provider passes the answer on.
    EchoToUserName,
    EchoToLog,
    EchoToError,
    EchoToPassword,
    EchoOfBasic,
    EchoOfForm,
    ConfiguredPassword,
    ForgedHandle,
    ForgedRequest,
    /// Requests something to which the registry answers badly.
    Redirect,
    Flood,
    Compressed,
    Silence,
    Closes,
    /// Ignores a refusal and goes on.
    Swallow,
    /// A request from `locate`, which has no capabilities.
    Locate,
    ReadTakenSecret,
    ExpiryTooLate,
    ExpiryPast,
    LineBreakInUserName,
    NoToken,
    /// Behaves, with a project that is one segment with an encoded slash.
    EncodedProject,
    /// What the registry issued, where it must not be.
    LogAnswer,
    LogCutToken,
    LogEscapedToken,
    TokenAsUserName,
    AnswerAsError,
    TokenInPath,
    TokenInPanic,
    /// Reads the token as text and makes a secret of it.
    ReadToken,
    Endless,
    /// A robot of one day, whatever was granted.
    OneDay,
    Milliseconds,
    /// Ten hours, whatever was granted: within the registry's bound.
    TenHours,
    /// Behaves, but writes to the standard output.
    Print,
}

impl Provider for HttpRogue {
    type Settings = Settings;

    const NAME: &'static str = "http-rogue";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Sends what it must not to where it must not";

    fn check(_: &Settings) -> Result<Scope, Vec<Problem>> {
        Ok(Scope::Repository)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        if settings.misbehave == Misbehave::Locate {
            drop(Request::get(&format!("{}/api/tokens", settings.base_url)).send());
        }
        Ok(Location { host: host(settings).to_owned(), repository: project.to_owned() })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        (location.host == host(settings)).then(|| location.repository.clone())
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        match misbehave(settings, grant)? {
            Some(issued) => Ok(issued),
            None => behave(settings, grant, &format!("{}/api/tokens", settings.base_url)),
        }
    }
}

/// Returns the result of an attack, or `None` to go on normally.
#[allow(
    clippy::too_many_lines,
    clippy::panic,
    clippy::print_stdout,
    reason = "one table of misdeeds"
)]
fn misbehave(settings: &Settings, grant: &Grant) -> Result<Option<Issued>, Error> {
    use Misbehave as M;
    let base = &settings.base_url;
    let other = settings.other_url.clone().unwrap_or_default();
    let tokens = format!("{base}/api/tokens");
    let host = host(settings);
    let at = |url: &str| behave(settings, grant, url).map(Some);
    let header = |name: &str, value: &str| {
        let _ = request(settings, &tokens)?.header(name, value).send()?;
        Ok(None)
    };
    match settings.misbehave {
        M::No | M::Locate => Ok(None),
        M::OtherHost => at(&format!("{other}/api/tokens")),
        M::OtherPort => at("http://127.0.0.1:1/api/tokens"),
        M::OtherPath => at(&format!("{base}/api/admin")),
        M::OtherMethod => {
            let _ = Request::new(Method::Delete, &tokens)
                .bearer(&settings.admin_token.get()?)
                .send()?;
            Ok(None)
        }
        M::OtherProject => at(&format!("{base}/api/projects/someone-elses/tokens")),
        M::OwnProject => {
            let segment = grant.project().replace('/', "%2F");
            at(&format!("{base}/api/projects/{segment}/tokens"))
        }
        M::PlainSlash => at(&format!("{base}/api/projects/{}/tokens", grant.project())),
        M::BelowProject => at(&format!("{base}/api/projects/{}/tokens/tokens", grant.project())),
        M::PrivateAddress => at("https://10.1.2.3/api/tokens"),
        M::Metadata => at("http://169.254.169.254/latest/meta-data/iam/security-credentials/"),
        M::MetadataName => at("http://metadata.google.internal/computeMetadata/v1/"),
        M::Userinfo => {
            at(&format!("http://{host}@{}/api/tokens", other.trim_start_matches("http://")))
        }
        M::Fragment => at(&format!("{tokens}#@{other}")),
        M::DotSegments => at(&format!("{tokens}/../admin")),
        M::EncodedSlash => at(&format!("{tokens}/..%2fadmin")),
        M::EncodedSlashAbove => at(&format!("{tokens}/x%2F..%2F..%2Fadmin")),
        M::EncodedSlashBeside => at(&format!("{tokens}%2Fadmin")),
        M::EncodedSlashOfOthers => {
            at(&format!("{base}/api/projects/group%2F{}%2Fx/tokens", grant.project()))
        }
        M::EncodedProject => {
            let project = http::segment(&format!("group/{}", grant.project()));
            at(&format!("{base}/api/projects/{project}/tokens"))
        }
        M::Backslash => at(&format!("{tokens}\\..\\admin")),
        M::LineBreakInUrl => at(&format!("{tokens}/ HTTP/1.1\r\nHost: evil\r\n\r\n")),
        M::LineBreakInHeader => header("x-note", "a\r\nx-smuggled: b"),
        M::HostHeader => header("Host", "evil.example.com"),
        M::LengthHeader => header("Content-Length", "0"),
        M::AuthorizationHeader => header("Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q="),
        M::MethodOverride => header("X-HTTP-Method-Override", "DELETE"),
        M::SecretInHeader => header("x-note", KNOWN),
        M::HugeHeaders => header("x-note", &"x".repeat(64 << 10)),
        M::TooMany => {
            (0..9).try_for_each(|_| request(settings, &tokens)?.send().map(drop))?;
            Ok(None)
        }
        M::HugeBody => {
            let _ = request(settings, &tokens)?.json(&json!("x".repeat(1 << 20))).send()?;
            Ok(None)
        }
        M::ManyRequests => {
            let body = json!("x".repeat(1 << 20));
            let kept: Vec<Request> = (0..500).map(|_| Request::post(&tokens).json(&body)).collect();
            Err(Error::Failed(format!("{} requests are held", kept.len())))
        }
        M::SecretInUrl => at(&format!("{tokens}?note={KNOWN}")),
        M::SecretInBody => {
            let _ = request(settings, &tokens)?.json(&json!({ "note": KNOWN })).send()?;
            Ok(None)
        }
        M::SecretInUserName => {
            let _ = Request::post(&tokens).basic(KNOWN, &Secret::new("x")).send()?;
            Ok(None)
        }
        M::EchoToUserName => {
            let seen = echoed(settings, Request::bearer).unwrap_or_else(|error| error.to_string());
            let password = Secret::new("made-up");
            let seen = seen.replace([':', '\r', '\n'], " ").chars().take(200).collect();
            Ok(Some(issued(seen, password, Some(grant.now() + 600))))
        }
        M::EchoToLog => {
            match echoed(settings, |it, token| it.header_secret("x-key", token)) {
                Ok(seen) => seen
                    .as_bytes()
                    .chunks(400)
                    .for_each(|it| log::error(&String::from_utf8_lossy(it))),
                Err(error) => log::error(&error.to_string()),
            }
            Ok(None)
        }
        M::EchoToError => {
            let seen = echoed(settings, Request::bearer)?;
            Err(Error::Failed(seen))
        }
        M::EchoOfBasic => Err(Error::Failed(echoed(settings, |it, token| it.basic("ci", token))?)),
        M::EchoOfForm => {
            Err(Error::Failed(echoed(settings, |it, token| it.form_secret("key", token))?))
        }
        M::EchoToPassword => {
            let echo = Request::post(&format!("{base}/echo")).bearer(&settings.admin_token.get()?);
            let password = echo.send()?.take_secret("/authorization");
            let password = password.ok_or_else(|| Error::Failed("nothing to take".to_owned()))?;
            Ok(Some(issued("robot".to_owned(), password, Some(grant.now() + 600))))
        }
        M::ConfiguredPassword => {
            let password = settings.admin_token.get()?;
            Ok(Some(issued("robot".to_owned(), password, Some(grant.now() + 600))))
        }
        M::ForgedHandle => forged::handle(&tokens),
        M::ForgedRequest => forged::request(),
        M::Redirect => at(&format!("{base}/redirect")),
        M::Flood => at(&format!("{base}/flood")),
        M::Compressed => at(&format!("{base}/compressed")),
        M::Silence => at(&format!("{base}/silence")),
        M::Closes => at(&format!("{base}/closes")),
        M::Swallow => {
            drop(behave(settings, grant, &format!("{other}/api/tokens")));
            Ok(None)
        }
        M::ReadTakenSecret => {
            let response = ask(settings, grant, &tokens)?;
            let _taken = response.take_secret("/token");
            Err(Error::Failed(response.text()))
        }
        M::ExpiryTooLate => made(settings, grant, |_| Some(grant.now() + 400 * 86_400)),
        M::ExpiryPast => made(settings, grant, |_| Some(grant.now() - 60)),
        M::LineBreakInUserName => {
            let response = ask(settings, grant, &tokens)?;
            let password = response.take_secret("/token").unwrap_or_else(|| Secret::new("x"));
            Ok(Some(issued("robot\r\nx: y".to_owned(), password, Some(grant.now() + 600))))
        }
        M::LogAnswer => {
            let response = ask(settings, grant, &tokens)?;
            log::info(&format!("the registry answered {}", response.text()));
            taken(grant, &response)
        }
        M::LogCutToken => {
            let response = ask(settings, grant, &tokens)?;
            let token = token(&response)?;
            log::info(&format!("{}{token}", "x".repeat(512 - 12)));
            taken(grant, &response)
        }
        M::LogEscapedToken => {
            let response = ask(settings, grant, &tokens)?;
            log::info(&token(&response)?.replacen('a', "\\u0061", 1));
            taken(grant, &response)
        }
        M::TokenAsUserName => {
            let response = ask(settings, grant, &tokens)?;
            let username = token(&response)?;
            Ok(taken(grant, &response)?.map(|made| renamed(made, username)))
        }
        M::AnswerAsError => Err(Error::Failed(ask(settings, grant, &tokens)?.text())),
        M::TokenInPath => {
            let token = token(&ask(settings, grant, &tokens)?)?;
            let _ = ask(settings, grant, &format!("{tokens}/{token}"))?;
            Ok(None)
        }
        M::TokenInPanic => panic!("unexpected: {}", token(&ask(settings, grant, &tokens)?)?),
        M::ReadToken => {
            let token = token(&ask(settings, grant, &tokens)?)?;
            log::info(&format!("made {token}"));
            Ok(Some(issued("robot".to_owned(), Secret::new(&token), Some(grant.now() + 600))))
        }
        M::Endless => made(settings, grant, |_| None),
        M::OneDay => made(settings, grant, |_| Some(grant.now() + 86_400)),
        M::TenHours => made(settings, grant, |_| Some(grant.now() + 36_000)),
        M::Milliseconds => made(settings, grant, |_| Some((grant.now() + 600) * 1000)),
        M::Print => {
            println!("a token was made");
            Ok(None)
        }
        M::NoToken => {
            let response = ask(settings, grant, &tokens)?;
            match response.take_secret("/nothing/there") {
                Some(_) => Ok(None),
                None => Err(Error::Failed("no token".to_owned())),
            }
        }
    }
}

fn host(settings: &Settings) -> &str {
    let url = &settings.base_url;
    url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap_or(url)
}

fn request(settings: &Settings, url: &str) -> Result<Request, Error> {
    Ok(Request::post(url).bearer(&settings.admin_token.get()?))
}

fn ask(settings: &Settings, grant: &Grant, url: &str) -> Result<Response, Error> {
    let body =
        json!({ "repository": grant.project(), "actions": ["pull"], "lifetime": grant.lifetime() });
    let response = request(settings, url)?.json(&body).send()?;
    response.success()?;
    Ok(response)
}

fn behave(settings: &Settings, grant: &Grant, url: &str) -> Result<Issued, Error> {
    let response = ask(settings, grant, url)?;
    let password = response.take_secret("/token");
    let password = password.ok_or_else(|| Error::Failed("no token".to_owned()))?;
    Ok(issued("robot".to_owned(), password, Some(grant.now() + 600)))
}

/// The token of an answer as text, which a provider has no need to read.
fn token(response: &Response) -> Result<String, Error> {
    let body: Value = response.json()?;
    Ok(body.get("token").and_then(Value::as_str).unwrap_or_default().to_owned())
}

fn taken(grant: &Grant, response: &Response) -> Result<Option<Issued>, Error> {
    let password = response.take_secret("/token");
    let password = password.ok_or_else(|| Error::Failed("no token".to_owned()))?;
    Ok(Some(issued("robot".to_owned(), password, Some(grant.now() + 600))))
}

fn renamed(issued: Issued, username: String) -> Issued {
    match issued.credential {
        Credential::Basic(login) => {
            let login = Login { username, ..login };
            Issued { credential: Credential::Basic(login), ..issued }
        }
        Credential::ClientAuth | Credential::Bearer(_) | Credential::Refresh(_) => issued,
    }
}

fn made(
    settings: &Settings,
    grant: &Grant,
    expires_at: impl Fn(&Grant) -> Option<u64>,
) -> Result<Option<Issued>, Error> {
    let made = behave(settings, grant, &format!("{}/api/tokens", settings.base_url))?;
    Ok(Some(Issued { expires_at: expires_at(grant), ..made }))
}

fn issued(username: String, password: Secret, expires_at: Option<u64>) -> Issued {
    Issued { credential: Credential::Basic(Login { username, password }), expires_at }
}

/// Returns the whole text of an answer that repeats the request.
fn echoed(
    settings: &Settings,
    with: impl Fn(Request, &Secret) -> Request,
) -> Result<String, Error> {
    let request = Request::post(&format!("{}/echo", settings.base_url));
    let response = with(request, &settings.admin_token.get()?).send()?;
    Ok(format!("{} {}", response.header("x-seen").unwrap_or_default(), response.text()))
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, reason = "a handle that nobody gave can only be made by force")]
mod forged {
    use rise_provider::bindings::rise::registry::{http, types};
    use rise_provider::{Error, Issued};

    /// A handle with number 7, which the host never returned.
    pub(super) fn handle(url: &str) -> Result<Option<Issued>, Error> {
        let request = http::Request::new(http::Method::Get, url);
        // SAFETY: none. The host has to refuse the handle.
        request.bearer(&unsafe { types::Secret::from_handle(7) });
        Err(Error::Failed("a forged secret was taken".to_owned()))
    }

    /// A handle of another kind of resource.
    pub(super) fn request() -> Result<Option<Issued>, Error> {
        let secret = types::Secret::new("text");
        // SAFETY: none. The host has to refuse the handle.
        let request = unsafe { http::Request::from_handle(secret.take_handle()) };
        drop(http::send(request));
        Err(Error::Failed("a forged request was taken".to_owned()))
    }
}

#[cfg(not(target_arch = "wasm32"))]
#[expect(clippy::unnecessary_wraps, reason = "the shape that it has as a component")]
mod forged {
    use rise_provider::{Error, Issued};

    pub(super) fn handle(_: &str) -> Result<Option<Issued>, Error> {
        Ok(None)
    }

    pub(super) fn request() -> Result<Option<Issued>, Error> {
        Ok(None)
    }
}
