//! `POST /api/v1/registry/revocations`: an operator ends the credentials of a project, a subject,
//! a registry or a provider.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use utoipa::ToSchema;

use super::caller::Caller;
use super::problem::Failure;
use super::request_context::RequestContext;
use super::{body, possible_problems};
use crate::audit::{BeyondReach, RevocationRequestFacts};
use crate::broker::Broker;
use crate::domain::{Action, Project, RegistryName, SubjectDigest};
use crate::issue::{EndRequest, OutstandingView, Selection};
use crate::registries::Registries;
use crate::rules::OperatorRight;

/// How many credentials an answer lists.
const LISTED: usize = 100;

const MEMBERS: &[body::Member] = &[
    ("project", "a text"),
    ("registry", "a text"),
    ("provider", "a text"),
    ("subject", "a text `ISSUER:SUB`"),
    ("request_id", "a text"),
    ("gone", "`true` or `false`"),
    ("dry_run", "`true` or `false`"),
];
/// The members that select nothing.
const SWITCHES: [&str; 2] = ["gone", "dry_run"];

/// Which credentials end: those that every member selects. At least one member selects.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = RevocationParameters)]
pub(crate) struct RevocationParameters {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        pattern = "^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*$",
        max_length = 128
    )]
    pub(crate) project: Option<String>,
    /// The name of a registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) registry: Option<String>,
    /// The type of registries, such as `harbor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    /// `ISSUER:SUB`: the issuer's name in the broker's settings, and the `sub` of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    /// The request that got it, or that it was minted for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
    /// They are gone already, and their registry is not asked: somebody deleted them by hand, or
    /// the registry is not there any more. With `request_id` or `registry`.
    pub(crate) gone: bool,
    /// Only list them.
    pub(crate) dry_run: bool,
}

#[derive(Deserialize, Serialize, ToSchema)]
#[schema(as = Revocations, description = "The credentials that end.")]
pub(crate) struct RevocationsAnswer {
    /// How many credentials end, or would end. Those that are ending already count too.
    pub(crate) matched: usize,
    /// The first hundred of them.
    pub(crate) credentials: Vec<OutstandingFields>,
    /// Credentials that work and that nobody can end, by registry.
    pub(crate) unsupported: Vec<UnsupportedFields>,
    pub(crate) dry_run: bool,
    #[schema(pattern = "^[0-9A-HJKMNP-TV-Z]{26}$")]
    pub(crate) request_id: String,
}

#[derive(Deserialize, Serialize, ToSchema)]
#[schema(as = OutstandingCredential)]
pub(crate) struct OutstandingFields {
    /// The request that it was minted for.
    pub(crate) minted_by: String,
    pub(crate) registry: String,
    pub(crate) project: String,
    #[schema(value_type = Vec<String>)]
    pub(crate) actions: Vec<Action>,
    /// Of the subject that it was minted for.
    pub(crate) issuer: String,
    pub(crate) sub: String,
    /// How many requests were answered with it and have not given it back.
    pub(crate) holders: usize,
    #[schema(format = DateTime)]
    pub(crate) expires_at: String,
    /// Whether its end is under way.
    pub(crate) ending: bool,
}

#[derive(Deserialize, Serialize, ToSchema)]
#[schema(as = UnsupportedRevocation)]
pub(crate) struct UnsupportedFields {
    pub(crate) registry: String,
    pub(crate) credentials: usize,
    /// When the last of them ends by itself. `null` if one does not expire.
    #[schema(required, format = DateTime)]
    pub(crate) until: Option<String>,
}

/// Ends all selected credentials, one after the other, as fast as their registries take it, or
/// takes the operator's word that they are gone. Needs an operator who may revoke. To see what is
/// left, ask with `dry_run`.
#[utoipa::path(
    post,
    path = "/api/v1/registry/revocations",
    request_body = RevocationParameters,
    responses(
        (status = 200, description = "What would end, or is gone", body = RevocationsAnswer),
        (status = 202, description = "What ends now", body = RevocationsAnswer),
        possible_problems::EndCredentials
    ),
    security(("token" = []))
)]
pub(super) async fn end_credentials(
    State(broker): State<Broker>,
    context: RequestContext,
    Caller(subject): Caller,
    request: Request,
) -> Result<(StatusCode, Json<RevocationsAnswer>), Failure> {
    let Broker { process, generation } = &broker;
    let (id, client, deadline) = (context.id, Some(context.client), context.deadline);
    if generation.rules.operators().find(&subject, OperatorRight::Revoke).is_none() {
        process.audit.denied_operation((id, context.client, &subject), "revoke").await;
        return Err(Failure::Denied);
    }
    let parameters = body::json(request, process.edge.timeouts.body, MEMBERS).await?;
    let asked = EndRequest { id, client, subject: &subject, deadline };
    let answer = end_selected(&broker, &parameters, &asked).await?;
    let is_done = parameters.dry_run || parameters.gone;
    let status = if is_done { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(answer)))
}

