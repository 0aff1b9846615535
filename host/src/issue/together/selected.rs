//! What an operator selects of all brokers.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::timeout_at;

use super::can_end;
use crate::domain::Deadline;
use crate::issue::outstanding::{OutstandingView, Selection};
use crate::issue::shared_outstanding::{COMPARED, Found};
use crate::issue::{IssueError, Issuing, RESERVE};
use crate::registries::Registries;

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
    /// broker has a registry for, or everything that is `gone`. Returns the selection with these,
    /// also if it could not take all.
    pub(in crate::issue) async fn adopt_selected(
        &self,
        selection: &Selection,
        (registries, gone): (&Registries, bool),
        deadline: Deadline,
    ) -> (Selection, Result<(), IssueError>) {
        let mut selection = selection.clone();
        let Some(list) = &self.0.together else { return (selection, Ok(())) };
        let own = self.0.outstanding.select(&selection, self.0.clock.now());
        let own: BTreeSet<_> = own.into_iter().map(|view| view.minted_by).collect();
        let mut found = match self.found_together(&selection, deadline).await {
            Ok(found) => found,
            Err(error) => return (selection, Err(error)),
        };
        found.retain(|found| {
            let can_end = gone || can_end(registries, &found.entry).is_some();
            can_end && !own.contains(&found.entry.grant.id)
        });
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let part: Vec<Found> = found.by_ref().take(COMPARED).collect();
            let ids: Vec<_> = part.iter().map(|found| found.entry.grant.id).collect();
            if let Err(error) = self.take(list, part, true).await {
                return (selection, Err(error.into()));
            }
            selection.adopted.extend(ids);
        }
        (selection, Ok(()))
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
            let (mut cursor, mut all) = ("0".to_owned(), Vec::new());
            loop {
                let (next, found) = list.scan(&cursor, selection.subject).await?;
                all.extend(found.into_iter().filter(is_selected));
                if next == "0" {
                    return Ok(all);
                }
                cursor = next;
            }
        };
        let until = deadline.less(RESERVE).instant().into();
        timeout_at(until, reading).await.map_err(|_| IssueError::Overloaded)?
    }
}
