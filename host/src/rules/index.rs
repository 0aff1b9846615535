//! Finds the rules that may match a subject, without a comparison with each of ten thousand.
//!
//! A rule is filed under an *anchor*: a text with which the value of one of its claims must begin.
//! `repository = "acme/{project}"` has the anchor `acme/`. A rule without one, such as
//! `{ contains = "ops" }`, is compared with every subject of its issuer.
//!
//! **Invariant:** a rule that is left out matches the subject for no project. The index decides
//! nothing else: what it finds is compared in full.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::condition::Condition;
use super::pattern::DELIMITERS;
use super::rule::Rule;
use crate::domain::{ClaimPath, Subject};

/// The numbers of rules, by their issuer.
#[derive(Clone, Debug, Default)]
pub(super) struct RuleIndex(HashMap<String, IssuerRules>);

#[derive(Clone, Debug, Default)]
struct IssuerRules {
    unanchored: Vec<usize>,
    anchored: BTreeMap<AnchoredClaim, Anchors>,
}

/// A claim that anchors rules, as it is or in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct AnchoredClaim {
    path: ClaimPath,
    is_lower: bool,
}

#[derive(Clone, Debug, Default)]
struct Anchors {
    by_text: HashMap<String, Vec<usize>>,
    /// The length of the longest text. Bounds the work, because the caller chooses the claim.
    longest: usize,
}

/// One condition's anchors: the claim begins with one of the texts.
struct Candidate<'a> {
    issuer: &'a str,
    claim: AnchoredClaim,
    texts: Vec<&'a str>,
}

