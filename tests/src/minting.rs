//! Doubles of registries that make a credential for each grant, and would let it live for longer
//! than was granted. This file has what they have in common: the credentials, how they fail on
//! demand, and the part of the registry that shows whether a login works.
//!
//! To add one: a file like `harbor.rs` with a [`MintingKind`], which has the routes of its API, and
//! its line in `ended_by_the_broker.rs` of the tests. A client that others wrote drives it first.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Client;
use crate::registry::RegistryTable;

/// How a double behaves when it is asked for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MintingMood {
    /// Makes a credential of another name.
    OtherName,
    /// Makes a credential, and answers with the secret of the settings.
    OwnLogin,
    /// Makes a credential, and its answer is lost.
    LosesAnswer,
    /// Makes a credential, and does not answer.
    Hangs,
    /// Loses its answer, and makes the credential when [`Minting::arrive`] is called.
    Late,
    /// Makes a credential, and its answer is lost. Then it does not answer when it is to delete it.
    LosesAnswerAndHangs,
    /// Answers 503 to everything.
    Away,
    /// Answers 429 to everything, and asks for a pause of 30 seconds.
    Throttles,
    /// Answers so many requests a second, and 429 to the others with a pause of a second.
    ThrottlesAbove(usize),
    /// Deletes nothing: 403.
    Refuses,
}

/// One kind of registry.
#[derive(Debug)]
pub struct MintingKind {
    /// The provider, which is the `type` of its settings.
    pub provider: &'static str,
    /// The secret of the settings, with which the provider asks for credentials.
    pub secret: &'static str,
    /// What `project=my-app` is in the registry.
    pub repository: &'static str,
    /// The member of an answer that has the secret of a new credential. `None`: the provider makes
    /// it.
    pub member: Option<&'static str>,
    pub routes: fn() -> Router<MintedCredentials>,
    /// A table of settings for the double at this URL.
    pub table: fn(&str) -> RegistryTable,
}

/// A credential that a double made.
#[derive(Clone, Debug)]
pub struct MintedCredential {
    /// By which its provider finds it again.
    pub name: String,
    pub username: String,
    pub secret: String,
    /// It opens these repositories, and those below them; `""`: all.
    pub opens: &'static [&'static str],
    /// Its scopes or actions, as it was asked for them.
    pub scopes: Vec<String>,
    /// `None`: never.
    pub expires_at: Option<i64>,
}

/// The credentials of one double.
#[derive(Clone, Debug)]
pub struct MintedCredentials {
    kind: &'static MintingKind,
    state: Arc<Mutex<MintedState>>,
}

#[derive(Debug, Default)]
pub struct MintedState {
    last: u64,
    pub alive: BTreeMap<u64, MintedCredential>,
    /// Those that are yet to be made.
    late: Vec<(u64, MintedCredential)>,
    /// The secrets of all that ever were.
    secrets: Vec<String>,
    mood: Option<MintingMood>,
    requests: Vec<String>,
    /// The current second, and the requests in it.
    second: (i64, usize),
    /// The requests that were answered with 429.
    throttled: usize,
}

/// A double that runs on the test's runtime.
#[derive(Debug)]
pub struct Minting {
    host: String,
    credentials: MintedCredentials,
    server: JoinHandle<()>,
}

