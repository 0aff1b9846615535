//! Templates of ARNs: which resources of AWS are a project's.
//!
//! **Invariant:** no template reaches beyond one project, and no two projects share a resource.

use crate::capability::aws::settings::AwsSettings;
use crate::domain::ProjectShape;
use crate::domain::location::ProjectPath;

/// `arn:{partition}:ecr:{region}:{account}:repository/{prefix}{project}`, or that of ECR Public,
/// and everything below it if child repositories belong to a project.
pub(super) fn default_resources(settings: &AwsSettings) -> Vec<String> {
    let own = settings.repository_arn(&format!("{}{{project}}", settings.repo_prefix));
    let children = settings.child_repositories.then(|| format!("{own}/*"));
    [own].into_iter().chain(children).collect()
}

/// Templates of ARNs, and the projects that they are for.
pub(super) type Templates<'a> = (&'a [String], ProjectShape);

/// Returns a template of each that are the same resource for two different projects: with `a` and
/// `a/b` as projects, `{project}/*` of `a` contains `{project}` of `a/b`.
pub(super) fn shared<'a>(
    (mine, shape): Templates<'a>,
    (theirs, other_shape): Templates<'a>,
) -> Option<(&'a str, &'a str)> {
    let is_shared = |one: &str, other: &str| {
        let others = paths(other, other_shape);
        let overlaps = |one: &ProjectPath<'_>| others.iter().any(|it| one.overlaps_for_others(it));
        paths(one, shape).iter().any(overlaps)
    };
    let mut pairs = mine.iter().flat_map(|one| theirs.iter().map(move |other| (one, other)));
    let (one, other) = pairs.find(|(one, other)| is_shared(one, other))?;
    Some((one, other))
}

/// The paths of a template, one for each depth of a project. A `:` counts as a `/` here, which may
/// find something shared where nothing is, and never the reverse.
fn paths(template: &str, shape: ProjectShape) -> Vec<ProjectPath<'_>> {
    let (before, after) = template.split_once("{project}").unwrap_or((template, ""));
    let (after, below) = after.strip_suffix("/*").map_or((after, false), |rest| (rest, true));
    let [before, after] = [before, after].map(|text| {
        text.split(['/', ':']).filter(|segment| !segment.is_empty()).collect::<Vec<_>>()
    });
    let path = |depth| ProjectPath::new(before.clone(), depth, after.clone(), below);
    shape.depths().map(path).collect()
}

/// Checks a template. A bare `*` after `{project}` would reach `my-app-2` from `my-app`, and one in
/// front of it every project.
pub(super) fn is_template(text: &str) -> bool {
    let Some((before, after)) = text.split_once("{project}") else { return false };
    let plain = |part: &str| !part.contains(['*', '?', '$', '{', '}', '"', '\\']);
    let after = after.strip_suffix("/*").unwrap_or(after);
    before.starts_with("arn:")
        && before.ends_with(['/', ':'])
        && plain(before)
        && plain(after)
        && (after.is_empty() || after.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_cannot_reach_beyond_a_project() {
        for (text, right) in [
            ("arn:aws:ecr:us-east-1:123456789012:repository/rise/{project}", true),
            ("arn:aws:ecr:us-east-1:123456789012:repository/{project}/*", true),
            ("arn:aws:ecr:us-east-1:123456789012:repository/{project}/images", true),
            ("arn:aws:ecr:us-east-1:123456789012:repository/rise/{project}*", false),
            ("arn:aws:ecr:us-east-1:123456789012:repository/rise/*", false),
            ("arn:aws:ecr:*:123456789012:repository/{project}", false),
            ("arn:aws:ecr:us-east-1:123456789012:repository/x{project}", false),
            ("arn:aws:ecr:us-east-1:123456789012:repository/{project}-x", false),
            ("arn:aws:ecr:us-east-1:123456789012:repository/{project}/{project}", false),
            ("*", false),
            ("{project}", false),
        ] {
            assert_eq!(is_template(text), right, "{text}");
        }
    }

    #[test]
    fn no_two_projects_share_a_resource() {
        let shape = |depth, children| ProjectShape { depth, children, ..ProjectShape::default() };
        for (templates, shape, right) in [
            (&["{project}"][..], shape(3, false), true),
            (&["{project}", "{project}/*"], shape(1, false), true),
            (&["{project}", "{project}/*"], shape(1, true), true),
            (&["{project}", "{project}/*"], shape(3, true), true),
            (&["{project}", "{project}/*"], shape(2, false), false),
            (&["{project}/*"], shape(2, false), false),
            (&["{project}/images"], shape(2, false), true),
            (&["{project}", "{project}/images"], shape(1, false), true),
            (&["{project}", "{project}/images"], shape(2, false), false),
            (&["{project}", "x/{project}"], shape(1, false), true),
            (&["{project}", "x/{project}"], shape(2, false), false),
            (&["{project}/*", "x/{project}"], shape(1, false), false),
            (&["{project}", "Cache/{project}"], shape(2, false), true),
        ] {
            let arn = |end: &&str| format!("arn:aws:ecr:us-east-1:123456789012:repository/{end}");
            let templates: Vec<String> = templates.iter().map(arn).collect();
            assert_eq!(
                shared((&templates, shape), (&templates, shape)).is_none(),
                right,
                "{templates:?} {shape:?}"
            );
        }
    }
}
