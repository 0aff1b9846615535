//! `audit migrate` on tables into which brokers ship, and in which somebody wrote what he should
//! not.

use rise_broker_tests::shipping::ShippingBroker;
use rise_broker_tests::{Postgres, eventually};
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use tokio_postgres::Client;

/// A record of so many days ago, which belongs into no partition before the next migration.
async fn insert(client: &Client, seq: i64, days: i32) {
    let statement = "
        INSERT INTO rise_audit.records (chain, seq, time, event, line)
        VALUES ('x', $1, now() - $2 * interval '1 day', 'service.start', '{}')";
    client.execute(statement, &[&seq, &f64::from(days)]).await.unwrap();
}

async fn count(client: &Client, table: &str) -> i64 {
    let statement = format!("SELECT count(*) FROM rise_audit.{table}");
    client.query_one(&statement, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_arrives_during_a_migration_is_moved_too() {
    let postgres = Postgres::start().await;
    let broker = ShippingBroker::new(&postgres.settings()).await;
    broker.migrate(&postgres);
    let (owner, shipper) = (postgres.owner().await, postgres.shipper().await);
    insert(&shipper, 1, 70).await;
    shipper.batch_execute("BEGIN").await.unwrap();
    insert(&shipper, 2, 70).await;
    let committed = async {
        eventually("the migration waits for the record", async || {
            let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
            owner.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await;
        shipper.batch_execute("COMMIT").await.unwrap();
    };
    block_in_place(|| {
        std::thread::scope(|scope| {
            let migrated = scope.spawn(|| broker.migrate(&postgres));
            Handle::current().block_on(committed);
            migrated.join().unwrap()
        })
    });
    assert_eq!((count(&owner, "records_default").await, count(&owner, "records").await), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_time_of_a_record_holds_up_a_migration() {
    let postgres = Postgres::start().await;
    let broker = ShippingBroker::new(&postgres.settings()).await;
    broker.migrate(&postgres);
    let shipper = postgres.shipper().await;
    for time in ["-infinity", "4000-01-01 BC", "0001-01-01", "1970-01-01", "9999-12-31", "infinity"]
    {
        let statement = format!(
            "INSERT INTO rise_audit.records (chain, seq, time, event, line)
             VALUES ('x', 1, '{time}', 'service.start', '{{}}')"
        );
        shipper.batch_execute(&statement).await.unwrap();
    }
    let said = broker.migrate(&postgres);
    assert!(said.contains("; 0 monthly partitions were added"), "{said}");
    insert(&shipper, 2, 70).await;
    let said = broker.migrate(&postgres);
    assert!(!said.contains("; 0 monthly partitions were added"), "{said}");
    // They stay there; what can be moved is moved.
    assert_eq!(count(&postgres.owner().await, "records_default").await, 6);
}
