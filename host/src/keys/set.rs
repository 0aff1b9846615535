//! The keys that sign tokens: the current one, the next one, and the previous one.
//!
//! All three are published. A verifier knows the next key before a token has it, and the previous
//! key as long as its tokens are valid. The whole set is one file, so that a rotation is one
//! `rename`, and so that several brokers can share it: a copy, a mounted Secret.
//!
//! ```text
//! rise-broker signing keys 1, 2 keys
//!
//! state = current
//! since = 2026-11-26T17:00:00Z
//! -----BEGIN PRIVATE KEY-----
//! …
//! -----BEGIN CERTIFICATE-----
//! …
//! ```

use std::io::ErrorKind;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use super::file::FolderLock;
use super::signing::{SigningKey, SigningKind};
use super::{KeyFileError, certificate, file, pem};

const TITLE: &str = "rise-broker signing keys 1";
/// Three keys of 4096 bits with their certificates are 17 KiB.
const LARGEST_FILE: u64 = 32 << 10;

/// The keys of one file.
pub struct KeySet {
    current: SetKey,
    next: SetKey,
    previous: Option<SetKey>,
}

/// One key of the set.
pub struct SetKey {
    pub key: SigningKey,
    /// When it got its state.
    pub since: Timestamp,
    /// In DER; issued by the key to itself.
    pub certificate: Vec<u8>,
    pkcs8: Zeroizing<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It signs.
    Current,
    /// It will sign, and is published already.
    Next,
    /// It has signed tokens that may still be valid.
    Previous,
}

/// Why a set was not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error(transparent)]
    File(#[from] KeyFileError),
    #[error("another process rotates these keys: wait for it, then look with `keys list`")]
    Busy,
    #[error(
        "the current key signs since {since} only, and tokens of the one before may be valid until \
         {until}: rotate after that, or with `--now` if nobody uses tokens; if a key has leaked, \
         with `--leaked`"
    )]
    TooEarly { since: Timestamp, until: Timestamp },
}

impl KeyState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Next => "next",
            Self::Previous => "previous",
        }
    }
}

impl KeySet {
    /// The set in the file; `None` if there is no such file.
    pub fn open(path: &Path) -> Result<Option<Self>, KeyFileError> {
        let wrong = |problem| KeyFileError::SetFormat { path: path.to_owned(), problem };
        let text = file::read(path, LARGEST_FILE, || wrong("it is not such a file"))?;
        text.map(|text| Self::parse(&text).map_err(wrong)).transpose()
    }

    /// Processes that create the file at the same time all get the same set.
    pub fn open_or_create(
        path: &Path,
        kind: SigningKind,
        now: Timestamp,
    ) -> Result<Self, KeyFileError> {
        if let Some(set) = Self::open(path)? {
            return Ok(set);
        }
        let made = Self::generate(kind, now);
        let made = made.ok_or_else(|| KeyFileError::Generate { path: path.to_owned() })?;
        let wrong = |problem| KeyFileError::SetFormat { path: path.to_owned(), problem };
        let format = || wrong("it is not such a file");
        let text = file::create(path, &made.text(), LARGEST_FILE, format)?;
        Self::parse(&text).map_err(wrong)
    }

    /// Checks that the file can be created, and returns a set that is not kept.
    pub fn pretend(path: &Path, kind: SigningKind, now: Timestamp) -> Result<Self, KeyFileError> {
        file::may_create(path)?;
        let made = Self::generate(kind, now);
        made.ok_or_else(|| KeyFileError::Generate { path: path.to_owned() })
    }

    /// Makes every key anew, because one has leaked: the current and the next one are in one file.
    /// What they signed is rejected from now on.
    pub fn replace(path: &Path, kind: SigningKind, now: Timestamp) -> Result<Self, RotateError> {
        let (lock, _) = Self::lock(path)?;
        let made = Self::generate(kind, now);
        let made = made.ok_or_else(|| KeyFileError::Generate { path: path.to_owned() })?;
        made.put_into(path, &lock)?;
        Ok(made)
    }

