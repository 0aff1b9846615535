//! Properties of all rules. The alphabet is small, so that values collide.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use ulid::Ulid;

use super::*;
use crate::domain::{Actions, Claims, Lifetime, RepositoryOperation, Right, Rights};

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "acme",
        "acme/",
        "acme/a",
        "acme/a/",
        "acme/a/x",
        "acme-evil",
        "acme-evil/a",
        "acme/a-b",
        "acme/b",
        "a",
        "x/acme/a",
        "*",
        "acme/*",
        "acme/a/b",
        "Acme/A",
        "acme/A/B",
        "true",
    ])
    .prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => text().prop_map(Value::String),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => prop::collection::vec(text(), 0..3).prop_map(|list| json!(list)),
        1 => Just(Value::Null),
        1 => Just(json!(1)),
        1 => text().prop_map(|text| json!({ "inner": text })),
    ]
}

fn claim_file() -> impl Strategy<Value = ClaimFile> {
    let literal =
        || prop_oneof![text(), Just("acme/{project}".to_owned()), Just("{project}".to_owned())];
    let prefix = prop::sample::select(vec!["acme/", "acme/{project}/", "a/", "x/acme/"]);
    let glob = prop::sample::select(vec![
        "acme/*",
        "acme/{project}",
        "*/acme/*",
        "acme/*/x",
        "*/a",
        "*/{project}",
        "acme/{project}/*",
    ]);
    prop_oneof![
        any::<bool>().prop_map(ClaimFile::Flag),
        (0..3i64).prop_map(ClaimFile::Number),
        prop::collection::vec(0..3i64, 1..3).prop_map(ClaimFile::OneNumberOf),
        (0..3i64).prop_map(|contains| ClaimFile::ContainsNumber { contains }),
        literal().prop_map(ClaimFile::Text),
        prop::collection::vec(literal(), 1..3).prop_map(ClaimFile::OneOf),
        prefix.prop_map(|prefix| ClaimFile::Prefix { prefix: prefix.to_owned() }),
        glob.prop_map(|glob| ClaimFile::Glob { glob: glob.to_owned() }),
        literal().prop_map(|contains| ClaimFile::Contains { contains }),
        Just(ClaimFile::Lower { lower: "acme/{project}".to_owned() }),
    ]
}

fn claim_name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["sub", "repository", "/nested/inner", "/nested/0"])
        .prop_map(str::to_owned)
}

fn rule_file() -> impl Strategy<Value = RuleFile> {
    let name = |names: &'static [&'static str]| prop::sample::select(names).prop_map(str::to_owned);
    let projects = prop_oneof![
        name(&["*", "a", "a-b", "b", "a/b", "a/*", "*/b"]).prop_map(ProjectsFile::Name),
        name(&["a-", "a/"]).prop_map(|prefix| ProjectsFile::Prefix { prefix }),
    ];
    (
        name(&["github", "gitlab"]),
        prop::collection::btree_map(claim_name(), claim_file(), 1..3),
        prop::collection::vec(projects, 1..3),
        prop::collection::vec(name(&["prod", "dev"]), 1..3),
        prop::collection::vec(prop::sample::select(&Right::ALL[..]), 1..4),
    )
        .prop_map(|(issuer, claims, projects, registries, allow)| RuleFile {
            name: String::new(),
            issuer,
            claims,
            projects,
            registries,
            allow,
            catalog: false,
            mode: Mode::Enforce,
        })
}

fn rule_files() -> impl Strategy<Value = Vec<RuleFile>> {
    prop::collection::vec(rule_file(), 0..5).prop_map(named)
}

fn named(mut files: Vec<RuleFile>) -> Vec<RuleFile> {
    files.iter_mut().enumerate().for_each(|(index, file)| file.name = format!("rule-{index}"));
    files
}

fn subject() -> impl Strategy<Value = Subject> {
    let names = prop::sample::select(vec!["sub", "repository", "nested"]).prop_map(str::to_owned);
    (
        prop::sample::select(vec!["github", "gitlab"]),
        prop::collection::btree_map(names, value(), 0..4),
    )
        .prop_map(|(issuer, claims)| Subject {
            issuer: issuer.to_owned(),
            sub: "s".to_owned(),
            claims: claims.into_iter().collect(),
        })
}

