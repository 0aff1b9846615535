//! Why a request was not answered with what it asked for, in the words that problems, audit records
//! and metrics share.
//!
//! Which status each one has: `http/problem.rs`.

/// The last part of a problem's `type`, `urn:rise:problem:…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemType {
    InvalidRequest,
    MissingToken,
    InvalidToken,
    TokenReplayed,
    AccessDenied,
    NotFound,
    CredentialNotFound,
    MethodNotAllowed,
    RequestTimeout,
    PayloadTooLarge,
    UriTooLong,
    UnsupportedMediaType,
    RateLimited,
    RepositoryConflict,
    RevocationUnsupported,
    Internal,
    ProviderFailed,
    UpstreamDenied,
    IssuerUnavailable,
    UpstreamUnavailable,
    Overloaded,
    AuditUnavailable,
    ReplayStoreUnavailable,
    SharedStoreUnavailable,
    UpstreamTimeout,
}

impl ProblemType {
    pub const ALL: [Self; 25] = [
        Self::InvalidRequest,
        Self::MissingToken,
        Self::InvalidToken,
        Self::TokenReplayed,
        Self::AccessDenied,
        Self::NotFound,
        Self::CredentialNotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::PayloadTooLarge,
        Self::UriTooLong,
        Self::UnsupportedMediaType,
        Self::RateLimited,
        Self::RepositoryConflict,
        Self::RevocationUnsupported,
        Self::Internal,
        Self::ProviderFailed,
        Self::UpstreamDenied,
        Self::IssuerUnavailable,
        Self::UpstreamUnavailable,
        Self::Overloaded,
        Self::AuditUnavailable,
        Self::ReplayStoreUnavailable,
        Self::SharedStoreUnavailable,
        Self::UpstreamTimeout,
    ];

    pub fn slug(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid-request",
            Self::MissingToken => "missing-token",
            Self::InvalidToken => "invalid-token",
            Self::TokenReplayed => "token-replayed",
            Self::AccessDenied => "access-denied",
            Self::NotFound => "not-found",
            Self::CredentialNotFound => "credential-not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::RequestTimeout => "request-timeout",
            Self::PayloadTooLarge => "payload-too-large",
            Self::UriTooLong => "uri-too-long",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::RateLimited => "rate-limited",
            Self::RepositoryConflict => "repository-conflict",
            Self::RevocationUnsupported => "revocation-unsupported",
            Self::Internal => "internal",
            Self::ProviderFailed => "provider-failed",
            Self::UpstreamDenied => "upstream-denied",
            Self::IssuerUnavailable => "issuer-unavailable",
            Self::UpstreamUnavailable => "upstream-unavailable",
            Self::Overloaded => "overloaded",
            Self::AuditUnavailable => "audit-unavailable",
            Self::ReplayStoreUnavailable => "replay-store-unavailable",
            Self::SharedStoreUnavailable => "shared-store-unavailable",
            Self::UpstreamTimeout => "upstream-timeout",
        }
    }

    /// The whole `type`.
    pub fn urn(self) -> String {
        format!("urn:rise:problem:{}", self.slug())
    }
}
