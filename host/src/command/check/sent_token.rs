//! A token that this broker signed in place of AWS keys, and the role that should trust it.

use serde_json::json;

/// What STS got of a token that this broker signed.
pub(in crate::command) struct SentToken {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) audience: String,
    /// What the trust policy must allow: a token may state tags and a source identity.
    pub(super) actions: Vec<&'static str>,
    /// Whether the operator named the project.
    pub(super) is_named: bool,
}

impl SentToken {
    /// What to do if STS did not accept the token. `None` if the failure is of something else.
    pub(super) fn remedy(&self, role: &str, text: &str) -> Option<String> {
        let Self { issuer, audience, .. } = self;
        let remedy = if text.contains("No OpenIDConnect provider") {
            let (_, account) = partition_and_account(role);
            format!(
                "create it: `aws iam create-open-id-connect-provider --url {issuer} \
                 --client-id-list {audience}`, in the account of the role ({account}); if that is \
                 another account than you expect, correct `push_role_arn`"
            )
        } else if text.contains("InvalidIdentityToken") && text.contains("audience") {
            format!("add `{audience}` to the audiences of the IAM OIDC provider of {issuer}")
        } else if text.contains("IDPCommunicationError") || text.contains("IdPCommunicationError") {
            format!(
                "AWS must reach {issuer}/.well-known/openid-configuration from the internet, on \
                 port 443 and with a certificate of a public authority"
            )
        } else if text.contains("InvalidIdentityToken") {
            format!(
                "AWS does not find the token's key: {issuer}/.well-known/jwks.json must be that of \
                 this broker's `signing.key_file`"
            )
        } else if text.contains("AccessDenied") {
            self.trust(role, text)
        } else {
            return None;
        };
        Some(remedy)
    }

    /// The statement that lets the broker assume the role. STS gives one answer to a role that does
    /// not exist and to one that does not trust the token.
    fn trust(&self, role: &str, text: &str) -> String {
        let Self { issuer, audience, subject, actions, is_named } = self;
        let host = host_of(issuer);
        let subjects = subject.split(':').enumerate().map(|(index, part)| match index {
            // Any action of this registry, and any project unless it is the operator's.
            5 => "*",
            1 if !is_named => "*",
            _ => part,
        });
        let statement = json!({
            "Effect": "Allow",
            "Action": actions,
            "Principal": { "Federated": provider_arn(role, issuer) },
            "Condition": {
                "StringEquals": { format!("{host}:aud"): audience },
                "StringLike": { format!("{host}:sub"): subjects.collect::<Vec<_>>().join(":") },
            },
        });
        let denied = denied_action(text).unwrap_or("sts:AssumeRoleWithWebIdentity");
        let projects = if *is_named {
            ""
        } else {
            "; if it lists projects, name one of them with `--project`"
        };
        format!(
            "either the trust policy of {role} does not allow {denied} to this token (sub \
             \"{subject}\"), or there is no such role: `aws iam get-role --role-name {}` shows it; \
             what the broker needs is {statement}{projects}{}",
            role_name(role),
            self.other_subject()
        )
    }

    fn other_subject(&self) -> &'static str {
        if self.subject.ends_with(":actions:pull") {
            "; this is the subject of a grant to pull alone, and any grant to push has `push` in \
             its place: `actions:*` allows both"
        } else {
            ""
        }
    }
}

/// The action that STS names in a denial.
fn denied_action(text: &str) -> Option<&str> {
    let (_, named) = text.split_once("Not authorized to perform ")?;
    let ends = |byte: char| !(byte.is_ascii_alphanumeric() || byte == ':');
    named.split(ends).next().filter(|action| action.starts_with("sts:"))
}

/// The IAM OIDC provider that the role must trust, for tokens of `issuer`.
pub(super) fn provider_arn(role: &str, issuer: &str) -> String {
    let (partition, account) = partition_and_account(role);
    format!("arn:{partition}:iam::{account}:oidc-provider/{}", host_of(issuer))
}

/// The name by which IAM's commands know a role: without its path.
pub(super) fn role_name(role: &str) -> &str {
    role.rsplit('/').next().unwrap_or(role)
}

fn host_of(issuer: &str) -> &str {
    issuer.split_once("://").map_or(issuer, |(_, host)| host)
}

fn partition_and_account(role: &str) -> (&str, &str) {
    let mut parts = role.split(':').skip(1);
    (parts.next().unwrap_or("aws"), parts.nth(2).unwrap_or_default())
}

