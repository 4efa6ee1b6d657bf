//! What one cluster may have in flight. Without such limits a slow upstream fills the proxy with waiting requests until
//! everybody's fail; with them the surplus is refused at once, and retries cannot multiply an outage.
//!
//! The numbers hold for the whole process: one [`Breaker`] is shared by all workers, counts in atomics, and neither locks nor
//! allocates. A [`Permit`] is given back when it is dropped, however a request ends. An edit of the limits goes through
//! [`Breaker::resume`], which counts on from what is in flight. The semantics are Envoy's `circuit_breaker.proto`.

mod overflow;
#[cfg(test)]
mod tests;

use crate::window::Window;
pub use overflow::Overflow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;
use weft_model::breaker::{CircuitBreakers, Priority, RetryBudget, RetryLimit, ShareOf, Thresholds};

/// The live thresholds of one cluster.
#[derive(Debug)]
pub struct Breaker {
    limits: CircuitBreakers,
    live: Arc<Live>,
    /// Of budgets with an interval, by priority.
    lately: [Option<Arc<Lately>>; 2],
}

impl Breaker {
    /// Nothing is in flight yet. `epoch` is any time that is not after the first request.
    pub fn new(limits: CircuitBreakers, epoch: Instant) -> Breaker {
        let lately = [limits.default, limits.high].map(|thresholds| Lately::of(&thresholds, epoch).map(Arc::new));
        Breaker { limits, live: Arc::default(), lately }
    }

    /// New limits over what `previous` has in flight: its permits count on here. Only a retry budget whose interval has
    /// another length begins to look anew.
    pub fn resume(limits: CircuitBreakers, previous: &Breaker, now: Instant) -> Breaker {
        let mut breaker = Breaker { live: Arc::clone(&previous.live), ..Breaker::new(limits, now) };
        for (new, old) in breaker.lately.iter_mut().zip(&previous.lately) {
            match (&new, old) {
                (Some(fresh), Some(kept)) if fresh.begun.span() == kept.begun.span() => *new = Some(Arc::clone(kept)),
                _ => {}
            }
        }
        breaker
    }

    pub fn limits(&self) -> &CircuitBreakers {
        &self.limits
    }

    /// For each try of a request, from when it has a connection (or, over HTTP/2, a stream) until its answer is complete.
    pub fn request(&self, priority: Priority, now: Instant) -> Result<Permit, Overflow> {
        let permit = self.active(priority, Try::First)?;
        if let Some(lately) = self.lately(priority) {
            lately.begun.add(now);
        }
        Ok(permit)
    }

    /// As [`request`](Self::request), for a try after the first. Retries are no base for more of them, but where a budget is
    /// [of all tries](ShareOf::AllTries): 20 % would be 25 % more work.
    pub fn again(&self, priority: Priority) -> Result<Permit, Overflow> {
        self.active(priority, Try::Again)
    }

    /// While the first try of a request waits for a connection.
    pub fn pending(&self, priority: Priority) -> Result<Permit, Overflow> {
        self.waiting(priority, Try::First)
    }

    /// While a try after the first waits for a connection.
    pub fn pending_again(&self, priority: Priority) -> Result<Permit, Overflow> {
        self.waiting(priority, Try::Again)
    }

    fn active(&self, priority: Priority, which: Try) -> Result<Permit, Overflow> {
        let limit = self.limits.of(priority).max_requests;
        self.take_for(which, priority, Resource::Requests, u64::from(limit))
            .ok_or_else(|| self.refuse(Overflow::Requests { limit }))
    }

    fn waiting(&self, priority: Priority, which: Try) -> Result<Permit, Overflow> {
        let limit = self.limits.of(priority).max_pending_requests;
        self.take_for(which, priority, Resource::Pending, u64::from(limit))
            .ok_or_else(|| self.refuse(Overflow::Pending { limit }))
    }

    /// While a connection to that host is being made or is open, idle or not.
    pub fn connection(&self, priority: Priority, host: &HostConnections) -> Result<ConnectionPermit, Overflow> {
        let limit = self.limits.of(priority).max_connections;
        let permit = self
            .take(priority, Resource::Connections, u64::from(limit))
            .ok_or_else(|| self.refuse(Overflow::Connections { limit }))?;
        let limit = self.limits.max_connections_per_host.unwrap_or(u32::MAX);
        if !raise(&host.0, u64::from(limit)) {
            return Err(self.refuse(Overflow::HostConnections { limit }));
        }
        Ok(ConnectionPermit { _cluster: permit, host: host.clone() })
    }

