//! Where images live.

/// Where a project's images live: `{host}/{repository}:{tag}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Host name, with a port if needed, such as `localhost:5000`.
    pub host: String,
    /// Path segments in lower case, such as `rise/my-app`. [`Location::is_repository`] checks them.
    pub repository: String,
}

impl Location {
    /// Whether `text` is a repository name by the OCI distribution specification and by ECR:
    /// segments separated by `/`, each of `[a-z0-9]+` with `.`, `_`, `__` or any run of `-` in
    /// between.
    ///
    /// ```
    /// use rise_provider::Location;
    ///
    /// assert!(Location::is_repository("team/my-app"));
    /// assert!(!Location::is_repository("team/my-app*"));
    /// assert!(!Location::is_repository("team//my-app"));
    /// ```
    pub fn is_repository(text: &str) -> bool {
        text.split('/').all(is_segment)
    }

    /// Whether `text` is a DNS name or an IPv4 address, with a port if needed.
    ///
    /// ```
    /// use rise_provider::Location;
    ///
    /// assert!(Location::is_host("registry.example.com:5000"));
    /// assert!(!Location::is_host("registry.example.com/v2"));
    /// assert!(!Location::is_host("-registry:0"));
    /// ```
    pub fn is_host(text: &str) -> bool {
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        };
        name.len() <= 253 && name.split('.').all(Self::is_label) && port.is_none_or(is_port)
    }

    /// Whether `text` is a label of a DNS name: 1 to 63 letters, digits and `-`, with no `-` at
    /// either end. Such a project can be a part of a host name or of the name of an account.
    ///
    /// ```
    /// use rise_provider::Location;
    ///
    /// assert!(Location::is_label("my-app"));
    /// assert!(!Location::is_label("my.app"));
    /// assert!(!Location::is_label("my_app"));
    /// assert!(!Location::is_label("team/my-app"));
    /// ```
    pub fn is_label(text: &str) -> bool {
        let is_edge = |character: char| character.is_ascii_alphanumeric();
        text.len() <= 63
            && text.starts_with(is_edge)
            && text.ends_with(is_edge)
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    }
}

fn is_port(port: &str) -> bool {
    port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port)
}

fn is_segment(segment: &str) -> bool {
    let is_word = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let is_separator = |run: &str| {
        matches!(run, "" | "." | "_" | "__")
            || (!run.is_empty() && run.bytes().all(|byte| byte == b'-'))
    };

    segment.starts_with(is_word)
        && segment.ends_with(is_word)
        && segment.split(is_word).all(is_separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_lower_case_words_with_single_separators() {
        for text in ["a", "a/b", "a.b", "a_b", "a__b", "a---b", "0/a-1.b_c", "rise/my-app"] {
            assert!(Location::is_repository(text), "{text}");
        }
        for text in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "a.-b", "-a", "a-", "a*", "${a}",
            "ä", "a b",
        ] {
            assert!(!Location::is_repository(text), "{text}");
        }
    }
}