    /// Lets the next key sign from now on. Unless it is `urgent`, the current key must have signed
    /// for `overlap`, so that no token of the previous one is valid any more.
    pub fn rotate(
        path: &Path,
        kind: SigningKind,
        now: Timestamp,
        overlap: SignedDuration,
        urgent: bool,
    ) -> Result<Self, RotateError> {
        let (lock, Self { current, next, .. }) = Self::lock(path)?;
        let until = current.since.saturating_add(overlap).unwrap_or(Timestamp::MAX);
        if now < until && !urgent {
            return Err(RotateError::TooEarly { since: current.since, until });
        }
        let made = SetKey::generate(kind, now);
        let made = made.ok_or_else(|| KeyFileError::Generate { path: path.to_owned() })?;
        // Whole seconds, as in every other line of the file.
        let since = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let rotated = Self {
            current: SetKey { since, ..next },
            next: made,
            previous: Some(SetKey { since, ..current }),
        };
        rotated.put_into(path, &lock)?;
        Ok(rotated)
    }

    /// The set in the file, which nobody else changes meanwhile.
    fn lock(path: &Path) -> Result<(FolderLock, Self), RotateError> {
        let io = |source| KeyFileError::Io { path: path.to_owned(), act: "replaced", source };
        let lock = match file::lock(path) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(RotateError::Busy),
            lock => lock.map_err(io)?,
        };
        let set = Self::open(path)?;
        Ok((lock, set.ok_or_else(|| KeyFileError::Gone { path: path.to_owned() })?))
    }

    fn put_into(&self, path: &Path, lock: &FolderLock) -> Result<(), KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_owned(), act: "replaced", source };
        file::replace(path, &self.text(), lock).map_err(io)
    }

    /// The key that signs.
    pub fn current(&self) -> &SetKey {
        &self.current
    }

    /// The key that will sign after the next rotation.
    pub fn next(&self) -> &SetKey {
        &self.next
    }

    /// Every key of the set, the current one first.
    pub fn keys(&self) -> impl Iterator<Item = (KeyState, &SetKey)> {
        let first = [(KeyState::Current, &self.current), (KeyState::Next, &self.next)];
        first.into_iter().chain(self.previous.as_ref().map(|key| (KeyState::Previous, key)))
    }

    /// The key with this name.
    pub fn find(&self, kid: &str) -> Option<&SigningKey> {
        self.keys().map(|(_, key)| &key.key).find(|key| key.kid() == kid)
    }

    /// The certificates of all keys in PEM, as a registry wants them in its `rootcertbundle`.
    pub fn certificates(&self) -> String {
        let pem = |(_, key): (KeyState, &SetKey)| pem::encode(&key.certificate, pem::CERTIFICATE);
        self.keys().map(|key| pem(key).to_string()).collect()
    }

    pub(crate) fn generate(kind: SigningKind, now: Timestamp) -> Option<Self> {
        let key = || SetKey::generate(kind, now);
        Some(Self { current: key()?, next: key()?, previous: None })
    }

    pub(crate) fn text(&self) -> Zeroizing<String> {
        let room = usize::try_from(LARGEST_FILE).unwrap_or(0);
        let mut text = Zeroizing::new(String::with_capacity(room));
        text.push_str(&Self::title(self.keys().count()));
        for (state, key) in self.keys() {
            text.push_str(&SetKey::head(state, key.since));
            text.push_str(&pem::encode(&key.pkcs8, pem::PRIVATE_KEY));
            text.push_str(&pem::encode(&key.certificate, pem::CERTIFICATE));
        }
        text
    }

    fn title(count: usize) -> String {
        format!("{TITLE}, {count} keys\n")
    }

    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let (title, mut rest) = text.split_once('\n').ok_or("it is empty")?;
        let count = title.strip_prefix(TITLE).and_then(|rest| rest.strip_prefix(", "));
        let count = count.and_then(|rest| rest.strip_suffix(" keys")?.parse::<usize>().ok());
        let count = count.ok_or("it does not begin as one")?;
        let (mut current, mut next, mut previous) = (None, None, None);
        let mut found = 0;
        while !rest.trim().is_empty() {
            let (state, key, left) = SetKey::parse(rest)?;
            let place = match state {
                KeyState::Current => &mut current,
                KeyState::Next => &mut next,
                KeyState::Previous => &mut previous,
            };
            if place.replace(key).is_some() {
                return Err("it has two keys in one state");
            }
            (rest, found) = (left, found + 1);
        }
        if found != count {
            return Err("keys are missing at its end");
        }
        let set = Self {
            current: current.ok_or("it has no current key")?,
            next: next.ok_or("it has no next key")?,
            previous,
        };
        let is_repeated = |(_, key): (KeyState, &SetKey)| {
            set.keys().filter(|(_, other)| other.key.kid() == key.key.kid()).count() > 1
        };
        if set.keys().any(is_repeated) {
            return Err("it has one key twice");
        }
        Ok(set)
    }
}

