//! Has tokens signed like a provider for a registry that trusts the broker, and then asks for more
//! or passes on what it must not. `misbehave` selects what.

use rise_provider::http::Request;
use rise_provider::{
    Credential, Error, Grant, Issued, Location, Login, Problem, Provider, Scope, Secret, log,
    tokens,
};
use schemars::JsonSchema;
use serde::Deserialize;

struct TokensRogue;

rise_provider::export_provider!(TokensRogue);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    registry_url: String,
    base_url: String,
    audience: String,
    misbehave: Misbehave,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Misbehave {
    /// Behaves, for comparison.
    No,
    OtherService,
    ServiceInOtherCase,
    /// A name that would end the text in JSON and add claims.
    Injection,
    LineBreak,
    NoService,
    HugeService,
    OtherAudience,
    /// The audience as a service, and the service as an audience.
    Swapped,
    Thousands,
    ThousandsOfIdentities,
    /// States a later expiry than the token has.
    LaterExpiry,
    NoExpiry,
    /// Hands out the identity token.
    IdentityAsPassword,
    IdentityAsBearer,
    IdentityAsRefresh,
    /// Sends the identity token to the registry, which repeats it in its answer.
    EchoToPassword,
    EchoToText,
    EchoOfBasic,
    EchoOfForm,
    /// A token from `locate`, which has no capabilities.
    Locate,
    /// Forges a token of its own.
    Forged,
}

impl Provider for TokensRogue {
    type Settings = Settings;

    const NAME: &'static str = "tokens-rogue";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Asks for tokens that it must not have";

    fn check(_: &Settings) -> Result<Scope, Vec<Problem>> {
        Ok(Scope::Repository)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        if settings.misbehave == Misbehave::Locate {
            tokens::registry_token(&settings.registry_url)?;
        }
        Ok(Location { host: settings.registry_url.clone(), repository: project.to_owned() })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        (location.host == settings.registry_url).then(|| location.repository.clone())
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        use Misbehave as M;
        let service = settings.registry_url.as_str();
        let registry = |service: &str| tokens::registry_token(service).map(|it| login(it, None));
        let identity = || tokens::identity_token(&settings.audience);
        let echo = || Request::post(&format!("{}/echo", settings.base_url));
        match settings.misbehave {
            M::No | M::Locate => {
                identity()?;
                registry(service)
            }
            M::OtherService => registry("other.example.com"),
            M::ServiceInOtherCase => registry(&service.to_uppercase()),
            M::Injection => registry(&format!("{service}\",\"access\":[],\"sub\":\"root")),
            M::LineBreak => registry(&format!("{service}\r\nX-Injected: 1")),
            M::NoService => registry(""),
            M::HugeService => registry(&service.repeat(1000)),
            M::OtherAudience => tokens::identity_token("sts.example.com").map(|it| login(it, None)),
            M::Swapped => match registry(&settings.audience) {
                Err(Error::Refused(_)) => tokens::identity_token(service).map(|it| login(it, None)),
                other => other,
            },
            M::Thousands => {
                for _ in 0..5000 {
                    let _ = tokens::registry_token(service);
                }
                registry(service)
            }
            M::ThousandsOfIdentities => {
                let signed = (0..5000).filter(|_| identity().is_ok()).count();
                log::info(&format!("signed {signed}"));
                registry(service)
            }
            M::LaterExpiry => {
                tokens::registry_token(service).map(|it| login(it, Some(grant.now() + 40_000)))
            }
            M::NoExpiry => tokens::registry_token(service).map(|it| login(it, None)),
            M::IdentityAsPassword => identity().map(|it| login(it, None)),
            M::IdentityAsBearer => Ok(issued(Credential::Bearer(identity()?))),
            M::IdentityAsRefresh => Ok(issued(Credential::Refresh(identity()?))),
            M::EchoToPassword => {
                let taken = echo().bearer(&identity()?).send()?.take_secret("/authorization");
                taken.map(|it| login(it, None)).ok_or(Error::Failed("nothing came".to_owned()))
            }
            M::EchoToText => {
                let text = echo().bearer(&identity()?).send()?.text();
                Ok(login(Secret::new(&text), Some(grant.now() + 600)))
            }
            M::EchoOfBasic => {
                let text = echo().basic("user", &identity()?).send()?.text();
                Ok(login(Secret::new(&text), Some(grant.now() + 600)))
            }
            M::EchoOfForm => {
                let text = echo().form_secret("assertion", &identity()?).send()?.text();
                Ok(login(Secret::new(&text), Some(grant.now() + 600)))
            }
            M::Forged => Ok(login(Secret::new("e30.e30.forged"), Some(grant.now() + 600))),
        }
    }
}

fn issued(credential: Credential) -> Issued {
    Issued { credential, expires_at: None }
}

fn login(password: Secret, expires_at: Option<u64>) -> Issued {
    let login = Login { username: "rogue".to_owned(), password };
    Issued { credential: Credential::Basic(login), expires_at }
}
