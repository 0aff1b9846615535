//! Makes tokens that never end, and deletes them like a provider with `revocation`. `misbehave`
//! selects what it does wrong instead, and `finds` what it does when it looks for leftovers.
//!
//! It knows the configured `admin_token`, because the tests use a fixed one.

use rise_provider::http::{Request, Response};
use rise_provider::{
    Credential, Error, Grant, Issued, Leftover, Leftovers, Location, Login, Problem, Provider,
    Revocation, Scope, Secret, SecretName, log, random,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

struct RevocationRogue;

rise_provider::export_provider!(RevocationRogue, revocation, leftovers);

/// The `admin_token` that the tests configure.
const KNOWN: &str = "canary-admin-token-1f0c";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    base_url: String,
    admin_token: SecretName,
    #[serde(default)]
    misbehave: Misbehave,
    /// Without it, the registry cannot list tokens.
    finds: Option<Finds>,
    /// The ids for `finds = "told"`, with their notes.
    #[serde(default)]
    told: Vec<(String, String)>,
}

/// What it does when it looks for leftovers.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Finds {
    /// Lists the tokens that are named after grants, for comparison.
    All,
    Nothing,
    /// Lists the tokens of others, too.
    Others,
    /// Lists what the settings say.
    Told,
    /// Lists ten thousand leftovers.
    TooMany,
    /// Lists a leftover whose note holds the configured secret.
    Configured,
    /// Deletes a token when it is to look.
    Deletes,
    /// Makes a token when it is to look.
    Makes,
    /// Looks at the tokens of one project.
    OfAProject,
    /// Asks for what needs a grant.
    Random,
    Panics,
    /// Ends what the note names without a look at its name.
    EndsOthers,
    /// Says that it has ended a leftover, and does nothing.
    EndsNothing,
    /// Takes a leftover that is gone for a failure.
    FailsWhenGone,
    /// Takes every failure of the registry for an empty list.
    FailureIsNothing,
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
    /// Remembers a note, and answers the end of the grant that no registry told.
    GuessesEnd,
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
        let ends = matches!(settings.misbehave, Misbehave::ForgetsWhatEnds | Misbehave::GuessesEnd);
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

impl Leftovers for RevocationRogue {
    #[expect(clippy::panic, reason = "one of the ways to misbehave")]
    fn find(settings: &Settings) -> Result<Vec<Leftover>, Error> {
        let unsupported = || Error::Unsupported("`finds` is not set".to_owned());
        let (all, one) = (settings.all(), format!("{}/1", settings.all()));
        let leftover = |id: &str, note: &str| Leftover { id: id.to_owned(), note: note.to_owned() };
        let old = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        match settings.finds.ok_or_else(unsupported)? {
            Finds::Nothing => return Ok(Vec::new()),
            Finds::Told => {
                return Ok(settings.told.iter().map(|(id, note)| leftover(id, note)).collect());
            }
            Finds::TooMany => {
                let ids = (0..10_000).map(|number| format!("{number:026}"));
                return Ok(ids.map(|id| leftover(&id, "x")).collect());
            }
            Finds::Configured => return Ok(vec![leftover(old, KNOWN)]),
            Finds::Deletes => settings.delete(&one)?,
            Finds::Makes => {
                settings.send(Request::post(&all).json(&json!({ "name": "rise-x" })))?.success()?;
            }
            Finds::OfAProject => {
                settings.send(Request::get(&settings.tokens("my-app")))?.success()?;
            }
            Finds::Random => drop(random::password(32, random::LETTERS_AND_DIGITS)?),
            Finds::Panics => panic!("revocation-rogue was told to panic"),
            Finds::All
            | Finds::Others
            | Finds::EndsOthers
            | Finds::EndsNothing
            | Finds::FailsWhenGone
            | Finds::FailureIsNothing => {}
        }
        let listed = match settings.list() {
            Err(_) if settings.finds == Some(Finds::FailureIsNothing) => Vec::new(),
            listed => listed?,
        };
        let lists_others = settings.finds == Some(Finds::Others);
        Ok(listed
            .into_iter()
            .filter_map(|token| {
                let note = format!("{all}/{}", token.id);
                let other = lists_others.then(|| leftover(old, &note));
                Leftover::named(&token.name, "rise-", note).or(other)
            })
            .collect())
    }

    fn end(settings: &Settings, leftover: &Leftover) -> Result<(), Error> {
        match settings.finds {
            Some(Finds::EndsNothing) => Ok(()),
            Some(Finds::EndsOthers | Finds::Told) => settings.delete(&leftover.note),
            _ => {
                let name = format!("rise-{}", leftover.id.to_lowercase());
                let listed = settings.list()?;
                match listed.iter().find(|token| token.name == name) {
                    Some(token) => settings.delete(&format!("{}/{}", settings.all(), token.id)),
                    None if settings.finds == Some(Finds::FailsWhenGone) => {
                        Err(Error::NotFound("the token is gone".to_owned()))
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

impl Settings {
    /// The tokens of all projects.
    fn all(&self) -> String {
        format!("{}/api/tokens", self.base_url)
    }

    fn list(&self) -> Result<Vec<Described>, Error> {
        let response = self.send(Request::get(&self.all()))?;
        response.success()?;
        response.json()
    }

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
