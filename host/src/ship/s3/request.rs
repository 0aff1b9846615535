//! Signs requests (Signature Version 4) with the keys of the settings, or with those that AWS's
//! tools find: variables, profiles, roles of machines and of pods.
//!
//! A bucket needs three requests, so this is not the SDK for S3, which is larger than the SDKs of
//! ECR and STS together.

use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Client, Method, Request};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use url::Url;

use crate::domain::Clock;
use crate::posting;
use crate::ship::ShipError;
use crate::ship::settings::S3Settings;

/// Keys that expire sooner are asked for again.
const FRESH: Duration = Duration::from_mins(5);

/// An object of the largest size, and a listing of 1,000.
const LARGEST_ANSWER: usize = 80 << 20;

pub(super) struct Bucket {
    client: Client,
    url: Url,
    region: String,
    provider: SharedCredentialsProvider,
    keys: Mutex<Option<Credentials>>,
    clock: Clock,
}

impl Bucket {
    pub(super) async fn open(settings: &S3Settings, clock: Clock) -> Result<Self, ShipError> {
        let region = settings.region.clone();
        let provider = match settings.keys.current().as_deref() {
            Some((id, secret)) => SharedCredentialsProvider::new(Credentials::new(
                id.expose(),
                secret.expose(),
                None,
                None,
                "settings",
            )),
            None => aws_config::defaults(BehaviorVersion::latest())
                .region(Region::new(region.clone()))
                .load()
                .await
                .credentials_provider()
                .ok_or_else(|| ShipError::new("denied", "no AWS keys were found"))?,
        };
        let client = posting::client(settings.ca_file.as_deref())?;
        let url = settings.url.clone();
        Ok(Self { client, url, region, provider, keys: Mutex::default(), clock })
    }

    /// Sends a request for an object, or for the bucket if `name` is empty. Returns the body of the
    /// answer.
    pub(super) async fn send(
        &self,
        method: Method,
        name: &str,
        query: &[(&str, &str)],
        headers: &[(&'static str, String)],
        body: Vec<u8>,
    ) -> Result<Vec<u8>, ShipError> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{name}", self.url.path()));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut headers = headers.to_vec();
        if method == Method::PUT {
            // Object lock asks for both.
            headers.push(("x-amz-sdk-checksum-algorithm", "SHA256".to_owned()));
            headers.push(("x-amz-checksum-sha256", STANDARD.encode(Sha256::digest(&body))));
        }
        let mut request = Request::new(method, url);
        for (name, value) in &headers {
            request.headers_mut().insert(*name, header(value)?);
        }
        self.sign(&mut request, &headers, &body).await?;
        *request.body_mut() = Some(body.into());
        Ok(posting::send(&self.client, request, LARGEST_ANSWER).await?)
    }

    async fn sign(
        &self,
        request: &mut Request,
        headers: &[(&'static str, String)],
        body: &[u8],
    ) -> Result<(), ShipError> {
        let identity = self.keys().await?.into();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(SystemTime::from(self.clock.now()))
            .settings(settings)
            .build()
            .map_err(|error| unsigned(&error))?;
        let named = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let (method, url) = (request.method().clone(), request.url().to_string());
        let signable = SignableRequest::new(method.as_str(), url, named, SignableBody::Bytes(body));
        let signed = sign(signable.map_err(|error| unsigned(&error))?, &parameters.into())
            .map_err(|error| unsigned(&error))?;
        for (name, value) in signed.output().headers() {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| unsigned(&error))?;
            request.headers_mut().insert(name, header(value)?);
        }
        Ok(())
    }

    async fn keys(&self) -> Result<Credentials, ShipError> {
        let mut kept = self.keys.lock().await;
        let fresh = SystemTime::from(self.clock.now()) + FRESH;
        let is_fresh = |keys: &Credentials| keys.expiry().is_none_or(|expiry| expiry > fresh);
        if let Some(keys) = kept.as_ref().filter(|keys| is_fresh(keys)) {
            return Ok(keys.clone());
        }
        let found = self.provider.provide_credentials().await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            ShipError::new("denied", format!("no AWS keys: {error}{cause}"))
        })?;
        Ok(kept.insert(found).clone())
    }
}

fn header(value: &str) -> Result<HeaderValue, ShipError> {
    HeaderValue::from_str(value).map_err(|error| unsigned(&error))
}

fn unsigned(error: &dyn std::error::Error) -> ShipError {
    ShipError::new("rejected", format!("a request cannot be signed: {error}"))
}
