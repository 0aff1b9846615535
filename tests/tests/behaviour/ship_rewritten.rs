//! What `verify --from postgres` finds in a database that somebody else can write: a chain that was
//! rewritten, and rows that are no records.

use rise_broker_tests::Postgres;
use rise_broker_tests::shipping::{ShippingBroker, has_everything, record, shipped_lines};
use sha2::{Digest as _, Sha256};

fn verify(broker: &ShippingBroker) -> (Option<i32>, String) {
    let printed = broker.installation.run(&["audit", "verify", "--from", "postgres"]);
    (printed.code, printed.stdout + &printed.stderr)
}

/// The line as it is written at another place of its chain, and its hash.
fn moved(line: &str, seq: i64, prev: &str) -> (String, String) {
    let record = record(line);
    let (chain, before) = (record["chain"].as_str().unwrap(), record["prev"].as_str().unwrap());
    let (_, members) = line.split_once(&format!("\"prev\":\"{before}\",")).unwrap();
    let (members, _) = members.rsplit_once(",\"hash\":").unwrap();
    let head = format!(r#"{{"v":1,"chain":"{chain}","seq":{seq},"prev":"{prev}",{members}"#);
    let digest = Sha256::digest(&head);
    let hash = digest.iter().fold(String::new(), |hash, byte| format!("{hash}{byte:02x}"));
    (format!(r#"{head},"hash":"{hash}"}}"#), hash)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_was_rewritten_without_the_signing_key_is_found() {
    let postgres = Postgres::start().await;
    let settings = format!("[audit]\ncheckpoint_records = 3\n{}", postgres.settings());
    let broker = ShippingBroker::new(&settings).await;
    broker.migrate(&postgres);
    let mut serving = broker.installation.serve();
    broker.issue(&serving, 4).await;
    has_everything(&serving, "postgres").await;
    serving.terminate();
    assert!(serving.ended().success(), "{}", serving.log());
    let (code, said) = verify(&broker);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("behind the last checkpoint"), "{said}");

    let owner = postgres.owner().await;
    let (mut last, mut prev, mut is_signed) = (0_i64, "0".repeat(64), true);
    for line in shipped_lines(&postgres).await {
        let (old, is_checkpoint) =
            (record(&line)["seq"].as_i64().unwrap(), line.contains("chain.checkpoint"));
        if is_signed {
            // Up to the first checkpoint nothing is changed.
            (last, prev) = (old, record(&line)["hash"].as_str().unwrap().to_owned());
            is_signed = !is_checkpoint;
        } else if is_checkpoint {
            let delete = "DELETE FROM rise_audit.records WHERE seq = $1";
            owner.execute(delete, &[&old]).await.unwrap();
        } else {
            last += 1;
            let (line, hash) = moved(&line, last, &prev);
            let update = "UPDATE rise_audit.records SET seq = $1, line = $2 WHERE seq = $3";
            owner.execute(update, &[&last, &line, &old]).await.unwrap();
            prev = hash;
        }
    }
    let (code, said) = verify(&broker);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!(" to {last} are behind the last checkpoint")), "{said}");
    let expected = "records behind its last checkpoint, and a broker writes one after 3 (`audit.";
    assert!(said.contains(expected), "{said}");
    // As if it were the chain of a broker that signs more rarely.
    let text = std::fs::read_to_string(broker.installation.path("config/default.toml")).unwrap();
    broker.installation.settings(text.replace("checkpoint_records = 3", "checkpoint_records = 30"));
    let (code, said) = verify(&broker);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("are behind the last checkpoint"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_no_broker_wrote_do_not_hide_the_other_chains() {
    let postgres = Postgres::start().await;
    let broker = ShippingBroker::new(&postgres.settings()).await;
    broker.migrate(&postgres);
    let mut serving = broker.installation.serve();
    broker.issue(&serving, 1).await;
    has_everything(&serving, "postgres").await;
    serving.terminate();
    assert!(serving.ended().success(), "{}", serving.log());
    let records = shipped_lines(&postgres).await.len();
    let whole = format!(" is unbroken: {records} records, 1 to {records}");
    let line = r#"{"chain":"01ARZ3NDEKTSV4RRFFQ69G5FAV","seq":1,"time":"2026-11-21T10:00:00Z"}"#;
    let shipper = postgres.shipper().await;
    for (chain, seq, time, expected) in [
        ("", 1, "now", "there are records of a chain \"\", expected a ULID"),
        ("zzz", 1, "infinity", "there are records of a chain \"zzz\", expected a ULID"),
        (
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            1,
            "-infinity",
            "chain 01ARZ3NDEKTSV4RRFFQ69G5FAV is broken",
        ),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAW", -1, "4000-01-01 BC", "chain 01ARZ3NDEKTSV4RRFFQ69G5FAW is"),
    ] {
        let statement = format!(
            "INSERT INTO rise_audit.records (chain, seq, time, event, line)
             VALUES ('{chain}', {seq}, '{time}', 'service.start', '{line}')"
        );
        shipper.batch_execute(&statement).await.unwrap();
        let (code, said) = verify(&broker);
        assert_eq!(code, Some(1), "{chain}: {said}");
        assert!(said.contains(expected) && said.contains(&whole), "{chain}: {said}");
    }
    // A row whose time cannot be read, under the chain of the broker.
    let owner = postgres.owner().await;
    let update = "UPDATE rise_audit.records SET time = 'infinity' WHERE seq = 2 AND issuer <> ''";
    assert_eq!(owner.execute(update, &[]).await.unwrap(), 1);
    let (code, said) = verify(&broker);
    assert_eq!(code, Some(1), "{said}");
    let expected = "record 2: the columns of its row are not those of its line";
    assert!(said.contains(expected) && said.contains("chain \"zzz\""), "{said}");
}
