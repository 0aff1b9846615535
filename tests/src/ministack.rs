//! ministack: STS and ECR that enforce IAM's policies, including session policies.
//!
//! It does *not* check these, so no test may rely on them: limits on durations (900 to 43200
//! seconds, one hour for a chained role) and on session names; permission for `SourceIdentity`;
//! authentication of `/v2/`. Its ECR password is a constant.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::aws::caller::{Caller, Keys};
use crate::aws::request::Request;
use crate::loopback::{Answered, Client};
use crate::process::{PeerCommand, Port, Process};

/// One account in one region.
#[derive(Debug)]
pub struct Ministack {
    process: Process,
    client: Client,
    endpoint: String,
    region: String,
    account: String,
}

/// The identities that an operator sets up in AWS: one for the broker, and the roles that it
/// assumes.
#[derive(Debug)]
pub struct TwoRoles {
    /// Keys of the user `rise-base`, which may only assume the role `rise-backend`.
    pub base: Keys,
    /// `rise-backend` trusts `rise-base` and may only assume the two roles below.
    pub role_arn: String,
    /// `rise-backend-ecr-push` trusts `rise-backend` and may push and pull `{prefix}*`.
    pub push_role_arn: String,
    /// `rise-backend-ecr-broad` trusts `rise-backend` and may `ecr:*` on `*`: only a session policy
    /// limits it.
    pub broad_role_arn: String,
}

impl Ministack {
    /// Starts the account 123456789012 in eu-west-1.
    ///
    /// # Panics
    /// If it is not installed (`make peers`) or does not start.
    pub async fn start() -> Self {
        Self::start_in("eu-west-1", "123456789012").await
    }

    pub async fn start_in(region: &str, account: &str) -> Self {
        let port = Port::free();
        let endpoint = port.url();
        let command = PeerCommand::python("ministack");
        let state = command.directory().display().to_string();
        let command = command
            .variable("AUTH", "true")
            // Without this, ministack listens on every address of the machine.
            .variable("BIND_HOST", "127.0.0.1")
            .variable("GATEWAY_PORT", port.number().to_string())
            .variable("MINISTACK_REGION", region)
            .variable("MINISTACK_ACCOUNT_ID", account)
            .variable("CLOUDTRAIL_RECORDING", "1")
            .variable("SFTP_ENABLED", "0")
            .variable("IOT_MTLS_ENABLED", "0")
            .variable("STATE_DIR", state);
        let process =
            Process::start("ministack", command, port, &format!("{endpoint}/_ministack/health"))
                .await;
        Self {
            process,
            client: Client::new(),
            endpoint,
            region: region.into(),
            account: account.into(),
        }
    }

