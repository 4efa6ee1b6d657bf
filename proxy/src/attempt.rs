//! One try at one endpoint: what it holds while it lasts, and what its end tells about the endpoint.

use crate::live::{InFlight, LiveCluster, LiveEndpoint};
use crate::worker::WorkerEndpoint;
use http::{HeaderMap, StatusCode};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use weft_policy::Dice;
use weft_policy::breaker::Permit;
use weft_policy::outlier::{Outcome, Waiting};
use weft_policy::trip::{Admission, Probe, Transition, is_failure};

/// One try at one endpoint.
pub(crate) struct Attempt {
    pub(crate) host: Rc<WorkerEndpoint>,
    pub(crate) cluster: Arc<LiveCluster>,
    pub(crate) began: Instant,
    /// The endpoint's place in the cluster; `None` for one that no configuration knows.
    place: Option<usize>,
    waiting: Option<Waiting>,
    probe: Option<Probe>,
    /// From when it has a connection.
    pub(crate) permit: Option<Permit>,
    /// What the retry budget gave, if it is one.
    pub(crate) retry: Option<Permit>,
    _in_flight: InFlight,
}

impl Attempt {
    /// Begins a try at the endpoint that was picked.
    pub(crate) fn at(
        host: Rc<WorkerEndpoint>,
        cluster: Arc<LiveCluster>,
        place: usize,
        admission: Admission,
        now: Instant,
    ) -> Attempt {
        let endpoint = &cluster.endpoints[place];
        let judges_slowness = cluster.spec.outlier.as_ref().is_some_and(|policy| policy.slow.is_some());
        let probe = match admission {
            Admission::Probe(probe) => Some(probe),
            Admission::Closed | Admission::Refuse { .. } => None,
        };
        Attempt {
            waiting: judges_slowness.then(|| endpoint.experience.monitor.began(now)),
            _in_flight: InFlight::at(endpoint),
            host,
            began: now,
            place: Some(place),
            probe,
            permit: None,
            retry: None,
            cluster,
        }
    }

    /// Begins a try at an endpoint that only the request names.
    pub(crate) fn passing(host: Rc<WorkerEndpoint>, cluster: Arc<LiveCluster>, now: Instant) -> Attempt {
        Attempt {
            _in_flight: InFlight::at(&host.endpoint),
            host,
            cluster,
            began: now,
            place: None,
            waiting: None,
            probe: None,
            permit: None,
            retry: None,
        }
    }

    pub(crate) fn endpoint(&self) -> &LiveEndpoint {
        &self.host.endpoint
    }

    /// The head of an answer has come.
    pub(crate) fn answered(&mut self, status: StatusCode, grpc_status: Option<u8>, now: Instant, dice: &mut Dice) {
        if let Some(latency) = &self.endpoint().experience.latency {
            latency.observe(now.saturating_duration_since(self.began), now);
        }
        if let Some(waiting) = self.waiting.take() {
            waiting.answered(now);
        }
        let status = grpc_status.map_or(status.as_u16(), grpc_as_http);
        self.ended(Outcome::Status(status), grpc_status, now, dice);
    }

    /// There will be no answer.
    pub(crate) fn failed(&mut self, outcome: Outcome, now: Instant, dice: &mut Dice) {
        if let Some(waiting) = self.waiting.take() {
            waiting.given_up(now);
        }
        self.ended(outcome, None, now, dice);
    }

    fn ended(&mut self, outcome: Outcome, grpc_status: Option<u8>, now: Instant, dice: &mut Dice) {
        let Some(place) = self.place else { return };
        self.cluster.report(place, outcome, now, dice);
        self.tell_breaker(outcome, grpc_status, now, dice);
    }

    fn tell_breaker(&mut self, outcome: Outcome, grpc_status: Option<u8>, now: Instant, dice: &mut Dice) {
        let Some(breaker) = self.endpoint().breaker.clone() else { return };
        let failed = match outcome {
            Outcome::Status(status) => is_failure(&breaker.policy().on, status, grpc_status.map(u16::from)),
            Outcome::Connected => false,
            Outcome::ConnectFailed | Outcome::LocalTimeout | Outcome::Reset => true,
        };
        let transition = match self.probe.take() {
            Some(probe) => Some(probe.settle(!failed, now, dice)),
            None => breaker.record(!failed, now, dice),
        };
        let Some(transition) = transition else { return };
        let endpoint = self.endpoint().address.to_string();
        let what = match transition {
            Transition::Opened { penalty, number } => {
                format!("its breaker opened for {penalty:.1?} (opening {number}): {outcome:?}")
            }
            Transition::Closed => "its breaker closed: the probe succeeded".to_owned(),
        };
        tracing::warn!(cluster = self.cluster.spec.name, endpoint, "{what}");
        self.cluster.state.note(&endpoint, what);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Nobody waits any longer, as the caller has gone: the time until then counts all the same.
        if let Some(waiting) = self.waiting.take() {
            waiting.given_up(Instant::now());
        }
    }
}

/// The HTTP status that stands for a gRPC status (Envoy's mapping).
fn grpc_as_http(status: u8) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// The status that gRPC puts into trailers, or into the head of an answer without a body.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