impl Minting {
    pub async fn start(kind: &'static MintingKind) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let credentials = MintedCredentials { kind, state: Arc::default() };
        let router = (kind.routes)().route("/v2/{*path}", get(tags));
        let router = router.with_state(credentials.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { host, credentials, server }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    /// A table of settings for it.
    pub fn table(&self) -> RegistryTable {
        (self.credentials.kind.table)(&self.url())
    }

    /// From now on it behaves like this.
    pub fn mood(&self, mood: Option<MintingMood>) {
        self.credentials.lock().mood = mood;
    }

    /// The names of the credentials that exist.
    pub fn alive(&self) -> Vec<String> {
        self.credentials.lock().alive.values().map(|minted| minted.name.clone()).collect()
    }

    /// The only credential that exists.
    pub fn only(&self) -> MintedCredential {
        let state = self.credentials.lock();
        let alive: Vec<_> = state.alive.values().cloned().collect();
        let [only] = alive.as_slice() else { panic!("{alive:?}") };
        only.clone()
    }

    /// Makes the credentials that were asked for a while ago.
    pub fn arrive(&self) {
        let mut state = self.credentials.lock();
        let late = std::mem::take(&mut state.late);
        state.alive.extend(late);
    }

    /// Deletes every credential, as a person would.
    pub fn remove_all(&self) {
        self.credentials.lock().alive.clear();
    }

    /// Deletes every credential, as a person would, and gives the id of each to one of somebody
    /// else.
    pub fn replace_all(&self) {
        for minted in self.credentials.lock().alive.values_mut() {
            "release".clone_into(&mut minted.name);
        }
    }

    /// Adds credentials of somebody else.
    pub fn add_others(&self, count: usize) {
        for number in 0..count {
            let other = MintedCredential::new(format!("other-{number}"), &[]);
            self.credentials.lock().keep(|_| other);
        }
    }

    /// Adds a credential of somebody else with this name.
    pub fn add(&self, name: &str) {
        let other = MintedCredential::new(name.to_owned(), &[]);
        self.credentials.lock().keep(|_| other);
    }

    /// Every secret that it made, and that of the settings.
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets = self.credentials.lock().secrets.clone();
        secrets.push(self.credentials.kind.secret.to_owned());
        secrets
    }

    /// How many requests it has answered with 429.
    pub fn throttled(&self) -> usize {
        self.credentials.lock().throttled
    }

    /// Methods and paths of the requests to its API, oldest first.
    pub fn requests(&self) -> Vec<String> {
        self.credentials.lock().requests.clone()
    }

    /// The status of a request for the tags of a repository, with the login of an answer of the
    /// broker.
    pub async fn opens(&self, answer: &Value, repository: &str) -> u16 {
        let text = |name: &str| answer["credentials"][name].as_str().unwrap().to_owned();
        let url = format!("{}/v2/{repository}/tags/list", self.url());
        let login = BASE64_STANDARD.encode(format!("{}:{}", text("username"), text("password")));
        let login = format!("Basic {login}");
        Client::new().get_with(&url, &[("authorization", &login)]).await.status
    }
}

impl Drop for Minting {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl MintedCredential {
    pub fn new(name: String, opens: &'static [&'static str]) -> Self {
        let secret = format!("canary-minted-{}", ulid::Ulid::generate());
        Self { username: name.clone(), name, secret, opens, scopes: vec![], expires_at: None }
    }

    /// What a pull of a repository asks for.
    fn may_pull(&self, user: &str, password: &str, repository: &str) -> bool {
        let now = jiff::Timestamp::now().as_second();
        let is_below = |start: &&str| {
            let rest = repository.strip_prefix(start);
            rest.is_some_and(|rest| start.is_empty() || rest.is_empty() || rest.starts_with('/'))
        };
        (self.username.as_str(), self.secret.as_str()) == (user, password)
            && self.expires_at.is_none_or(|end| end > now)
            && self.opens.iter().any(is_below)
    }
}

impl MintedCredentials {
    pub fn lock(&self) -> MutexGuard<'_, MintedState> {
        self.state.lock().unwrap()
    }

