//! Logins that are in the way of ours.

use serde_json::{Map, Value};

use super::ConfigFile;
use crate::environment::Environment;
use crate::failure::shown;
use crate::names;

/// Logins in other places that clients prefer to a login in docker's file and to a helper: one line
/// each.
pub(crate) fn preferred_logins(
    environment: &Environment,
    host: &str,
    image: Option<&str>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let variable = environment.text("DOCKER_AUTH_CONFIG");
    let json = variable.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let mut auths = json.iter().filter_map(|json| json.get("auths")?.as_object());
    if auths.any(|auths| auths.keys().any(|key| names::is_key_of(key, host))) {
        lines.push(format!(
            "DOCKER_AUTH_CONFIG contains a login for {host}, which docker and buildx prefer: unset \
             it, or use `rise-registry exec`"
        ));
    }
    // With this variable, podman, buildah and skopeo read that file only.
    if environment.path("REGISTRY_AUTH_FILE").is_some() {
        return lines;
    }
    let is_of_the_image = |key: &str| {
        let below = image.and_then(|image| image.strip_prefix(key));
        key != host && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let podman = ConfigFile::of_podman(environment).into_iter().map(|file| (file, true));
    let docker = ConfigFile::of_docker(environment).ok().map(|file| (file, false));
    for (file, is_read_first) in podman.chain(docker) {
        if file.helper(host).is_some() {
            continue;
        }
        let auths = file.entries().get("auths").and_then(Value::as_object);
        for key in auths.into_iter().flat_map(Map::keys) {
            if is_of_the_image(key) || (is_read_first && names::is_key_of(key, host)) {
                let (path, key) = (file.path().display(), shown(key));
                lines.push(format!(
                    "{path} contains a login for {key}, which podman, buildah and skopeo prefer: \
                     run `podman logout --authfile {path} {key}`, or use `rise-registry exec`"
                ));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A session without a login manager has no `XDG_RUNTIME_DIR`; `podman login` writes all the
    /// same.
    #[test]
    fn podmans_file_is_found_without_a_folder_for_the_session() {
        let directory = tempfile::tempdir().unwrap();
        let user = rustix::process::getuid().as_raw();
        let home = directory.path().join("home").display().to_string();
        let at = |folder: &str| {
            let folder = directory.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("auth.json"), r#"{"auths":{"r.example.com":{}}}"#).unwrap();
        };
        at(&format!("run/containers/{user}"));
        let lines = |pairs: &[(&str, &str)]| {
            let environment = Environment::of(pairs, directory.path());
            preferred_logins(&environment, "r.example.com", None)
        };
        let found = lines(&[("HOME", &home)]);
        assert!(found.len() == 1 && found[0].contains(&format!("run/containers/{user}/auth.json")));
        let session = directory.path().join("session").display().to_string();
        assert!(lines(&[("HOME", &home), ("XDG_RUNTIME_DIR", &session)]).is_empty());
        at("session/containers");
        let found = lines(&[("HOME", &home), ("XDG_RUNTIME_DIR", &session)]);
        assert!(found.len() == 1 && found[0].contains("session/containers/auth.json"), "{found:?}");
        let named = [("HOME", home.as_str()), ("REGISTRY_AUTH_FILE", "/nowhere/auth.json")];
        assert!(lines(&named).is_empty());
    }
}
