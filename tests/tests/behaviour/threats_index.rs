//! Each test that `docs/threats.md` names exists, and each threat has its row.

use std::collections::BTreeSet;
use std::fs;

use rise_broker_tests::repository;

#[test]
fn each_threat_has_its_row_and_each_named_test_is_there() {
    let text = fs::read_to_string(repository().join("docs/threats.md")).unwrap();
    let mut threats = BTreeSet::new();
    let mut named = 0;
    for line in text.lines().filter(|line| line.starts_with("| T")) {
        let which = line.split('|').nth(1).unwrap();
        for range in which.split(',').map(|range| range.trim().replace('T', "")) {
            let (first, last) = range.split_once('–').unwrap_or((&range, &range));
            threats.extend(first.parse::<u8>().unwrap()..=last.parse::<u8>().unwrap());
        }
        for test in line.split('`').filter_map(|word| word.split_once("::")) {
            let (file, function) = test;
            let path = repository().join(format!("tests/tests/behaviour/{file}.rs"));
            let code = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(code.contains(&format!("fn {function}(")), "{file}::{function} is not there");
            named += 1;
        }
    }
    assert_eq!(threats, (1..=84).collect());
    assert!(named > 60, "{named}");
}
