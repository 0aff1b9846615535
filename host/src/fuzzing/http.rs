//! Checks by text alone what the ceiling of `http` admits.

use crate::capability::http::ceiling::HttpCeiling;
use crate::capability::wit::rise::registry::http::Method;
use crate::config::HttpCeilingFile;
use crate::domain::{Project, ProjectShape};

const ENDPOINTS: [(&str, &str); 2] =
    [("https://r.example.com", "/api/my-app"), ("https://s.example.com:8443", "/")];

/// Input: a URL. If it is admitted, it has the origin of an endpoint, and every server resolves its
/// path below the endpoint's path.
pub fn http_ceiling(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let allow = ["POST https://r.example.com/api/{project}", "* https://s.example.com:8443"];
    let allow = Some(allow.map(str::to_owned).to_vec());
    let stated = HttpCeilingFile { allow, ..HttpCeilingFile::default() };
    let ceiling = HttpCeiling::new(Some(&stated), None, None, ProjectShape::default()).unwrap();
    let project: Project = "my-app".parse().unwrap();
    assert!(ceiling.admit(Method::Delete, text, Some(&project)).is_err() || text.contains(":8443"));
    let Ok(url) = ceiling.admit(Method::Post, text, Some(&project)) else { return };
    let sent = url.as_str();
    let endpoint = ENDPOINTS.into_iter().find_map(|(origin, path)| {
        Some((path, sent.strip_prefix(origin)?)).filter(|(_, rest)| rest.starts_with('/'))
    });
    let Some((prefix, rest)) = endpoint else { panic!("{sent} is at no endpoint") };
    assert!(!sent.contains(['#', '\\', ' ', '\r', '\n']), "{sent}");
    let path = rest.split('?').next().unwrap_or_default();
    // As a careless server resolves it: decoded several times, then segment by segment.
    let mut decoded = path.to_owned();
    for _ in 0..4 {
        decoded = percent_decoded(&decoded).replace('\\', "/");
    }
    let mut walked: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(walked.pop()),
            name => walked.push(name),
        }
    }
    let walked = format!("/{}", walked.join("/"));
    let inside = prefix == "/" || walked == prefix || walked.starts_with(&format!("{prefix}/"));
    assert!(inside, "{sent} leads to {walked}");
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).filter(|_| *first == b'%');
        let hex = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(hex.unwrap_or(*first));
        rest = if hex.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::http_ceiling;

    const PIECES: [&str; 28] = [
        "https://r.example.com",
        "https://s.example.com:8443",
        "http://r.example.com",
        "/",
        "//",
        "api",
        "my-app",
        "/api/my-app",
        "-2",
        "..",
        ".",
        "%2e",
        "%2E",
        "%2f",
        "%5c",
        "%25",
        "%252e",
        "%3b",
        "%00",
        ";",
        "\\",
        "?",
        "#",
        "@",
        ":443",
        "evil.com",
        "%",
        "x",
    ];

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(20_000))]

        /// Random text is hardly ever a URL; random pieces of URLs often are.
        #[test]
        fn nothing_leads_out_of_the_ceiling(
            start in proptest::sample::select(&PIECES[..3]),
            rest in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..8),
        ) {
            http_ceiling(format!("{start}{}", rest.concat()).as_bytes());
        }
    }
}