    /// The value for `endpoint_url`: STS and ECR share it.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    pub fn account(&self) -> &str {
        &self.account
    }

    /// A caller who may do everything. The signature of these keys is not checked.
    pub fn root(&self) -> Caller {
        self.caller(&Keys {
            access_key_id: self.account.clone(),
            secret_access_key: "unchecked".into(),
            session_token: None,
        })
    }

    /// A caller with `keys`.
    pub fn caller(&self, keys: &Keys) -> Caller {
        Caller::new(&self.endpoint, &self.region, keys.clone())
    }

    /// Creates the user and the roles, once or again after [`Ministack::reset`].
    pub async fn two_roles(&self, prefix: &str) -> TwoRoles {
        let arn = |resource: &str| format!("arn:aws:iam::{}:{resource}", self.account);
        let roles = TwoRoles {
            base: self.user("rise-base").await,
            role_arn: arn("role/rise-backend"),
            push_role_arn: arn("role/rise-backend-ecr-push"),
            broad_role_arn: arn("role/rise-backend-ecr-broad"),
        };
        let chain = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"];
        self.iam(&[
            ("Action", "PutUserPolicy"),
            ("UserName", "rise-base"),
            ("PolicyName", "may"),
            ("PolicyDocument", &allow(&["sts:AssumeRole"], &[&roles.role_arn])),
        ])
        .await;
        let may_chain = allow(&chain, &[&roles.push_role_arn, &roles.broad_role_arn]);
        self.role("rise-backend", &arn("user/rise-base"), &may_chain).await;
        let repositories =
            format!("arn:aws:ecr:{}:{}:repository/{prefix}*", self.region, self.account);
        self.role("rise-backend-ecr-push", &roles.role_arn, &push_and_pull(&repositories)).await;
        self.role("rise-backend-ecr-broad", &roles.role_arn, &allow(&["ecr:*"], &["*"])).await;
        roles
    }

    /// Lets callers assume both push roles with session tags and a source identity, which a trust
    /// policy must allow first.
    pub async fn trust_session_tags(&self, roles: &TwoRoles) {
        let document =
            trust(&roles.role_arn, &["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]);
        for name in ["rise-backend-ecr-push", "rise-backend-ecr-broad"] {
            let form = [
                ("Action", "UpdateAssumeRolePolicy"),
                ("RoleName", name),
                ("PolicyDocument", &document),
            ];
            self.iam(&form).await;
        }
    }

    /// Lets the role `rise-backend` do `actions` on the repositories below `prefix`. ministack
    /// finds
    /// the repository of a request in `repositoryName` only, so the actions that name it elsewhere
    /// need `*` here.
    pub async fn let_manage(&self, prefix: &str, actions: &[&str]) {
        let resource = format!("arn:aws:ecr:{}:{}:repository/{prefix}*", self.region, self.account);
        let named_elsewhere = ["ecr:DescribeRepositories", "ecr:ListTagsForResource"];
        let named_elsewhere = [&named_elsewhere[..], &["ecr:TagResource", "ecr:UntagResource"]];
        let elsewhere = named_elsewhere.concat();
        let elsewhere: Vec<&str> =
            elsewhere.into_iter().filter(|action| actions.contains(action)).collect();
        let form = [
            ("Action", "PutRolePolicy"),
            ("RoleName", "rise-backend"),
            ("PolicyName", "repositories"),
            (
                "PolicyDocument",
                &document(&json!([
                    { "Effect": "Allow", "Action": actions, "Resource": resource },
                    { "Effect": "Allow", "Action": elsewhere, "Resource": "*" },
                ])),
            ),
        ];
        self.iam(&form).await;
    }

    pub async fn create_repository(&self, name: &str) {
        let target = "AmazonEC2ContainerRegistry_V20150921.CreateRepository";
        self.json("ecr", target, &json!({ "repositoryName": name })).await;
    }

    /// The recorded requests for `action` (`AssumeRole`, `GetAuthorizationToken`, `CreateUser` …),
    /// oldest first.
    ///
    /// It records only requests that identity and session policies allow, and also those that a
    /// trust policy refuses.
    pub async fn recorded(&self, action: &str) -> Vec<Request> {
        let mut requests = self.requests().await;
        requests.retain(|request| request.action == action);
        requests
    }

    /// Every recorded request in this account and region, oldest first, including the set-up.
    pub async fn requests(&self) -> Vec<Request> {
        let mut events: Vec<Value> = Vec::new();
        loop {
            // The API has no page tokens and returns the newest 50: the next request asks for what
            // is not newer than the oldest so far.
            let end = events.last().map_or(Value::Null, |event| event["EventTime"].clone());
            let page = self.json("cloudtrail", LOOKUP, &json!({ "EndTime": end })).await.json();
            let page = page["Events"].as_array().unwrap().clone();
            let known = events.len();
            for event in page {
                if !events.iter().any(|seen| seen["EventId"] == event["EventId"]) {
                    events.push(event);
                }
            }
            if events.len() == known {
                break;
            }
        }
        events.iter().rev().map(request).collect()
    }

    /// Removes everything: users, roles, repositories, sessions, recorded requests.
    pub async fn reset(&self) {
        self.client
            .post_form(&format!("{}/_ministack/reset", self.endpoint), &[], &[])
            .await
            .accepted();
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    async fn user(&self, name: &str) -> Keys {
        self.iam(&[("Action", "CreateUser"), ("UserName", name)]).await;
        let answer = self.iam(&[("Action", "CreateAccessKey"), ("UserName", name)]).await.text();
        Keys {
            access_key_id: element(&answer, "AccessKeyId"),
            secret_access_key: element(&answer, "SecretAccessKey"),
            session_token: None,
        }
    }

    async fn role(&self, name: &str, trusted: &str, policy: &str) {
        let document = trust(trusted, &["sts:AssumeRole"]);
        let form =
            [("Action", "CreateRole"), ("RoleName", name), ("AssumeRolePolicyDocument", &document)];
        self.iam(&form).await;
        let form = [
            ("Action", "PutRolePolicy"),
            ("RoleName", name),
            ("PolicyName", "may"),
            ("PolicyDocument", policy),
        ];
        self.iam(&form).await;
    }

    /// Sends a request to IAM as the account's root, with `Action` and its parameters, to take away
    /// what [`Ministack::two_roles`] gave.
    pub async fn iam(&self, form: &[(&str, &str)]) -> Answered {
        self.try_iam(form).await.accepted()
    }

    /// The same, whatever the answer is.
    pub async fn try_iam(&self, form: &[(&str, &str)]) -> Answered {
        let form = [&[("Version", "2010-05-08")], form].concat();
        let signed = self.unchecked_signature("iam");
        self.client.post_form(&self.endpoint, &form, &[("Authorization", &signed)]).await
    }

    async fn json(&self, service: &str, target: &str, body: &Value) -> Answered {
        let signed = self.unchecked_signature(service);
        let headers = [("Authorization", signed.as_str()), ("X-Amz-Target", target)];
        self.client
            .post_json(&self.endpoint, "application/x-amz-json-1.1", body, &headers)
            .await
            .accepted()
    }

    /// An account number as the access key is that account's root; its signature is not checked.
    fn unchecked_signature(&self, service: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential={}/20260101/{}/{service}/aws4_request, \
             SignedHeaders=host, Signature=00",
            self.account, self.region
        )
    }
}

const LOOKUP: &str = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents";

/// All query services share the event name `POST.sts`, `POST.iam`: there the action is a parameter.
fn request(event: &Value) -> Request {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let detail: Value = serde_json::from_str(event["CloudTrailEvent"].as_str().unwrap()).unwrap();
    let parameters = detail["requestParameters"].clone();
    Request {
        service: text(&event["EventSource"]).trim_end_matches(".amazonaws.com").to_owned(),
        action: parameters["Action"]
            .as_str()
            .map_or_else(|| text(&event["EventName"]), String::from),
        access_key_id: text(&event["AccessKeyId"]),
        region: text(&detail["awsRegion"]),
        parameters,
        headers: BTreeMap::new(),
    }
}

fn allow(actions: &[&str], resources: &[&str]) -> String {
    document(&json!([{ "Effect": "Allow", "Action": actions, "Resource": resources }]))
}

fn trust(principal: &str, actions: &[&str]) -> String {
    document(&json!([{ "Effect": "Allow", "Principal": { "AWS": principal }, "Action": actions }]))
}

fn push_and_pull(repositories: &str) -> String {
    let actions = [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:CompleteLayerUpload",
        "ecr:GetDownloadUrlForLayer",
        "ecr:InitiateLayerUpload",
        "ecr:PutImage",
        "ecr:UploadLayerPart",
    ];
    document(&json!([
        { "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*" },
        { "Effect": "Allow", "Action": actions, "Resource": repositories },
    ]))
}

fn document(statements: &Value) -> String {
    json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

/// The text of the first `<name>…</name>`. That is enough for keys, which contain no `<` or `&`.
fn element(xml: &str, name: &str) -> String {
    let (_, rest) = xml.split_once(&format!("<{name}>")).unwrap();
    rest.split_once("</").unwrap().0.to_owned()
}
