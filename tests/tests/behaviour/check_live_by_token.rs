//! `rise-broker check --live` of a broker without AWS keys: it says what is missing in AWS, and
//! what AWS cannot reach.

use std::fs;

use rise_broker_tests::registry::oci;
use rise_broker_tests::{
    AUTH, Answer, FederatedAws, Installation, SIGNING, Settings, Stub, TestBroker, repository,
};
use serde_json::{Value, json};

use crate::check_live::{Checked, check_in};
use crate::ecr_web_identity::{
    ASSUME, AUDIENCE, ISSUER, ROLE, SUBJECT, settings, start, table, trust,
};

const PULL: &str = "project:my-app:registry:prod:actions:pull";
const ANY: &str = "project:*:registry:prod:actions:*";

/// The policy that an operator makes of the statement in the problem.
fn policy_of(checked: &Checked) -> Value {
    let problem = checked.problem();
    let text = problem.get(problem.find('{').unwrap()..).unwrap();
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    json!({ "Version": "2012-10-17", "Statement": [values.next().unwrap().unwrap()] })
}

#[tokio::test]
async fn the_statement_that_is_printed_is_all_that_was_missing() {
    let more =
        |endpoint: &str| table(endpoint).with("session_tags", true).with("source_identity", true);
    let project = ["--project", "my-app"];
    let cases: [(&[&str], &[&str], &str, &str); 4] = [
        (&project, ASSUME, "sts:TagSession", "project:my-app:registry:prod:actions:*"),
        (&[], ASSUME, "sts:TagSession", ANY),
        (&[], &[ASSUME[0], "sts:TagSession"], "sts:SetSourceIdentity", ANY),
        (&[], &["sts:TagSession"], "sts:AssumeRoleWithWebIdentity", ANY),
    ];
    for (arguments, actions, named, pattern) in cases {
        let (aws, broker) = start(more, trust(&[ANY], actions)).await;
        let refused = check_in(&broker.settings, arguments, &[]).await;
        let policy = policy_of(&refused);
        let statement = &policy["Statement"][0];
        let all = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"];
        assert_eq!(statement["Action"], json!(all));
        let subjects = &statement["Condition"]["StringLike"]["broker.example.com:sub"];
        assert_eq!(*subjects, pattern);
        let text = refused.problem();
        assert!(text.contains(&format!("does not allow {named} to this token")), "{text}");
        // The double has no repositories: the project is not tried again.
        aws.role(ROLE, policy);
        let passed = check_in(&broker.settings, &[], &[]).await;
        assert_eq!(passed.success, arguments.is_empty(), "{}", passed.stderr);
    }
}

/// A grant to pull alone has another subject than one to push.
#[tokio::test]
async fn a_role_that_trusts_one_action_is_told() {
    let both = "project:my-app:registry:prod:actions:*";
    let cases: [(&[&str], Option<&str>); 7] = [
        (&[SUBJECT], Some(PULL)),
        (&[PULL], Some(SUBJECT)),
        (&["project:*:registry:prod:actions:push"], Some(PULL)),
        (&["project:other:registry:prod:actions:*"], Some(SUBJECT)),
        (&[SUBJECT, PULL], None),
        (&[both], None),
        (&[ANY], None),
    ];
    for (subjects, refused) in cases {
        let (aws, broker) = start(table, trust(subjects, ASSUME)).await;
        let checked = check_in(&broker.settings, &["--project", "my-app"], &[]).await;
        let Some(refused) = refused else {
            assert!(checked.stdout.contains("gets logins from ECR"), "{}", checked.stderr);
            continue;
        };
        let problem = checked.problem();
        assert!(problem.contains(&format!("(sub \"{refused}\")")), "{subjects:?}: {problem}");
        assert_eq!(problem.contains("a grant to pull alone"), refused == PULL, "{problem}");
        assert!(!problem.contains("project:*"), "{problem}");
        aws.role(ROLE, policy_of(&checked));
        let passed = check_in(&broker.settings, &["--project", "my-app"], &[]).await;
        assert!(passed.stdout.contains("gets logins from ECR"), "{}", passed.stderr);
    }
}