fn request() -> impl Strategy<Value = AccessRequest> {
    let actions = prop::sample::select(vec![
        None,
        Some(Actions::PULL),
        Some(Actions::PUSH),
        Some(Actions::PULL_AND_PUSH),
    ]);
    (
        prop::sample::select(vec!["prod", "dev"]),
        prop::sample::select(vec!["a", "a-b", "b", "acme", "a/b", "a/x", "b/a/b"]),
        actions,
    )
        .prop_map(|(registry, project, actions)| AccessRequest {
            id: Ulid::nil(),
            registry: registry.parse().unwrap(),
            project: project.parse().unwrap(),
            actions,
            lifetime: Lifetime::default(),
            client: None,
        })
}

/// Registries whose projects have up to three components.
fn known() -> Known {
    let names: [RegistryName; 2] = ["prod", "dev"].map(|name| name.parse().unwrap());
    let shape = ProjectShape { depth: 3, ..ProjectShape::default() };
    let known = Known::new(["github", "gitlab"], names.clone());
    names.iter().fold(known, |known, name| known.shape(name, shape))
}

fn granted(files: &[RuleFile], subject: &Subject, request: &AccessRequest) -> Actions {
    let rules = Rules::parse(files.to_vec(), &known()).unwrap();
    rules.authorize(subject.clone(), request.clone()).map_or(Actions::NONE, |grant| grant.actions())
}

const OPERATIONS: [RepositoryOperation; 3] =
    [RepositoryOperation::Describe, RepositoryOperation::Create, RepositoryOperation::Delete];

/// Whether the subject may do this with the repository.
fn may(
    files: &[RuleFile],
    subject: &Subject,
    request: &AccessRequest,
    operation: RepositoryOperation,
) -> bool {
    let rules = Rules::parse(files.to_vec(), &known()).unwrap();
    rules.authorize_repository(subject.clone(), request.clone(), operation).is_ok()
}

