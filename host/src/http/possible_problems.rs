//! Which problems each operation can answer. An endpoint needs a type here, which it names in its
//! `#[utoipa::path]`.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::IntoResponses;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{ContentBuilder, RefOr, Schema};

use super::problem::status;
use crate::domain::ProblemType;

/// Whatever is asked. `MethodNotAllowed` is what other methods of a path answer.
pub(super) const ALWAYS: &[ProblemType] = &[
    ProblemType::MethodNotAllowed,
    ProblemType::UriTooLong,
    ProblemType::Internal,
    ProblemType::Overloaded,
    ProblemType::UpstreamTimeout,
];
pub(super) const WITH_TOKEN: &[ProblemType] = &[
    ProblemType::MissingToken,
    ProblemType::InvalidToken,
    ProblemType::RateLimited,
    ProblemType::IssuerUnavailable,
];
pub(super) const WITH_BODY: &[ProblemType] =
    &[ProblemType::RequestTimeout, ProblemType::PayloadTooLarge, ProblemType::UnsupportedMediaType];
pub(super) const OF_ISSUING: &[ProblemType] = &[
    ProblemType::InvalidRequest,
    ProblemType::AccessDenied,
    ProblemType::RepositoryConflict,
    ProblemType::ProviderFailed,
    ProblemType::UpstreamDenied,
    ProblemType::UpstreamUnavailable,
    ProblemType::AuditUnavailable,
    ProblemType::TokenReplayed,
    ProblemType::ReplayStoreUnavailable,
];

/// What a token server answers. What is not granted is no problem: it is left out.
const OF_TOKENS: &[ProblemType] = &[
    ProblemType::NotFound,
    ProblemType::InvalidRequest,
    ProblemType::AuditUnavailable,
    ProblemType::TokenReplayed,
    ProblemType::ReplayStoreUnavailable,
];

/// The end of one credential.
const OF_ENDING: &[ProblemType] = &[
    ProblemType::InvalidRequest,
    ProblemType::CredentialNotFound,
    ProblemType::RevocationUnsupported,
    ProblemType::AuditUnavailable,
    ProblemType::SharedStoreUnavailable,
];

/// What only operators may do.
const OF_OPERATORS: &[ProblemType] =
    &[ProblemType::InvalidRequest, ProblemType::AccessDenied, ProblemType::AuditUnavailable];
/// What is out, on all brokers.
const OF_ALL_BROKERS: &[ProblemType] = &[ProblemType::SharedStoreUnavailable];

/// Credentials asked for by query.
pub(super) struct ByQuery;
/// Credentials asked for by a body.
pub(super) struct ByBody;
pub(super) struct ListRegistries;
/// What is done with a repository.
pub(super) struct Repository;
pub(super) struct Explain;
/// The end of one credential.
pub(super) struct EndCredential;
/// The end of credentials that an operator selects.
pub(super) struct EndCredentials;
/// The audit log, which an operator reads.
pub(super) struct ReadAudit;
/// A registry token asked for by query.
pub(super) struct TokenByQuery;
/// A registry token asked for by a form.
pub(super) struct TokenByForm;
/// Public keys, which a broker that signs no tokens has not.
pub(super) struct OfSigning;
/// The description of the API.
pub(super) struct Describe;

impl IntoResponses for ByQuery {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(&[ALWAYS, WITH_TOKEN, OF_ISSUING])
    }
}

impl IntoResponses for ByBody {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(&[ALWAYS, WITH_TOKEN, WITH_BODY, OF_ISSUING])
    }
}

impl IntoResponses for Repository {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(&[ALWAYS, WITH_TOKEN, OF_ISSUING])
    }
}

impl IntoResponses for ListRegistries {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(&[ALWAYS, WITH_TOKEN, &[ProblemType::InvalidRequest]])
    }
}

impl IntoResponses for Explain {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(&[ALWAYS, WITH_TOKEN, WITH_BODY, &[ProblemType::InvalidRequest]])
    }
}

impl IntoResponses for EndCredential {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(&[ALWAYS, WITH_TOKEN, OF_ENDING])
    }
}

impl IntoResponses for EndCredentials {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(&[ALWAYS, WITH_TOKEN, WITH_BODY, OF_OPERATORS, OF_ALL_BROKERS])
    }
}

impl IntoResponses for ReadAudit {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(&[ALWAYS, WITH_TOKEN, OF_OPERATORS])
    }
}

impl IntoResponses for TokenByQuery {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(&[ALWAYS, WITH_TOKEN, OF_TOKENS])
    }
}

impl IntoResponses for TokenByForm {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(&[ALWAYS, WITH_TOKEN, WITH_BODY, OF_TOKENS])
    }
}

impl IntoResponses for OfSigning {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(&[ALWAYS, &[ProblemType::NotFound]])
    }
}

impl IntoResponses for Describe {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(&[ALWAYS])
    }
}

/// One response for each status, with the problems that it can be.
fn responses(lists: &[&[ProblemType]]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status = BTreeMap::<u16, Vec<ProblemType>>::new();
    for problem in ProblemType::ALL {
        if lists.iter().any(|list| list.contains(&problem)) {
            by_status.entry(status(problem).as_u16()).or_default().push(problem);
        }
    }
    by_status
        .into_iter()
        .map(|(status, problems)| (status.to_string(), response(&problems).into()))
        .collect()
}

fn response(problems: &[ProblemType]) -> Response {
    let types: Vec<String> = problems.iter().map(|problem| problem.urn()).collect();
    let of_these_types =
        json!({ "type": "object", "properties": { "type": { "type": "string", "enum": types } } });
    let any = json!({ "$ref": "#/components/schemas/Problem" });
    let schema = json!({ "allOf": [any, of_these_types] });
    let content =
        ContentBuilder::new().schema(serde_json::from_value::<RefOr<Schema>>(schema).ok()).build();
    let slugs: Vec<&str> = problems.iter().map(|problem| problem.slug()).collect();
    ResponseBuilder::new()
        .description(slugs.join(", "))
        .content("application/problem+json", content)
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_problem_is_described() {
        // What no path has is answered by none, so that no operation can describe it.
        let mut missing = BTreeSet::from(ProblemType::ALL);
        let lists = [ALWAYS, WITH_TOKEN, WITH_BODY, OF_ISSUING];
        for problem in lists.iter().flat_map(|list| list.iter()) {
            assert!(missing.remove(problem), "{problem:?} is listed twice");
        }
        let of_some = [
            ProblemType::NotFound,
            ProblemType::CredentialNotFound,
            ProblemType::RevocationUnsupported,
            ProblemType::SharedStoreUnavailable,
        ];
        assert_eq!(missing.into_iter().collect::<Vec<_>>(), of_some);
    }
}
