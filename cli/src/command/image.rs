//! `rise-registry image [PROJECT][:TAG]`: the argument for `docker push`. Requests no credential.

use std::process::ExitCode;

use clap::Args;

use super::Done;
use crate::app::App;
use crate::broker::{ListedRegistry, Wanted};
use crate::failure::{Failure, shown};
use crate::{credentials, names, registries, terminal};

#[derive(Args)]
pub(super) struct ImageArguments {
    /// Project and tag, both optional: `my-app:1.2`, `:1.2`
    #[arg(value_name = "[PROJECT][:TAG]", default_value = "", hide_default_value = true)]
    name: String,
}

pub(super) fn run(app: &App, arguments: &ImageArguments) -> Done {
    let (project, tag) = match arguments.name.split_once(':') {
        Some((project, tag)) => (project, Some(checked(tag)?)),
        None => (arguments.name.as_str(), None),
    };
    let project = if project.is_empty() {
        app.settings.project()?.to_owned()
    } else {
        names::project(project, "PROJECT")?
    };
    let mut image = image_of(app, &project)?;
    if let Some(tag) = tag {
        image = format!("{image}:{tag}");
    }
    if !names::is_image(&image) {
        return Err(Failure::Untrusted(format!(
            "the broker names {} as the place of images, which is not an image reference: check \
             RISE_URL",
            shown(&image)
        )));
    }
    terminal::line(&image);
    Ok(ExitCode::SUCCESS)
}

/// A job that has just logged in knows the image already, and asks nothing again.
fn image_of(app: &App, project: &str) -> Result<String, Failure> {
    let registry = app.settings.registry().map(ToOwned::to_owned);
    let wanted = Wanted { project: Some(project.to_owned()), registry, ..Wanted::default() };
    if let Some(kept) = credentials::cached(app, &wanted) {
        return Ok(kept.credentials.image);
    }
    let listed = match registries::cached(app) {
        Some(listed) => listed,
        None => registries::request(app, app.patience)?,
    };
    let chosen = choose(&listed, app.settings.registry())?;
    check_depth(chosen, project)?;
    Ok(chosen.image.replace("{project}", project))
}

/// The broker rejects a project with more components than the registry's `project_depth`.
fn check_depth(chosen: &ListedRegistry, project: &str) -> Result<(), Failure> {
    let components: Vec<_> = project.split('/').collect();
    let (depth, most) = (components.len(), chosen.project_depth.unwrap_or(usize::MAX));
    if depth <= most {
        return Ok(());
    }
    let last = components.get(depth - most..).unwrap_or_default().join("/");
    Err(Failure::Settings(format!(
        "project {project} has {depth} components, and registry {} allows {most}: perhaps {last} \
         is meant",
        shown(&chosen.registry)
    )))
}

/// Chooses like the broker: the named registry, else `default`, else the only one.
fn choose<'a>(
    registries: &'a [ListedRegistry],
    named: Option<&str>,
) -> Result<&'a ListedRegistry, Failure> {
    let find = |name: &str| registries.iter().find(|listed| listed.registry == name);
    let listed_names = registries.iter().map(|listed| shown(&listed.registry));
    let all = || listed_names.collect::<Vec<_>>().join(", ");
    match (named, registries) {
        (_, []) => Err(Failure::Denied(
            "no rule allows you to use a registry: ask the broker's operator".to_owned(),
        )),
        (Some(name), _) => find(name).ok_or_else(|| {
            Failure::Denied(format!(
                "no rule allows you to use registry {name}: use one of {}",
                all()
            ))
        }),
        (None, [only]) => Ok(only),
        (None, _) => find("default").ok_or_else(|| {
            Failure::Settings(format!(
                "you may use several registries: name one with --registry: {}",
                all()
            ))
        }),
    }
}

fn checked(tag: &str) -> Result<&str, Failure> {
    let first = tag.bytes().next();
    let fits = tag.len() <= 128
        && first.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    fits.then_some(tag).ok_or_else(|| {
        Failure::Settings(format!(
            "TAG: {:?} is not a tag: use 1 to 128 letters, digits, _ . and -, not starting with . \
             or -",
            shown(tag)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_tag() {
        for good in ["1", "v1.2-rc_3", "_", &"a".repeat(128)] {
            assert!(checked(good).is_ok(), "{good}");
        }
        for bad in ["", ".1", "-1", "a/b", "a b", "a:b", "a@b", &"a".repeat(129)] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_registry_is_chosen_as_the_broker_does() {
        let of = |names: &[&str]| {
            let registry = |name: &&str| ListedRegistry {
                registry: (*name).to_owned(),
                registry_url: "r".to_owned(),
                image: "r/{project}".to_owned(),
                project_depth: None,
                r#type: "oci".to_owned(),
                scope: None,
                creates_repositories: None,
            };
            names.iter().map(registry).collect::<Vec<_>>()
        };
        let chosen = |names: &[&str], named| {
            choose(&of(names), named)
                .map_or_else(|failure| failure.line(), |registry| registry.registry.clone())
        };
        assert_eq!(chosen(&["a"], None), "a");
        assert_eq!(chosen(&["a", "default"], None), "default");
        assert_eq!(chosen(&["a", "b"], Some("b")), "b");
        assert_eq!(
            chosen(&["a", "b"], None),
            "you may use several registries: name one with --registry: a, b"
        );
        assert_eq!(chosen(&["a"], Some("b")), "no rule allows you to use registry b: use one of a");
        assert!(chosen(&[], None).starts_with("no rule"));
    }
}
