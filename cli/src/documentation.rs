//! Checks that `docs/client.md` shows exactly the output that the tests of the commands saw.

macro_rules! snapshot {
    ($name:literal) => {
        include_str!(concat!("../../tests/tests/behaviour/snapshots/behaviour__", $name, ".snap"))
    };
}

#[test]
fn the_documentation_shows_what_commands_print() {
    let documentation = include_str!("../../docs/client.md");
    for snapshot in [
        snapshot!("client_doctor__everything_is_well_by_files"),
        snapshot!("client_doctor__a_token_that_is_over"),
        snapshot!("client_doctor__explain"),
        snapshot!("client_configure__a_change_is_shown_agreed_to_kept_and_taken_back"),
        snapshot!("client_configure__the_kubelet_gets_a_configuration_to_paste"),
        snapshot!("client_commands__commands_print_what_the_readme_shows"),
    ] {
        let printed = snapshot.splitn(3, "---\n").nth(2).unwrap().trim_matches('\n');
        assert!(
            documentation.contains(&format!("\n{printed}\n```")),
            "docs/client.md lacks:\n{printed}"
        );
    }
}

/// The README shows a part of the same session.
#[test]
fn the_readme_shows_what_commands_print() {
    let snapshot = snapshot!("client_commands__commands_print_what_the_readme_shows");
    let readme = include_str!("../../README.md");
    let shown = readme.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(
        shown.contains("$ rise-registry docker-login\n") && snapshot.contains(shown),
        "{shown}"
    );
}