impl RuleIndex {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let candidates: Vec<Vec<Candidate>> = rules.iter().map(candidates).collect();
        let mut uses: HashMap<(&str, &AnchoredClaim, &str), usize> = HashMap::new();
        for candidate in candidates.iter().flatten() {
            for text in &candidate.texts {
                *uses.entry((candidate.issuer, &candidate.claim, text)).or_default() += 1;
            }
        }
        // All rules of a deployment may have `ref = "refs/heads/main"`. The rarest anchor counts.
        let crowd = |candidate: &&Candidate| -> usize {
            let uses_of = |text| uses.get(&(candidate.issuer, &candidate.claim, text));
            candidate.texts.iter().filter_map(|text| uses_of(*text)).sum()
        };
        let mut index = Self::default();
        for (number, (rule, candidates)) in rules.iter().zip(&candidates).enumerate() {
            let of_issuer = index.0.entry(rule.issuer().to_owned()).or_default();
            match candidates.iter().min_by_key(crowd) {
                Some(rarest) => of_issuer.file(number, rarest),
                None => of_issuer.unanchored.push(number),
            }
        }
        index
    }

    /// Returns the numbers of the rules that may match, in the order of the settings.
    pub(super) fn find(&self, subject: &Subject) -> Vec<usize> {
        let Some(of_issuer) = self.0.get(&subject.issuer) else { return Vec::new() };
        let mut found = of_issuer.unanchored.clone();
        for (claim, anchors) in &of_issuer.anchored {
            let Some(Value::String(text)) = claim.path.find(&subject.claims) else { continue };
            if claim.is_lower {
                anchors.find(&text.to_ascii_lowercase(), &mut found);
            } else {
                anchors.find(text, &mut found);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl IssuerRules {
    fn file(&mut self, number: usize, candidate: &Candidate) {
        let anchors = self.anchored.entry(candidate.claim.clone()).or_default();
        for text in &candidate.texts {
            anchors.longest = anchors.longest.max(text.len());
            anchors.by_text.entry((*text).to_owned()).or_default().push(number);
        }
    }
}

impl Anchors {
    /// Looks up each beginning of the claim that an anchor can be: one that ends in a delimiter,
    /// and the whole claim.
    fn find(&self, claim: &str, found: &mut Vec<usize>) {
        let ends = claim.match_indices(DELIMITERS).map(|(at, delimiter)| at + delimiter.len());
        let ends = ends.chain([claim.len()]).take_while(|end| *end <= self.longest);
        for text in ends.filter_map(|end| claim.get(..end)) {
            found.extend(self.by_text.get(text).into_iter().flatten());
        }
    }
}

fn candidates(rule: &Rule) -> Vec<Candidate<'_>> {
    let candidate = |condition| -> Option<Candidate<'_>> {
        let condition: &Condition = condition;
        let (path, is_lower) = (condition.path().clone(), condition.is_lower());
        let claim = AnchoredClaim { path, is_lower };
        Some(Candidate { issuer: rule.issuer(), claim, texts: condition.anchors()? })
    };
    rule.claims().iter().filter_map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::{Known, RuleFile, Rules};

    #[derive(serde::Deserialize)]
    struct RulesTable {
        rules: Vec<RuleFile>,
    }

    fn rules(claims: &[&str]) -> Rules {
        let rule = |(number, claims): (usize, &&str)| {
            format!(
                "[[rules]]\nname = \"rule-{number}\"\nissuer = \"ci\"\nclaims = {{ {claims} }}\n\
                 projects = [\"*\"]\nregistries = [\"prod\"]\nallow = [\"pull\"]\n"
            )
        };
        let text: String = claims.iter().enumerate().map(rule).collect();
        let known = Known::new(["ci"], ["prod".parse().unwrap()]);
        Rules::parse(toml::from_str::<RulesTable>(&text).unwrap().rules, &known).unwrap()
    }

    fn found(rules: &Rules, claims: &serde_json::Value) -> Vec<usize> {
        let claims = claims.as_object().unwrap().clone();
        rules.index.find(&Subject { issuer: "ci".into(), sub: "s".into(), claims })
    }

    #[test]
    fn the_rarest_beginning_finds_a_rule() {
        let rules = rules(&[
            r#"repository = "acme/{project}", ref = "refs/heads/main""#,
            r#"repository = ["acme/tool", "other/{project}"], ref = "refs/heads/main""#,
            r#"repository = { lower = "acme/{project}" }"#,
            r#"repository = { prefix = "acme/" }, ref = "refs/heads/main""#,
            r#"sub = { glob = "repo:acme/*:ref:refs/heads/main" }"#,
            r#"groups = { contains = "ops" }"#,
            r#"repository = "{project}""#,
            r#"repository = "acme""#,
        ]);
        for (claims, expected) in [
            (json!({ "repository": "acme/x", "ref": "refs/heads/main" }), vec![0, 2, 3, 5, 6]),
            (json!({ "repository": "acme/tool" }), vec![0, 1, 2, 3, 5, 6]),
            (json!({ "repository": "other/x" }), vec![1, 5, 6]),
            (json!({ "repository": "ACME/x" }), vec![2, 5, 6]),
            (json!({ "repository": "acme" }), vec![5, 6, 7]),
            (json!({ "repository": "acme-evil/x" }), vec![5, 6]),
            (json!({ "sub": "repo:acme/x:ref:refs/heads/main" }), vec![4, 5, 6]),
            (json!({ "repository": ["acme/x"], "ref": "refs/heads/main" }), vec![5, 6]),
            (json!({}), vec![5, 6]),
        ] {
            assert_eq!(found(&rules, &claims), expected, "{claims}");
        }
    }

    #[test]
    fn another_team_is_not_looked_at() {
        let claims: Vec<String> = (0..1000)
            .map(|team| format!("repository = \"team-{team}/{{project}}\", event = \"push\""))
            .collect();
        let rules = rules(&claims.iter().map(String::as_str).collect::<Vec<_>>());
        let claims = json!({ "repository": "team-7/x", "event": "push" });
        assert_eq!(found(&rules, &claims), [7]);
        let long = json!({ "repository": "/".repeat(60_000), "event": "push" });
        assert!(found(&rules, &long).is_empty());
    }
}
