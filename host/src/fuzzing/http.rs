//! A second reading of what the ceiling of `http` may admit, by text alone.

use crate::capability::http::ceiling::Ceiling;
use crate::config::HttpCeilingFile;
use crate::domain::Project;
use crate::wit::rise::registry::http::Method;

const ENDPOINTS: [(&str, &str); 2] =
    [("https://r.example.com", "/api/my-app"), ("https://s.example.com:8443", "/")];

/// A URL. Admitted: at an endpoint's origin, and below its path as every server would walk there.
pub fn http_ceiling(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let allow = ["POST https://r.example.com/api/{project}", "* https://s.example.com:8443"];
    let allow = Some(allow.map(str::to_owned).to_vec());
    let stated = HttpCeilingFile { allow, private: false };
    let ceiling = Ceiling::new(Some(&stated), None).unwrap();
    let project: Project = "my-app".parse().unwrap();
    assert!(ceiling.admit(Method::Delete, text, &project).is_err() || text.contains(":8443"));
    let Ok(url) = ceiling.admit(Method::Post, text, &project) else { return };
    let sent = url.as_str();
    let endpoint = ENDPOINTS.into_iter().find_map(|(origin, path)| {
        Some((path, sent.strip_prefix(origin)?)).filter(|(_, rest)| rest.starts_with('/'))
    });
    let (prefix, rest) = endpoint.expect("an admitted URL is at an endpoint");
    assert!(!sent.contains(['#', '\\', '@', ' ', '\r', '\n']) || sent.contains('?'), "{sent}");
    let path = rest.split('?').next().unwrap_or_default();
    // As a careless server would: decoded until nothing changes, then walked.
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
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
