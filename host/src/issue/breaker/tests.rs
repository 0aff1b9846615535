use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

use super::*;

fn breaker() -> (Arc<Breaker>, impl Fn(i64)) {
    let now = Arc::new(AtomicI64::new(1_790_000_000));
    let read = Arc::clone(&now);
    let clock =
        Clock::from_fn(move || Timestamp::from_second(read.load(Ordering::SeqCst)).unwrap());
    let forward = move |seconds| {
        now.fetch_add(seconds, Ordering::SeqCst);
    };
    (Arc::new(Breaker::alone("prod", clock)), forward)
}

fn down() -> Result<(), IssueError> {
    Err(IssueError::UpstreamUnavailable(String::new()))
}

#[tokio::test]
async fn it_opens_lets_one_probe_through_and_closes() {
    let (breaker, forward) = breaker();
    for _ in 0..FAILURES {
        breaker.begin_here(None).unwrap().end(&down()).await;
    }
    for (pause, failed) in [(5, 1), (10, 2), (20, 3), (40, 4), (60, 5), (60, 6)] {
        assert_eq!(breaker.left_alone(), Some(Duration::from_secs(pause)), "{failed}");
        forward(i64::try_from(pause).unwrap() - 1);
        assert!(breaker.begin_here(None).is_err() && breaker.check_here().is_err());
        forward(1);
        let probe = breaker.begin_here(None).unwrap();
        assert!(breaker.begin_here(None).is_err(), "one at a time");
        probe.end(&down()).await;
    }
    forward(60);
    // A probe that ends without a verdict is followed by another one.
    drop(breaker.begin_here(None).unwrap());
    breaker.begin_here(None).unwrap().end(&Ok(())).await;
    assert_eq!(breaker.left_alone(), None);
    assert!(breaker.begin_here(None).is_ok() && breaker.begin_here(None).is_ok());
}

#[tokio::test]
async fn those_who_wait_hear_that_it_opens() {
    let (breaker, _) = breaker();
    let waits = Arc::clone(&breaker);
    let waiting = tokio::spawn(async move { waits.opens().await });
    let paused = Err::<(), _>(IssueError::UpstreamThrottled(Some(1)));
    breaker.begin_here(None).unwrap().end(&paused).await;
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "a pause ends no wait");
    for _ in 0..FAILURES {
        breaker.failed(false);
    }
    assert!(matches!(waiting.await.unwrap(), IssueError::LeftAlone { .. }));
    assert!(matches!(breaker.opens().await, IssueError::LeftAlone { .. }), "later, too");
}

#[tokio::test]
async fn it_stays_closed_while_most_calls_are_answered_or_failures_are_rare() {
    let (breaker, forward) = breaker();
    for _ in 0..50 {
        breaker.begin_here(None).unwrap().end(&Ok(())).await;
        breaker
            .begin_here(None)
            .unwrap()
            .end(&Err::<(), _>(IssueError::UpstreamDenied(String::new())))
            .await;
        breaker.begin_here(None).unwrap().end(&down()).await;
    }
    assert_eq!(breaker.left_alone(), None);
    for _ in 0..50 {
        forward(4);
        breaker.begin_here(None).unwrap().end(&down()).await;
    }
    assert_eq!(breaker.left_alone(), None);
}

#[tokio::test]
async fn a_registry_that_asks_for_a_pause_gets_it() {
    let (breaker, forward) = breaker();
    breaker
        .begin_here(None)
        .unwrap()
        .end(&Err::<(), _>(IssueError::UpstreamThrottled(Some(30))))
        .await;
    forward(29);
    let Err(IssueError::LeftAlone { wait }) = breaker.check_here() else { panic!("it is asked") };
    assert_eq!(wait, Duration::from_secs(1));
    forward(1);
    assert!(breaker.begin_here(None).is_ok() && breaker.begin_here(None).is_ok(), "it is closed");
    breaker
        .begin_here(None)
        .unwrap()
        .end(&Err::<(), _>(IssueError::UpstreamThrottled(Some(u32::MAX))))
        .await;
    assert_eq!(breaker.left_alone(), Some(LONGEST_PAUSE));
}

#[tokio::test]
async fn what_another_broker_found_out_holds_here_and_ends_with_it() {
    let (breaker, forward) = breaker();
    let down =
        |seconds| StoredState::LeftAlone { left: Duration::from_secs(seconds), is_down: true };
    assert!(breaker.hear(down(40)).is_err());
    assert_eq!(breaker.left_alone(), Some(Duration::from_secs(40)));
    assert!(matches!(breaker.opens().await, IssueError::LeftAlone { .. }), "who waits hears of it");
    assert!(breaker.begin_here(None).is_err(), "also while the store does not answer");
    assert!(breaker.hear(StoredState::Closed(Duration::ZERO)).is_ok());
    assert_eq!(breaker.left_alone(), None);
    // A pause ends no wait.
    let pause = StoredState::LeftAlone { left: Duration::from_secs(30), is_down: false };
    assert!(breaker.hear(pause).is_err());
    let waiting = tokio::time::timeout(Duration::from_millis(1), breaker.opens());
    assert!(waiting.await.is_err());
    forward(30);
    assert!(breaker.begin_here(None).is_ok() && breaker.begin_here(None).is_ok());
    // Only what was told after it opened closes what is open here.
    forward(60);
    for _ in 0..FAILURES {
        breaker.begin_here(None).unwrap().end(&self::down()).await;
    }
    forward(3);
    assert!(breaker.hear(StoredState::Closed(Duration::from_secs(4))).is_err());
    assert!(breaker.hear(StoredState::Unknown).is_err());
    assert!(breaker.hear(StoredState::Closed(Duration::from_secs(2))).is_ok());
    assert!(breaker.begin_here(None).is_ok() && breaker.begin_here(None).is_ok());
}

/// A store may lie, and a broker that can reach the registry finds out.
#[tokio::test]
async fn the_store_is_not_believed_for_ever() {
    let (breaker, forward) = breaker();
    let longest = LONGEST_PAUSE.as_secs();
    let lie = StoredState::LeftAlone { left: LONGEST_PAUSE, is_down: true };
    assert!(breaker.hear(lie).is_err());
    forward(i64::try_from(longest - 1).unwrap());
    assert!(breaker.hear(lie).is_err());
    forward(1);
    assert!(breaker.hear(lie).is_ok());
    // What it has found out itself is told: it is answered.
    let attempt = breaker.begin_here(None).unwrap();
    assert_eq!(attempt.finding(&Ok(())), Some(Finding::default()));
    assert!(breaker.hear(lie).is_ok(), "not again");
    // Its own breaker still counts.
    for _ in 0..FAILURES {
        breaker.begin_here(None).unwrap().end(&down()).await;
    }
    assert!(breaker.hear(lie).is_err());
    assert_eq!(breaker.left_alone(), Some(LONGEST_PAUSE), "there is a failure: it may be true");
}

#[tokio::test]
async fn a_probe_for_all_brokers_goes_on_from_how_often_they_have_failed() {
    let (breaker, _) = breaker();
    breaker.state().opened = 3;
    let probe = breaker.begin_here(None).unwrap();
    let pause = Duration::from_secs(40);
    assert_eq!(probe.finding(&down()), Some(Finding { opened: 4, pause }));
    assert_eq!(breaker.left_alone(), Some(pause));
    let paused = Err::<(), _>(IssueError::UpstreamThrottled(Some(7)));
    let pause = Duration::from_secs(7);
    assert_eq!(probe.finding(&paused), Some(Finding { opened: 0, pause }));
    assert_eq!(probe.finding(&Ok(())), None, "nothing new");
}
