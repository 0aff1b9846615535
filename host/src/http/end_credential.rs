//! `DELETE /api/v1/registry/credentials/{request_id}`: a caller gives back what it got, or an
//! operator ends it.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use serde::Serialize;
use ulid::Ulid;
use utoipa::{IntoParams, ToSchema};

use super::caller::Caller;
use super::problem::Failure;
use super::request_context::RequestContext;
use super::{body, possible_problems};
use crate::audit::RevocationRequestFacts;
use crate::broker::Broker;
use crate::issue::{EndRequest, EndedEarly, Selection};
use crate::rules::OperatorRight;

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "for the description of the API")]
pub(super) struct CredentialParameter {
    /// The `request_id` of the answer with the credential.
    #[param(pattern = "^[0-9A-HJKMNP-TV-Z]{26}$")]
    request_id: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EndedCredential, description = "What became of the credential.")]
pub(super) struct EndedAnswer {
    /// The `request_id` of the answer with the credential.
    #[schema(pattern = "^[0-9A-HJKMNP-TV-Z]{26}$")]
    credential: String,
    state: CredentialState,
    /// When the credential ends at the latest, if others have it.
    #[schema(required, format = DateTime)]
    expires_at: Option<String>,
    #[schema(pattern = "^[0-9A-HJKMNP-TV-Z]{26}$")]
    request_id: String,
}

#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum CredentialState {
    /// It does not work any more.
    Ended,
    /// The registry has not confirmed its end yet. The broker tries until it does.
    Ending,
    /// Others have the same credential. It ends when they have given it back too.
    Shared,
}

/// Gives a credential back. It ends at once if nobody else has it. An operator who may revoke ends
/// it whoever has it. Repeating it changes nothing.
#[utoipa::path(
    delete,
    path = "/api/v1/registry/credentials/{request_id}",
    params(CredentialParameter),
    responses(
        (status = 200, description = "It has ended, or others have it", body = EndedAnswer),
        (status = 202, description = "The broker tries until it has ended", body = EndedAnswer),
        possible_problems::EndCredential
    ),
    security(("token" = []))
)]
pub(super) async fn end_credential(
    State(broker): State<Broker>,
    context: RequestContext,
    Caller(subject): Caller,
    path: Result<Path<String>, PathRejection>,
    mut request: Request,
) -> Result<(StatusCode, Json<EndedAnswer>), Failure> {
    let Broker { process, generation } = &broker;
    body::must_be_empty(&mut request, process.edge.timeouts.body).await?;
    let credential = parse(path, &request)?;
    let (id, client, deadline) = (context.id, Some(context.client), context.deadline);
    let asked = EndRequest { id, client, subject: &subject, deadline };
    let issuing = &process.issuing;
    let mut ended = issuing.give_back(credential, &asked, &generation.registries).await?;
    if matches!(ended, EndedEarly::Unknown(_) | EndedEarly::Shared(_))
        && generation.rules.operators().find(&subject, OperatorRight::Revoke).is_some()
    {
        let selection = Selection { request: Some(credential), ..Selection::default() };
        let facts = RevocationRequestFacts {
            request: Some(credential),
            ..RevocationRequestFacts::default()
        };
        let all = issuing.end_selected(&selection, &asked, facts, &generation.registries).await?;
        if let Some(one) = all.first() {
            ended = if one.is_elsewhere {
                EndedEarly::Ending
            } else {
                issuing.until_ended(one.minted_by, deadline).await
            };
        }
    }
    let answer = |status, state, expires_at: Option<jiff::Timestamp>| {
        let credential = credential.to_string();
        let expires_at = expires_at.map(|at| at.to_string());
        let request_id = id.to_string();
        Ok((status, Json(EndedAnswer { credential, state, expires_at, request_id })))
    };
    match ended {
        EndedEarly::Ended => answer(StatusCode::OK, CredentialState::Ended, None),
        EndedEarly::Ending => answer(StatusCode::ACCEPTED, CredentialState::Ending, None),
        EndedEarly::Shared(end) => answer(StatusCode::OK, CredentialState::Shared, Some(end)),
        EndedEarly::Unsupported(until) => Err(Failure::NotRevocable(until)),
        EndedEarly::Unknown(is_of_another) => {
            if is_of_another {
                process.audit.denied_operation((id, context.client, &subject), "revoke").await;
            }
            Err(Failure::NoSuchCredential)
        }
    }
}

fn parse(path: Result<Path<String>, PathRejection>, request: &Request) -> Result<Ulid, Failure> {
    if request.uri().query().is_some_and(|query| !query.is_empty()) {
        let text = "Send no query: the request id in the path says which credential ends.";
        return Err(Failure::InvalidRequest(text.to_owned()));
    }
    let id = path.ok().and_then(|Path(text)| text.to_ascii_uppercase().parse().ok());
    id.ok_or_else(|| {
        Failure::InvalidRequest(
            "The path ends in no request id: use the `request_id` of the answer with the \
             credential, 26 letters and digits."
                .to_owned(),
        )
    })
}
