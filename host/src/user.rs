//! The users of this machine, for messages: a number alone tells an operator nothing.

use std::fs;

/// The name of the user of this process.
pub(crate) fn own_name() -> String {
    name(own_id())
}

/// The same for records: `rise-broker`, or `uid 998`.
pub(crate) fn own_login() -> String {
    login(own_id())
}

/// A user for records.
pub(crate) fn login(id: u32) -> String {
    let names = fs::read_to_string("/etc/passwd").unwrap_or_default();
    find(&names, id).map_or_else(|| format!("uid {id}"), str::to_owned)
}

pub(crate) fn own_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// `` `rise-broker` (uid 998) ``, or `uid 998` if `/etc/passwd` does not name the user.
pub(crate) fn name(id: u32) -> String {
    let names = fs::read_to_string("/etc/passwd").unwrap_or_default();
    find(&names, id).map_or_else(|| format!("uid {id}"), |name| format!("`{name}` (uid {id})"))
}

fn find(names: &str, id: u32) -> Option<&str> {
    names.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number() {
        let names = "root:x:0:0:root:/root:/bin/sh\nrise-broker:x:998:998::/:/bin/false\nbroken\n";
        assert_eq!(find(names, 998), Some("rise-broker"));
        assert_eq!(find(names, 0), Some("root"));
        assert_eq!(find(names, 99), None);
        assert_eq!(name(4_000_000_000), "uid 4000000000");
    }
}
