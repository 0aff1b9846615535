//! Which credentials an operator wants to end, and what an operator sees of them.

use jiff::Timestamp;
use ulid::Ulid;

use super::{NextStep, Outstanding, OutstandingCredential, OutstandingState};
use crate::audit::Revoker;
use crate::domain::{Actions, Project, RegistryName, RevocationCause, SubjectDigest};
use crate::issue::key::CredentialKey;

/// Those that every part selects. A part that is not given selects all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub project: Option<Project>,
    pub registries: Option<Vec<RegistryName>>,
    /// Those that this subject got, also if they were minted for another one.
    pub subject: Option<SubjectDigest>,
    /// The one that this request was answered with, or that was minted for it.
    pub request: Option<Ulid>,
}

/// A credential that is out.
#[derive(Clone, Debug)]
pub struct OutstandingView {
    /// The request that it was minted for.
    pub minted_by: Ulid,
    /// Of the subject that it was minted for.
    pub issuer: String,
    pub sub: String,
    pub project: Project,
    pub registry: RegistryName,
    pub actions: Actions,
    pub expires_at: Timestamp,
    /// How many requests were answered with it and have not given it back.
    pub holders: usize,
    pub is_ending: bool,
}

impl Outstanding {
    /// In the order of their mints.
    pub(in crate::issue) fn select(
        &self,
        selection: &Selection,
        now: Timestamp,
    ) -> Vec<OutstandingView> {
        let state = self.lock();
        let ids = state.selected(selection);
        let known = ids.iter().filter_map(|id| state.credentials.get(id));
        known.map(|known| known.view(now)).collect()
    }

    /// Ends them all. Returns them, and the places where they may be kept.
    pub(in crate::issue) fn end_selected(
        &self,
        selection: &Selection,
        (by, now): (&Revoker, Timestamp),
    ) -> (Vec<OutstandingView>, Vec<(Ulid, CredentialKey)>) {
        let mut state = self.lock();
        let (mut views, mut keys) = (Vec::new(), Vec::new());
        for id in state.selected(selection) {
            state.end(id, RevocationCause::Operator, (by, now));
            let Some(known) = state.credentials.get(&id) else { continue };
            views.push(known.view(now));
            keys.extend(known.key.clone().map(|key| (id, key)));
        }
        (views, keys)
    }
}

impl OutstandingState {
    pub(super) fn selected(&self, selection: &Selection) -> Vec<Ulid> {
        let request = selection.request;
        let only = request.map(|id| self.sharing.get(&id).copied().unwrap_or(id));
        let selects = |(id, known): &(&Ulid, &OutstandingCredential)| {
            only.is_none_or(|only| **id == only) && selection.selects(known)
        };
        let mut ids: Vec<Ulid> =
            self.credentials.iter().filter(selects).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }
}

impl Selection {
    fn selects(&self, known: &OutstandingCredential) -> bool {
        let grant = &known.grant;
        self.project.as_ref().is_none_or(|project| grant.project == *project)
            && self.registries.as_ref().is_none_or(|names| names.contains(&grant.registry))
            && self
                .subject
                .is_none_or(|subject| grant.owner == subject || known.holders.has(&subject))
    }
}

impl OutstandingCredential {
    pub(super) fn view(&self, now: Timestamp) -> OutstandingView {
        let grant = &self.grant;
        OutstandingView {
            minted_by: grant.id,
            issuer: grant.issuer.clone(),
            sub: grant.sub.clone(),
            project: grant.project.clone(),
            registry: grant.registry.clone(),
            actions: grant.actions,
            expires_at: self.ends,
            holders: self.holders.len(),
            is_ending: matches!(self.next, NextStep::End(_)) && self.is_ending(now),
        }
    }
}
