//! A double of Harbor: robot accounts of the API v2.0 (made, listed, read, deleted), and the part
//! of the registry that shows whether a robot's login works. A client that others wrote drives it
//! first (`harbor.rs` of the tests). It also lies and fails on demand.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The user that makes robots, and the password.
pub const HARBOR_ADMIN: (&str, &str) = ("robot$rise", "canary-harbor-admin-51c7");
/// The one project.
const PROJECT: (&str, u64) = ("team", 3);
const DAY: i64 = 86_400;

/// How it behaves when it is asked for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HarborMood {
    /// Makes a robot of another name.
    OtherName,
    /// Makes a robot, and answers with the password of the administrator.
    OwnLogin,
    /// Makes a robot, and its answer is lost.
    LosesAnswer,
    /// Makes a robot, and does not answer.
    Hangs,
    /// Answers 503 to everything.
    Away,
    /// Deletes nothing: 403.
    Refuses,
}

#[derive(Clone, Debug)]
struct Robot {
    name: String,
    secret: String,
    actions: Vec<String>,
    expires_at: i64,
}

#[derive(Debug, Default)]
struct Shared {
    next: u64,
    robots: BTreeMap<u64, Robot>,
    /// Those of every robot that ever was.
    secrets: Vec<String>,
    mood: Option<HarborMood>,
    requests: Vec<String>,
}

type Store = Arc<Mutex<Shared>>;

/// It runs on the test's runtime.
#[derive(Debug)]
pub struct Harbor {
    host: String,
    shared: Store,
    server: JoinHandle<()>,
}

