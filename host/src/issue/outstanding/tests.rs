use super::pace::AT_ONCE;
use super::*;
use crate::audit::PastIssue;
use crate::domain::Actions;

const NOW: i64 = 1_790_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

fn grant(id: u128, registry: &str) -> PastGrant {
    PastGrant {
        id: Ulid(id),
        issuer: "local".to_owned(),
        sub: "ci".to_owned(),
        owner: SubjectDigest::of("local", "ci"),
        registry: registry.parse().unwrap(),
        project: "my-app".parse().unwrap(),
        actions: Actions::PULL,
    }
}

/// A credential that ends after `end` seconds.
fn past(id: u128, registry: &str, ended_by: EndedBy, end: i64) -> PastIssue {
    PastIssue {
        grant: grant(id, registry),
        remembered: Some(id.to_string()),
        was_minted: true,
        is_session: false,
        ended_by,
        expires_at: Some(at(end)),
        holders: vec![(Ulid(id), SubjectDigest::of("local", "ci"))],
    }
}

fn name(registry: &str) -> RegistryName {
    registry.parse().unwrap()
}

fn ids(outstanding: &Outstanding, registry: &str, now: Timestamp) -> Vec<u128> {
    let mut ids = Vec::new();
    while let Some(due) = outstanding.next(&name(registry), now) {
        ids.push(due.grant.id.0);
    }
    outstanding.worker_ends(&name(registry));
    ids
}

#[test]
fn a_credential_ends_at_its_granted_end_and_not_before() {
    let outstanding = Outstanding::default();
    for (id, end) in [(1, 60), (2, 30), (3, 90)] {
        outstanding.recovered(past(id, "prod", EndedBy::Broker, end), at(0));
    }
    assert!(outstanding.workers(at(29)).is_empty());
    assert_eq!(outstanding.workers(at(60)), [name("prod"), name("prod")]);
    assert_eq!(ids(&outstanding, "prod", at(60)), [2, 1]);
    let counts = outstanding.counts(at(60));
    assert_eq!(counts, OutstandingCounts { credentials: 3, overdue: 2 });
    for id in [1, 2] {
        outstanding.ended(&grant(id, "prod"), &Revoked::Ended, at(61));
    }
    assert_eq!(outstanding.counts(at(61)).credentials, 1);
}

#[test]
fn what_the_registry_ends_is_forgotten_then() {
    let outstanding = Outstanding::default();
    outstanding.recovered(past(1, "prod", EndedBy::Registry, 60), at(0));
    assert!(outstanding.workers(at(59)).is_empty());
    assert_eq!(outstanding.counts(at(59)).credentials, 1);
    assert!(outstanding.workers(at(60)).is_empty());
    assert_eq!(outstanding.counts(at(60)), OutstandingCounts::default());
}

#[test]
fn a_registry_that_is_away_is_asked_by_one_and_others_go_on() {
    let outstanding = Outstanding::default();
    for id in 0..20 {
        outstanding.recovered(past(id, "away", EndedBy::Broker, 0), at(0));
        outstanding.recovered(past(100 + id, "prod", EndedBy::Broker, 0), at(0));
    }
    let mut workers = outstanding.workers(at(0));
    workers.sort();
    assert_eq!(workers.len(), 2 * AT_ONCE);
    let due = outstanding.next(&name("away"), at(0)).unwrap();
    outstanding.ended(&due.grant, &Revoked::Later(None), at(0));
    // The other workers of this registry stop.
    assert_eq!(ids(&outstanding, "away", at(0)), [0_u128; 0]);
    assert_eq!(ids(&outstanding, "prod", at(0)).len(), 20);
    for _ in 1..AT_ONCE {
        assert!(outstanding.next(&name("away"), at(0)).is_none());
        outstanding.worker_ends(&name("away"));
    }
    assert_eq!(outstanding.workers(at(1)), [name("away")]);
    let mut pauses = Vec::new();
    let mut now = 1;
    for _ in 0..8 {
        let due = outstanding.next(&name("away"), at(now)).unwrap();
        outstanding.ended(&due.grant, &Revoked::Later(None), at(now));
        assert!(outstanding.next(&name("away"), at(now)).is_none());
        outstanding.worker_ends(&name("away"));
        let until =
            (now..now + 99).find(|next| !outstanding.workers(at(*next)).is_empty()).unwrap();
        pauses.push(until - now);
        now = until;
    }
    assert_eq!(pauses, [2, 4, 8, 16, 30, 30, 30, 30]);
    let due = outstanding.next(&name("away"), at(now)).unwrap();
    outstanding.ended(&due.grant, &Revoked::Ended, at(now));
    assert_eq!(outstanding.workers(at(now)).len(), AT_ONCE - 1);
}