/// STS gives one answer to both.
#[tokio::test]
async fn a_role_that_may_not_exist_is_told_as_such() {
    let (_aws, broker) = start(table, trust(&[ANY], ASSUME)).await;
    let role = "arn:aws:iam::123456789012:role/teams/rise-ecr-psh";
    let variables = [("RISE_REGISTRIES__PROD__PUSH_ROLE_ARN", role)];
    let checked = check_in(&broker.settings, &[], &variables).await;
    let problem = checked.problem();
    assert!(problem.contains("either the trust policy of"), "{problem}");
    assert!(problem.contains("`aws iam get-role --role-name rise-ecr-psh`"), "{problem}");
}

#[tokio::test]
async fn an_error_that_is_no_denial_does_not_blame_the_trust_policy() {
    for (status, code, part) in [
        (403, "RegionDisabledException", "activate STS in us-east-1"),
        (400, "PackedPolicyTooLarge", "turn `session_tags` off"),
        (400, "MalformedPolicyDocument", "STS rejects the session policy"),
        (400, "ValidationError", "STS says what is wrong"),
        (403, "IDPRejectedClaim", "STS says what is wrong"),
    ] {
        let aws = Stub::start().await;
        let answer = Answer::sts_error(status, code, "the words of STS");
        aws.always("AssumeRoleWithWebIdentity", answer);
        let broker = TestBroker::with_settings(settings(table(aws.endpoint()))).start().await;
        let checked = check_in(&broker.settings, &[], &[]).await;
        let problem = checked.problem();
        assert!(problem.contains(code) && problem.contains("the words of STS"), "{problem}");
        assert!(problem.contains(part) && !problem.contains("trust policy"), "{problem}");
    }
}

/// It signs with a key that it does not keep, which AWS can never find.
#[tokio::test]
async fn a_broker_that_has_never_started_has_no_key_to_try() {
    let aws = Stub::start().await;
    let text = format!("{AUTH}{SIGNING}{}", table(aws.endpoint()));
    let checked = check_in(&Settings::new(text), &[], &[]).await;
    let problem = checked.problem();
    assert!(problem.contains("registries.prod.web_identity: was not tried"), "{problem}");
    assert!(problem.contains("start the broker once"), "{problem}");
    assert_eq!(aws.count("AssumeRoleWithWebIdentity"), 0);
    assert!(checked.stdout.contains("signing: there is no key yet"), "{}", checked.stdout);
}

#[tokio::test]
async fn an_issuer_that_cannot_be_fetched_is_warned_about_by_its_cause() {
    let aws = Stub::start().await;
    for (issuer, part) in [
        ("http://127.0.0.1:1", "start the broker and try again"),
        ("https://broker.invalid", "have a name server give this name an address"),
    ] {
        let signing = SIGNING.replace(ISSUER, issuer);
        let with = |registry: &str| Settings::new(format!("{AUTH}{signing}{registry}"));
        let of_aws = TestBroker::with_settings(with(&table(aws.endpoint()).to_string()));
        let of_aws = of_aws.start().await;
        let checked = check_in(&of_aws.settings, &[], &[]).await;
        assert!(checked.success, "{}", checked.stderr);
        let warning = checked.stderr.lines().find(|line| line.contains("it is not known"));
        let warning = warning.unwrap_or_else(|| panic!("{}{}", checked.stdout, checked.stderr));
        for part in [
            "warning: ",
            "signing.issuer: ",
            part,
            "the cloud of `prod` must fetch",
            &format!("{issuer}/.well-known/jwks.json"),
        ] {
            assert!(warning.contains(part), "{part}: {warning}");
        }
        let starts = warning.contains("start the broker");
        assert_eq!(starts, issuer.starts_with("http:"), "{warning}");
        // No cloud has to fetch it.
        let of_nobody = with(&oci("127.0.0.1:1").to_string());
        let of_nobody = TestBroker::with_settings(of_nobody).start().await;
        let checked = check_in(&of_nobody.settings, &[], &[]).await;
        assert!(checked.stdout.contains("signing: it is not known"), "{}", checked.stdout);
        assert!(!checked.stderr.contains("must fetch"), "{}", checked.stderr);
    }
}

