//! The audit log in PostgreSQL 15: what arrives, how it is searched and checked there, and how its
//! tables are made.

use rise_broker_tests::shipping::{ShippingBroker, has_everything, record, shipped_lines};
use rise_broker_tests::{Client, Installation, Postgres, Serving, audit_text, eventually};

/// A database with the tables, and a broker that ships there.
async fn shipping() -> (Postgres, ShippingBroker) {
    let postgres = Postgres::start().await;
    let broker = ShippingBroker::new(&postgres.settings()).await;
    broker.migrate(&postgres);
    (postgres, broker)
}

/// Stops the broker, and returns its log.
fn stop(mut serving: Serving) -> String {
    serving.terminate();
    assert!(serving.ended().success(), "{}", serving.log());
    serving.log()
}

fn run(installation: &Installation, arguments: &[&str]) -> (Option<i32>, String) {
    let printed = installation.run(arguments);
    (printed.code, printed.stdout + &printed.stderr)
}

fn query(installation: &Installation, arguments: &[&str]) -> String {
    let printed = installation.run(&[&["audit", "query", "--json"], arguments].concat());
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    printed.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn records_arrive_once_in_order_byte_for_byte_and_are_found_there() {
    let (postgres, broker) = shipping().await;
    let serving = broker.installation.serve();
    broker.issue(&serving, 5).await;
    let url = format!("{}/api/v1/registry/credentials?project=other", serving.url);
    let token = broker.installation.token_for("my-app");
    assert_eq!(Client::new().get_as(&url, &token).await.unwrap().status, 403);
    has_everything(&serving, "postgres").await;
    let log = stop(serving);
    // Also the end of the service, and its checkpoint.
    let own = broker.own_lines();
    assert_eq!(shipped_lines(&postgres).await, own);
    assert!(own.last().unwrap().contains("chain.checkpoint"));
    let issued = own.iter().map(|line| record(line)).find(|it| it["event"] == "issue.completed");
    let issued = issued.unwrap();
    let text = |pointer| issued.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let filters: [&[&str]; 11] = [
        &[],
        &["--project", "my-app"],
        &["--project", "other"],
        &["--subject", "ci"],
        &["--subject", "local:ci"],
        &["--subject", "local:c"],
        &["--registry", "prod", "--event", "issue.completed"],
        &["--event", "issue"],
        &["--request-id", &text("/request_id")],
        &["--minted-by", &text("/minted_by")],
        &["--fingerprint", &text("/credential/fingerprint")],
    ];
    for filter in filters {
        let there = query(&broker.installation, &[&["--from", "postgres"], filter].concat());
        assert_eq!(there, query(&broker.installation, filter), "{filter:?}");
    }
    let times = ["--since", &text("/time"), "--until", "2100-01-01T00:00:00Z"];
    let there = query(&broker.installation, &[&["--from", "postgres"], &times[..]].concat());
    assert!(there.lines().count() > 3, "{there}");
    let (code, said) = run(&broker.installation, &["audit", "verify", "--from", "postgres"]);
    assert_eq!(code, Some(0), "{said}");
    let records = format!("unbroken: {} records, 1 to {}", own.len(), own.len());
    assert!(said.contains(&records), "{said}");
    let secrets = postgres.passwords();
    let log = audit_text(&broker.installation.path("audit")) + &log;
    assert!(!secrets.iter().any(|secret| log.contains(secret)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_in_the_database_is_found() {
    let (postgres, broker) = shipping().await;
    let serving = broker.installation.serve();
    broker.issue(&serving, 3).await;
    broker.installation.file("log", stop(serving));
    let lines = shipped_lines(&postgres).await;
    assert_eq!(lines, broker.own_lines());
    let owner = postgres.owner().await;
    for (change, expected) in [
        (
            "UPDATE rise_audit.records SET line = replace(line, 'my-app', 'my-apq') WHERE seq = 3",
            "is broken at record 3: its content does not match its hash",
        ),
        (
            "UPDATE rise_audit.records SET project = 'innocent' WHERE seq = 3",
            "record 3: the columns of its row are not those of its line",
        ),
        (
            "UPDATE rise_audit.records SET time = time + interval '40 days' WHERE seq = 3",
            "record 3: the columns of its row are not those of its line",
        ),
        (
            "UPDATE rise_audit.records SET chain = '01ARZ3NDEKTSV4RRFFQ69G5FAV' WHERE seq = 3",
            "record 3: it is stored under another chain",
        ),
        ("UPDATE rise_audit.records SET line = '{}' WHERE seq = 3", "record 3: it is not a record"),
        (
            "DELETE FROM rise_audit.records WHERE seq = 3",
            "record 4 (the record before it here is 2): its number does not follow",
        ),
        (
            "DELETE FROM rise_audit.records WHERE seq > 3",
            "is broken behind record 3, the last one here: record",
        ),
        ("DELETE FROM rise_audit.records", "nothing of chain"),
    ] {
        owner
            .batch_execute("CREATE TEMP TABLE kept AS SELECT * FROM rise_audit.records")
            .await
            .unwrap();
        owner.batch_execute(change).await.unwrap();
        let arguments = ["audit", "verify", "--from", "postgres", "--checkpoints", "log"];
        let (code, said) = run(&broker.installation, &arguments);
        assert_eq!(code, Some(1), "{change}: {said}");
        assert!(said.contains(expected), "{change}: {said}");
        owner
            .batch_execute(
                "DELETE FROM rise_audit.records;
                 INSERT INTO rise_audit.records SELECT * FROM kept; DROP TABLE kept",
            )
            .await
            .unwrap();
        let (code, said) = run(&broker.installation, &arguments);
        assert_eq!(code, Some(0), "{change}: {said}");
        assert!(said.contains("kept elsewhere"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_and_changed_as_often_as_somebody_asks() {
    let postgres = Postgres::start().await;
    let broker = ShippingBroker::new(&postgres.settings()).await;
    let first = broker.migrate(&postgres);
    assert!(first.contains("created with version 2; 25 monthly partitions were added"), "{first}");
    assert!(first.contains("the role rise_ship may insert and read records"), "{first}");
    let owner = postgres.owner().await;
    // As it was by version 1, with a record from before the first partition.
    owner
        .batch_execute(
            "DROP INDEX rise_audit.records_project; DROP INDEX rise_audit.records_sub;
             DROP INDEX rise_audit.records_time; DROP INDEX rise_audit.records_event;
             DROP INDEX rise_audit.records_request_id; DROP INDEX rise_audit.records_minted_by;
             DROP INDEX rise_audit.records_fingerprint;
             DELETE FROM rise_audit.versions WHERE version = 2;
             INSERT INTO rise_audit.records (chain, seq, time, event, line)
                 VALUES ('x', 1, now() - interval '70 days', 'service.start', '{}')",
        )
        .await
        .unwrap();
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| broker.migrate(&postgres));
        (broker.migrate(&postgres), one.join().unwrap())
    });
    let said = one + &two;
    assert!(said.contains("was changed from version 1 to 2; "), "{said}");
    assert!(said.contains("the schema rise_audit has version 2; 0 monthly partitions"), "{said}");
    let left = "SELECT count(*) FROM rise_audit.records_default";
    assert_eq!(owner.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    let all = "SELECT count(*) FROM rise_audit.records";
    assert_eq!(owner.query_one(all, &[]).await.unwrap().get::<_, i64>(0), 1);
    // The role that ships can neither change nor remove a record.
    let shipper = postgres.shipper().await;
    shipper.query_one(all, &[]).await.unwrap();
    for forbidden in [
        "DELETE FROM rise_audit.records",
        "UPDATE rise_audit.records SET line = ''",
        "TRUNCATE rise_audit.records",
        "DROP TABLE rise_audit.records",
        "CREATE TABLE rise_audit.mine ()",
    ] {
        let error = shipper.batch_execute(forbidden).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{forbidden}: {error}");
    }
    owner.batch_execute("INSERT INTO rise_audit.versions (version) VALUES (9)").await.unwrap();
    let url = postgres.owner_url();
    let arguments = ["audit", "migrate", "--url", &url, "--password-file", "owner-password"];
    let (code, said) = run(&broker.installation, &arguments);
    assert_eq!(code, Some(1));
    assert!(said.contains("has version 9, and this program knows versions up to 2"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_encrypted_and_only_to_a_server_that_the_authority_knows() {
    let postgres = Postgres::with_tls().await;
    let ca_file = postgres.ca_file().display().to_string();
    let settings = format!("{}ca_file = '{ca_file}'\n", postgres.settings());
    let broker = ShippingBroker::new(&settings).await;
    broker.migrate(&postgres);
    let serving = broker.installation.serve();
    broker.issue(&serving, 1).await;
    has_everything(&serving, "postgres").await;
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
                     WHERE usename = 'rise_ship'";
    let encrypted = postgres.owner().await.query_one(encrypted, &[]).await.unwrap();
    assert!(encrypted.get::<_, bool>(0));
    drop(serving);
    let plain = Postgres::start().await;
    for (settings, expected) in [
        (postgres.settings(), "certificate"),
        (format!("{}ca_file = 'nowhere.pem'\n", postgres.settings()), "nowhere.pem"),
        (plain.settings().replace("tls = false", "tls = true"), "TLS"),
    ] {
        let broker = ShippingBroker::new(&settings).await;
        let (code, said) = run(&broker.installation, &["audit", "verify", "--from", "postgres"]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_starts_later_ships_what_was_recorded_before() {
    let postgres = Postgres::start().await;
    let broker = ShippingBroker::new("").await;
    for _ in 0..3 {
        let serving = broker.installation.serve();
        broker.issue(&serving, 2).await;
        stop(serving);
    }
    let settings = std::fs::read_to_string(broker.installation.path("config/default.toml"));
    broker.installation.settings(settings.unwrap() + &postgres.settings());
    // Without tables it says what to do.
    let serving = broker.installation.serve();
    let line = serving
        .wait_for_line("the audit log is not shipped; it stays here, and the broker tries again");
    assert!(line["error"].as_str().unwrap().contains("rise-broker audit migrate"), "{line}");
    broker.migrate(&postgres);
    has_everything(&serving, "postgres").await;
    let line = serving.wait_for_line("the audit log is shipped again");
    assert_eq!(line["shipped_to"], "postgres", "{line}");
    eventually("all is there", async || shipped_lines(&postgres).await == broker.own_lines()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_this_machine_is_used_without_tls() {
    let postgres = Postgres::start().await;
    let (as_it_is, encoded) = (|path: &str| path.to_owned(), |path: &str| path.replace('/', "%2F"));
    let [_, password] = postgres.passwords();
    let ca_file = "ca_file = 'nowhere.pem'\n";
    for (url, more) in [
        (postgres.socket_url("rise_ship", as_it_is), ""),
        (postgres.socket_url("rise_ship", encoded), "tls = false\n"),
        (postgres.socket_url("rise_ship", as_it_is), ca_file),
    ] {
        let table =
            format!("[audit.ship.postgres]\nurl = '{url}'\npassword = '{password}'\n{more}");
        let broker = ShippingBroker::new(&table).await;
        broker.installation.file("owner-password", postgres.passwords()[0]);
        let owner = postgres.socket_url("owner", encoded);
        let arguments = ["audit", "migrate", "--url", &owner, "--password-file", "owner-password"];
        let (code, said) = run(&broker.installation, &arguments);
        assert_eq!(code, Some(0), "{said}");
        let serving = broker.installation.serve();
        broker.issue(&serving, 1).await;
        has_everything(&serving, "postgres").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_says_what_its_role_lacks_and_shows_no_password() {
    let postgres = Postgres::start().await;
    let broker = ShippingBroker::new(&postgres.settings()).await;
    let [owner_password, ship_password] = postgres.passwords();
    broker.installation.file("owner", owner_password);
    broker.installation.file("ship", ship_password);
    let url = postgres.owner_url();
    let with_password = url.replace("owner@", &format!("owner:{owner_password}@"));
    let shipper = url.replace("owner@", "rise_ship@");
    for (arguments, expected) in [
        (
            vec!["--url", &with_password],
            "--url has a password; name a file with it by `--password-file`",
        ),
        (
            vec!["--url", &url],
            "asks for a password, and none is stated; name a file with it by `--password-file`",
        ),
        (
            vec!["--url", &shipper, "--password-file", "ship"],
            "permission denied for database audit (SQLSTATE 42501); rise_ship is not the owner",
        ),
        (vec![], "rise_ship is not the owner of this database; name the owner of the database by"),
    ] {
        let (code, said) =
            run(&broker.installation, &[&["audit", "migrate"], &*arguments].concat());
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(!said.contains(owner_password) && !said.contains(ship_password), "{said}");
    }
    for (mode, is_warned) in [(0o644, true), (0o600, false)] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(broker.installation.path("owner"), mode).unwrap();
        let arguments = ["audit", "migrate", "--url", &url, "--password-file", "owner"];
        let (code, said) = run(&broker.installation, &arguments);
        assert_eq!(code, Some(0), "{said}");
        let warning = "warning: --password-file owner can be read by other users (mode 0644): run";
        assert_eq!(said.contains(warning), is_warned, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_of_another_broker_is_named_until_its_key_is_trusted() {
    let (postgres, broker) = shipping().await;
    let other = ShippingBroker::new(&postgres.settings()).await;
    let mut logs = Vec::new();
    for broker in [&broker, &other] {
        let serving = broker.installation.serve();
        broker.issue(&serving, 1).await;
        logs.push(stop(serving));
    }
    let checkpoint = logs[1].lines().map(record).find(|it| it["message"] == "audit checkpoint");
    let checkpoint = checkpoint.unwrap();
    let text = |name: &str| checkpoint[name].as_str().unwrap();
    let (code, said) = run(&broker.installation, &["audit", "verify", "--from", "postgres"]);
    assert_eq!(code, Some(1), "{said}");
    let expected = format!(
        "the signature of checkpoints of the chain {} is not this broker's: the key is {}",
        text("chain"),
        text("key")
    );
    assert!(said.contains(&expected), "{said}");
    assert_eq!(said.matches(" is unbroken").count(), 2, "{said}");
    // The logs of both brokers in one file.
    broker.installation.file("logs", logs.concat());
    let arguments = ["audit", "verify", "--from", "postgres", "--checkpoints", "logs"];
    let trusting = [&arguments[..], &["--trust-key", text("key")]].concat();
    let (code, said) = run(&broker.installation, &trusting);
    assert_eq!(code, Some(0), "{said}");
}
