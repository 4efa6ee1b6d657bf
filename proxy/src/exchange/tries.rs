//! The tries of a request: whom the next one goes to, what its end tells, and whether another one follows.

use super::Exchange;
use crate::attempt::{Attempt, grpc_status};
use crate::connection::Connection;
use crate::head;
use crate::live::{Counts, LiveCluster};
use crate::plan::{UNSENT_ATTEMPTS, clock};
use crate::rejection::Rejection;
use crate::table::{CompiledAction, CompiledForward};
use crate::telemetry::flags::{Flag, Flags};
use crate::worker::WorkerEndpoint;
use http::Method;
use smallvec::SmallVec;
use std::rc::Rc;
use std::time::{Duration, Instant};
use weft_policy::balance::Pick;
use weft_policy::breaker::Permit;
use weft_policy::outlier;
use weft_policy::retry::{Outcome, Reason, Request as Repeat, Verdict as Retry};
use weft_policy::x_envoy;

/// How an attempt failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) rejection: Rejection,
    /// Not one byte of the request has left: another endpoint may have it.
    pub(crate) unsent: bool,
}

impl Failure {
    /// As the retry policy sees it.
    fn outcome(&self) -> Outcome<'static> {
        match &self.rejection {
            Rejection::Overflow(_) => Outcome::LocalOverflow,
            Rejection::ConnectFailed(_) | Rejection::ConnectTimeout => Outcome::ConnectFailure,
            Rejection::RefusedStream => Outcome::RefusedStream,
            Rejection::PerTryTimeout | Rejection::PerTryIdle | Rejection::BackendTimeout => Outcome::PerTryTimeout,
            _ => Outcome::Reset { before_request_sent: self.unsent },
        }
    }

    /// As outlier detection sees it; `None`: it is not the endpoint's fault.
    fn for_endpoint(&self) -> Option<outlier::Outcome> {
        match &self.rejection {
            Rejection::ConnectFailed(_) | Rejection::ConnectTimeout => Some(outlier::Outcome::ConnectFailed),
            Rejection::PerTryTimeout | Rejection::PerTryIdle | Rejection::BackendTimeout => {
                Some(outlier::Outcome::LocalTimeout)
            }
            Rejection::UpstreamReset(_)
            | Rejection::StreamReset(_)
            | Rejection::UpstreamProtocol(_)
            | Rejection::RefusedStream => Some(outlier::Outcome::Reset),
            _ => None,
        }
    }
}

/// What follows from a failure.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    TryAnother { after: Duration },
    GiveUp(Rejection),
}

impl Exchange {
    /// Picks the endpoint for the next try.
    pub(crate) fn next_attempt(&mut self) -> Result<Rc<WorkerEndpoint>, Rejection> {
        let worker = &self.connection.worker;
        let cluster = self.cluster()?.clone();
        // The first try begins with the request, near enough: that spares reading the clock.
        let now = if self.tries == 0 { self.began } else { Instant::now() };
        let met = |place: usize| self.tried.contains(&place);
        let (avoids, attempts) = match self.forwarding() {
            Some((_, forward, _)) => forward.retry.avoids(cluster.spec.balancer),
            None => (true, 0),
        };
        let avoid_priorities = self.priorities_to_avoid(&cluster);
        let wish = Pick {
            hash: self.plan.hash,
            avoid: (avoids && !self.tried.is_empty()).then_some(&met),
            attempts,
            avoid_priorities: &avoid_priorities,
        };
        let mut dice = worker.dice.borrow_mut();
        let asked = self.plan.asked.filter(|_| self.tries == 0).and_then(|asked| cluster.at(asked.address));
        let picked = match asked {
            Some(asked) => asked,
            None => cluster
                .pick(&wish, now, &mut dice)
                .map_err(|why| Rejection::NoHealthyUpstream(cluster.spec.name.clone(), why))?,
        };
        drop(dice);
        let host = worker.endpoint(&cluster, picked.endpoint);
        let place = picked.place;
        cluster.state.called();
        let attempt = Attempt::at(host.clone(), cluster.clone(), place, picked.admission, now);
        self.tried.push(place);
        self.attempt_with(attempt);
        Ok(host)
    }

    /// Those of earlier tries, if the retry policy says so.
    fn priorities_to_avoid(&self, cluster: &LiveCluster) -> SmallVec<[u32; 4]> {
        let Some((_, forward, _)) = self.forwarding() else { return SmallVec::new() };
        let met = &self.tried[..forward.retry.priorities_to_avoid(self.tried.len())];
        met.iter().filter_map(|place| cluster.endpoints.get(*place)).map(|endpoint| endpoint.priority).collect()
    }

    /// How long a try may be quiet, if the route's retry policy says so.
    pub(crate) fn try_idle_limit(&self) -> Option<Duration> {
        let (_, forward, _) = self.forwarding()?;
        forward.model.retry.as_ref()?.per_try_idle_timeout
    }

    /// Begins a try.
    /// The next try goes where the caller's connection was going.
    pub(crate) fn go_on(&mut self) -> Result<Rc<WorkerEndpoint>, Rejection> {
        let cluster = self.cluster()?.clone();
        let Connection { worker, destination, local, .. } = &*self.connection;
        let address = destination.ok_or_else(|| Rejection::not_redirected(*local))?;
        let host = worker.passthrough(&cluster, address);
        self.attempt_with(Attempt::passing(host.clone(), cluster, Instant::now()));
        Ok(host)
    }

    pub(crate) fn attempt_with(&mut self, mut attempt: Attempt) {
        // A retry's share of the budget is held until it ends.
        attempt.retry = self.attempt.take().and_then(|mut before| before.retry.take());
        self.tries += 1;
        self.attempt = Some(attempt);
    }

