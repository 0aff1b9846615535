//! `GET` and `POST /token`: the token server of Distribution registries, by the specification of
//! that project. A registry that trusts this broker sends its clients here, with what they want as
//! `scope`.
//!
//! The password is a credential that this broker issued for such a registry, or a caller's own OIDC
//! token. The answer opens what is granted of the scopes, also if that is nothing, and never more.

mod login;
mod order;
pub(crate) mod parameters;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Failure;
use super::request_context::RequestContext;
use super::{body, caller, possible_problems};
use crate::broker::Broker;
use crate::issue::IssuedToken;
pub(super) use login::Login;
pub(super) use parameters::TokenParameters;

/// Under both names, because clients read the one or the other.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
pub(super) struct TokenAnswer {
    token: String,
    access_token: String,
    /// In seconds.
    expires_in: u32,
    #[schema(format = DateTime)]
    issued_at: String,
    /// What the token opens.
    scope: String,
}

/// A token for the scopes of the query, by a password in `Authorization: Basic`.
#[utoipa::path(
    get,
    path = "/token",
    params(TokenParameters),
    responses(
        (status = 200, description = "A token for what is granted", body = TokenAnswer),
        possible_problems::TokenByQuery
    ),
    security(("login" = []))
)]
pub(super) async fn by_query(
    State(broker): State<Broker>,
    context: RequestContext,
    mut request: Request,
) -> Result<Json<TokenAnswer>, Failure> {
    must_sign(&broker)?;
    let login = Login::of_header(request.headers());
    let query = request.uri().query().unwrap_or_default().to_owned();
    let holder = caller::holder(&broker, context, login).await?;
    body::must_be_empty(&mut request, broker.process.edge.timeouts.body).await?;
    issue_token(&broker, context, holder, TokenParameters::parse(&query)?).await
}

/// A token for the scopes of a form, by a password in the form (OAuth 2).
#[utoipa::path(
    post,
    path = "/token",
    request_body(content = TokenParameters, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "A token for what is granted", body = TokenAnswer),
        possible_problems::TokenByForm
    )
)]
pub(super) async fn by_form(
    State(broker): State<Broker>,
    context: RequestContext,
    request: Request,
) -> Result<Json<TokenAnswer>, Failure> {
    must_sign(&broker)?;
    caller::check_address(&broker, context).await?;
    let has_header = Login::is_in_header(request.headers());
    let form = body::form(request, broker.process.edge.timeouts.body).await;
    let form = caller::counted(&broker, context.client, form).await?;
    let login = Login::of_form(&form, has_header);
    let holder = caller::holder(&broker, context, login).await?;
    issue_token(&broker, context, holder, TokenParameters::parse(&form)?).await
}

/// A middleware: reads a stranger's form before the request takes one of the places in which
/// requests are served. Nobody waits for a client that sends its form slowly, or not at all.
pub(super) async fn read_form(
    State(broker): State<Broker>,
    request: Request,
    next: Next,
) -> Response {
    let has_form = request.method() == Method::POST && request.uri().path() == "/token";
    if !has_form || broker.generation.signing.is_none() {
        return next.run(request).await;
    }
    match with_form(&broker, request).await {
        Ok(request) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

async fn with_form(broker: &Broker, request: Request) -> Result<Request, Failure> {
    let context = RequestContext::of(&request)?;
    caller::check_address(broker, context).await?;
    let _reading = broker.generation.limits.read_form(context.client).map_err(Failure::Limited)?;
    let read = body::read_form(request, broker.process.edge.timeouts.body).await;
    // A stranger who sends no form, or sends it slowly, must not do so again and again.
    caller::counted(broker, context.client, read).await
}

/// A broker that signs nothing has no such path.
fn must_sign(broker: &Broker) -> Result<(), Failure> {
    broker.generation.signing.as_ref().map(|_| ()).ok_or(Failure::NotFound)
}

async fn issue_token(
    broker: &Broker,
    context: RequestContext,
    holder: caller::Holder,
    asked: parameters::TokenRequest,
) -> Result<Json<TokenAnswer>, Failure> {
    let order = order::order(broker, context, holder, asked).await?;
    let issued = broker.process.issuing.issue_token(order).await?;
    let IssuedToken { token, seconds, issued_at, scopes } = issued;
    Ok(Json(TokenAnswer {
        token: token.expose().to_owned(),
        access_token: token.expose().to_owned(),
        expires_in: seconds,
        issued_at: issued_at.to_string(),
        scope: scopes.join(" "),
    }))
}
