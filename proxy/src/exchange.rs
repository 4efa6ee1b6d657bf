//! A request's story: what was decided for it, where it went, how it ended.
//!
//! An [`Exchange`] decides and remembers, synchronously; [`crate::forward`] does what it says. Its
//! record is written once, when it is dropped, so however a request ends (answered, refused, the caller
//! gone, a panic) there is exactly one.

use crate::attempt::{Attempt, grpc_status};
use crate::body::{Expiry, Meter};
use crate::connection::Connection;
use crate::head::{self, Found};
use crate::live::{Counts, LiveCluster};
use crate::plan::{Plan, UNSENT_ATTEMPTS, clock};
use crate::rejection::{RateLimited, Rejection};
use crate::table::{CompiledAction, CompiledForward, LiveRoute, LiveTarget, UnderFault};
use crate::telemetry::flags::{Flag, Flags};
use crate::telemetry::trace::TraceContext;
use crate::worker::{LocalTable, WorkerEndpoint};
use http::request;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use smallvec::SmallVec;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weft_model::breaker::Priority;
use weft_model::fault::AbortWith;
use weft_policy::balance::Pick;
use weft_policy::breaker::Permit;
use weft_policy::bucket::Remaining;
use weft_policy::fault::Injected;
use weft_policy::limit::{self, Limiter};
use weft_policy::outlier;
use weft_policy::retry::{Outcome, Reason, Request as Repeat, Verdict as Retry};
use weft_policy::route::Head;
use weft_policy::{cors, limit::Decision as Limited, x_envoy};

/// One request, from its head to the end of its answer.
pub(crate) struct Exchange {
    pub(crate) connection: Rc<Connection>,
    pub(crate) meter: Rc<Meter>,
    place: usize,
    pub(crate) began: Instant,
    /// Who asked.
    pub(crate) client: IpAddr,
    table: Option<Rc<LocalTable>>,
    route: usize,
    backend: usize,
    pub(crate) grant: Option<cors::Grant>,
    pub(crate) http2: bool,
    pub(crate) found: Found,
    pub(crate) plan: Plan,
    pub(crate) attempt: Option<Attempt>,
    /// Places of the cluster that tries have gone to.
    tried: SmallVec<[usize; 4]>,
    /// How many endpoints it was offered to.
    pub(crate) tries: u32,
    /// When the last answer's head came.
    heard_at: Option<Instant>,
    /// What the tightest rate limit has left.
    pub(crate) allowance: Option<Remaining>,
    pub(crate) fault: Option<Box<Suffering>>,
    pub(crate) facts: Option<Box<Facts>>,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) ending: Ending,
}

/// What the route's fault does to it.
pub(crate) struct Suffering {
    pub(crate) delay: Option<Duration>,
    pub(crate) abort: Option<AbortWith>,
    _under: UnderFault,
}

/// How it ended, for the record.
pub(crate) struct Ending {
    /// 0 until there is a response.
    pub(crate) status: u16,
    pub(crate) flags: Flags,
    pub(crate) details: &'static str,
    pub(crate) grpc_status: Option<u8>,
    /// Body bytes to the caller.
    pub(crate) sent: u64,
    pub(crate) upstream_time: Option<Duration>,
    pub(crate) rejection: Option<Rejection>,
    /// The answer was handed over whole.
    pub(crate) whole: bool,
    /// When that was, if somebody looked.
    pub(crate) at: Option<Instant>,
}

/// What the access log and traces want of a request; taken only when one of them does.
pub(crate) struct Facts {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) authority: Option<HeaderValue>,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) forwarded_for: Option<HeaderValue>,
    pub(crate) request_id: Option<HeaderValue>,
}