    /// A try failed: what now? `replayable`: the body can be sent again.
    pub(crate) fn settle(&mut self, failure: Failure, method: &Method, replayable: bool) -> Verdict {
        let now = Instant::now();
        self.tell_endpoint(&failure, now);
        if self.meter.broken.get() {
            return Verdict::GiveUp(failure.rejection);
        }
        match self.decide_retry(&failure.outcome(), method, replayable, now) {
            Some(after) => Verdict::TryAnother { after },
            None => Verdict::GiveUp(failure.rejection),
        }
    }

    /// An answer came whose head says that the request should be tried again: when, or not at all.
    pub(crate) fn settle_answer<B>(
        &mut self,
        response: &http::Response<B>,
        method: &Method,
        replayable: bool,
    ) -> Option<Duration> {
        self.plan.attempts.as_ref()?;
        let now = self.heard_at?;
        let unsent = response.headers().contains_key(head::X_WEFT_UNSENT);
        let outcome = match unsent {
            // The hop behind says that its upstream has not begun on it.
            true => Outcome::ConnectFailure,
            false => Outcome::Response { status: response.status(), headers: response.headers() },
        };
        self.decide_retry(&outcome, method, replayable, now)
    }

    fn decide_retry(
        &mut self,
        outcome: &Outcome<'_>,
        method: &Method,
        replayable: bool,
        now: Instant,
    ) -> Option<Duration> {
        let elapsed = now.saturating_duration_since(self.began);
        let timeouts = self.plan.timeouts;
        let table = self.table.clone()?;
        let CompiledAction::Forward(forward) = &table.routes[self.route].route.action else { return None };
        let mut dice = self.connection.worker.dice.borrow_mut();
        let verdict = match &mut self.plan.attempts {
            Some(attempts) => {
                let repeat = Repeat { method, replayable };
                attempts.should_retry(&forward.retry, outcome, repeat, || clock(timeouts, elapsed), &mut dice)
            }
            None if outcome.is_unsent() && replayable && self.tries < UNSENT_ATTEMPTS => match outcome {
                Outcome::LocalOverflow => Retry::No(Reason::Overloaded),
                _ => Retry::Retry { after: Duration::ZERO },
            },
            None => Retry::No(Reason::NotAsked),
        };
        drop(dice);
        let cluster = self.attempt.as_ref().map(|attempt| attempt.cluster.clone())?;
        match verdict {
            Retry::Retry { after } => {
                let permit = self.withdraw(&cluster, forward, now)?;
                Counts::one(&cluster.state.counts.upstream_rq_retry);
                self.attempt.as_mut()?.retry = Some(permit);
                Some(after)
            }
            Retry::No(Reason::LimitExceeded) => {
                Counts::one(&cluster.state.counts.upstream_rq_retry_limit_exceeded);
                self.ending.flags |= Flags::from(Flag::RetryLimitExceeded);
                None
            }
            Retry::No(_) => None,
        }
    }

    /// Of the retry budget, for one more try. Held already by a try that is a retry itself.
    fn withdraw(&mut self, cluster: &LiveCluster, forward: &CompiledForward, now: Instant) -> Option<Permit> {
        let held = self.attempt.as_mut().and_then(|attempt| attempt.retry.take());
        drop(held);
        match cluster.breaker.retry(forward.model.priority, now) {
            Ok(permit) => Some(permit),
            Err(overflow) => {
                tracing::debug!(cluster = cluster.spec.name, "{overflow}");
                self.ending.flags |= Flags::from(Flag::UpstreamOverflow);
                None
            }
        }
    }

    fn tell_endpoint(&mut self, failure: &Failure, now: Instant) {
        let Some(outcome) = failure.for_endpoint() else { return };
        let connection = self.connection.clone();
        if let Some(attempt) = &mut self.attempt {
            attempt.failed(outcome, now, &mut connection.worker.dice.borrow_mut());
        }
    }

    /// The route's timeout passed before there was an answer.
    pub(crate) fn timed_out(&mut self) {
        if let Some(attempt) = &self.attempt {
            Counts::one(&attempt.cluster.state.counts.upstream_rq_timeout);
        }
        self.broke_off(outlier::Outcome::LocalTimeout);
    }

    /// The endpoint did not bring to its end what it had begun.
    pub(crate) fn broke_off(&mut self, outcome: outlier::Outcome) {
        let connection = self.connection.clone();
        if let Some(attempt) = &mut self.attempt {
            attempt.failed(outcome, Instant::now(), &mut connection.worker.dice.borrow_mut());
        }
    }

    /// The head of an answer has come.
    pub(crate) fn heard<B>(&mut self, response: &http::Response<B>) {
        if self.found.grpc {
            self.ending.grpc_status = grpc_status(response.headers());
        }
        let connection = self.connection.clone();
        let Some(attempt) = &mut self.attempt else { return };
        let now = Instant::now();
        self.heard_at = Some(now);
        self.ending.upstream_time = Some(now.saturating_duration_since(attempt.began));
        let mut dice = connection.worker.dice.borrow_mut();
        attempt.answered(response.status(), self.ending.grpc_status, now, &mut dice);
        if response.headers().contains_key(x_envoy::IMMEDIATE_HEALTH_CHECK_FAIL) {
            attempt.cluster.is_unwell(attempt.endpoint());
        }
        if self.tries > 1 && !response.status().is_server_error() {
            Counts::one(&attempt.cluster.state.counts.upstream_rq_retry_success);
        }
    }
}