    /// While a retry waits for its turn and is in flight, besides the [`request`](Self::request) that it is as well.
    pub fn retry(&self, priority: Priority, now: Instant) -> Result<Permit, Overflow> {
        let budget = match self.limits.of(priority).retries {
            RetryLimit::Concurrent(limit) => {
                return self
                    .take(priority, Resource::Retries, u64::from(limit))
                    .ok_or_else(|| self.refuse(Overflow::Retries { limit }));
            }
            RetryLimit::Budget(budget) => budget,
        };
        let of = self.share_of(priority, now);
        let limit = allowance(&budget, of);
        let permit = match self.lately(priority) {
            None => self.take(priority, Resource::Retries, limit),
            Some(lately) if lately.withdraw(limit, now) => self.take(priority, Resource::Retries, u64::MAX),
            Some(_) => None,
        };
        permit.ok_or_else(|| self.refuse(Overflow::Budget { limit, of, budget }))
    }

    /// What is in flight, and how much more may be.
    pub fn gauges(&self, priority: Priority, now: Instant) -> Gauges {
        let (limits, counters) = (self.limits.of(priority), self.live.of(priority));
        let read = |resource| counters.of(resource).load(Ordering::Relaxed);
        let [active, pending, connections, retries] =
            [Resource::Requests, Resource::Pending, Resource::Connections, Resource::Retries].map(read);
        let spent = self.lately(priority).map_or(u64::from(retries), |lately| lately.retries.sum(now));
        let retry_limit = match limits.retries {
            RetryLimit::Concurrent(limit) => u64::from(limit),
            RetryLimit::Budget(budget) => allowance(&budget, self.share_of(priority, now)),
        };
        Gauges {
            active,
            pending,
            connections,
            retries,
            remaining_cx: limits.max_connections.saturating_sub(connections),
            remaining_pending: limits.max_pending_requests.saturating_sub(pending),
            remaining_rq: limits.max_requests.saturating_sub(active),
            remaining_retries: retry_limit.saturating_sub(spent),
        }
    }

    /// How often something was refused since the cluster began, over both priorities.
    pub fn overflows(&self) -> Overflows {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Overflows {
            upstream_cx_overflow: read(&self.live.cx_overflow),
            upstream_rq_pending_overflow: read(&self.live.pending_overflow),
            upstream_rq_retry_overflow: read(&self.live.retry_overflow),
        }
    }

    fn lately(&self, priority: Priority) -> Option<&Lately> {
        self.lately[priority as usize].as_deref()
    }

    /// How many requests a retry budget is a share of.
    fn share_of(&self, priority: Priority, now: Instant) -> u64 {
        if let Some(lately) = self.lately(priority) {
            return lately.begun.sum(now);
        }
        let counters = self.live.of(priority);
        let read = |counter: &AtomicU32| u64::from(counter.load(Ordering::Relaxed));
        let all = read(&counters.requests) + read(&counters.pending);
        match self.limits.of(priority).retries {
            RetryLimit::Budget(RetryBudget { of: ShareOf::FirstTries, .. }) => {
                all.saturating_sub(read(&counters.again))
            }
            _ => all,
        }
    }

    fn take(&self, priority: Priority, resource: Resource, limit: u64) -> Option<Permit> {
        self.take_for(Try::First, priority, resource, limit)
    }

    fn take_for(&self, which: Try, priority: Priority, resource: Resource, limit: u64) -> Option<Permit> {
        let counters = self.live.of(priority);
        let raised = raise(counters.of(resource), limit);
        if raised && which == Try::Again {
            counters.again.fetch_add(1, Ordering::Relaxed);
        }
        raised.then(|| Permit { live: Arc::clone(&self.live), priority, resource, which })
    }