/// Returns everything that the rules allow, whatever was requested.
fn allowed(files: &[RuleFile], subject: &Subject, request: &AccessRequest) -> Actions {
    granted(files, subject, &AccessRequest { actions: None, ..request.clone() })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_same_as_the_naive_reading(
        files in rule_files(),
        subject in subject(),
        request in request(),
    ) {
        let files: Vec<_> = files.into_iter().filter(constrains).collect();
        prop_assert_eq!(
            granted(&files, &subject, &request),
            naive::granted(&files, &subject, &request),
        );
    }

    /// What is done with the repository is decided as the naive reading says, and a grant for it
    /// has no actions.
    #[test]
    fn a_grant_for_the_repository_is_none_for_a_credential(
        files in rule_files(),
        subject in subject(),
        request in request(),
    ) {
        let files: Vec<_> = files.into_iter().filter(constrains).collect();
        let rules = Rules::parse(files.clone(), &known()).unwrap();
        let rights = naive::rights(&files, &subject, &request);
        for operation in OPERATIONS {
            let decided = rules.authorize_repository(subject.clone(), request.clone(), operation);
            prop_assert_eq!(decided.is_ok(), operation.is_within(rights), "{:?}", operation);
            let Ok(grant) = decided else { continue };
            prop_assert_eq!((grant.actions(), grant.operation()), (Actions::NONE, Some(operation)));
            let named = files.iter().filter(|file| grant.rules().contains(&file.name));
            let union: Rights = named.flat_map(|file| file.allow.iter().copied()).collect();
            prop_assert!(operation.is_within(union));
        }
    }

    #[test]
    fn create_and_delete_never_yield_a_credential(
        files in rule_files(),
        subject in subject(),
        request in request(),
    ) {
        let mut files: Vec<_> = files.into_iter().filter(constrains).collect();
        for file in &mut files {
            file.allow.retain(|right| matches!(right, Right::Create | Right::Delete));
            file.allow.push(Right::Create);
        }
        prop_assert_eq!(allowed(&files, &subject, &request), Actions::NONE);
        prop_assert_eq!(granted(&files, &subject, &request), Actions::NONE);
    }

    #[test]
    fn the_index_leaves_out_no_rule_that_matches(
        files in rule_files(),
        subject in subject(),
        request in request(),
    ) {
        let files: Vec<_> = files.into_iter().filter(constrains).collect();
        let rules = Rules::parse(files, &known()).unwrap();
        let found = rules.index.find(&subject);
        for (number, rule) in rules.iter().enumerate() {
            if rule.matches(&subject, &request) || !rule.reach(&subject).is_empty() {
                prop_assert!(found.contains(&number), "rule {}", number);
            }
        }
    }

    #[test]
    fn a_condition_never_widens(
        files in rule_files(),
        at in any::<prop::sample::Index>(),
        claim in claim_file(),
        subject in subject(),
        request in request(),
    ) {
        let files: Vec<_> = files.into_iter().filter(constrains).collect();
        prop_assume!(!files.is_empty());
        let mut narrower = files.clone();
        narrower[at.index(files.len())].claims.insert("extra".to_owned(), claim);
        prop_assert!(
            allowed(&narrower, &subject, &request)
                .is_subset_of(allowed(&files, &subject, &request))
        );
    }

    #[test]
    fn a_rule_less_never_adds(
        files in rule_files(),
        at in any::<prop::sample::Index>(),
        subject in subject(),
        request in request(),
    ) {
        let files: Vec<_> = files.into_iter().filter(constrains).collect();
        prop_assume!(!files.is_empty());
        let mut fewer = files.clone();
        fewer.remove(at.index(files.len()));
        prop_assert!(
            allowed(&fewer, &subject, &request)
                .is_subset_of(allowed(&files, &subject, &request))
        );
        prop_assert!(
            granted(&fewer, &subject, &request)
                .is_subset_of(allowed(&files, &subject, &request))
        );
    }

    #[test]
    fn a_rule_on_trial_is_a_rule_less(
        files in rule_files(),
        at in any::<prop::sample::Index>(),
        subject in subject(),
        request in request(),
    ) {
        let files: Vec<_> = files.into_iter().filter(constrains).collect();
        prop_assume!(!files.is_empty());
        let (mut tried, mut fewer) = (files.clone(), files.clone());
        tried[at.index(files.len())].mode = Mode::Audit;
        fewer.remove(at.index(files.len()));
        for operation in OPERATIONS {
            prop_assert_eq!(
                may(&tried, &subject, &request, operation),
                may(&fewer, &subject, &request, operation)
            );
        }
        prop_assert_eq!(granted(&tried, &subject, &request), granted(&fewer, &subject, &request));
        let [tried, fewer] = [tried, fewer].map(|files| Rules::parse(files, &known()).unwrap());
        prop_assert_eq!(tried.reachable(&subject), fewer.reachable(&subject));
        prop_assert_eq!(
            tried.holdings(&subject, Some(&request.project)),
            fewer.holdings(&subject, Some(&request.project)),
        );
    }

    /// `holdings` returns exactly what `authorize` grants.
    #[test]
    fn holdings_are_grants(files in rule_files(), subject in subject(), request in request()) {
        let files: Vec<_> = files.into_iter().filter(constrains).collect();
        let rules = Rules::parse(files.clone(), &known()).unwrap();
        let told = rules.holdings(&subject, Some(&request.project));
        let told = told
            .iter()
            .find(|holding| holding.registry == request.registry)
            .map_or(Rights::NONE, |holding| holding.actions);
        prop_assert_eq!(told.actions(), allowed(&files, &subject, &request));
        for operation in OPERATIONS {
            let may = may(&files, &subject, &request, operation);
            prop_assert_eq!(operation.is_within(told), may, "{:?}", operation);
        }
        let patterns = rules.holdings(&subject, None);
        let has_pattern = patterns.iter().any(|holding| holding.registry == request.registry);
        prop_assert!(told.is_empty() || has_pattern);
    }

    #[test]
    fn a_grant_is_what_was_asked_within_what_is_allowed(
        files in rule_files(),
        subject in subject(),
        request in request(),
    ) {
        let files: Vec<_> = files.into_iter().filter(constrains).collect();
        let rules = Rules::parse(files.clone(), &known()).unwrap();
        if let Ok(grant) = rules.authorize(subject.clone(), request.clone()) {
            prop_assert!(!grant.actions().is_empty());
            prop_assert_eq!(request.actions.unwrap_or(grant.actions()), grant.actions());
            let named = files.iter().filter(|file| grant.rules().contains(&file.name));
            let union: Rights =
                named.clone().flat_map(|file| file.allow.iter().copied()).collect();
            prop_assert!(grant.actions().is_subset_of(union.actions()));
            prop_assert_eq!((grant.operation(), grant.rights()), (None, grant.actions().into()));
            prop_assert!(
                named.clone().count() > 0
                    && named.clone().all(|file| file.issuer == subject.issuer)
            );
            prop_assert!(rules.reachable(&subject).contains(&request.registry));
        }
    }

    #[test]
    fn an_issuer_without_rules_gets_nothing(
        files in rule_files(),
        subject in subject(),
        request in request(),
    ) {
        let files: Vec<_> = files
            .into_iter()
            .filter(constrains)
            .filter(|file| file.issuer != subject.issuer)
            .collect();
        prop_assert_eq!(allowed(&files, &subject, &request), Actions::NONE);
    }

    #[test]
    fn one_character_off_is_another_claim(
        claim in "[a-z/:@.-]{1,12}",
        at in any::<prop::sample::Index>(),
        other in any::<char>(),
        kind in 0..3,
    ) {
        let mut chars: Vec<char> = claim.chars().collect();
        let at = at.index(chars.len());
        match kind {
            0 => { chars.remove(at); }
            1 => chars.insert(at, other),
            _ => chars[at] = other,
        }
        let near: String = chars.into_iter().collect();
        prop_assume!(near != claim);
        let one_of = ClaimFile::OneOf(vec![claim.clone(), "another".to_owned()]);
        for file in [ClaimFile::Text(claim.clone()), one_of] {
            let files = one_rule(file);
            prop_assert_eq!(allowed(&files, &with_sub(&claim), &pull()), Actions::PULL);
            prop_assert_eq!(allowed(&files, &with_sub(&near), &pull()), Actions::NONE);
        }
    }

    #[test]
    fn a_prefix_needs_its_delimiter(
        name in "[a-z.-]{1,12}",
        delimiter in "[/:@]",
        behind in ".{0,12}",
    ) {
        let files = one_rule(ClaimFile::Prefix { prefix: format!("{name}{delimiter}") });
        prop_assert_eq!(
            allowed(&files, &with_sub(&format!("{name}{delimiter}{behind}")), &pull()),
            Actions::PULL,
        );
        prop_assume!(!behind.starts_with(&delimiter));
        prop_assert_eq!(
            allowed(&files, &with_sub(&format!("{name}{behind}")), &pull()),
            Actions::NONE,
        );
    }

    /// Any text in the settings is either rejected or matched without a panic.
    #[test]
    fn no_text_breaks_the_parser(
        name in ".{0,20}",
        text in "[a{}project*/:@.]{0,24}",
        claim in ".{0,24}",
    ) {
        for file in [
            ClaimFile::Text(text.clone()), ClaimFile::Prefix { prefix: text.clone() },
            ClaimFile::Glob { glob: text.clone() }, ClaimFile::Contains { contains: text.clone() },
            ClaimFile::Lower { lower: text.clone() },
        ] {
            let mut files = one_rule(file.clone());
            files[0].claims.insert(name.clone(), file);
            if let Ok(rules) = Rules::parse(files, &known()) {
                let _ = rules.authorize(with_sub(&claim), pull());
            }
        }
    }
}

