//! A request's story: what was decided for it, where it went, how it ended.
//!
//! An [`Exchange`] decides and remembers, synchronously; [`crate::forward`] does what it says. Its
//! record is written once, when it is dropped, so however a request ends (answered, refused, the caller
//! gone, a panic) there is exactly one.

mod tries;

pub(crate) use tries::{Failure, Verdict};

use crate::attempt::Attempt;
use crate::body::{Expiry, Meter};
use crate::connection::Connection;
use crate::head::{self, Found};
use crate::live::LiveCluster;
use crate::plan::Plan;
use crate::rejection::{RateLimited, Rejection};
use crate::table::{CompiledAction, CompiledForward, LiveRoute, LiveTarget, UnderFault};
use crate::telemetry::flags::{Flag, Flags};
use crate::telemetry::trace::TraceContext;
use crate::worker::LocalTable;
use http::request;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use smallvec::SmallVec;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weft_model::breaker::Priority;
use weft_model::fault::AbortWith;
use weft_policy::bucket::Remaining;
use weft_policy::edits::Edits;
use weft_policy::fault::Injected;
use weft_policy::limit::{self, Limiter};
use weft_policy::redirect::Redirection;
use weft_policy::route::Head;
use weft_policy::{cors, limit::Decision as Limited};

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
                let backend = forward
                    .pick(&mut self.connection.worker.dice.borrow_mut())
                    .ok_or_else(|| Rejection::InvalidBackend("no backend of the route has a weight above 0".into()))?;
                if let Some(redirect) = forward.redirect_for(backend) {
                    return self.redirect(redirect, &forward.backends[backend].response_edits, wanted);
                }
                self.backend = backend;
                Ok(Decision::Forward)
            }
            CompiledAction::Redirect(redirect) => self.redirect(redirect, &Edits::default(), wanted),
            CompiledAction::Respond(respond) => {
                let status = http::StatusCode::from_u16(respond.status);
                let status = status.map_err(|_| Rejection::InvalidBackend(format!("status {}", respond.status)))?;
                let (headers, body) = (HeaderMap::new(), respond.body.clone());
                Ok(Decision::Answer { status, headers, body, details: "direct_response" })
            }
        }
    }

    /// Sends the caller elsewhere. The edits of a backend come before those of the route, as on an answer of its own.
    fn redirect(&self, to: &Redirection, of_backend: &Edits, wanted: &Head<'_>) -> Result<Decision, Rejection> {
        let location = to.location(&weft_policy::redirect::Request {
            scheme: self.connection.scheme(),
            host: wanted.host,
            listener_port: self.connection.listener.spec.address.port(),
            path: wanted.path,
            query: wanted.query,
        });
        let location = HeaderValue::try_from(location)
            .map_err(|_| Rejection::BadRequest("the path cannot be part of a redirect's location"))?;
        let mut headers = HeaderMap::from_iter([(http::header::LOCATION, location)]);
        of_backend.apply(&mut headers);
        Ok(Decision::Answer { status: to.status(), headers, body: String::new(), details: "direct_response" })
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

    /// The cluster that the picked backend means.
    pub(crate) fn cluster(&self) -> Result<&Arc<LiveCluster>, Rejection> {
        let (route, _, backend) = self.forwarding().ok_or(Rejection::NoRoute)?;
        match &route.targets[backend] {
            LiveTarget::Cluster(cluster) => Ok(cluster),
            LiveTarget::Missing(name) => Err(Rejection::NoCluster(name.clone())),
            LiveTarget::Invalid(reason) => Err(Rejection::InvalidBackend(reason.clone())),
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
