//! Moto: an independent STS and ECR, with a verbatim recording of the requests.
//!
//! It enforces nothing here, and its `GetAuthorizationToken` always expires in 2015: an issue
//! through it is refused. It proves what the broker *sends*, not what it hands out.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde_json::Value;

use crate::aws::caller::{Caller, Keys};
use crate::aws::request::Request;
use crate::loopback::{Answered, Client};
use crate::process::{PeerCommand, Port, Process};

/// The account 123456789012, which accepts every key.
#[derive(Debug)]
pub struct Moto {
    process: Process,
    client: Client,
    endpoint: String,
}

impl Moto {
    /// Starts it; it records from the start.
    ///
    /// # Panics
    /// If it is not installed (`make peers`) or does not start.
    pub async fn start() -> Self {
        let port = Port::free();
        let endpoint = port.url();
        let number = port.number().to_string();
        let command = PeerCommand::python("moto_server")
            .argument("-H")
            .argument("127.0.0.1")
            .argument("-p")
            .argument(number);
        let process =
            Process::start("moto", command, port, &format!("{endpoint}/moto-api/data.json")).await;
        let moto = Self { process, client: Client::new(), endpoint };
        // This creates the recording: asking for one before the first request is an error.
        moto.recorder("reset-recording").await;
        moto.recorder("start-recording").await;
        moto
    }

    /// The value for `endpoint_url`: STS and ECR share it.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A client of somebody with keys: it accepts any signature.
    pub fn somebody() -> reqwest::Client {
        let signed = "AWS4-HMAC-SHA256 Credential=AKIASOMEBODY/20261127/us-east-1/s3/aws4_request, \
                      SignedHeaders=host, Signature=0";
        let headers = [(AUTHORIZATION, HeaderValue::from_static(signed))].into_iter().collect();
        reqwest::Client::builder().default_headers(headers).build().unwrap()
    }

    /// Makes a bucket whose objects can be locked.
    ///
    /// # Panics
    /// If it is not made.
    pub async fn make_bucket(&self, name: &str) {
        let bucket = Self::somebody()
            .put(format!("{}/{name}", self.endpoint))
            .header("x-amz-bucket-object-lock-enabled", "true");
        let answer = bucket.send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// A caller with keys; it accepts any.
    pub fn caller(&self, region: &str) -> Caller {
        let keys = Keys {
            access_key_id: "AKIATEST".into(),
            secret_access_key: "test".into(),
            session_token: None,
        };
        Caller::new(&self.endpoint, region, keys)
    }

    /// The recorded requests for `action`, oldest first.
    pub async fn recorded(&self, action: &str) -> Vec<Request> {
        let mut requests = self.requests().await;
        requests.retain(|request| request.action == action);
        requests
    }

    /// Every request since the start or the last reset, oldest first.
    pub async fn requests(&self) -> Vec<Request> {
        let answer = self
            .client
            .get(&format!("{}/moto-api/recorder/download-recording", self.endpoint))
            .await;
        answer
            .accepted()
            .text()
            .lines()
            .map(|line| request(&serde_json::from_str(line).unwrap()))
            .collect()
    }

    /// Removes its state and its recording, and continues to record.
    pub async fn reset(&self) {
        self.client
            .post_form(&format!("{}/moto-api/reset", self.endpoint), &[], &[])
            .await
            .accepted();
        self.recorder("reset-recording").await;
        self.recorder("start-recording").await;
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    async fn recorder(&self, command: &str) -> Answered {
        self.client
            .post_form(&format!("{}/moto-api/recorder/{command}", self.endpoint), &[], &[])
            .await
            .accepted()
    }
}

fn request(line: &Value) -> Request {
    let headers: BTreeMap<_, _> = line["headers"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap_or("").to_owned()))
        .collect();
    let body = line["body"].as_str().unwrap_or("");
    let body =
        if line["body_encoded"] == true { STANDARD.decode(body).unwrap() } else { body.into() };
    Request::read(headers, &body)
}
