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
    ] {
        let printed = snapshot.splitn(3, "---\n").nth(2).unwrap().trim_matches('\n');
        assert!(
            documentation.contains(&format!("\n{printed}\n```")),
            "docs/client.md lacks:\n{printed}"
        );
    }
}
