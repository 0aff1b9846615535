//! Reads the records of every chain back. An object is read as a whole, one at a time.

use reqwest::Method;
use ulid::Ulid;

use super::S3;
use super::request::Bucket;
use crate::audit::Copies;
use crate::ship::ShipError;

/// No listing of this many pages, of 1,000 objects each, ends in a reasonable time.
const MOST_PAGES: usize = 10_000;

impl S3 {
    /// Checks all records.
    pub async fn check(&self, copies: &mut Copies) -> Result<(), ShipError> {
        let bucket = Bucket::open(&self.settings, self.clock.clone()).await?;
        let prefix = &self.settings.prefix;
        let mut token: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut query = vec![("list-type", "2"), ("prefix", prefix)];
            query.extend(token.as_deref().map(|token| ("continuation-token", token)));
            let page = bucket.send(Method::GET, "", &query, &[], Vec::new()).await?;
            let page = String::from_utf8_lossy(&page);
            // They come in the order of their names, which is that of chains and numbers.
            for name in elements(&page, "Key") {
                let Some((chain, first)) = name.strip_prefix(prefix.as_str()).and_then(place)
                else {
                    continue;
                };
                let object = bucket.send(Method::GET, name, &[], &[], Vec::new()).await?;
                let lines = object.strip_suffix(b"\n").unwrap_or(&object).split(|it| *it == b'\n');
                for (seq, line) in (first..).zip(lines) {
                    copies.add(chain, seq, line, None);
                }
            }
            match elements(&page, "NextContinuationToken").next() {
                Some(next) => token = Some(unescaped(next)),
                None => return Ok(()),
            }
        }
        Err(ShipError::new("rejected", "the listing of the bucket does not end"))
    }
}

/// The chain of an object and the number of its first record, by the end of its name.
fn place(name: &str) -> Option<(Ulid, u64)> {
    let (chain, file) = name.split_once('/')?;
    let begin = file.strip_suffix(".jsonl")?;
    // Names had no hash at first.
    let seq = begin.split_once('-').map_or(begin, |(seq, _hash)| seq);
    Some((chain.parse().ok()?, seq.parse().ok()?))
}

/// The texts of all elements of this name, in XML of S3, which has no attributes and no comments.
fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (_, behind) = rest.split_once(&begin)?;
        let (text, left) = behind.split_once(&end)?;
        rest = left;
        Some(text)
    })
}

/// A token may have characters that XML escapes. The names of our objects have none.
fn unescaped(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    text.replace("&apos;", "'").replace("&#39;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_and_other_objects_are_left_out() {
        let chain = "01M7XYNW8K6XBGT75WF4PVR3VR";
        let names = [
            format!("audit/{chain}/00000000000000000042-0a1b2c3d4e5f.jsonl"),
            format!("audit/{chain}/00000000000000000099.jsonl"),
            "audit/readme.txt".to_owned(),
            "audit/x/1-0a.jsonl".to_owned(),
        ];
        let contents = names.map(|name| format!("<Contents><Key>{name}</Key></Contents>")).concat();
        let xml = &format!(
            "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>true</IsTruncated>{contents}\
             <NextContinuationToken>a&amp;b=</NextContinuationToken></ListBucketResult>"
        );
        let places: Vec<_> = elements(xml, "Key").map(|name| place(&name[6..])).collect();
        let chain = chain.parse().unwrap();
        assert_eq!(places, [Some((chain, 42)), Some((chain, 99)), None, None]);
        let token = elements(xml, "NextContinuationToken").next().map(unescaped);
        assert_eq!(token.as_deref(), Some("a&b="));
    }
}