#[test]
fn a_refusal_is_repeated_for_that_credential_alone() {
    let outstanding = Outstanding::default();
    for id in [1, 2] {
        outstanding.recovered(past(id, "prod", EndedBy::Broker, 0), at(0));
    }
    assert_eq!(outstanding.workers(at(0)).len(), 2);
    let due = outstanding.next(&name("prod"), at(0)).unwrap();
    outstanding.ended(&due.grant, &Revoked::Denied, at(0));
    assert_eq!(ids(&outstanding, "prod", at(0)), [2]);
    assert_eq!(outstanding.next(&name("prod"), at(1)).unwrap().attempt, 2);
}

#[test]
fn what_should_have_ended_is_recorded_again_twice_a_day() {
    let outstanding = Outstanding::default();
    outstanding.recovered(past(1, "gone", EndedBy::Broker, 0), at(0));
    outstanding.recovered(past(2, "gone", EndedBy::Broker, 100_000), at(0));
    let again = |hours: i64| outstanding.not_recorded_since_long(at(hours * 3600)).len();
    assert_eq!(
        [again(1), again(12), again(13), again(14), again(25), again(26)],
        [0, 0, 1, 0, 0, 1]
    );
}

fn revoker() -> Revoker {
    Revoker { issuer: "local".to_owned(), sub: "ci".to_owned(), request: Ulid(99) }
}

fn owner(sub: &str) -> SubjectDigest {
    SubjectDigest::of("local", sub)
}

#[test]
fn the_last_who_gives_it_back_ends_it() {
    let outstanding = Outstanding::default();
    let mut shared = past(1, "prod", EndedBy::Registry, 600);
    shared.holders.push((Ulid(2), owner("cd")));
    outstanding.recovered(shared, at(0));
    let give_back = |request: u128, sub: &str| {
        let given = outstanding.give_back(Ulid(request), &owner(sub), (&revoker(), at(10)));
        match given {
            GivenBack::Unknown => "unknown",
            GivenBack::Shared(..) => "shared",
            GivenBack::Ending(..) => "ending",
        }
    };
    // Neither a request of somebody else nor one that nobody made.
    assert_eq!([give_back(1, "cd"), give_back(2, "ci"), give_back(3, "ci")], ["unknown"; 3]);
    assert_eq!(give_back(1, "ci"), "shared");
    assert_eq!(give_back(1, "ci"), "unknown");
    assert!(outstanding.workers(at(10)).is_empty());
    assert_eq!([give_back(2, "cd"), give_back(2, "cd")], ["ending"; 2]);
    assert_eq!(outstanding.workers(at(10)), [name("prod")]);
    let due = outstanding.next(&name("prod"), at(10)).unwrap();
    assert_eq!((due.cause, due.by), (RevocationCause::Returned, Some(revoker())));
    outstanding.ended(&due.grant, &Revoked::Ended, at(11));
    assert_eq!(give_back(2, "cd"), "unknown");
    assert_eq!(outstanding.counts(at(11)), OutstandingCounts::default());
}

#[test]
fn a_credential_of_more_holders_than_are_known_ends_at_its_end() {
    let outstanding = Outstanding::default();
    let mut crowd = past(1, "prod", EndedBy::Broker, 600);
    crowd.holders = (1..2000).map(|id| (Ulid(id), owner("ci"))).collect();
    outstanding.recovered(crowd, at(0));
    for id in 1..=1024 {
        let given = outstanding.give_back(Ulid(id), &owner("ci"), (&revoker(), at(1)));
        assert!(matches!(given, GivenBack::Shared(..)), "{id}");
    }
    assert!(outstanding.workers(at(599)).is_empty());
    assert_eq!(outstanding.workers(at(600)), [name("prod")]);
}

