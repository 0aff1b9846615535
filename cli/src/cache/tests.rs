use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;

fn kept(now: u64, expires_in: Option<u64>) -> Kept {
    let json = serde_json::json!({
        "credentials": { "registry_url": "r.example.com", "username": "u", "password": "canary",
            "expires_in": expires_in, "expires_at": null, "kind": "basic" },
        "repository": "my-app", "image": "r.example.com/my-app", "project": "my-app",
        "registry": "prod",
        "actions": ["pull"], "scope": "repository", "enforced_by": "host", "request_id": "01J"
    });
    Kept::new(Credentials::read(json.to_string().as_bytes()).ok().unwrap(), now)
}

fn cache(directory: &Path) -> (Cache, CacheKey) {
    (Cache::new(Some(directory.join("rise"))), CacheKey::new(&["broker", "subject"]))
}

#[test]
fn only_its_owner_can_read_a_cached_credential() {
    let directory = tempfile::tempdir().unwrap();
    let (cache, key) = cache(directory.path());
    assert!(cache.load(&key).unwrap().is_none());
    let lock = cache.lock(&key).unwrap().unwrap();
    assert!(cache.lock(&key).unwrap().is_none(), "locked twice");
    cache.store(&key, &kept(1_000, Some(100)), &lock).unwrap();
    drop(lock);
    assert!(cache.lock(&key).unwrap().is_some());
    let loaded = cache.load(&key).unwrap().unwrap();
    assert_eq!((loaded.obtained_at, loaded.expires_at), (1_000, 1_100));
    assert_eq!(loaded.credentials.password.expose(), "canary");
    assert_eq!(fs::metadata(cache.directory().unwrap()).unwrap().mode() & 0o7777, 0o700);
    for entry in fs::read_dir(cache.directory().unwrap()).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().mode() & 0o7777, 0o600);
    }
    assert!(cache.load(&CacheKey::new(&["broke", "rsubject"])).unwrap().is_none());
    assert_eq!(cache.clear(), 1);
    assert!(cache.load(&key).unwrap().is_none());
}

#[test]
fn a_credential_is_fresh_then_usable_then_neither() {
    let kept_until_1100 = kept(1_000, Some(100));
    for (now, fresh, usable) in [
        (999, false, false),
        (1_000, true, true),
        (1_049, true, true),
        (1_050, false, true),
        (1_089, false, true),
        (1_090, false, false),
        (5_000, false, false),
    ] {
        let seen = (kept_until_1100.is_fresh(now), kept_until_1100.is_usable(now));
        assert_eq!(seen, (fresh, usable), "{now}");
    }
    assert_eq!(kept(1_000, None).expires_at, 1_600);
    assert_eq!(kept(u64::MAX, Some(u64::MAX)).expires_at, u64::MAX);
}

#[test]
fn a_changed_cache_file_is_not_used_and_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let (cache, key) = cache(directory.path());
    let lock = cache.lock(&key).unwrap().unwrap();
    cache.store(&key, &kept(1_000, Some(100)), &lock).unwrap();
    let path = cache.file(&key).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let complaint = || cache.load(&key).err().unwrap();
    for damaged in [
        String::new(),
        text[..100].to_owned(),
        text.replace("\"r.example.com\"", "\"a/b\""),
        "\u{0}".repeat(10),
    ] {
        fs::write(&path, damaged).unwrap();
        let complaint = complaint();
        assert!(
            complaint.ends_with("delete the file") && !complaint.contains("canary"),
            "{complaint}"
        );
    }
    fs::write(&path, text.replacen("\"version\":1", "\"version\":2", 1)).unwrap();
    assert!(cache.load(&key).unwrap().is_none());
    fs::write(&path, &text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(complaint().contains("other users can read"));
    cache.store(&key, &kept(2_000, Some(100)), &lock).unwrap();
    assert_eq!(cache.load(&key).unwrap().unwrap().obtained_at, 2_000);
}

#[test]
fn an_unusable_folder_is_reported_and_not_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("rise"), "a file").unwrap();
    let (cache, key) = cache(directory.path());
    assert!(cache.lock(&key).err().unwrap().contains("XDG_CACHE_HOME"));
    let none = Cache::new(None);
    assert!(none.load(&key).unwrap().is_none());
    assert!(none.lock(&key).err().unwrap().contains("HOME"));
}

#[test]
fn old_files_are_swept() {
    let directory = tempfile::tempdir().unwrap();
    let (cache, key) = cache(directory.path());
    let lock = cache.lock(&key).unwrap().unwrap();
    let old = cache.directory().unwrap().join("old.json");
    let file = File::create(&old).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    cache.store(&key, &kept(1_000, Some(100)), &lock).unwrap();
    assert!(!old.exists() && cache.load(&key).unwrap().is_some());
}
