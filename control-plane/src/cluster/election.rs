//! Which replica of the control plane writes.
//!
//! Two that write statuses would argue for ever. So one of them holds a Lease (`coordination.k8s.io/v1`), with the
//! numbers of client-go's leader election: it renews every two seconds, gives up when it could not for ten, and another takes over what
//! was not renewed for fifteen. Clocks of machines differ: what counts is for how long the record has stayed the same
//! before our own eyes, never the times written in it.

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A record that stayed the same for so long has lost its holder.
const LEASE: Duration = Duration::from_secs(15);
/// A holder who could not renew for so long no longer leads.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
const EVERY: Duration = Duration::from_secs(2);

/// What the Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    /// Empty: given back.
    holder: String,
    transitions: i32,
    /// Another one after each write.
    version: String,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    /// There is no Lease yet.
    Create,
    /// Nobody holds it any more.
    Take,
    /// It is ours.
    Renew,
    /// It is another's.
    Wait,
}

/// The election as one candidate sees it.
struct Candidate {
    identity: String,
    /// The version that was seen last, and since when.
    seen: Option<(String, Instant)>,
    renewed: Option<Instant>,
}

impl Candidate {
    fn look(&mut self, record: Option<&Record>, now: Instant) -> Move {
        let Some(record) = record else { return Move::Create };
        if record.holder == self.identity {
            return Move::Renew;
        }
        let since = match &self.seen {
            Some((version, since)) if *version == record.version => *since,
            _ => {
                self.seen = Some((record.version.clone(), now));
                now
            }
        };
        match record.holder.is_empty() || now.saturating_duration_since(since) >= LEASE {
            true => Move::Take,
            false => Move::Wait,
        }
    }

    fn leads(&self, now: Instant) -> bool {
        self.renewed.is_some_and(|renewed| now.saturating_duration_since(renewed) < RENEW_WITHIN)
    }
}

/// Takes part in the election until it is told to stop.
pub(crate) struct Election {
    api: Api<Lease>,
    name: String,
    candidate: Candidate,
    leads: watch::Sender<bool>,
}

impl Election {
    /// `identity`: who of the replicas this is; the pod's name.
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: String) -> Election {
        Election {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            candidate: Candidate { identity, seen: None, renewed: None },
            leads: watch::Sender::new(false),
        }
    }

    /// Whether this replica writes.
    pub(crate) fn leads(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut turns = tokio::time::interval(EVERY);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut trouble = false;
        loop {
            tokio::select! {
                _ = turns.tick() => {}
                () = shutdown.cancelled() => break,
            }
            let turn = tokio::time::timeout(RENEW_WITHIN / 2, self.turn()).await;
            let failed = match turn {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{error:#}")),
                Err(_) => Some("no answer in time".to_owned()),
            };
            if let Some(why) = failed.as_ref().filter(|_| !trouble) {
                tracing::warn!(lease = self.name, "leader election: {why}; trying again every {} s", EVERY.as_secs());
            }
            trouble = failed.is_some();
            self.tell();
        }
        self.leads.send_replace(false);
        if self.candidate.renewed.is_some()
            && let Ok(Err(error)) = tokio::time::timeout(EVERY, self.give_back()).await
        {
            tracing::debug!("the lease is left to run out: {error:#}");
        }
    }

    fn tell(&self) {
        let leads = self.candidate.leads(Instant::now());
        let changed = self.leads.send_if_modified(|before| std::mem::replace(before, leads) != leads);
        if changed {
            tracing::info!(identity = self.candidate.identity, leads, "leader election");
        }
    }

    async fn turn(&mut self) -> anyhow::Result<()> {
        let lease = self.api.get_opt(&self.name).await.context("the Lease cannot be read")?;
        let record = lease.as_ref().map(record);
        let now = Instant::now();
        let written = match self.candidate.look(record.as_ref(), now) {
            Move::Wait => {
                self.candidate.renewed = None;
                return Ok(());
            }
            Move::Create => self.api.create(&PostParams::default(), &self.lease(None, 0, true)).await,
            Move::Take => {
                let transitions = record.map_or(0, |record| record.transitions.saturating_add(1));
                self.replace(lease, transitions, true).await
            }
            Move::Renew => {
                let transitions = record.map_or(0, |record| record.transitions);
                self.replace(lease, transitions, false).await
            }
        };
        match written {
            Ok(_) => {
                self.candidate.renewed = Some(now);
                Ok(())
            }
            // Another was quicker.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(()),
            Err(error) => Err(error).context("the Lease cannot be written"),
        }
    }

    /// What was read is replaced, and only if nobody wrote meanwhile.
    async fn replace(&self, read: Option<Lease>, transitions: i32, acquire: bool) -> kube::Result<Lease> {
        let lease = self.lease(read, transitions, acquire);
        self.api.replace(&self.name, &PostParams::default(), &lease).await
    }

    fn lease(&self, read: Option<Lease>, transitions: i32, acquire: bool) -> Lease {
        let now = MicroTime(Timestamp::now());
        let (metadata, before) = match read {
            Some(lease) => (lease.metadata, lease.spec.unwrap_or_default()),
            None => (ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() }, LeaseSpec::default()),
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.candidate.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
            acquire_time: if acquire { Some(now.clone()) } else { before.acquire_time.clone() },
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..before
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// So that another replica need not wait for the lease to run out.
    async fn give_back(&self) -> anyhow::Result<()> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
        if record(&lease).holder == self.candidate.identity {
            lease.spec.get_or_insert_default().holder_identity = Some(String::new());
            self.api.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.as_ref();
    Record {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default(),
        transitions: spec.and_then(|spec| spec.lease_transitions).unwrap_or_default(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate() -> Candidate {
        Candidate { identity: "a".into(), seen: None, renewed: None }
    }

    fn held_by(holder: &str, version: &str) -> Record {
        Record { holder: holder.into(), transitions: 0, version: version.into() }
    }

    #[test]
    fn a_lease_that_is_renewed_is_never_taken() {
        let (mut candidate, start) = (candidate(), Instant::now());
        for turn in 0..100 {
            let record = held_by("b", &turn.to_string());
            assert_eq!(candidate.look(Some(&record), start + 10 * Duration::from_secs(turn)), Move::Wait);
        }
    }

    #[test]
    fn a_lease_that_stays_the_same_for_its_time_is_taken_by_our_clock() {
        let (mut candidate, start) = (candidate(), Instant::now());
        let record = held_by("b", "7");
        assert_eq!(candidate.look(Some(&record), start), Move::Wait);
        assert_eq!(candidate.look(Some(&record), start + LEASE - Duration::from_millis(1)), Move::Wait);
        assert_eq!(candidate.look(Some(&record), start + LEASE), Move::Take);
    }

    #[test]
    fn what_is_given_back_is_taken_at_once_and_ours_is_renewed() {
        let (mut candidate, now) = (candidate(), Instant::now());
        assert_eq!(candidate.look(None, now), Move::Create);
        assert_eq!(candidate.look(Some(&held_by("", "1")), now), Move::Take);
        assert_eq!(candidate.look(Some(&held_by("a", "2")), now), Move::Renew);
    }

    #[test]
    fn who_cannot_renew_stops_leading_before_another_may_begin() {
        let (mut candidate, now) = (candidate(), Instant::now());
        candidate.renewed = Some(now);
        assert!(candidate.leads(now + RENEW_WITHIN - Duration::from_millis(1)));
        assert!(!candidate.leads(now + RENEW_WITHIN));
        const { assert!(RENEW_WITHIN.as_secs() < LEASE.as_secs()) };
    }
}
