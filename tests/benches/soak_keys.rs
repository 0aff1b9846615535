//! Part of `make soak`: the signing keys rotate while a registry verifies 100 tokens a second. It
//! fails if a request fails, or if the new key signs nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rise_broker_tests::{AUTH, TokenInstallation};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

const PER_SECOND: usize = 100;
const SECONDS: usize = 60;
const ROTATE_AT: usize = SECONDS / 3;

fn main() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let scene = TokenInstallation::start(AUTH, "", |_| {}).await;
        let answers = run(&scene).await;
        println!("{PER_SECOND} requests a second for {SECONDS} s, by status and key: {answers:?}");
        let tokens: usize = answers.values().sum();
        assert_eq!(tokens, PER_SECOND * SECONDS);
        // There is no such repository, which only those who may pull are told.
        assert!(answers.keys().all(|(status, _)| *status == 404), "BROKEN: a request failed");
        assert_eq!(answers.len(), 2, "BROKEN: tokens of one key");
        println!("holds: no request fails, and both keys have signed");
    });
}

fn kid(token: &str) -> String {
    let header = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

/// How often the registry answered with which status to tokens of which key.
async fn run(scene: &TokenInstallation) -> BTreeMap<(u16, String), usize> {
    let caller = scene.installation.token_for("my-app");
    let realm = scene.token_url("repository:my-app:pull");
    let tags = format!("{}/v2/my-app/tags/list", scene.registry.url());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut tick = interval(Duration::from_secs(1) / u32::try_from(PER_SECOND).unwrap());
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    for index in 0..PER_SECOND * SECONDS {
        tick.tick().await;
        if index == ROTATE_AT * PER_SECOND {
            let printed = scene.installation.run(&["keys", "rotate", "--now"]);
            assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        }
        let (http, realm, tags, caller) =
            (http.clone(), realm.clone(), tags.clone(), caller.clone());
        requests.spawn(async move {
            let answer = http.get(&realm).basic_auth("oidc", Some(&caller)).send().await.unwrap();
            if answer.status() != 200 {
                return (answer.status().as_u16(), "none".to_owned());
            }
            let json: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            let token = json["token"].as_str().unwrap();
            let listed = http.get(&tags).bearer_auth(token).send().await.unwrap();
            (listed.status().as_u16(), kid(token))
        });
    }
    let mut answers = BTreeMap::new();
    while let Some(answer) = requests.join_next().await {
        *answers.entry(answer.unwrap()).or_default() += 1;
    }
    answers
}
