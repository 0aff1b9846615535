use super::*;
use crate::capability::ecr_repositories::Listed;

const NOW: u64 = 1_000;

fn entry(name: &str, listed: Listed) -> Entry {
    Entry { repository: format!("rise/{name}"), project: name.parse().ok(), listed }
}

fn listed(ownership: Ownership) -> Listed {
    Listed { ownership, is_free: false, ..Listed::OF_NO_PROJECT }
}

fn managed(name: &str, differs: &[&'static str]) -> Entry {
    entry(name, Listed { differs: differs.to_vec(), ..listed(Ownership::Managed) })
}

fn orphan(name: &str, deletable_at: Option<u64>) -> Entry {
    entry(name, Listed { orphaned_at: Some(1), deletable_at, ..listed(Ownership::Orphaned) })
}

fn foreign(name: &str, is_free: bool) -> Entry {
    entry(name, Listed { is_free, ..listed(Ownership::Foreign) })
}

fn plan(entries: Vec<Entry>, projects: &[&str], adopt: &[&str]) -> Plan {
    let project = |name: &&str| name.parse::<Project>().unwrap();
    let projects: BTreeSet<Project> = projects.iter().map(project).collect();
    let adopt: Vec<Project> = adopt.iter().map(project).collect();
    let inventory = Inventory {
        registry: "prod".to_owned(),
        below: "host/rise/".to_owned(),
        entries,
        is_complete: true,
    };
    let wanted = WantedProjects { projects: &projects, adopt: &adopt };
    Plan::compare(inventory, &wanted, |project| format!("rise/{project}"), NOW)
}

fn steps(plan: &Plan) -> Vec<String> {
    let text = |step: &Step| {
        let differs = step.differs.join(",");
        format!("{} {} {differs}", step.kind.as_str(), step.project).trim_end().to_owned()
    };
    plan.steps.iter().map(text).collect()
}

#[test]
fn each_state_has_its_step() {
    let all = || {
        vec![
            managed("same", &[]),
            managed("differs", &["tags", "encryption"]),
            managed("encrypted", &["encryption"]),
            managed("gone", &["tags"]),
            orphan("early", Some(NOW + 1)),
            orphan("due", Some(NOW)),
            orphan("kept", None),
            orphan("returned", Some(NOW)),
            foreign("free", true),
            foreign("owned", false),
            foreign("stranger", true),
            Entry {
                repository: "rise/a/b".to_owned(),
                project: None,
                listed: Listed::OF_NO_PROJECT,
            },
        ]
    };
    let projects = ["same", "differs", "encrypted", "returned", "free", "owned", "new"];
    let first = plan(all(), &projects, &[]);
    assert_eq!(
        steps(&first),
        ["create new", "configure differs tags", "orphan gone", "delete due"]
    );
    assert_eq!((first.projects, first.managed), (7, 4));
    let undecided = |plan: &Plan| {
        let undecided = plan.left_alone.iter().filter(|left| left.is_undecided);
        undecided.map(|left| left.repository.clone()).collect::<Vec<_>>()
    };
    assert_eq!(undecided(&first), ["rise/returned"]);
    assert_eq!(first.left_alone.len(), 9, "{:?}", first.left_alone);
    let adopting = plan(all(), &projects, &["free", "owned", "returned"]);
    let adopted = ["create new", "configure differs tags", "adopt free", "adopt returned"];
    assert_eq!(steps(&adopting)[..4], adopted);
    assert_eq!(undecided(&adopting), ["rise/owned"], "its tags name somebody else");
}

/// One run never orphans and deletes the same repository: an orphan of this run is not deletable.
#[test]
fn nothing_is_orphaned_and_deleted_at_once() {
    let plan = plan(vec![managed("a", &[]), orphan("b", Some(0))], &[], &[]);
    assert_eq!(steps(&plan), ["orphan a", "delete b"]);
}

#[test]
fn more_than_a_few_go_only_if_the_operator_says_how_many() {
    let many = |count: usize| (0..count).map(|at| managed(&format!("a{at}"), &[])).collect();
    let names = |count: usize| (0..count).map(|at| format!("a{at}")).collect::<Vec<_>>();
    for (there, kept, retired, is_refused) in [
        (1, 0, None, true),
        (1, 0, Some(0), true),
        (1, 0, Some(1), false),
        (2, 1, None, false),
        (3, 1, None, true),
        (20, 10, None, false),
        (40, 29, None, true),
        (40, 30, None, false),
        (40, 29, Some(11), false),
        (40, 28, Some(11), true),
        (0, 0, None, false),
    ] {
        let projects = names(kept);
        let projects: Vec<&str> = projects.iter().map(String::as_str).collect();
        let bounds = Bounds { retired, deleted: None };
        let refused = plan(many(there), &projects, &[]).within(bounds).refused;
        assert_eq!(!refused.is_empty(), is_refused, "{there} {kept} {retired:?}: {refused:?}");
    }
    let empty = plan(many(3), &[], &[]).within(Bounds::default()).refused;
    assert!(empty[0].contains("names no project at all"), "{empty:?}");
    assert!(empty[0].contains("--max-retire 3"), "{empty:?}");
    let due = |count: usize| (0..count).map(|at| orphan(&format!("a{at}"), Some(0))).collect();
    for (there, deleted, is_refused) in
        [(10, None, false), (11, None, true), (11, Some(11), false), (1, Some(0), true)]
    {
        let bounds = Bounds { retired: None, deleted };
        let refused = plan(due(there), &[], &[]).within(bounds).refused;
        assert_eq!(!refused.is_empty(), is_refused, "{there} {deleted:?}");
    }
}
