//! Ed25519 key pairs in PKCS#8 PEM, as `openssl genpkey -algorithm ed25519` writes them.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use zeroize::Zeroizing;

use super::{KeyFileError, file, pem};

/// Such a key is 119 bytes in PEM. A much larger file is not one.
const LARGEST_FILE: u64 = 4096;

/// The key pair in the file; `None` if there is no such file.
pub(crate) fn open(path: &Path) -> Result<Option<Ed25519KeyPair>, KeyFileError> {
    let format = || KeyFileError::Format { path: path.to_owned() };
    file::read(path, LARGEST_FILE, format)?.map(|pem| parse(&pem).ok_or_else(format)).transpose()
}

pub(crate) fn open_or_create(path: &Path) -> Result<Ed25519KeyPair, KeyFileError> {
    if let Some(key) = open(path)? {
        return Ok(key);
    }
    let format = || KeyFileError::Format { path: path.to_owned() };
    let pem = generate().ok_or_else(|| KeyFileError::Generate { path: path.to_owned() })?;
    parse(&file::create(path, &pem, LARGEST_FILE, format)?).ok_or_else(format)
}

/// The key pair in the file. If there is none, checks that it can be created, and returns one that
/// is not kept.
pub(crate) fn open_or_pretend(path: &Path) -> Result<Ed25519KeyPair, KeyFileError> {
    if let Some(key) = open(path)? {
        return Ok(key);
    }
    file::may_create(path)?;
    let key = generate().and_then(|pem| parse(&pem));
    key.ok_or_else(|| KeyFileError::Generate { path: path.to_owned() })
}

fn parse(text: &str) -> Option<Ed25519KeyPair> {
    Ed25519KeyPair::from_pkcs8(&pem::decode(text, pem::PRIVATE_KEY)?).ok()
}

fn generate() -> Option<Zeroizing<String>> {
    // Version 1 of PKCS#8, which every OpenSSL reads.
    let der = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).ok()?;
    Some(pem::encode(der.as_ref(), pem::PRIVATE_KEY))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use aws_lc_rs::signature::KeyPair;

    use super::file::write;
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
        assert!(matches!(open_or_create(folder.path()).err().unwrap(), KeyFileError::Io { .. }));
    }

    /// The example of RFC 8410, 10.3, as OpenSSL writes it.
    #[test]
    fn a_key_made_by_others_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("issuer.pem");
        let text = "-----BEGIN PRIVATE KEY-----\n\
                    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                    -----END PRIVATE KEY-----\n";
        write(&path, text).unwrap();
        assert_eq!(public(&path)[..4], [0x19, 0xbf, 0x44, 0x09]);
    }
}