impl SetKey {
    fn generate(kind: SigningKind, now: Timestamp) -> Option<Self> {
        let pkcs8 = SigningKey::generate(kind)?;
        let key = SigningKey::from_pkcs8(&pkcs8)?;
        let certificate = certificate::issue(&key, &pkcs8, now)?;
        // A file has whole seconds.
        let since = Timestamp::from_second(now.as_second()).ok()?;
        Some(Self { key, since, certificate, pkcs8 })
    }

    fn head(state: KeyState, since: Timestamp) -> String {
        format!("\nstate = {}\nsince = {since}\n", state.as_str())
    }

    /// Reads the first key of `text`, and returns the text behind it.
    fn parse(text: &str) -> Result<(KeyState, Self, &str), &'static str> {
        let cut = "a key in it is not whole";
        let (head, pkcs8, rest) = pem::split(text, pem::PRIVATE_KEY).ok_or(cut)?;
        let (between, certificate, rest) = pem::split(rest, pem::CERTIFICATE).ok_or(cut)?;
        let mut lines = head.lines().filter(|line| !line.is_empty());
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(" = ");
        let state = match value("state") {
            Some("current") => KeyState::Current,
            Some("next") => KeyState::Next,
            Some("previous") => KeyState::Previous,
            _ => return Err("a key in it has no state"),
        };
        let since = value("since").and_then(|text| text.parse().ok());
        let since = since.ok_or("a key in it has no time")?;
        if lines.next().is_some() || !between.trim().is_empty() {
            return Err("it has lines that are not of such a file");
        }
        let pkcs8 = pem::decode(pkcs8, pem::PRIVATE_KEY).ok_or(cut)?;
        let key = SigningKey::from_pkcs8(&pkcs8);
        let key = key.ok_or("a key in it is not RSA of 2048 bits, P-256 or Ed25519")?;
        let certificate = pem::decode(certificate, pem::CERTIFICATE).ok_or(cut)?.to_vec();
        Ok((state, Self { key, since, certificate, pkcs8 }, rest))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    use std::path::PathBuf;

    use super::*;

