//! The smallest image that can be pushed, written without any tool.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// An OCI image layout with one image, tagged `tiny`: one uncompressed layer with the file `hello`.
#[derive(Debug)]
pub struct OciLayout {
    directory: PathBuf,
    manifest_digest: String,
    layer_digest: String,
}

impl OciLayout {
    /// Writes `text` into `hello`. Images with different text share no layer.
    pub fn write(directory: &Path, text: &str) -> Self {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let layer = tar("hello", text.as_bytes());
        let layer_type = "application/vnd.oci.image.layer.v1.tar";
        let layer_descriptor = write_blob(&blobs, layer_type, &layer);
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": { "Cmd": ["/hello"] },
            "rootfs": { "type": "layers", "diff_ids": [layer_descriptor["digest"]] },
            "history": [{ "created_by": "rise-broker-tests" }],
        });
        let config_type = "application/vnd.oci.image.config.v1+json";
        let config_descriptor = write_blob(&blobs, config_type, config.to_string().as_bytes());
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": config_descriptor,
            "layers": [layer_descriptor],
        });
        let mut manifest_descriptor =
            write_blob(&blobs, manifest_type, manifest.to_string().as_bytes());
        let manifest_digest = manifest_descriptor["digest"].as_str().unwrap().to_owned();
        manifest_descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": "tiny" });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest_descriptor] });
        fs::write(directory.join("index.json"), index.to_string()).unwrap();
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let layer_digest = layer_descriptor["digest"].as_str().unwrap().to_owned();
        Self { directory: directory.into(), manifest_digest, layer_digest }
    }

    /// The reference `oci:DIRECTORY:tiny` for skopeo.
    pub fn reference(&self) -> String {
        format!("oci:{}:tiny", self.directory.display())
    }

    /// The digest of its only layer.
    pub fn layer_digest(&self) -> &str {
        &self.layer_digest
    }

    /// The digest by which a registry knows the unchanged image (`skopeo copy --preserve-digests`).
    pub fn manifest_digest(&self) -> &str {
        &self.manifest_digest
    }
}

fn write_blob(blobs: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest =
        Sha256::digest(bytes).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    fs::write(blobs.join(&digest), bytes).unwrap();
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() })
}

/// A ustar archive with one file: a header of 512 bytes, the content padded to a multiple of 512,
/// two empty blocks.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut field = |offset: usize, text: &str| {
        header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    };
    field(0, name);
    field(100, "0000755\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, &format!("{:011o}\0", content.len()));
    field(136, "00000000000\0");
    // The checksum is computed with spaces in its own place.
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\x0000");
    let checksum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{checksum:06o}\0 ").as_bytes());
    let padding = content.len().next_multiple_of(512) - content.len();
    [&header, content, &vec![0; padding + 1024]].concat()
}
