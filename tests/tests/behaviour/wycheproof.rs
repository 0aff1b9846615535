//! C2SP Wycheproof's vectors for signed tokens, through the code that reads and verifies every
//! token.
//!
//! They are not part of this repository: `WYCHEPROOF_DIR` names their folder.

use std::collections::BTreeMap;
use std::path::Path;

use rise_broker::identity::Algorithm;
use rise_broker::identity::jwks::KeySet;
use rise_broker::identity::jwt::Jws;
use rise_broker_tests::skipped;
use serde_json::{Value, json};

/// More algorithms than any issuer should have: a token that is refused here is refused with any
/// settings.
const ALL: [Algorithm; 9] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::EdDsa,
];

/// Verifies as `Identity::verify` does, with this one key as the issuer's.
fn verify(token: &str, key: &Value) -> Result<(), String> {
    let jws = Jws::parse(token).map_err(|reason| reason.to_string())?;
    let set = KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes());
    let set = set.map_err(|error| format!("key set: {error}"))?;
    let kid = jws.header.kid.as_deref().ok_or("its header has no `kid`")?;
    let key = set.find(Some(kid)).map_err(|_| "the issuer has no key of its `kid`")?;
    jws.verify(&ALL, &key).map_err(|reason| reason.to_string())
}

fn vectors() -> Option<Value> {
    let Some(directory) = std::env::var_os("WYCHEPROOF_DIR") else {
        skipped(
            "WYCHEPROOF_DIR is not set; it names the folder of C2SP Wycheproof's \
             json_web_signature_test.json",
        );
        return None;
    };
    let path = Path::new(&directory).join("json_web_signature_test.json");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Some(serde_json::from_str(&text).unwrap())
}

#[test]
fn no_invalid_signature_is_accepted_and_no_valid_one_refused_without_a_reason() {
    let Some(vectors) = vectors() else { return };
    let (mut invalid, mut accepted) = (0, 0);
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for group in vectors["testGroups"].as_array().unwrap() {
        // A shared secret has no public part: a key set with one must not work.
        let key = group.get("public").or_else(|| group.get("private")).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let verdict = verify(test["jws"].as_str().unwrap(), key);
            let name = format!("{} {} {}", group["comment"], test["tcId"], test["comment"]);
            match (test["result"].as_str().unwrap(), verdict) {
                ("invalid", Ok(())) => panic!("accepted: {name}"),
                ("invalid", Err(_)) => invalid += 1,
                ("valid", Ok(())) => accepted += 1,
                ("valid", Err(reason)) => {
                    let reason = format!("{}: {reason}", group["comment"].as_str().unwrap());
                    *refused.entry(reason).or_default() += 1;
                }
                (other, _) => panic!("{other}: {name}"),
            }
        }
    }
    let refused: Vec<String> =
        refused.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    insta::assert_snapshot!(format!("{invalid} invalid refused\n{accepted} valid accepted\n{}", refused.join("\n")), @r"
    355 invalid refused
    32 valid accepted
    5 base64: key set: no key can verify signatures: key 1 (`kid` hs256-key): it has `k`, a member of private keys: anyone who reads the set can sign with it
    2 base64: the token is not three base64url parts joined by `.`
    1 hs256: key set: no key can verify signatures: key 1 (`kid` kid-aes-sign): it has `k`, a member of private keys: anyone who reads the set can sign with it
    1 rfc7520: `alg` does not fit the key that `kid` names
    2 rfc7520: key set: no key can verify signatures: key 1 (`kid` 018c0ae5-4d9b-471b-bfd6-eef314bc7037): it has `k`, a member of private keys: anyone who reads the set can sign with it
    1 rfc7520: key set: no key can verify signatures: key 1 (`kid` bilbo.baggins@hobbiton.example): its `alg` is not an algorithm that the broker supports
    1 rfc7520WithKeyOps: `alg` does not fit the key that `kid` names
    1 rfc7520WithKeyOps: key set: no key can verify signatures: key 1 (`kid` bilbo.baggins@hobbiton.example): its `alg` is not an algorithm that the broker supports
    ");
}