/// Does what an operator asks for, who may do so.
pub(crate) async fn end_selected(
    broker: &Broker,
    parameters: &RevocationParameters,
    asked: &EndRequest<'_>,
) -> Result<RevocationsAnswer, Failure> {
    let (issuing, registries) = (&broker.process.issuing, &broker.generation.registries);
    let selection = parameters.selection(registries)?;
    let unsupported = issuing.beyond_reach(&selection, (asked.deadline, registries)).await?;
    let credentials = if parameters.dry_run {
        issuing.select(&selection, asked.deadline).await?
    } else {
        let facts = RevocationRequestFacts {
            project: parameters.project.as_deref(),
            registry: parameters.registry.as_deref(),
            provider: parameters.provider.as_deref(),
            subject: parameters.subject.as_deref(),
            request: selection.request,
            gone: parameters.gone,
            leftovers: false,
            credentials: 0,
        };
        if parameters.gone {
            issuing.forget_selected(&selection, asked, facts, registries).await?
        } else {
            issuing.end_selected(&selection, asked, facts, registries).await?
        }
    };
    Ok(RevocationsAnswer {
        matched: credentials.len(),
        credentials: credentials.into_iter().take(LISTED).map(OutstandingFields::from).collect(),
        unsupported: unsupported.into_iter().map(UnsupportedFields::from).collect(),
        dry_run: parameters.dry_run,
        request_id: asked.id.to_string(),
    })
}

impl RevocationParameters {
    fn selection(&self, registries: &Registries) -> Result<Selection, Failure> {
        let Self { project, registry, provider, subject, request_id, gone, dry_run: _ } = self;
        if [project, registry, provider, subject, request_id].into_iter().all(Option::is_none) {
            let names: Vec<_> = MEMBERS
                .iter()
                .map(|(name, _)| format!("`{name}`"))
                .filter(|name| !SWITCHES.iter().any(|switch| name.trim_matches('`') == *switch))
                .collect();
            return Err(invalid(&format!(
                "Nothing is selected: send at least one of {}.",
                names.join(", ")
            )));
        }
        if *gone && request_id.is_none() && registry.is_none() {
            return Err(invalid(
                "`gone` needs `request_id` or `registry`: one credential is gone, or all of a \
                 registry that is not there any more.",
            ));
        }
        let project = project.as_deref().map(str::parse::<Project>).transpose();
        let project = project.map_err(|error| invalid(&format!("`project`: {error}.")))?;
        Ok(Selection {
            project,
            registries: self.registries(registries)?,
            subject: subject.as_deref().map(digest).transpose()?,
            request: request_id.as_deref().map(id).transpose()?,
            ..Selection::default()
        })
    }

    /// The registries that `registry` and `provider` select. A name that is in no settings any more
    /// may still have credentials out.
    fn registries(&self, registries: &Registries) -> Result<Option<Vec<RegistryName>>, Failure> {
        let named = self.registry.as_deref().map(str::parse::<RegistryName>).transpose();
        let named = named.map_err(|error| invalid(&format!("`registry`: {error}.")))?;
        let Some(provider) = &self.provider else { return Ok(named.map(|name| vec![name])) };
        let all =
            registries.iter().filter(|registry| *registry.provider.manifest.name == **provider);
        let all: Vec<RegistryName> = all.map(|registry| registry.name.clone()).collect();
        if all.is_empty() {
            return Err(invalid("`provider`: no registry of the settings has this type."));
        }
        Ok(Some(match named {
            Some(named) => all.into_iter().filter(|name| *name == named).collect(),
            None => all,
        }))
    }
}

fn digest(subject: &str) -> Result<SubjectDigest, Failure> {
    let parts =
        subject.split_once(':').filter(|(issuer, sub)| !issuer.is_empty() && !sub.is_empty());
    let text = "`subject`: expected `ISSUER:SUB`, with the issuer's name in the broker's settings.";
    parts.map(|(issuer, sub)| SubjectDigest::of(issuer, sub)).ok_or_else(|| invalid(text))
}

fn id(text: &str) -> Result<Ulid, Failure> {
    let id = text.to_ascii_uppercase().parse();
    id.map_err(|_| invalid("`request_id`: expected 26 letters and digits."))
}

fn invalid(text: &str) -> Failure {
    Failure::InvalidRequest(text.to_owned())
}

impl From<OutstandingView> for OutstandingFields {
    fn from(view: OutstandingView) -> Self {
        Self {
            minted_by: view.minted_by.to_string(),
            registry: view.registry.to_string(),
            project: view.project.to_string(),
            actions: view.actions.iter().collect(),
            issuer: view.issuer,
            sub: view.sub,
            holders: view.holders,
            expires_at: view.expires_at.to_string(),
            ending: view.is_ending,
        }
    }
}

impl From<BeyondReach> for UnsupportedFields {
    fn from(beyond: BeyondReach) -> Self {
        let BeyondReach { registry, credentials, until } = beyond;
        Self { registry: registry.to_string(), credentials, until: until.map(|at| at.to_string()) }
    }
}
