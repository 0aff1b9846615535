//! What an operator selects of all brokers.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::timeout_at;

use super::can_end;
use crate::domain::{Deadline, RevocationCause};
use crate::issue::outstanding::{OutstandingView, Selection};
use crate::issue::shared_outstanding::{COMPARED, Found};
use crate::issue::{IssueError, Issuing, RESERVE};
use crate::registries::Registries;

/// How far the word of an operator reaches from this broker.
pub(in crate::issue) struct Reach {
    /// With what this broker ends for the others.
    pub(in crate::issue) selection: Selection,
    /// What it cannot end: it lacks the registry.
    pub(in crate::issue) elsewhere: Vec<Found>,
}

impl Issuing {
    /// What an operator could end, on all brokers.
    pub async fn select(
        &self,
        selection: &Selection,
        deadline: Deadline,
    ) -> Result<Vec<OutstandingView>, IssueError> {
        let own = self.0.outstanding.select(selection, self.0.clock.now());
        let mut views: BTreeMap<_, _> =
            own.into_iter().map(|view| (view.minted_by, view)).collect();
        for found in self.found_together(selection, deadline).await? {
            let theirs = OutstandingView::of_shared(&found);
            let view = views.entry(theirs.minted_by).or_insert_with(|| theirs.clone());
            // Others have answered with it, too.
            view.holders = view.holders.max(theirs.holders);
        }
        Ok(views.into_values().collect())
    }

    /// Puts what an operator selects and this broker's own list does not on that list: what this
    /// broker has a registry for, or everything that is `gone`. Returns the selection with these
    /// and what only others can end, also if it could not take all.
    pub(in crate::issue) async fn adopt_selected(
        &self,
        selection: &Selection,
        (registries, gone): (&Registries, bool),
        deadline: Deadline,
    ) -> (Reach, Result<(), IssueError>) {
        let mut reach = Reach { selection: selection.clone(), elsewhere: Vec::new() };
        let Some(list) = &self.0.together else { return (reach, Ok(())) };
        let own = self.0.outstanding.select(selection, self.0.clock.now());
        let own: BTreeSet<_> = own.into_iter().map(|view| view.minted_by).collect();
        let found = match self.found_together(selection, deadline).await {
            Ok(found) => found,
            Err(error) => return (reach, Err(error)),
        };
        let found = found.into_iter().filter(|found| !own.contains(&found.entry.grant.id));
        let (found, elsewhere) = found
            .partition::<Vec<_>, _>(|found| gone || can_end(registries, &found.entry).is_some());
        reach.elsewhere = elsewhere;
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let part: Vec<Found> = found.by_ref().take(COMPARED).collect();
            let ids: Vec<_> = part.iter().map(|found| found.entry.grant.id).collect();
            if let Err(error) = self.take(list, part, true).await {
                return (reach, Err(error.into()));
            }
            reach.selection.adopted.extend(ids);
        }
        (reach, Ok(()))
    }

    /// Lets other brokers end what this one cannot, because an operator wants that. Returns what is
    /// still out.
    pub(in crate::issue) async fn end_elsewhere(
        &self,
        elsewhere: Vec<Found>,
    ) -> Result<Vec<OutstandingView>, IssueError> {
        let Some(list) = &self.0.together else { return Ok(Vec::new()) };
        let mut views = Vec::new();
        for part in elsewhere.chunks(COMPARED) {
            let ids: Vec<_> = part.iter().map(|found| found.entry.grant.id).collect();
            let is_out = list.leave(&ids, RevocationCause::Operator).await?;
            let out = part.iter().zip(is_out).filter(|(_, is_out)| *is_out);
            views.extend(out.map(|(found, _)| OutstandingView {
                is_ending: true,
                is_elsewhere: true,
                ..OutstandingView::of_shared(found)
            }));
        }
        Ok(views)
    }

    /// What a selection finds of all brokers.
    pub(in crate::issue) async fn found_together(
        &self,
        selection: &Selection,
        deadline: Deadline,
    ) -> Result<Vec<Found>, IssueError> {
        let Some(list) = &self.0.together else { return Ok(Vec::new()) };
        let is_selected = |found: &Found| selection.selects_grant(&found.entry.grant, found.is_of);
        if let Some(request) = selection.request {
            let found = list.find(request, selection.subject).await?;
            return Ok(found.into_iter().filter(is_selected).collect());
        }
        let reading = async {
            // The store may list one twice, and one that lies lists any number.
            let (mut cursor, mut all) = ("0".to_owned(), BTreeMap::new());
            loop {
                let (next, found) = list.scan(&cursor, selection.subject).await?;
                let found = found.into_iter().filter(is_selected);
                all.extend(found.map(|found| (found.entry.grant.id, found)));
                if all.len() > list.most() {
                    return Err(list.nonsense().into());
                }
                if next == "0" {
                    return Ok(all.into_values().collect());
                }
                cursor = next;
            }
        };
        let until = deadline.less(RESERVE).instant().into();
        timeout_at(until, reading).await.map_err(|_| IssueError::Overloaded)?
    }
}
