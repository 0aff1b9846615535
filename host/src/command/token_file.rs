//! The file that a command reads a token from, and what operators put into it instead of a token.
//!
//! **Invariant:** no message has the content of the file, or an argument that may be a token.

use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::domain::Secret;
use crate::files::Stream;

/// Larger than any accepted token, so that a token that is too large is explained too.
const MOST_READ: u64 = 64 << 10;
/// The beginning of every token: `{"` in base64url.
const TOKEN: &str = "eyJ";
/// Members of JSON answers that hold a token: GitHub, OAuth, `kubectl … -o json`, Vault.
const MEMBERS: [&str; 6] =
    ["/value", "/id_token", "/access_token", "/token", "/status/token", "/data/token"];

/// Reads the token; `-` is standard input.
pub(super) fn read(path: &Path) -> Result<Secret, Vec<String>> {
    let mut text = Zeroizing::new(String::with_capacity(8192));
    let read = if path == Path::new("-") {
        io::stdin().take(MOST_READ).read_to_string(&mut text)
    } else {
        Stream::open(path).and_then(|file| file.take(MOST_READ).read_to_string(&mut text))
    };
    read.map_err(|error| vec![unreadable(path, &error)])?;
    let text = text.trim();
    match mistake(text) {
        Some(mistake) => Err(vec![format!("--token-file {}: {mistake}", path.display())]),
        None => Ok(Secret::new(text.to_owned())),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    let shown = path.display().to_string();
    if shown.contains(TOKEN) || error.kind() == io::ErrorKind::InvalidFilename {
        return "--token-file: this is a token or another long text, and the option takes the path \
                of a file; write the token into a file that only you can read, or use \
                `--token-file -` and pass it on standard input; the history of your shell may \
                have the token now"
            .to_owned();
    }
    let remedy = if error.kind() == io::ErrorKind::InvalidData {
        "the file is not text; if PowerShell wrote it as UTF-16, write it with `-Encoding ascii`"
    } else {
        "name a file that this user can read, or `-` for standard input"
    };
    format!("--token-file {shown}: {error}; {remedy}")
}

/// What the file has instead of a token, and how to get the token out of it.
fn mistake(text: &str) -> Option<String> {
    let begins =
        |word: &str| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if text.is_empty() {
        return Some("the file is empty; write the token into it".to_owned());
    }
    if text.starts_with('\u{feff}') {
        return Some(
            "the file begins with a byte order mark; write it without one, for example with \
             `-Encoding ascii` of PowerShell"
                .to_owned(),
        );
    }
    if text.starts_with('{') {
        return json(text);
    }
    if begins("authorization:") || begins("bearer ") {
        return Some(
            "the file has the header of a request; remove everything before the token, `Bearer` \
             too"
            .to_owned(),
        );
    }
    if text.starts_with(['"', '\'', '`']) {
        return Some("the token is in quotation marks; remove them".to_owned());
    }
    if text.starts_with("-----BEGIN") {
        return Some("the file has a key or a certificate (PEM); name the token's file".to_owned());
    }
    if let Some((name, _)) = text.split_once('=').filter(|(name, _)| is_variable(name)) {
        let name = name.rsplit(' ').next().unwrap_or(name);
        return Some(format!(
            "the file has the line of a shell that sets the variable {name}; keep the token \
             behind `=` only"
        ));
    }
    let words = text.split_whitespace().count();
    (words > 1 && text.contains(TOKEN)).then(|| {
        format!("the file has {words} words or lines; write one token into it, in one line")
    })
}

fn json(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let found = MEMBERS.iter().find(|member| value.pointer(member).is_some_and(Value::is_string));
    Some(match found {
        Some(member) => {
            let path = member.replace('/', ".");
            format!(
                "the file has JSON with the token in the member `{}`; write the token alone, for \
                 example with `jq -r {path}`",
                path.trim_start_matches('.')
            )
        }
        None => "the file has JSON, expected a token; write the token alone, for example with \
                 `jq -r .NAME`"
            .to_owned(),
    })
}

/// `RISE_TOKEN`, also behind `export`.
fn is_variable(text: &str) -> bool {
    let name = text.strip_prefix("export ").unwrap_or(text);
    !name.is_empty()
        && name.len() <= 64
        && !name.starts_with(TOKEN)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