    fn refuse(&self, overflow: Overflow) -> Overflow {
        let counter = match overflow {
            Overflow::Requests { .. } | Overflow::Pending { .. } => &self.live.pending_overflow,
            Overflow::Connections { .. } | Overflow::HostConnections { .. } => &self.live.cx_overflow,
            Overflow::Retries { .. } | Overflow::Budget { .. } => &self.live.retry_overflow,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        overflow
    }
}

/// Something that counts against a limit until it is dropped.
#[derive(Debug)]
#[must_use = "dropping a permit gives it back"]
pub struct Permit {
    live: Arc<Live>,
    priority: Priority,
    resource: Resource,
    which: Try,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let counters = self.live.of(self.priority);
        counters.of(self.resource).fetch_sub(1, Ordering::Relaxed);
        if self.which == Try::Again {
            counters.again.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A connection, which counts against the limits of its cluster and of its host until it is dropped.
#[derive(Debug)]
#[must_use = "dropping a permit gives it back"]
pub struct ConnectionPermit {
    _cluster: Permit,
    host: HostConnections,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.host.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many connections there are to one host. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct HostConnections(Arc<AtomicU32>);

impl HostConnections {
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one priority of a cluster has in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    pub active: u32,
    pub pending: u32,
    pub connections: u32,
    pub retries: u32,
    pub remaining_cx: u32,
    pub remaining_pending: u32,
    pub remaining_rq: u32,
    /// Under a budget: as of now.
    pub remaining_retries: u64,
}

impl Gauges {
    /// The next connection is refused. Named as Envoy's gauges, as are those that follow.
    pub fn cx_open(&self) -> bool {
        self.remaining_cx == 0
    }

    pub fn rq_pending_open(&self) -> bool {
        self.remaining_pending == 0
    }

    pub fn rq_open(&self) -> bool {
        self.remaining_rq == 0
    }

    pub fn rq_retry_open(&self) -> bool {
        self.remaining_retries == 0
    }
}

/// Counters, named as Envoy's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflows {
    pub upstream_cx_overflow: u64,
    /// Of pending requests and of requests.
    pub upstream_rq_pending_overflow: u64,
    pub upstream_rq_retry_overflow: u64,
}

/// What outlives an edit of the limits.
#[derive(Debug, Default)]
struct Live {
    default: Counters,
    high: Counters,
    cx_overflow: AtomicU64,
    pending_overflow: AtomicU64,
    retry_overflow: AtomicU64,
}

impl Live {
    fn of(&self, priority: Priority) -> &Counters {
        match priority {
            Priority::Default => &self.default,
            Priority::High => &self.high,
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU32,
    pending: AtomicU32,
    connections: AtomicU32,
    retries: AtomicU32,
    /// Of `requests` and `pending`, those that are not the first try.
    again: AtomicU32,
}

impl Counters {
    fn of(&self, resource: Resource) -> &AtomicU32 {
        match resource {
            Resource::Requests => &self.requests,
            Resource::Pending => &self.pending,
            Resource::Connections => &self.connections,
            Resource::Retries => &self.retries,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Resource {
    Requests,
    Pending,
    Connections,
    Retries,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Try {
    First,
    Again,
}

/// What began within the interval of a retry budget.
#[derive(Debug)]
struct Lately {
    begun: Window,
    retries: Window,
}

impl Lately {
    /// An interval of nothing is none (Istio's `budgetInterval: 0s`).
    fn of(thresholds: &Thresholds, epoch: Instant) -> Option<Lately> {
        match thresholds.retries {
            RetryLimit::Budget(RetryBudget { of: ShareOf::BegunWithin(interval), .. }) if !interval.is_zero() => {
                Some(Lately { begun: Window::new(interval, epoch), retries: Window::new(interval, epoch) })
            }
            _ => None,
        }
    }

    /// Counts first and looks then: of retries that come at once, some may be refused in vain, none is allowed in excess.
    fn withdraw(&self, limit: u64, now: Instant) -> bool {
        self.retries.add(now);
        let fits = self.retries.sum(now) <= limit;
        if !fits {
            self.retries.take_back(now);
        }
        fits
    }
}

/// One more, unless that were over the limit.
fn raise(counter: &AtomicU32, limit: u64) -> bool {
    let raised = |count: u32| (u64::from(count) < limit).then(|| count.saturating_add(1));
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised).is_ok()
}

/// Envoy's `RetryBudgetImpl`: the share, rounded down, or the floor when that is more.
fn allowance(budget: &RetryBudget, of: u64) -> u64 {
    let share = budget.percent * of as f64 / 100.0;
    (share as u64).max(u64::from(budget.min_concurrency))
}