/// The actions of a trust policy that a call needs, by the claims of its token.
pub(super) fn needed_actions(has_tags: bool, has_source_identity: bool) -> Vec<&'static str> {
    let tags = has_tags.then_some("sts:TagSession");
    let source_identity = has_source_identity.then_some("sts:SetSourceIdentity");
    ["sts:AssumeRoleWithWebIdentity"].into_iter().chain(tags).chain(source_identity).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const ROLE: &str = "arn:aws-cn:iam::123456789012:role/teams/push";

    fn sent(subject: &str, actions: Vec<&'static str>, is_named: bool) -> SentToken {
        SentToken {
            issuer: "https://broker.example.com".into(),
            subject: subject.into(),
            audience: "sts.amazonaws.com".into(),
            actions,
            is_named,
        }
    }

    fn statement_of(remedy: &str) -> Value {
        let text = remedy.get(remedy.find('{').unwrap()..).unwrap();
        serde_json::Deserializer::from_str(text).into_iter().next().unwrap().unwrap()
    }

    #[test]
    fn the_statement_has_every_action_that_the_token_needs() {
        for (tags, source, actions) in [
            (false, false, json!(["sts:AssumeRoleWithWebIdentity"])),
            (true, false, json!(["sts:AssumeRoleWithWebIdentity", "sts:TagSession"])),
            (false, true, json!(["sts:AssumeRoleWithWebIdentity", "sts:SetSourceIdentity"])),
            (
                true,
                true,
                json!(["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"]),
            ),
        ] {
            let sent =
                sent("project:a:registry:r:actions:push", needed_actions(tags, source), true);
            for action in ["AssumeRoleWithWebIdentity", "TagSession", "SetSourceIdentity"] {
                let text =
                    format!("AccessDenied (403): Not authorized to perform sts:{action}. Bye");
                let told = sent.remedy(ROLE, &text).unwrap();
                assert_eq!(statement_of(&told)["Action"], actions);
                assert!(told.contains(&format!("does not allow sts:{action} to")), "{told}");
            }
            let told = sent.remedy(ROLE, "AccessDenied (403): no").unwrap();
            assert!(told.contains("does not allow sts:AssumeRoleWithWebIdentity to"), "{told}");
        }
    }

    #[test]
    fn the_statement_is_for_the_project_that_was_named() {
        for (subject, is_named, expected) in [
            ("project:my-app:registry:prod:actions:push", true, "project:my-app:registry:prod"),
            ("project:a/b:registry:prod:actions:pull", true, "project:a/b:registry:prod"),
            ("project:probe:registry:prod:actions:push", false, "project:*:registry:prod"),
        ] {
            let sent = sent(subject, needed_actions(false, false), is_named);
            let told = sent.remedy(ROLE, "AccessDenied (403): no").unwrap();
            let statement = statement_of(&told);
            let subjects = &statement["Condition"]["StringLike"]["broker.example.com:sub"];
            assert_eq!(*subjects, format!("{expected}:actions:*"));
            assert_eq!(
                statement["Principal"]["Federated"],
                "arn:aws-cn:iam::123456789012:oidc-provider/broker.example.com"
            );
            assert_eq!(told.contains("--project"), !is_named, "{told}");
            assert_eq!(told.contains("pull alone"), subject.ends_with("pull"), "{told}");
            assert!(told.contains("`aws iam get-role --role-name push`"), "{told}");
        }
    }

    #[test]
    fn only_a_denial_is_one_of_the_trust_policy() {
        let sent = sent("project:a:registry:r:actions:push", needed_actions(false, false), true);
        for text in [
            "PackedPolicyTooLarge (400): Packed size",
            "RegionDisabledException (403): STS is not activated",
            "MalformedPolicyDocument (400): Syntax errors in policy.",
            "IDPRejectedClaim (403): no",
            "ValidationError (400): 1 validation error",
        ] {
            assert!(sent.remedy(ROLE, text).is_none(), "{text}");
        }
        for (text, part) in [
            ("InvalidIdentityToken (400): No OpenIDConnect provider found in your", "123456789012"),
            ("InvalidIdentityToken (400): Incorrect token audience", "audiences"),
            ("InvalidIdentityToken (400): Couldn't retrieve verification key", "jwks.json"),
            ("IDPCommunicationError (400): no", "from the internet"),
        ] {
            let told = sent.remedy(ROLE, text).unwrap();
            assert!(told.contains(part) && !told.contains("trust policy"), "{told}");
        }
    }
}
