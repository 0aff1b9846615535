//! `locate` and `resolve` are each other's inverse, for projects of every shape.

use std::sync::Arc;

use super::examples::Case;
use super::report::Report;
use rise_broker::domain::{Location, Project};
use rise_broker::provider::{LocateCall, ResolveCall};

const AREA: &str = "places";

pub(super) async fn check(case: &Case, report: &mut Report) {
    let mut wrong = Vec::new();
    for project in projects() {
        if let Err(seen) = there_and_back(case, &project).await {
            wrong.push(format!("project `{project}`: {seen}"));
        }
    }
    report.all(AREA, "resolve is the inverse of locate, which says the same each time", wrong);
    let (mut wrong, mut strange) = (Vec::new(), Vec::new());
    for location in others(case) {
        match nobody_elses(case, &location).await {
            Ok(Some(seen)) => strange.push(format!("{location}: {seen}")),
            Ok(None) => {}
            Err(seen) => wrong.push(format!("{location}: {seen}")),
        }
    }
    report.all(AREA, "resolve claims nothing that locate would not put there", wrong);
    if let Some(seen) = strange.into_iter().next() {
        report.note(AREA, "resolve says none where there is no project", seen);
    }
}

/// One letter, the longest, digits, runs of dashes, names that mean something elsewhere, and many
/// that do not.
fn projects() -> Vec<Project> {
    let longest = "x".repeat(63);
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
        &longest,
    ];
    let numbered = (0_u32..50).map(|it| format!("p{it}-{:x}", it.wrapping_mul(2_654_435_761)));
    let all = named.into_iter().map(str::to_owned).chain(numbered);
    all.filter_map(|name| name.parse().ok()).collect()
}

async fn locate(case: &Case, project: &Project) -> Result<Location, String> {
    let registry = &case.registry;
    let settings = Arc::clone(&registry.settings);
    let locate = LocateCall { settings, project: project.clone() };
    let located = registry.provider.call(locate, &registry.capabilities);
    let located = located.await.map_err(|error| error.to_string())?;
    let located = located.value.map_err(|error| error.to_string())?;
    Location::parse(&located.host, &located.repository).map_err(|error| error.to_string())
}

async fn resolve(case: &Case, location: &Location) -> Result<Option<String>, String> {
    let registry = &case.registry;
    let settings = Arc::clone(&registry.settings);
    let resolve = ResolveCall { settings, location: location.clone() };
    let resolved = registry.provider.call(resolve, &registry.capabilities);
    Ok(resolved.await.map_err(|error| error.to_string())?.value)
}

async fn there_and_back(case: &Case, project: &Project) -> Result<(), String> {
    let (location, again) = (locate(case, project).await?, locate(case, project).await?);
    if location != again {
        return Err(format!("locate says {location}, then {again}"));
    }
    let expected = case.registry.locate(project);
    if location != expected {
        return Err(format!(
            "locate says {location}, and by other projects it would be {expected}"
        ));
    }
    match resolve(case, &location).await?.as_deref() {
        Some(name) if name == project.as_str() => Ok(()),
        Some(name) => Err(format!("locate says {location}, and resolve of that `{name}`")),
        None => Err(format!("locate says {location}, and resolve knows no project there")),
    }
}

/// Places near one of a project's own.
fn others(case: &Case) -> Vec<Location> {
    let Ok(project) = Case::project() else { return Vec::new() };
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

/// What is strange and does no harm: the host takes nothing for a project that is not one.
async fn nobody_elses(case: &Case, location: &Location) -> Result<Option<String>, String> {
    let Some(name) = resolve(case, location).await? else { return Ok(None) };
    let Ok(project) = name.parse::<Project>() else {
        return Ok(Some(format!("resolve says `{name}`, which is no project's name")));
    };
    let home = locate(case, &project).await?;
    if home.contains(location) {
        Ok(None)
    } else {
        Err(format!("resolve says `{name}`, which lives at {home}"))
    }
}