impl Harbor {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shared = Store::default();
        let router = Router::new()
            .route("/api/v2.0/robots", get(list).post(create))
            .route("/api/v2.0/robots/{id}", get(read).delete(delete))
            .route("/api/v2.0/projects/{name}", get(project))
            .route("/v2/{project}/{repository}/tags/list", get(tags))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { host, shared, server }
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The value for `base_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    /// From now on it behaves like this.
    pub fn mood(&self, mood: Option<HarborMood>) {
        self.shared.lock().unwrap().mood = mood;
    }

    /// The names of the robots that exist.
    pub fn robots(&self) -> Vec<String> {
        let shared = self.shared.lock().unwrap();
        shared.robots.values().map(|robot| robot.name.clone()).collect()
    }

    /// Adds a robot of somebody else, with this id. Returns its name.
    pub fn add_robot(&self, id: u64, name: &str) -> String {
        let name = format!("robot${}+{name}", PROJECT.0);
        let robot = Robot {
            name: name.clone(),
            secret: "canary-other-robot".to_owned(),
            actions: vec!["pull".to_owned()],
            expires_at: i64::MAX,
        };
        self.shared.lock().unwrap().robots.insert(id, robot);
        name
    }

    /// Deletes every robot, as a person would.
    pub fn clear(&self) {
        self.shared.lock().unwrap().robots.clear();
    }

    /// Every secret that it made.
    pub fn secrets(&self) -> Vec<String> {
        self.shared.lock().unwrap().secrets.clone()
    }

    /// Methods and paths of the requests, oldest first.
    pub fn requests(&self) -> Vec<String> {
        self.shared.lock().unwrap().requests.clone()
    }
}

impl Drop for Harbor {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn problem(status: u16, text: &str) -> Response {
    let body = json!({ "errors": [{ "code": "ERROR", "message": text }] });
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

fn login(headers: &HeaderMap) -> Option<(String, String)> {
    let basic = headers.get("authorization")?.to_str().ok()?.strip_prefix("Basic ")?.to_owned();
    let pair = String::from_utf8(BASE64_STANDARD.decode(basic).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Records a request. Returns the refusal of it.
fn refusal(shared: &mut Shared, headers: &HeaderMap, request: String) -> Option<Response> {
    shared.requests.push(request);
    if shared.mood == Some(HarborMood::Away) {
        return Some(problem(503, "away"));
    }
    let (user, password) = login(headers).unwrap_or_default();
    let is_admin = (user.as_str(), password.as_str()) == HARBOR_ADMIN;
    (!is_admin).then(|| problem(401, "unauthorized"))
}

fn shown(id: u64, robot: &Robot) -> Value {
    json!({
        "id": id, "name": robot.name, "level": "project", "duration": 1, "disable": false,
        "expires_at": robot.expires_at, "creation_time": "2026-11-26T00:00:00.000Z",
    })
}

async fn create(
    State(shared): State<Store>,
    headers: HeaderMap,
    axum::Json(asked): axum::Json<Value>,
) -> Response {
    let (answer, mood) = {
        let mut shared = shared.lock().unwrap();
        if let Some(refused) = refusal(&mut shared, &headers, "POST robots".to_owned()) {
            return refused;
        }
        (make(&mut shared, &asked), shared.mood)
    };
    match mood {
        Some(HarborMood::Hangs) => tokio::time::sleep(Duration::from_mins(10)).await,
        Some(HarborMood::LosesAnswer) => return problem(502, "bad gateway"),
        _ => {}
    }
    answer
}

fn make(shared: &mut Shared, asked: &Value) -> Response {
    let permissions = asked["permissions"].as_array().cloned().unwrap_or_default();
    let [permission] = permissions.as_slice() else {
        return problem(400, "a robot of a project has one permission");
    };
    let days = asked["duration"].as_i64().unwrap_or(0);
    if asked["level"] != "project" || permission["kind"] != "project" || (days < 1 && days != -1) {
        return problem(400, "bad level, kind or duration");
    }
    if permission["namespace"] != PROJECT.0 {
        return problem(403, "forbidden");
    }
    let access = permission["access"].as_array().cloned().unwrap_or_default();
    let actions: Vec<String> =
        access.iter().filter_map(|one| Some(one["action"].as_str()?.to_owned())).collect();
    let mut name = format!("robot${}+{}", PROJECT.0, asked["name"].as_str().unwrap_or_default());
    if shared.mood == Some(HarborMood::OtherName) {
        name.push_str("-2");
    }
    if shared.robots.values().any(|robot| robot.name == name) {
        return problem(409, "the robot exists");
    }
    shared.next += 1;
    let (id, secret) = (shared.next, format!("canary-robot-{}", ulid::Ulid::generate()));
    let expires_at = jiff::Timestamp::now().as_second() + days * DAY;
    let robot = Robot { name, secret: secret.clone(), actions, expires_at };
    let mut answer = shown(id, &robot);
    answer["secret"] = match shared.mood {
        Some(HarborMood::OwnLogin) => json!(HARBOR_ADMIN.1),
        _ => json!(secret),
    };
    shared.secrets.push(secret);
    shared.robots.insert(id, robot);
    (StatusCode::CREATED, axum::Json(answer)).into_response()
}

async fn list(
    State(shared): State<Store>,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let mut shared = shared.lock().unwrap();
    let q = query.get("q").cloned().unwrap_or_default();
    if let Some(refused) = refusal(&mut shared, &headers, format!("GET robots?q={q}")) {
        return refused;
    }
    let mut conditions: BTreeMap<&str, &str> =
        q.split(',').filter_map(|one| one.split_once('=')).collect();
    let part = conditions.remove("name").unwrap_or_default().trim_start_matches('~');
    if !conditions.is_empty() && conditions.get("ProjectID") != Some(&"3") {
        return problem(403, "forbidden");
    }
    let robots = shared.robots.iter().filter(|(_, robot)| robot.name.contains(part));
    axum::Json(robots.map(|(id, robot)| shown(*id, robot)).collect::<Vec<_>>()).into_response()
}

async fn read(State(shared): State<Store>, headers: HeaderMap, Path(id): Path<u64>) -> Response {
    let mut shared = shared.lock().unwrap();
    if let Some(refused) = refusal(&mut shared, &headers, format!("GET robots/{id}")) {
        return refused;
    }
    match shared.robots.get(&id) {
        Some(robot) => axum::Json(shown(id, robot)).into_response(),
        None => problem(404, "not found"),
    }
}

async fn delete(State(shared): State<Store>, headers: HeaderMap, Path(id): Path<u64>) -> Response {
    let mut shared = shared.lock().unwrap();
    if let Some(refused) = refusal(&mut shared, &headers, format!("DELETE robots/{id}")) {
        return refused;
    }
    if shared.mood == Some(HarborMood::Refuses) {
        return problem(403, "forbidden");
    }
    match shared.robots.remove(&id) {
        Some(_) => StatusCode::OK.into_response(),
        None => problem(404, "not found"),
    }
}

async fn project(
    State(shared): State<Store>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Response {
    let mut shared = shared.lock().unwrap();
    if let Some(refused) = refusal(&mut shared, &headers, format!("GET projects/{name}")) {
        return refused;
    }
    if name == PROJECT.0 {
        axum::Json(json!({ "project_id": PROJECT.1, "name": name })).into_response()
    } else {
        problem(404, "not found")
    }
}

/// What a pull begins with: 200 if the login opens the project.
async fn tags(
    State(shared): State<Store>,
    headers: HeaderMap,
    Path((project, repository)): Path<(String, String)>,
) -> Response {
    let shared = shared.lock().unwrap();
    let (user, password) = login(&headers).unwrap_or_default();
    let now = jiff::Timestamp::now().as_second();
    let opens = |robot: &Robot| {
        robot.name == user
            && robot.secret == password
            && robot.expires_at > now
            && robot.actions.iter().any(|action| action == "pull")
            && project == PROJECT.0
    };
    if shared.robots.values().any(opens) {
        axum::Json(json!({ "name": format!("{project}/{repository}"), "tags": [] })).into_response()
    } else {
        problem(401, "unauthorized")
    }
}
