//! Makes tokens that never end, and deletes them like a provider with `revocation`. `misbehave`
//! selects what it does wrong instead.
//!
//! It knows the configured `admin_token`, because the tests use a fixed one.

use rise_provider::http::{Request, Response};
use rise_provider::{
    Credential, Error, Grant, Issued, Location, Login, Problem, Provider, Revocation, Scope,
    Secret, SecretName, log,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

struct RevocationRogue;

rise_provider::export_provider!(RevocationRogue, revocation);

/// The `admin_token` that the tests configure.
const KNOWN: &str = "canary-admin-token-1f0c";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    base_url: String,
    admin_token: SecretName,
    #[serde(default)]
    misbehave: Misbehave,
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Misbehave {
    /// Behaves, for comparison.
    #[default]
    No,
    Panics,
    /// Says that it has ended the token, and does nothing.
    EndsNothing,
    /// Deletes the token 1, whatever the note says.
    IgnoresNote,
    /// Does nothing without a note.
    NeedsNote,
    /// Deletes what the note names without a look at its name.
    EndsOthers,
    /// Takes a token that is gone for a failure.
    FailsWhenGone,
    /// Takes every failure of the registry for a token that is gone.
    FailureIsGone,
    /// Says that the registry has denied the token that it made.
    DeniesAfterMint,
    Forgets,
    /// The same for a token that the registry ends.
    ForgetsWhatEnds,
    LogsAnswer,
    /// Puts the answer into its error.
    TellsAnswer,
    RevokesOtherProject,
    RevokesElsewhere,
    RemembersInRevoke,
    RemembersTooMuch,
    RemembersLines,
    RemembersNothing,
    RemembersConfigured,
    RemembersIssued,
}

/// A token as the registry describes it.
#[derive(Deserialize)]
struct Described {
    id: u64,
    name: String,
}

impl Provider for RevocationRogue {
    type Settings = Settings;

    const NAME: &'static str = "revocation-rogue";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Ends what it must not, or nothing";

    fn check(_: &Settings) -> Result<Scope, Vec<Problem>> {
        Ok(Scope::Repository)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        Ok(Location { host: settings.host().to_owned(), repository: project.to_owned() })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        (location.host == settings.host()).then(|| location.repository.clone())
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        let name = name_of(grant);
        let asked =
            Request::post(&settings.tokens(&grant.project())).json(&json!({ "name": name }));
        let sent = settings.send(asked).and_then(|response| {
            response.success()?;
            Ok(response)
        });
        let response = match sent {
            Err(error) if settings.misbehave == Misbehave::DeniesAfterMint => {
                return Err(Error::Denied(error.to_string()));
            }
            sent => sent?,
        };
        let made: Value = response.json()?;
        let id = made.get("id").and_then(Value::as_u64).unwrap_or(7);
        settings.remember(grant, id, &made)?;
        let password = response.take_secret("/token");
        let password = password.ok_or_else(|| Error::Failed("no token".to_owned()))?;
        let credential = Credential::Basic(Login { username: name, password });
        let ends = settings.misbehave == Misbehave::ForgetsWhatEnds;
        Ok(Issued { credential, expires_at: ends.then(|| grant.now() + 3600) })
    }
}

impl Revocation for RevocationRogue {
    #[expect(clippy::panic, reason = "one of the ways to misbehave")]
    fn revoke(settings: &Settings, grant: &Grant, remembered: Option<&str>) -> Result<(), Error> {
        let tokens = settings.tokens(&grant.project());
        match (settings.misbehave, remembered) {
            (Misbehave::Panics, _) => panic!("revocation-rogue was told to panic"),
            (Misbehave::EndsNothing, _) | (Misbehave::NeedsNote, None) => Ok(()),
            (Misbehave::IgnoresNote, Some(_)) => settings.delete(&format!("{tokens}/1")),
            (Misbehave::EndsOthers, Some(note)) => settings.delete(note),
            (Misbehave::RevokesOtherProject, _) => {
                settings.delete(&format!("{}/7", settings.tokens("someone-elses")))
            }
            (Misbehave::RevokesElsewhere, _) => {
                settings.delete("https://elsewhere.example.com/api/tokens/7")
            }
            (Misbehave::RemembersInRevoke, _) => grant.remember("8"),
            (Misbehave::FailureIsGone, _) => {
                drop(settings.end(&tokens, grant));
                Ok(())
            }
            _ => settings.end(&tokens, grant),
        }
    }
}

impl Settings {
    fn remember(&self, grant: &Grant, id: u64, made: &Value) -> Result<(), Error> {
        let how = self.misbehave;
        if how == Misbehave::Forgets || how == Misbehave::ForgetsWhatEnds {
            return Ok(());
        }
        grant.remember(&if how == Misbehave::RemembersTooMuch {
            "x".repeat(1025)
        } else if how == Misbehave::RemembersLines {
            "7\nissue.completed".to_owned()
        } else if how == Misbehave::RemembersNothing {
            String::new()
        } else if how == Misbehave::RemembersConfigured {
            format!("7 {KNOWN}")
        } else if how == Misbehave::RemembersIssued {
            let text = made.get("token").and_then(Value::as_str).unwrap_or_default();
            drop(Secret::new(text));
            format!("7 {text}")
        } else {
            format!("{}/{id}", self.tokens(&grant.project()))
        })
    }

    fn host(&self) -> &str {
        self.base_url.split("://").nth(1).unwrap_or_default()
    }

    fn tokens(&self, project: &str) -> String {
        format!("{}/api/projects/{}/tokens", self.base_url, project.replace('/', "%2F"))
    }

    fn send(&self, request: Request) -> Result<Response, Error> {
        request.bearer(&self.admin_token.get()?).send()
    }

    /// Deletes the token with the name of the grant.
    fn end(&self, tokens: &str, grant: &Grant) -> Result<(), Error> {
        let response = self.send(Request::get(tokens))?;
        response.success()?;
        if self.misbehave == Misbehave::LogsAnswer {
            log::info(&response.text());
        } else if self.misbehave == Misbehave::TellsAnswer {
            return Err(Error::Failed(response.text()));
        }
        let all: Vec<Described> = response.json()?;
        match all.iter().find(|token| token.name == name_of(grant)) {
            Some(token) => self.delete(&format!("{tokens}/{}", token.id)),
            None if self.misbehave == Misbehave::FailsWhenGone => {
                Err(Error::NotFound("the token is gone".to_owned()))
            }
            None => Ok(()),
        }
    }

    fn delete(&self, url: &str) -> Result<(), Error> {
        match self.send(Request::delete(url))?.success() {
            Ok(()) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn name_of(grant: &Grant) -> String {
    format!("rise-{}", grant.id().to_lowercase())
}
