//! Repositories that callers create, look at and retire, over HTTP and by `rise-registry`.

use rise_broker_tests::registry::ecr;
use rise_broker_tests::{Settings, TestBroker, lines};

/// Rules beside those that every test has.
fn with_rules(registry: impl std::fmt::Display, rules: &str) -> Settings {
    Settings::new(format!("{}\n{rules}\n{registry}", rise_broker_tests::AUTH))
}

#[tokio::test]
async fn a_rule_about_repositories_that_nobody_manages_is_told() {
    let rule = |allow: &str| {
        format!(
            "[[rules]]\nname = \"janitors\"\nissuer = \"local\"\n\
             claims = {{ role = \"janitor\" }}\nprojects = [\"my-app\"]\n\
             registries = [\"prod\"]\nallow = {allow}"
        )
    };
    let managed = "[registries.prod.repositories]";
    for (allow, table, is_told) in [
        ("[\"delete\"]", "", true),
        ("[\"pull\", \"create\"]", "", true),
        ("[\"pull\"]", "", false),
        ("[\"delete\"]", managed, false),
    ] {
        let registry = ecr("http://127.0.0.1:9").lines(table);
        let broker = TestBroker::with_settings(with_rules(registry, &rule(allow))).start().await;
        let warnings = lines(&broker.generation.warnings);
        let told = warnings.contains("rule `janitors` allows")
            && warnings.contains("add [registries.prod.repositories]");
        assert_eq!(told, is_told, "{allow} {table}: {warnings}");
    }
}