    /// Makes a credential for one request of the API. `minted` gets the id and the end of its name,
    /// and returns the credential; `shown` returns the answer without the secret.
    pub async fn mint(
        &self,
        minted: impl FnOnce(u64, &str) -> MintedCredential,
        shown: impl FnOnce(u64, &MintedCredential) -> Value,
    ) -> Response {
        let (answer, mood) = {
            let mut state = self.lock();
            let mood = state.mood;
            let ending = if mood == Some(MintingMood::OtherName) { "-2" } else { "" };
            let (id, minted) = state.keep(|id| minted(id, ending));
            if mood == Some(MintingMood::Late) {
                let late = state.alive.remove_entry(&id);
                state.late.extend(late);
            }
            let mut answer = shown(id, &minted);
            if let Some(member) = self.kind.member {
                answer[member] = match mood {
                    Some(MintingMood::OwnLogin) => json!(self.kind.secret),
                    _ => json!(minted.secret),
                };
            }
            (answer, mood)
        };
        match mood {
            Some(MintingMood::Hangs) => tokio::time::sleep(Duration::from_mins(10)).await,
            Some(
                MintingMood::Late | MintingMood::LosesAnswer | MintingMood::LosesAnswerAndHangs,
            ) => {
                return refusal(502, "bad gateway");
            }
            _ => {}
        }
        (StatusCode::CREATED, axum::Json(answer)).into_response()
    }

    /// Deletes one credential for a request of the API.
    pub async fn delete(&self, id: u64) -> Response {
        let mood = self.lock().mood;
        match mood {
            Some(MintingMood::LosesAnswerAndHangs) => {
                tokio::time::sleep(Duration::from_mins(10)).await;
            }
            Some(MintingMood::Refuses) => return refusal(403, "forbidden"),
            _ => {}
        }
        match self.lock().alive.remove(&id) {
            Some(_) => StatusCode::NO_CONTENT.into_response(),
            None => refusal(404, "not found"),
        }
    }

    /// Records a request of the API. Returns the refusal of it.
    pub fn refuses(&self, is_known: bool, request: String) -> Option<Response> {
        let mut state = self.lock();
        state.requests.push(request);
        let mood = state.mood;
        match mood {
            Some(MintingMood::Away) => Some(refusal(503, "away")),
            Some(MintingMood::Throttles) => Some(state.throttle("30")),
            Some(MintingMood::ThrottlesAbove(most)) if state.in_this_second() > most => {
                Some(state.throttle("1"))
            }
            _ => (!is_known).then(|| refusal(401, "unauthorized")),
        }
    }
}

impl MintedState {
    /// The id of the credential with this name.
    pub fn id_of(&self, name: &str) -> Option<u64> {
        self.alive.iter().find(|(_, minted)| minted.name == name).map(|(id, _)| *id)
    }

    /// Counts a request.
    fn in_this_second(&mut self) -> usize {
        let now = jiff::Timestamp::now().as_second();
        if self.second.0 != now {
            self.second = (now, 0);
        }
        self.second.1 += 1;
        self.second.1
    }

    fn throttle(&mut self, seconds: &'static str) -> Response {
        self.throttled += 1;
        ([("retry-after", seconds)], refusal(429, "too many requests")).into_response()
    }

    fn keep(&mut self, minted: impl FnOnce(u64) -> MintedCredential) -> (u64, MintedCredential) {
        self.last += 1;
        let (id, minted) = (self.last, minted(self.last));
        self.secrets.push(minted.secret.clone());
        self.alive.insert(id, minted.clone());
        (id, minted)
    }
}

/// An error in the forms of several registries at once.
pub fn refusal(status: u16, text: &str) -> Response {
    let body = json!({ "message": text, "errors": [{ "code": "ERROR", "message": text }] });
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

/// User and password of `Authorization: Basic`.
pub fn login(headers: &HeaderMap) -> Option<(String, String)> {
    let basic = headers.get("authorization")?.to_str().ok()?.strip_prefix("Basic ")?.to_owned();
    let pair = String::from_utf8(BASE64_STANDARD.decode(basic).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// What a pull begins with: 200 if the login opens the repository.
async fn tags(
    State(credentials): State<MintedCredentials>,
    headers: HeaderMap,
    Path(path): Path<String>,
) -> Response {
    let (user, password) = login(&headers).unwrap_or_default();
    let Some(repository) = path.strip_suffix("/tags/list") else {
        return refusal(404, "not found");
    };
    let state = credentials.lock();
    if state.alive.values().any(|minted| minted.may_pull(&user, &password, repository)) {
        axum::Json(json!({ "name": repository, "tags": [] })).into_response()
    } else {
        refusal(401, "unauthorized")
    }
}