/// Warnings of `check` about the registry, by issuer and endpoint.
#[test]
fn an_issuer_that_iam_does_not_accept_is_warned_about_once() {
    let vpc = "https://vpce-1.sts.eu-west-1.vpce.amazonaws.com";
    for (issuer, endpoint, registry, of_signing) in [
        ("https://broker.example.com", vpc, None, false),
        ("https://broker.example.com:8443", vpc, Some("on port 443"), false),
        ("http://localhost:3000", vpc, Some("over https, on port 443"), false),
        ("http://broker.example.com", vpc, None, true),
        ("https://broker.example.com:8443", "http://127.0.0.1:4566", None, false),
    ] {
        let signing = SIGNING.replace(ISSUER, issuer).replace("@STATE@/", "");
        let installation = Installation::new(format!("{AUTH}{signing}{}", table(endpoint)));
        let printed = installation.run(&["check"]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        let of_iam: Vec<&str> =
            printed.stderr.lines().filter(|line| line.contains("IAM accepts")).collect();
        assert_eq!(of_iam.len(), usize::from(registry.is_some()), "{}", printed.stderr);
        if let Some(remedy) = registry {
            assert!(of_iam[0].contains(remedy) && of_iam[0].contains("web_identity"), "{of_iam:?}");
        }
        assert_eq!(printed.stderr.contains("is not https"), of_signing, "{}", printed.stderr);
    }
}

/// Keys in place are for RS256; the setting is for those that a rotation makes.
#[test]
fn an_algorithm_that_sts_will_reject_is_warned_about_before_it_signs() {
    for (algorithm, warned) in [("RS256", false), ("ES256", false), ("EdDSA", true)] {
        let signing = |more: &str| format!("{}{more}", SIGNING.replace("@STATE@/", ""));
        let text = |more: &str| format!("{AUTH}{}{}", signing(more), table("http://127.0.0.1:1"));
        let installation = Installation::new(text(""));
        drop(installation.serve());
        installation.settings(text(&format!("algorithm = \"{algorithm}\"\n")));
        for rotated in [false, true] {
            let printed = installation.run(&["check"]);
            assert_eq!(printed.code, Some(0), "{}", printed.stderr);
            let told = printed.stderr.contains("later keys are for EdDSA");
            assert_eq!(told, warned, "{algorithm} {rotated}: {}", printed.stderr);
            installation.run(&["keys", "rotate", "--now"]);
        }
        let printed = installation.run(&["check"]);
        assert_eq!(printed.code, Some(i32::from(warned)), "{}", printed.stderr);
    }
}

#[tokio::test]
async fn check_says_whom_the_role_must_trust() {
    let aws = FederatedAws::start(ISSUER, AUDIENCE).await;
    let signing = SIGNING.replace("@STATE@/", "");
    let installation = Installation::new(format!("{AUTH}{signing}{}", table(aws.endpoint())));
    let printed = installation.run(&["check"]);
    let whom = format!(
        "prod: needs no AWS keys: {ROLE} must trust \
         arn:aws:iam::123456789012:oidc-provider/broker.example.com, for the audience {AUDIENCE} \
         and subjects such as {SUBJECT} and {PULL}, or `actions:*` for both\n"
    );
    assert!(printed.stdout.contains(&whom), "{}", printed.stdout);
}

/// The trust policies of the page, with both of its conditions.
#[tokio::test]
async fn the_trust_policies_of_the_page_are_right() {
    let page = fs::read_to_string(repository().join("docs/registries/ecr.md")).unwrap();
    let block = |begin: &str, end: &str| {
        let (_, text) = page.split_once(begin).unwrap();
        text.split_once(end).unwrap().0.to_owned()
    };
    let policy: Value = serde_json::from_str(&block("> trust.json <<'EOF'\n", "EOF")).unwrap();
    let images: Value = serde_json::from_str(&block("> images.json <<'EOF'\n", "EOF")).unwrap();
    assert_eq!(images["Statement"].as_array().unwrap().len(), 2);
    let listed = format!("{{{}}}", block("```json\n", "```"));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let (aws, broker) = start(table, policy.clone()).await;
    let passed = check_in(&broker.settings, &[], &[]).await;
    assert!(passed.success, "{}", passed.stderr);
    let mut policy = policy;
    policy["Statement"][0]["Condition"] = listed["Condition"].clone();
    aws.role(ROLE, policy);
    for (project, is_listed) in [("my-app", true), ("web", true), ("other", false)] {
        let checked = check_in(&broker.settings, &["--project", project], &[]).await;
        let got = checked.stdout.contains("gets logins from ECR");
        assert_eq!(got, is_listed, "{project}: {}", checked.stderr);
    }
    let unlisted = check_in(&broker.settings, &[], &[]).await;
    assert!(unlisted.problem().contains("name one of them with `--project`"));
}