    const OVERLAP: SignedDuration = SignedDuration::from_hours(12);

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_795_255_200 + hours * 3600).unwrap()
    }

    fn rotate(path: &Path, hours: i64, urgent: bool) -> Result<KeySet, RotateError> {
        KeySet::rotate(path, SigningKind::P256, at(hours), OVERLAP, urgent)
    }

    fn made() -> (tempfile::TempDir, PathBuf, KeySet) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/signing-keys.pem");
        let set = KeySet::open_or_create(&path, SigningKind::P256, at(0)).unwrap();
        (folder, path, set)
    }

    fn kids(set: &KeySet) -> Vec<(&'static str, String)> {
        set.keys().map(|(state, key)| (state.as_str(), key.key.kid().to_owned())).collect()
    }

    #[test]
    fn no_key_that_has_leaked_is_left() {
        let (_folder, path, first) = made();
        let second = rotate(&path, 12, false).unwrap();
        let anew = KeySet::replace(&path, SigningKind::P256, at(13)).unwrap();
        for (_, leaked) in kids(&first).iter().chain(&kids(&second)) {
            assert!(anew.find(leaked).is_none(), "{leaked}");
        }
        assert_eq!(kids(&KeySet::open(&path).unwrap().unwrap()), kids(&anew));
    }

    #[test]
    fn keys_go_from_next_to_current_to_previous() {
        let (_folder, path, first) = made();
        assert_eq!(kids(&KeySet::open(&path).unwrap().unwrap()), kids(&first));
        let early = rotate(&path, 11, false).err().unwrap().to_string();
        assert!(early.contains("until 2026-11-21T22"), "{early}");
        let second = rotate(&path, 12, false).unwrap();
        let (before, after) = (kids(&first), kids(&second));
        assert_eq!(after[0].1, before[1].1, "the next one signs");
        assert_eq!(after[2].1, before[0].1, "the current one is still published");
        assert!(before.iter().all(|(_, kid)| *kid != after[1].1), "the next one is new");
        assert_eq!(kids(&KeySet::open(&path).unwrap().unwrap()), after);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
        assert!(matches!(rotate(&path, 13, false), Err(RotateError::TooEarly { .. })));
        let third = rotate(&path, 13, true).unwrap();
        assert_eq!(third.find(&before[0].1).map(SigningKey::kid), None, "it is forgotten");
        assert_eq!(third.certificates().matches("BEGIN CERTIFICATE").count(), 3);
    }

    #[test]
    fn all_who_make_a_set_at_once_get_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing-keys.pem");
        let racer = || kids(&KeySet::open_or_create(&path, SigningKind::P256, at(0)).unwrap());
        let made: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8).map(|_| scope.spawn(racer)).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert!(made.iter().all(|kids| *kids == made[0]));
    }

    #[test]
    fn one_process_rotates_at_a_time() {
        let (_folder, path, _) = made();
        let lock = file::lock(&path).unwrap();
        assert!(matches!(rotate(&path, 12, false), Err(RotateError::Busy)));
        drop(lock);
        fs::write(path.with_file_name(".signing-keys.pem.draft"), "left by a kill").unwrap();
        assert!(rotate(&path, 12, false).is_ok());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused_and_kept() {
        let (_folder, path, _) = made();
        rotate(&path, 12, false).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        for length in (0..whole.trim_end().len()).step_by(7) {
            fs::write(&path, &whole[..length]).unwrap();
            let error = KeySet::open_or_create(&path, SigningKind::P256, at(0)).err().unwrap();
            assert!(error.to_string().contains("restore it from your backup"), "{length}: {error}");
            assert!(rotate(&path, 24, true).is_err(), "{length}");
            assert_eq!(fs::read_to_string(&path).unwrap().len(), length);
        }
        let (head, key) = whole.split_at(whole.find("\n\n").unwrap());
        for wrong in [
            whole.replace("since = ", "since: "),
            whole.replace("state = next", "state = current"),
            whole.replace("3 keys", "2 keys"),
            whole.replace("keys 1,", "keys 2,"),
            format!("{}{key}{key}", head.replace("3 keys", "6 keys")),
            whole.replace("-----BEGIN CERT", "surplus\n-----BEGIN CERT"),
        ] {
            fs::write(&path, wrong).unwrap();
            assert!(matches!(KeySet::open(&path), Err(KeyFileError::SetFormat { .. })));
        }
    }

    #[test]
    fn wrong_owners_modes_and_types_are_refused_with_the_remedy() {
        let (_folder, path, _) = made();
        let refusal = || KeySet::open(&path).err().unwrap().to_string();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(refusal().contains("run `chmod 600"), "{}", refusal());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(65_534), None).unwrap();
            assert!(refusal().contains("(uid 65534), who knows the key"), "{}", refusal());
            // Root looks at the broker's folder, and what it replaces stays the broker's.
            chown(path.parent().unwrap(), Some(65_534), None).unwrap();
            rotate(&path, 12, false).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().uid(), 65_534);
        }
        let moved = path.with_file_name("moved");
        fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        KeySet::open(&path).unwrap().unwrap();
        let error = rotate(&path, 48, false).err().unwrap().to_string();
        assert!(error.contains("it is a link, as in a mounted Secret"), "{error}");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(refusal().contains("it is a folder, not a regular file"), "{}", refusal());
    }
}
