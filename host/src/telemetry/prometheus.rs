//! The older text format of Prometheus, from `OpenMetrics` text. `promtool check metrics` and many
//! other programs read this format only.
//!
//! The formats differ in how metadata names a counter, in the types `info` and `unknown`, and in
//! the last line.

/// Turns `OpenMetrics` text, as `prometheus-client` writes it, into text of version 0.0.4.
pub(crate) fn text(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    let types: Vec<(&str, &str)> = openmetrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let name = |name: &str| {
        let kind = types.iter().find(|(of, _)| *of == name).map_or("", |(_, kind)| kind);
        match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        }
    };
    for line in openmetrics.lines() {
        let written = if let Some((of, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let kind = match kind {
                "info" => "gauge",
                "unknown" => "untyped",
                kind => kind,
            };
            format!("# TYPE {} {kind}", name(of))
        } else if let Some((of, help)) =
            line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        {
            format!("# HELP {} {help}", name(of))
        } else if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        } else {
            without_exemplar(line).to_owned()
        };
        out.push_str(&written);
        out.push('\n');
    }
    out
}

/// Only buckets have exemplars: ` # {trace_id="…"} 0.5` after the value. No value of their labels
/// has a `#`: routes have none.
fn without_exemplar(line: &str) -> &str {
    let is_bucket = line.split('{').next().is_some_and(|name| name.ends_with("_bucket"));
    line.split_once(" # {").filter(|_| is_bucket).map_or(line, |(sample, _)| sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_infos_are_named_as_their_samples() {
        let openmetrics = "# HELP a Things.\n# TYPE a counter\na_total{x=\"# EOF\"} 1\n\
            # HELP b This build.\n# TYPE b info\nb_info{v=\"1\"} 1\n\
            # HELP c Seconds.\n# TYPE c histogram\nc_sum 0.0\nc_count 0\n\
            # TYPE d gauge\n# UNIT d bytes\nd 1\n# EOF\n";
        assert_eq!(
            text(openmetrics),
            "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"# EOF\"} 1\n\
             # HELP b_info This build.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n\
             # HELP c Seconds.\n# TYPE c histogram\nc_sum 0.0\nc_count 0\n\
             # TYPE d gauge\nd 1\n"
        );
        let bucket = "c_bucket{le=\"0.1\"} 1 # {trace_id=\"0af7\"} 0.05\na{x=\" # {\"} 1\n";
        assert_eq!(text(bucket), "c_bucket{le=\"0.1\"} 1\na{x=\" # {\"} 1\n");
    }
}