#[test]
fn an_operator_ends_what_it_selects() {
    let select = |selection: Selection| {
        let outstanding = Outstanding::default();
        for (id, registry) in [(1, "prod"), (2, "prod"), (3, "dev")] {
            let mut issue = past(id, registry, EndedBy::Broker, 600);
            if id == 2 {
                issue.holders.push((Ulid(20), owner("cd")));
            }
            outstanding.recovered(issue, at(0));
        }
        let seen: Vec<u128> =
            outstanding.select(&selection, at(1)).iter().map(|view| view.minted_by.0).collect();
        let (ended, _) = outstanding.end_selected(&selection, (&revoker(), at(1)));
        assert_eq!(ended.iter().map(|view| view.minted_by.0).collect::<Vec<_>>(), seen);
        assert!(ended.iter().all(|view| view.is_ending));
        // All workers of all registries find exactly these.
        outstanding.workers(at(1));
        let mut due = [ids(&outstanding, "prod", at(1)), ids(&outstanding, "dev", at(1))].concat();
        due.sort_unstable();
        assert_eq!(due, seen);
        seen
    };
    let all = Selection::default;
    assert_eq!(select(all()), [1, 2, 3]);
    assert_eq!(select(Selection { registries: Some(vec![name("prod")]), ..all() }), [1, 2]);
    assert_eq!(select(Selection { project: Some("other".parse().unwrap()), ..all() }), [0; 0]);
    assert_eq!(select(Selection { subject: Some(owner("ci")), ..all() }), [1, 2, 3]);
    // It was minted for somebody else, and this subject has it.
    assert_eq!(select(Selection { subject: Some(owner("cd")), ..all() }), [2]);
    assert_eq!(select(Selection { request: Some(Ulid(20)), ..all() }), [2]);
    assert_eq!(select(Selection { request: Some(Ulid(3)), ..all() }), [3]);
}

/// The registry may make it after it was asked to delete it.
#[test]
fn what_may_not_have_been_made_is_ended_twice() {
    let outstanding = Outstanding::default();
    outstanding.not_issued(grant(1, "prod"), None, at(0));
    let end = |now: i64| {
        outstanding.workers(at(now));
        let due = outstanding.next(&name("prod"), at(now))?;
        outstanding.worker_ends(&name("prod"));
        outstanding.ended(&due.grant, &Revoked::Ended, at(now));
        Some(due.is_settled)
    };
    assert_eq!([end(0), end(30), end(59)], [Some(false), None, None]);
    assert_eq!(outstanding.counts(at(59)), OutstandingCounts { credentials: 1, overdue: 0 });
    assert_eq!(end(60), Some(true));
    assert_eq!(outstanding.counts(at(60)).credentials, 0);
    // What is known to have been made ends at once.
    outstanding.not_issued(grant(2, "prod"), Some("7".to_owned()), at(0));
    assert_eq!(end(0), Some(true));
    assert_eq!(outstanding.counts(at(0)).credentials, 0);
}

/// A session in AWS ends by itself, also if nobody could end it before its time.
#[test]
fn a_session_is_tried_until_its_login_has_ended() {
    let outstanding = Outstanding::default();
    let minted = Ulid::from_parts(u64::try_from(NOW).unwrap() * 1000, 1);
    let past = past(minted.0, "prod", EndedBy::Registry, 0);
    // It was to end, and the process was killed.
    let past = PastIssue { is_session: true, expires_at: None, ..past };
    outstanding.recovered(past, at(60));
    let denied = |now: i64| {
        outstanding.workers(at(now));
        let due = outstanding.next(&name("prod"), at(now)).unwrap();
        assert!(due.is_session);
        outstanding.worker_ends(&name("prod"));
        outstanding.ended(&due.grant, &Revoked::Denied, at(now));
        outstanding.counts(at(now)).credentials
    };
    assert_eq!([denied(60), denied(3600), denied(13 * 3600), denied(14 * 3600)], [1, 1, 1, 0]);
    // Nobody gives it back: only operators end it.
    let kept = past_session(minted);
    outstanding.recovered(kept, at(60));
    let given = outstanding.give_back(minted, &owner("ci"), (&revoker(), at(61)));
    assert!(matches!(given, GivenBack::Unknown));
    assert!(outstanding.workers(at(599)).is_empty());
}

fn past_session(minted: Ulid) -> PastIssue {
    PastIssue { is_session: true, ..past(minted.0, "prod", EndedBy::Registry, 600) }
}
