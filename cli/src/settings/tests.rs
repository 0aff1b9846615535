use std::fs;

use super::*;

fn settings(
    files: &[(&str, &str)],
    variables: &[(&str, &str)],
    flags: &Flags,
) -> Result<Settings, Failure> {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("home");
    let work = home.join("work/deep");
    fs::create_dir_all(&work).unwrap();
    fs::create_dir_all(home.join(".config/rise")).unwrap();
    for (name, text) in files {
        fs::write(home.join(name), text).unwrap();
    }
    let mut all = vec![("HOME", home.to_str().unwrap())];
    all.extend(variables);
    let result = Settings::load(flags, &Environment::of(&all, &work));
    result.map_err(|failure| {
        let text = failure.to_string().replace(home.to_str().unwrap(), "~");
        Failure::Settings(text)
    })
}

const FILE: &str = ".config/rise/registry.toml";
const CHECKOUT: &str = "work/.rise.toml";

#[test]
fn the_nearer_setting_wins() {
    let file = (
        FILE,
        "url = \"https://file.example.com\"\nproject = \"file\"\nregistry = \"file\"\n\
         audience = \"file\"",
    );
    let checkout = (CHECKOUT, "project = \"checkout\"");
    let variable = ("RISE_PROJECT", "variable");
    let flags = Flags { project: Some("flag".into()), ..Flags::default() };
    let project = |files: &[_], variables: &[_], flags: &Flags| {
        settings(files, variables, flags).unwrap().project.unwrap().value
    };
    assert_eq!(project(&[file, checkout], &[variable], &flags), "flag");
    assert_eq!(project(&[file, checkout], &[variable], &Flags::default()), "variable");
    assert_eq!(project(&[file, checkout], &[], &Flags::default()), "checkout");
    assert_eq!(project(&[file], &[], &Flags::default()), "file");
    let all = settings(
        &[file, checkout],
        &[("RISE_URL", "https://variable.example.com")],
        &Flags::default(),
    )
    .unwrap();
    assert_eq!(all.url().unwrap().as_str(), "https://variable.example.com");
    assert_eq!(all.registry(), Some("file"));
    assert_eq!(all.audience.value, "file");
    assert!(all.checkout.unwrap().ends_with(CHECKOUT));
    let none = settings(&[], &[], &Flags::default()).unwrap();
    assert_eq!(none.audience.value, "rise-registry");
    assert!(none.url().unwrap_err().to_string().contains("RISE_URL"));
    assert!(none.project().unwrap_err().to_string().contains(".rise.toml"));
}

#[test]
fn a_checkout_names_a_project_and_a_registry_and_nothing_else() {
    for (text, expected) in [
        ("url = \"https://evil.example.com\"", "unknown field `url`"),
        ("token_file = \"/etc/shadow\"", "unknown field `token_file`"),
        ("token_command = \"evil\"", "unknown field `token_command`"),
        ("ca_file = \"evil.pem\"", "unknown field `ca_file`"),
        ("audience = \"x\"", "unknown field `audience`"),
        ("[hosts]\n", "unknown field `hosts`"),
        ("project = \"../x\"", "is not a project's name"),
        ("project = 1", "invalid type"),
        ("project", "line 1: "),
        ("\nproject = \"a\"\nurl = 1", "line 3: unknown field `url`"),
        ("project = \"a\"\nproject = \"b\"", "line 2: duplicate key"),
    ] {
        let line = settings(&[(CHECKOUT, text)], &[], &Flags::default()).unwrap_err().line();
        let is_about_a_key = line.contains("unknown field");
        assert_eq!(line.contains("only `project`"), is_about_a_key, "{line}");
        assert!(
            line.starts_with("~/work/.rise.toml: ") && line.contains(expected),
            "{text}: {line}"
        );
    }
}

#[test]
fn hosts_name_a_project_or_more() {
    let text = "[hosts]\n\"r.example.com:5000\" = \"my-app\"\n\
                \"s.example.com\" = { registry = \"prod\" }\n";
    let hosts = settings(&[(FILE, text)], &[], &Flags::default()).unwrap().hosts;
    assert_eq!(hosts["r.example.com:5000"].project.as_deref(), Some("my-app"));
    assert_eq!(hosts["s.example.com"].registry.as_deref(), Some("prod"));
    for (text, expected) in [
        ("token = \"secret\"", "unknown field `token`"),
        ("[hosts]\n\"r.example.com/x\" = \"a\"", "is not HOST"),
        (
            "[hosts]\n\"r.example.com\" = \"A\"",
            "[hosts], \"r.example.com\": \"A\" is not a project",
        ),
        (
            "[hosts]\n\"r.example.com\" = { url = \"a\" }",
            "line 2: \"r.example.com\" must be a project",
        ),
        ("url = \"https://b\"\n\nnone = 1", "line 3: unknown field `none`"),
        ("login = { issuer = \"http://idp.example.com\", client_id = \"x\" }", "login.issuer"),
    ] {
        let line = settings(&[(FILE, text)], &[], &Flags::default()).unwrap_err().line();
        assert!(
            line.starts_with("~/.config/rise/registry.toml: ") && line.contains(expected),
            "{text}: {line}"
        );
    }
}

#[test]
fn paths_of_the_file_may_start_at_home() {
    let all = settings(
        &[(FILE, "token_file = \"~/token\"\nca_file = \"/ca.pem\"")],
        &[],
        &Flags::default(),
    )
    .unwrap();
    assert!(all.token_file.unwrap().value.ends_with("home/token"));
    assert_eq!(all.ca_file.unwrap().value, PathBuf::from("/ca.pem"));
}
