//! What a cluster told, until it pauses.
//!
//! A rollout changes hundreds of objects within seconds; each by itself would be compiled and pushed. Only the last word of an
//! object is kept, so memory is bounded by the cluster, and not by how long nobody asks.

use super::{Change, Gathering};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weft_config::Problem;

/// Changes that pause for so long are a batch: longer than the pause between the events of one `kubectl apply`, short to an author.
pub(crate) const QUIET: Duration = Duration::from_millis(50);
/// A batch is taken so long after its first change, however many follow.
pub(crate) const LONGEST: Duration = Duration::from_secs(1);

/// What is told when it is asked for.
#[derive(Debug, Default)]
pub(crate) struct ClusterNews {
    pub(crate) objects: BTreeMap<Arc<str>, Change>,
    pub(crate) problems: Option<Vec<Problem>>,
    /// Everything that the cluster has has been told.
    pub(crate) is_listed: bool,
}

#[derive(Default)]
pub(super) struct ClusterInbox {
    news: ClusterNews,
    gathering: Option<Gathering>,
}

impl ClusterInbox {
    pub(super) fn hear(&mut self, name: Arc<str>, change: Change, now: Instant) {
        self.news.objects.insert(name, change);
        let first = self.gathering.map_or(now, |gathering| gathering.first);
        self.gathering = Some(Gathering { first, last: now });
    }

    pub(super) fn is_listed(&mut self, now: Instant) {
        self.news.is_listed = true;
        self.gathering = Some(Gathering { first: now, last: now });
    }

    pub(super) fn problems(&mut self, problems: Vec<Problem>) {
        self.news.problems = Some(problems);
    }

    pub(super) fn ripe_at(&self, now: Instant) -> Option<Instant> {
        let gathering = self.gathering.filter(|_| self.news.is_listed);
        let objects = gathering.map(|gathering| gathering.ripe_after(QUIET, LONGEST));
        if self.news.problems.is_some() { Some(now) } else { objects }
    }

    pub(super) fn take(&mut self, now: Instant) -> ClusterNews {
        let problems = self.news.problems.take();
        let is_listed = self.news.is_listed;
        let is_ripe = self.gathering.is_some_and(|gathering| gathering.ripe_after(QUIET, LONGEST) <= now);
        if !(is_listed && is_ripe) {
            return ClusterNews { problems, ..ClusterNews::default() };
        }
        self.gathering = None;
        ClusterNews { objects: std::mem::take(&mut self.news.objects), problems, is_listed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn nothing_is_taken_before_everything_was_told() {
        let (mut inbox, start) = (ClusterInbox::default(), Instant::now());
        inbox.hear(name("a"), Change::Removed, start);
        assert_eq!(inbox.ripe_at(start), None);
        assert!(inbox.take(start + LONGEST).objects.is_empty());
        inbox.is_listed(start + LONGEST);
        let news = inbox.take(start + LONGEST + QUIET);
        assert!(news.is_listed && news.objects.len() == 1, "{news:?}");
    }

    #[test]
    fn a_burst_is_one_batch_and_a_flood_is_cut() {
        let (mut inbox, start) = (ClusterInbox::default(), Instant::now());
        inbox.is_listed(start);
        inbox.take(start + QUIET);
        inbox.hear(name("a"), Change::Vanished, start);
        inbox.hear(name("a"), Change::Removed, start + QUIET / 2);
        assert_eq!(inbox.ripe_at(start), Some(start + QUIET / 2 + QUIET));
        for turn in 0..100 {
            inbox.hear(name("b"), Change::Removed, start + QUIET / 2 * turn);
        }
        assert_eq!(inbox.ripe_at(start), Some(start + LONGEST));
        let news = inbox.take(start + LONGEST);
        assert!(matches!(news.objects[&name("a")], Change::Removed) && news.objects.len() == 2, "{news:?}");
        assert_eq!(inbox.ripe_at(start), None);
    }

    #[test]
    fn what_is_wrong_is_told_at_once() {
        let (mut inbox, start) = (ClusterInbox::default(), Instant::now());
        inbox.hear(name("a"), Change::Removed, start);
        inbox.problems(Vec::new());
        assert_eq!(inbox.ripe_at(start), Some(start));
        let news = inbox.take(start);
        assert!(news.problems.is_some() && news.objects.is_empty(), "{news:?}");
    }
}
