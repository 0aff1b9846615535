//! Checks that `locate` and `resolve` are inverse, for project names of every shape.

use std::sync::Arc;

use super::examples::Case;
use super::report::Report;
use rise_broker::domain::{Location, Project, ProjectShape};
use rise_broker::provider::{LocateCall, ResolveCall};

const AREA: &str = "places";

pub(super) async fn check(case: &Case, report: &mut Report) {
    let mut wrong = Vec::new();
    for project in projects().iter().filter(|project| is_possible(case, project)) {
        if let Err(seen) = check_inverse(case, project).await {
            wrong.push(format!("project `{project}`: {seen}"));
        }
    }
    report.record(AREA, "resolve is the inverse of locate, which always returns the same", wrong);
    let deep = DEEP.parse().map_err(|error| format!("{error}"));
    let deep = match deep {
        Ok(project) => check_inverse(case, &project).await,
        Err(error) => Err(error),
    };
    if let Err(seen) = deep {
        let check = "projects of several components are handled, as `project_depth` allows";
        report.hint(AREA, check, format!("project `{DEEP}`: {seen}"));
    }
    let (mut wrong, mut strange) = (Vec::new(), Vec::new());
    for location in neighbours(case) {
        match check_claim(case, &location).await {
            Ok(Some(seen)) => strange.push(format!("{location}: {seen}")),
            Ok(None) => {}
            Err(seen) => wrong.push(format!("{location}: {seen}")),
        }
    }
    report.record(AREA, "resolve claims no image that locate would not put there", wrong);
    if let Some(seen) = strange.into_iter().next() {
        report.hint(AREA, "resolve returns none where there is no project", seen);
    }
}

const DEEP: &str = "team/my-app";

/// Returns whether the settings of the case allow the project. A provider must handle `.` and `_`.
fn is_possible(case: &Case, project: &Project) -> bool {
    let shape = case.registry.shape;
    ProjectShape { wide: true, ..shape }.admits(project)
}

/// Names of one letter, long names, digits, each separator, names with a meaning elsewhere, names
/// of several components, and many others.
fn projects() -> Vec<Project> {
    let (longest, label) = ("x".repeat(128), "x".repeat(63));
    let named = [
        "a",
        "0",
        "a-b",
        "a--b",
        "1-2-3",
        "my-app",
        "my-app-2",
        "v2",
        "latest",
        "library",
        "blobs",
        "xn--bcher-kva",
        "null",
        "true",
        "my.app",
        "my_app",
        "my__app",
        "1.2.3",
        "team/my-app",
        "a/b",
        "b/a",
        "a/b/a",
        "team/library",
        &label,
        &longest,
    ];
    let numbered =
        (0_u32..50).map(|number| format!("p{number}-{:x}", number.wrapping_mul(2_654_435_761)));
    let all = named.into_iter().map(str::to_owned).chain(numbered);
    all.filter_map(|name| name.parse().ok()).collect()
}

async fn locate(case: &Case, project: &Project) -> Result<Location, String> {
    let registry = &case.registry;
    let settings = Arc::clone(&registry.settings);
    let locate = LocateCall { settings, project: project.clone() };
    let located = registry.provider.call(locate, &registry.capabilities);
    let located = located.await.map_err(|error| error.to_string())?;
    let located = located.value.map_err(|error| {
        let advice = if project.as_str().contains('/') {
            "operators have to set `project_depth = 1`"
        } else {
            "`locate` places each of these projects; where a name gets no credential, `issue` \
             returns `unsupported`"
        };
        format!("{error}: {advice}")
    })?;
    Location::parse(&located.host, &located.repository).map_err(|error| error.to_string())
}

async fn resolve(case: &Case, location: &Location) -> Result<Option<String>, String> {
    let registry = &case.registry;
    let settings = Arc::clone(&registry.settings);
    let resolve = ResolveCall { settings, location: location.clone() };
    let resolved = registry.provider.call(resolve, &registry.capabilities);
    Ok(resolved.await.map_err(|error| error.to_string())?.value)
}

async fn check_inverse(case: &Case, project: &Project) -> Result<(), String> {
    let (location, again) = (locate(case, project).await?, locate(case, project).await?);
    if location != again {
        return Err(format!("locate returns {location}, then {again}"));
    }
    let expected = case.registry.locate(project);
    if location != expected {
        return Err(format!(
            "locate returns {location}, and {expected} follows from other projects"
        ));
    }
    match resolve(case, &location).await?.as_deref() {
        Some(name) if name == project.as_str() => Ok(()),
        Some(name) => {
            Err(format!("locate returns {location}, and resolve returns `{name}` for it"))
        }
        None => Err(format!("locate returns {location}, and resolve finds no project there")),
    }
}

/// Locations near the one of a project.
fn neighbours(case: &Case) -> Vec<Location> {
    let Ok(project) = case.project() else { return Vec::new() };
    let own = case.registry.locate(&project);
    let (host, repository) = (own.host.to_string(), &own.repository);
    let near = [
        ("registry.elsewhere.example".to_owned(), repository.clone()),
        (format!("x{host}"), repository.clone()),
        (host.clone(), format!("{repository}/below")),
        (host.clone(), format!("above/{repository}")),
        (host.clone(), format!("{repository}/{project}")),
        (host, "x".to_owned()),
    ];
    near.iter().filter_map(|(host, name)| Location::parse(host, name).ok()).collect()
}

/// Checks that `resolve` claims only the locations of its own projects. Returns a hint if it
/// returns something that is no project name, which the host ignores.
async fn check_claim(case: &Case, location: &Location) -> Result<Option<String>, String> {
    let Some(name) = resolve(case, location).await? else { return Ok(None) };
    let Ok(project) = name.parse::<Project>() else {
        return Ok(Some(format!("resolve returns `{name}`, which is not a project name")));
    };
    let home = locate(case, &project).await?;
    if home.contains(location) {
        Ok(None)
    } else {
        Err(format!("resolve returns `{name}`, which lives at {home}"))
    }
}