/// What to do with a request whose route is known.
pub(crate) enum Decision {
    Forward,
    /// Answer at once.
    Answer {
        status: http::StatusCode,
        headers: HeaderMap,
        body: String,
        details: &'static str,
    },
}

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
            Rejection::PerTryTimeout | Rejection::BackendTimeout => Outcome::PerTryTimeout,
            _ => Outcome::Reset { before_request_sent: self.unsent },
        }
    }

    /// As outlier detection sees it; `None`: it is not the endpoint's fault.
    fn for_endpoint(&self) -> Option<outlier::Outcome> {
        match &self.rejection {
            Rejection::ConnectFailed(_) | Rejection::ConnectTimeout => Some(outlier::Outcome::ConnectFailed),
            Rejection::PerTryTimeout | Rejection::BackendTimeout => Some(outlier::Outcome::LocalTimeout),
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
    pub(crate) fn begin(connection: &Rc<Connection>, parts: &request::Parts, now: Instant) -> Box<Exchange> {
        let meter = Rc::<Meter>::default();
        connection.worker.telemetry.counters().requests.up();
        let facts = connection.worker.telemetry.wants_facts().then(|| Box::new(Facts::of(parts)));
        Box::new(Exchange {
            place: connection.stream_began(&meter),
            connection: connection.clone(),
            meter,
            began: now,
            client: connection.client(&parts.headers),
            table: None,
            route: 0,
            backend: 0,
            grant: None,
            http2: parts.version == Version::HTTP_2,
            found: Found::in_headers(&parts.headers),
            plan: Plan::default(),
            attempt: None,
            tried: SmallVec::new(),
            tries: 0,
            heard_at: None,
            allowance: None,
            fault: None,
            facts,
            trace: None,
            ending: Ending {
                status: 0,
                flags: Flags::default(),
                details: "",
                grpc_status: None,
                sent: 0,
                upstream_time: None,
                rejection: None,
                whole: false,
                at: None,
            },
        })
    }

    /// Finds the route, and what it says to do.
    pub(crate) fn decide(&mut self, parts: &request::Parts) -> Result<Decision, Rejection> {
        if self.found.hosts {
            return Err(Rejection::BadRequest("it has more than one host header"));
        }
        let Some(host) = head::host(parts) else {
            return Err(Rejection::BadRequest("the host header is missing or is not text"));
        };
        let wanted = Head {
            host,
            path: parts.uri.path(),
            query: parts.uri.query(),
            method: &parts.method,
            headers: &parts.headers,
        };
        let table = self.connection.table().ok_or(Rejection::NoRoute)?;
        self.route = table.compiled.table.find(&wanted).map_err(|_| Rejection::NoRoute)?;
        self.table = Some(table);
        if let Some(policy) = self.cors() {
            match policy.decide(&parts.method, &parts.headers) {
                cors::Decision::Preflight(headers) => {
                    let (status, body) = (cors::PREFLIGHT_STATUS, String::new());
                    return Ok(Decision::Answer { status, headers, body, details: "cors_preflight" });
                }
                cors::Decision::Proceed(grant) => self.grant = Some(grant),
            }
        }
        self.limit(&wanted)?;
        self.inject();
        self.act(&wanted)
    }

    /// Takes a token of every rate limit of the route.
    fn limit(&mut self, wanted: &Head<'_>) -> Result<(), Rejection> {
        let Some(route) = self.route().map(|route| route.route.clone()).filter(|route| !route.limiters.is_empty())
        else {
            return Ok(());
        };
        let request = limit::Request { head: wanted, client: self.client, caller: None };
        for limiter in &route.limiters {
            match limiter.check(&request, self.began) {
                Limited::Pass(None) => {}
                Limited::Pass(Some(left)) => {
                    let tighter = self.allowance.is_none_or(|known| left.tokens < known.tokens);
                    if limiter.spec().answer.headers && tighter {
                        self.allowance = Some(left);
                    }
                }
                Limited::Shadowed(refusal) => {
                    tracing::debug!(policy = limiter.spec().name, bucket = refusal.bucket, "would be rate limited");
                    self.connection.worker.telemetry.counters().shadow_limited.one();
                }
                Limited::Refuse(refusal) => return Err(rate_limited(limiter, &refusal)),
            }
        }
        Ok(())
    }

    /// Throws the dice for the route's fault.
    fn inject(&mut self) {
        let Some(fault) = self.route().and_then(|route| route.route.fault.as_ref()) else { return };
        let injected = fault.fault.decide(&mut self.connection.worker.dice.borrow_mut(), fault.active());
        if injected.is_any() {
            let Injected { delay, abort } = injected;
            self.fault = Some(Box::new(Suffering { delay, abort, _under: fault.enter() }));
        }
    }

    fn act(&mut self, wanted: &Head<'_>) -> Result<Decision, Rejection> {
        let Some(route) = self.route() else { return Err(Rejection::NoRoute) };
        match &route.route.action {
            CompiledAction::Forward(forward) => {
                let backend = forward.pick(&mut self.connection.worker.dice.borrow_mut());
                self.backend = backend
                    .ok_or_else(|| Rejection::InvalidBackend("no backend of the route has a weight above 0".into()))?;
                Ok(Decision::Forward)
            }
            CompiledAction::Redirect(redirect) => {
                let location = redirect.location(&weft_policy::redirect::Request {
                    scheme: self.connection.scheme(),
                    host: wanted.host,
                    listener_port: self.connection.listener.spec.address.port(),
                    path: wanted.path,
                    query: wanted.query,
                });
                let location = HeaderValue::try_from(location)
                    .map_err(|_| Rejection::BadRequest("the path cannot be part of a redirect's location"))?;
                let mut headers = HeaderMap::new();
                headers.insert(http::header::LOCATION, location);
                let (status, body) = (redirect.status(), String::new());
                Ok(Decision::Answer { status, headers, body, details: "direct_response" })
            }
            CompiledAction::Respond(respond) => {
                let status = http::StatusCode::from_u16(respond.status);
                let status = status.map_err(|_| Rejection::InvalidBackend(format!("status {}", respond.status)))?;
                let (headers, body) = (HeaderMap::new(), respond.body.clone());
                Ok(Decision::Answer { status, headers, body, details: "direct_response" })
            }
        }
    }

    /// The route that was found.
    pub(crate) fn route(&self) -> Option<&LiveRoute> {
        self.table.as_ref().map(|table| &table.routes[self.route])
    }

    pub(crate) fn cors(&self) -> Option<&cors::Policy> {
        self.route()?.route.cors.as_ref()
    }

    /// The forwarding route that was found, and the backend that was picked.
    pub(crate) fn forwarding(&self) -> Option<(&LiveRoute, &CompiledForward, usize)> {
        let route = self.route()?;
        match &route.route.action {
            CompiledAction::Forward(forward) => Some((route, forward, self.backend)),
            CompiledAction::Redirect(_) | CompiledAction::Respond(_) => None,
        }
    }

    /// The forwarding route that was found, to hold on to.
    pub(crate) fn forward_route(&self) -> Option<ForwardRoute> {
        self.forwarding()?;
        Some(ForwardRoute { table: self.table.clone()?, route: self.route })
    }

    /// Whose limits of the cluster count.
    pub(crate) fn priority(&self) -> Priority {
        self.forwarding().map_or(Priority::Default, |(_, forward, _)| forward.model.priority)
    }

    /// Tells the next hop how long it may take, and that it need not retry by itself.
    pub(crate) fn tell_next_hop(&self, headers: &mut HeaderMap) {
        let Some((_, forward, _)) = self.forwarding() else { return };
        self.plan.tell(&forward.retry, self.found.grpc, || self.began.elapsed(), headers);
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

    /// The cluster that the picked backend means.
    pub(crate) fn cluster(&self) -> Result<&Arc<LiveCluster>, Rejection> {
        let (route, _, backend) = self.forwarding().ok_or(Rejection::NoRoute)?;
        match &route.targets[backend] {
            LiveTarget::Cluster(cluster) => Ok(cluster),
            LiveTarget::Missing(name) => Err(Rejection::NoCluster(name.clone())),
            LiveTarget::Invalid(reason) => Err(Rejection::InvalidBackend(reason.clone())),
        }
    }

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
        let asked = self.plan.asked.filter(|_| self.tries == 0).and_then(|address| cluster.at(address));
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

    /// Begins a try.
    pub(crate) fn attempt_with(&mut self, mut attempt: Attempt) {
        // A retry's share of the budget is held until it ends.
        attempt.retry = self.attempt.take().and_then(|before| before.retry);
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

    /// Remembers that this proxy answers by itself, and why.
    pub(crate) fn refused(&mut self, rejection: Rejection) {
        let appearance = rejection.appearance();
        self.ending.status = appearance.status.as_u16();
        self.ending.flags |= appearance.flags;
        self.ending.details = appearance.details;
        if self.found.grpc {
            self.ending.status = 200;
            self.ending.grpc_status = Some(rejection.grpc_status());
        }
        self.ending.rejection = Some(rejection);
    }

    /// How a stream that ran out of something is reported.
    pub(crate) fn expiry(expiry: Expiry) -> (Flag, &'static str) {
        match expiry {
            Expiry::Idle => (Flag::StreamIdle, "stream_idle_timeout"),
            Expiry::Deadline => (Flag::UpstreamTimeout, "response_timeout"),
        }
    }

    /// Cut off before its answer was complete.
    pub(crate) fn cut(&mut self, flag: Flag, details: &'static str) {
        self.ending.flags |= Flags::from(flag);
        self.ending.details = details;
        self.ending.whole = true;
    }
}

/// A forwarding route, held.
pub(crate) struct ForwardRoute {
    table: Rc<LocalTable>,
    route: usize,
}

impl ForwardRoute {
    pub(crate) fn forward(&self) -> &CompiledForward {
        match &self.table.routes[self.route].route.action {
            CompiledAction::Forward(forward) => forward,
            CompiledAction::Redirect(_) | CompiledAction::Respond(_) => {
                unreachable!("only made of routes that forward")
            }
        }
    }
}

impl Facts {
    fn of(parts: &request::Parts) -> Facts {
        let header = |name: http::HeaderName| parts.headers.get(name).cloned();
        Facts {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            authority: header(http::header::HOST),
            user_agent: header(http::header::USER_AGENT),
            forwarded_for: header(head::X_FORWARDED_FOR),
            request_id: header(head::X_REQUEST_ID),
        }
    }
}

fn rate_limited(limiter: &Limiter, refusal: &limit::Refusal<'_>) -> Rejection {
    let answer = &limiter.spec().answer;
    let mut headers = HeaderMap::new();
    if answer.headers {
        refusal.write(&mut headers);
    }
    Rejection::RateLimited(Box::new(RateLimited {
        policy: limiter.spec().name.clone(),
        bucket: refusal.bucket.to_owned(),
        limit: refusal.limit,
        status: answer.status,
        body: answer.body.clone(),
        retry_after_seconds: refusal.retry_after_seconds(),
        headers,
    }))
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ending.whole {
            match self.meter.expired().map(Exchange::expiry) {
                Some((flag, details)) => self.cut(flag, details),
                // The caller went away before it had the whole answer.
                None => self.cut(Flag::DownstreamConnectionTermination, "downstream_remote_disconnect"),
            }
        }
        let connection = self.connection.clone();
        connection.worker.telemetry.counters().requests.down();
        connection.worker.telemetry.record(self);
        connection.stream_ended(self.place);
    }
}
