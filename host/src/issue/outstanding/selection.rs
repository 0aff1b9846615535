//! Which credentials an operator wants to end, and what an operator sees of them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use ulid::Ulid;

use super::{NextStep, Outstanding, OutstandingCredential, OutstandingState};
use crate::audit::Revoker;
use crate::domain::{Actions, Project, RegistryName, RevocationCause, SubjectDigest};
use crate::issue::key::CredentialKey;
use crate::issue::shared_outstanding::Found;
use crate::rules::PastGrant;

/// Those that every part selects. A part that is not given selects all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub project: Option<Project>,
    pub registries: Option<Vec<RegistryName>>,
    /// Those that this subject got, also if they were minted for another one.
    pub subject: Option<SubjectDigest>,
    /// The one that this request was answered with, or that was minted for it.
    pub request: Option<Ulid>,
    /// Those that the list of all brokers has, found by the rest.
    pub adopted: BTreeSet<Ulid>,
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
    /// Whether only another broker can end it: this one lacks the registry.
    pub is_elsewhere: bool,
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
            selection.adopted.contains(id)
                || only.is_none_or(|only| **id == only) && selection.selects(known)
        };
        let mut ids: Vec<Ulid> =
            self.credentials.iter().filter(selects).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }
}

impl Selection {
    fn selects(&self, known: &OutstandingCredential) -> bool {
        let holds = self.subject.is_some_and(|subject| known.holders.has(&subject));
        self.selects_grant(&known.grant, holds)
    }

    /// Whether it selects the credential of this grant, beside `request`. `holds`: whether the
    /// subject got it.
    pub(in crate::issue) fn selects_grant(&self, grant: &PastGrant, holds: bool) -> bool {
        self.project.as_ref().is_none_or(|project| grant.project == *project)
            && self.registries.as_ref().is_none_or(|names| names.contains(&grant.registry))
            && self.subject.is_none_or(|subject| grant.owner == subject || holds)
    }
}

impl OutstandingView {
    fn of(grant: &PastGrant, ends: Timestamp, holders: usize, is_ending: bool) -> Self {
        Self {
            minted_by: grant.id,
            issuer: grant.issuer.clone(),
            sub: grant.sub.clone(),
            project: grant.project.clone(),
            registry: grant.registry.clone(),
            actions: grant.actions,
            expires_at: ends,
            holders,
            is_ending,
            is_elsewhere: false,
        }
    }

    /// A credential of the list that brokers share.
    pub(in crate::issue) fn of_shared(found: &Found) -> Self {
        let Found { entry, holders, ending, .. } = found;
        Self::of(&entry.grant, entry.ends, *holders, ending.is_some())
    }
}

impl OutstandingCredential {
    pub(super) fn view(&self, now: Timestamp) -> OutstandingView {
        let is_ending = matches!(self.next, NextStep::End(_)) && self.is_ending(now);
        OutstandingView::of(&self.grant, self.ends, self.holders.len(), is_ending)
    }
}