/// The generator also makes rules without a check, which do not load.
fn constrains(file: &RuleFile) -> bool {
    let mut alone = file.clone();
    alone.name = "alone".to_owned();
    Rules::parse(vec![alone], &known()).is_ok()
}

/// A claim that is one of the texts without `{project}` holds for every project.
#[test]
fn a_text_beside_a_bound_one_reaches_every_project() {
    let files = one_rule(ClaimFile::OneOf(vec!["acme/{project}".to_owned(), "ops".to_owned()]));
    let rules = Rules::parse(files, &known()).unwrap();
    for (sub, expected) in
        [("ops", Some("*")), ("acme/any", Some("any")), ("acme/", None), ("ops/", None)]
    {
        let holdings = rules.holdings(&with_sub(sub), None);
        let projects: Vec<&str> = holdings.iter().map(|held| held.projects.as_str()).collect();
        assert_eq!(projects, expected.into_iter().collect::<Vec<_>>(), "{sub}");
        assert_eq!(rules.reachable(&with_sub(sub)).len(), projects.len(), "{sub}");
    }
}

fn one_rule(file: ClaimFile) -> Vec<RuleFile> {
    named(vec![RuleFile {
        name: String::new(),
        issuer: "github".to_owned(),
        claims: BTreeMap::from([("sub".to_owned(), file)]),
        projects: vec![ProjectsFile::Name("*".to_owned())],
        registries: vec!["prod".to_owned()],
        allow: vec![Right::Pull],
        catalog: false,
        mode: Mode::Enforce,
    }])
}

fn with_sub(sub: &str) -> Subject {
    let claims: Claims = json!({ "sub": sub }).as_object().unwrap().clone();
    Subject { issuer: "github".to_owned(), sub: sub.to_owned(), claims }
}

fn pull() -> AccessRequest {
    AccessRequest {
        id: Ulid::nil(),
        registry: "prod".parse().unwrap(),
        project: "any".parse().unwrap(),
        actions: Some(Actions::PULL),
        lifetime: Lifetime::default(),
        client: None,
    }
}
