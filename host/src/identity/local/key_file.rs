//! Private keys on disk, for their owner alone: Ed25519 in PKCS#8 PEM, and plain secret bytes in hex.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// An Ed25519 key is 119 bytes; what is much larger is another file.
const LARGEST_FILE: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("`key_file` {} cannot be {act}: {source}", path.display())]
    Io { path: PathBuf, act: &'static str, source: io::Error },
    #[error("`key_file` {} can be read by others (mode {mode:04o}): run `chmod 600 {}`", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "`key_file` {} is not an Ed25519 key in PKCS#8 PEM: remove it to have one made, or make one with `openssl genpkey -algorithm ed25519`",
        path.display()
    )]
    Format { path: PathBuf },
    #[error("{} is not 32 bytes in hex: restore it, or remove it to have one made", path.display())]
    SecretFormat { path: PathBuf },
    #[error("`key_file` {} cannot be made: no key could be generated", path.display())]
    Generate { path: PathBuf },
}

pub(crate) fn open_or_create(path: &Path) -> Result<Ed25519KeyPair, KeyFileError> {
    let io = |act| move |source| KeyFileError::Io { path: path.to_owned(), act, source };
    match File::open(path) {
        Ok(file) => read(file, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let pem = generate().ok_or_else(|| KeyFileError::Generate { path: path.to_owned() })?;
            create(path, &pem).map_err(io("created"))?;
            read(File::open(path).map_err(io("read"))?, path)
        }
        Err(error) => Err(io("read")(error)),
    }
}

/// 32 random bytes, read from `path` or made there.
pub(crate) fn secret_bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let io = |act| move |source| KeyFileError::Io { path: path.to_owned(), act, source };
    if let Err(error) = fs::metadata(path) {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(io("read")(error));
        }
        let mut bytes = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *bytes)
            .map_err(|_| KeyFileError::Generate { path: path.to_owned() })?;
        let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(hex::encode(*bytes))));
        create(path, &text).map_err(io("created"))?;
    }
    let text = text(File::open(path).map_err(io("read"))?, path)?;
    let bytes = hex::decode(text.trim()).ok().filter(|bytes| bytes.len() == 32);
    bytes.map(Zeroizing::new).ok_or_else(|| KeyFileError::SecretFormat { path: path.to_owned() })
}

fn read(file: File, path: &Path) -> Result<Ed25519KeyPair, KeyFileError> {
    let format = || KeyFileError::Format { path: path.to_owned() };
    let der = decode(&text(file, path)?).ok_or_else(format)?;
    Ed25519KeyPair::from_pkcs8(&der).map_err(|_| format())
}

/// Looks at the open file, not at its name: what was checked is what is read.
fn text(file: File, path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let io = |source| KeyFileError::Io { path: path.to_owned(), act: "read", source };
    let format = || KeyFileError::Format { path: path.to_owned() };
    let metadata = file.metadata().map_err(io)?;
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_file() || metadata.len() > LARGEST_FILE {
        return Err(format());
    }
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    // As large as it may become: a buffer that grows leaves copies behind that nobody wipes.
    let mut pem =
        Zeroizing::new(String::with_capacity(usize::try_from(LARGEST_FILE).unwrap_or(0) + 1));
    file.take(LARGEST_FILE).read_to_string(&mut pem).map_err(|_| format())?;
    Ok(pem)
}

fn decode(pem: &str) -> Option<Zeroizing<Vec<u8>>> {
    let body = pem.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let mut joined = Zeroizing::new(String::with_capacity(body.len()));
    body.lines().for_each(|line| joined.push_str(line.trim()));
    STANDARD.decode(joined.as_bytes()).ok().map(Zeroizing::new)
}

fn generate() -> Option<Zeroizing<String>> {
    // Version 1 of PKCS#8, which every OpenSSL reads.
    let der = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).ok()?;
    let body = Zeroizing::new(STANDARD.encode(der.as_ref()));
    Some(Zeroizing::new(format!("{BEGIN}\n{}\n{END}\n", *body)))
}

/// Writes the key beside `path` and links it there. A link, like `O_EXCL`, fails where something is already; unlike it,
/// nobody ever sees half a key. Whoever comes second finds the first one's key, and that is the key.
fn create(path: &Path, pem: &str) -> io::Result<()> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("no random numbers"))?;
    let draft = folder.join(format!(".issuer-{:016x}.pem", u64::from_ne_bytes(random)));
    let written = write(&draft, pem).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    // Also after a failure, so that no key lies about.
    let removed = fs::remove_file(&draft);
    written?;
    removed?;
    File::open(folder)?.sync_all()
}

fn write(path: &Path, pem: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use aws_lc_rs::signature::KeyPair;

    use super::*;

    fn public(path: &Path) -> Vec<u8> {
        open_or_create(path).unwrap().public_key().as_ref().to_vec()
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/keys/issuer.pem");
        let first = public(&path);
        assert_eq!(public(&path), first);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "no draft is left behind"
        );
        assert_ne!(public(&folder.path().join("other.pem")), first);
    }

    #[test]
    fn all_who_make_one_at_once_get_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/issuer.pem");
        let keys: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..16).map(|_| scope.spawn(|| public(&path))).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("issuer.pem");
        public(&path);
        for mode in [0o640, 0o604, 0o644, 0o660, 0o777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = open_or_create(&path).err().unwrap().to_string();
            assert!(
                error.ends_with(&format!("(mode {mode:04o}): run `chmod 600 {}`", path.display())),
                "{error}"
            );
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        public(&path);
    }

    #[test]
    fn what_is_not_such_a_key_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("issuer.pem");
        for text in [
            "",
            "x",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            &"x".repeat(5000),
        ] {
            fs::remove_file(&path).ok();
            write(&path, text).unwrap();
            let error = open_or_create(&path).err().unwrap();
            assert!(matches!(error, KeyFileError::Format { .. }), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert!(matches!(
            open_or_create(folder.path()).err().unwrap(),
            KeyFileError::Format { .. }
        ));
    }

    /// The example of RFC 8410, 10.3, as OpenSSL writes it.
    #[test]
    fn a_key_made_by_others_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("issuer.pem");
        write(
            &path,
            &format!(
                "{BEGIN}\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n{END}\n"
            ),
        )
        .unwrap();
        assert_eq!(public(&path)[..4], [0x19, 0xbf, 0x44, 0x09]);
    }
}
