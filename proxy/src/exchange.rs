//! A request's story: what was decided for it, where it went, how it ended.
//!
//! An [`Exchange`] decides and remembers, synchronously; [`crate::forward`] does what it says. Its
//! record is written once, when it is dropped, so however a request ends (answered, refused, the caller
//! gone, a panic) there is exactly one.

use crate::body::{Expiry, Meter};
use crate::connection::Connection;
use crate::head::{self, Found};
use crate::live::{EndpointId, InFlight, LiveCluster};
use crate::rejection::Rejection;
use crate::table::{CompiledAction, CompiledForward, LiveRoute, LiveTarget};
use crate::telemetry::flags::{Flag, Flags};
use crate::telemetry::trace::TraceContext;
use crate::worker::{LocalTable, WorkerEndpoint};
use http::request;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use smallvec::SmallVec;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weft_policy::cors;
use weft_policy::route::Head;

/// Endpoints that one request may be offered to, when it is certain that none before began on it.
/// Istio's default: two retries.
const MAX_ATTEMPTS: usize = 3;

/// One request, from its head to the end of its answer.
pub(crate) struct Exchange {
    pub(crate) connection: Rc<Connection>,
    pub(crate) meter: Rc<Meter>,
    place: usize,
    pub(crate) began: Instant,
    table: Option<Rc<LocalTable>>,
    route: usize,
    backend: usize,
    pub(crate) grant: Option<cors::Grant>,
    pub(crate) http2: bool,
    pub(crate) found: Found,
    pub(crate) attempt: Option<Attempt>,
    tried: SmallVec<[EndpointId; MAX_ATTEMPTS]>,
    pub(crate) facts: Option<Box<Facts>>,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) ending: Ending,
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

/// One try at one endpoint.
pub(crate) struct Attempt {
    pub(crate) host: Rc<WorkerEndpoint>,
    pub(crate) cluster: Arc<LiveCluster>,
    pub(crate) began: Instant,
    _in_flight: InFlight,
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

/// What follows from a failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    TryAnother,
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
            table: None,
            route: 0,
            backend: 0,
            grant: None,
            http2: parts.version == Version::HTTP_2,
            found: Found::in_headers(&parts.headers),
            attempt: None,
            tried: SmallVec::new(),
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
        self.act(&wanted)
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
        let cluster = self.cluster()?;
        let endpoint = cluster
            .pick(&mut worker.dice.borrow_mut(), &self.tried)
            .ok_or_else(|| Rejection::NoHealthyUpstream(cluster.spec.name.clone()))?;
        let host = worker.endpoint(cluster, endpoint);
        let cluster = cluster.clone();
        // The first try begins with the request, near enough: that spares reading the clock.
        let now = if self.tried.is_empty() { self.began } else { Instant::now() };
        self.attempt_at(&host, cluster, now);
        Ok(host)
    }

    /// Begins a try at this endpoint.
    pub(crate) fn attempt_at(&mut self, host: &Rc<WorkerEndpoint>, cluster: Arc<LiveCluster>, now: Instant) {
        self.tried.push(host.endpoint.id);
        self.attempt =
            Some(Attempt { host: host.clone(), cluster, began: now, _in_flight: InFlight::at(&host.endpoint) });
    }

    /// A try failed: what now?
    pub(crate) fn settle(&mut self, failure: Failure) -> Verdict {
        if failure.unsent && self.tried.len() < MAX_ATTEMPTS && !self.meter.broken.get() {
            return Verdict::TryAnother;
        }
        Verdict::GiveUp(failure.rejection)
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
