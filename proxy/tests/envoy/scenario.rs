//! A scenario as a value: one policy, upstreams that follow a script, requests, and what is looked at.
//!
//! Whatever differs between two runs on the same proxy (which of two equal hosts is first, how two requests race) is taken
//! out by [`View`], so that what is left must be the same on every proxy, every time.

mod words;

pub(crate) use words::{answer, get, get_inside, grpc, grpc_status, held, never, ok, reset, stalled, status};

use std::time::Duration;
use weft_model::Cluster;
use weft_model::balancer::{Balancer, HashPolicy, HashSource};
use weft_model::breaker::Thresholds;
use weft_model::endpoint::Health;
use weft_model::outlier::OutlierDetection;
use weft_model::retry::{Backoff, RetryOn, RetryPolicy};
use weft_model::route::{Action, Backend, Forward, Route, Target};
use weft_testkit::{Act, Answer};

/// Stands for the scenario's own cluster.
pub(crate) const OWN: &str = "";

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) hosts: Vec<Host>,
    /// What the requests meet in the order in which they come to any host; empty: each host has its own script.
    pub(crate) script: Vec<Play>,
    pub(crate) cluster: Cluster,
    /// Under the scenario's path.
    pub(crate) routes: Vec<(&'static str, Route)>,
    pub(crate) steps: Vec<Step>,
    pub(crate) view: View,
    /// Nothing else runs at the same time.
    pub(crate) alone: bool,
    /// What Envoy does; `None`: whatever it is, ours does the same.
    pub(crate) expected: Option<&'static str>,
    pub(crate) differs: Option<Difference>,
}

/// Where ours does something else on purpose.
pub(crate) struct Difference {
    pub(crate) why: &'static str,
    pub(crate) ours: &'static str,
}

pub(crate) struct Host {
    pub(crate) kind: HostKind,
    /// The last one is repeated.
    pub(crate) script: Vec<Play>,
    pub(crate) health: Health,
    pub(crate) priority: u32,
    pub(crate) weight: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostKind {
    Serving,
    /// Refuses connections.
    Absent,
    /// Connections to it are never made.
    Deaf,
    /// HTTP/2: the first stream of all is refused (`REFUSED_STREAM`), the others are answered 200.
    Refusing,
    /// Answers with what is no HTTP.
    Babbling,
}

/// What a host does with one request.
#[derive(Clone)]
pub(crate) enum Play {
    Act(Act),
    /// Answers when [`Step::Open`] comes.
    Held(Answer),
    /// Answers the head and a part of the body, and resets when [`Step::Open`] comes.
    Torn,
}

#[derive(Clone)]
pub(crate) enum Step {
    Send(Call),
    /// At the same time; goes on at once.
    Start(Vec<Call>),
    /// Waits until hosts have seen so many requests.
    Arrived(usize),
    /// Waits until callers have got the heads of so many of the started's answers.
    Begun(usize),
    /// Waits until so many of the started are answered.
    Answered(usize),
    /// Held requests are answered, now and from now on.
    Open,
    /// Sends it until the answer is this, and counts none of what came before.
    Until(Call, &'static str),
    /// Waits until so many hosts are ejected.
    Ejected(usize),
    /// Goes on sending this until so many hosts are ejected, and counts none of it.
    UntilEjected(Call, usize),
}

/// One request.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) route: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) query: String,
    pub(crate) body: &'static str,
    pub(crate) http2: bool,
}

/// What is looked at besides status, flags, who answered and how many requests each host saw.
#[derive(Default)]
pub(crate) struct View {
    /// Which host it was is left out.
    pub(crate) anonymous: bool,
    /// So is the order of the answers.
    pub(crate) unordered: bool,
    /// So is how many requests each saw; whether it saw any is not.
    pub(crate) uncounted: bool,
    pub(crate) details: bool,
    pub(crate) connections: bool,
    /// The body of each answer.
    pub(crate) body: bool,
    /// Response headers.
    pub(crate) headers: Vec<&'static str>,
    /// Request headers as the hosts saw them.
    pub(crate) sees: Vec<&'static str>,
}

pub(crate) fn scenario(name: &'static str) -> Scenario {
    let cluster = Cluster { balancer: Balancer::RoundRobin, ..Cluster::new(OWN) };
    Scenario {
        name,
        hosts: Vec::new(),
        script: Vec::new(),
        cluster,
        routes: vec![("", to(OWN))],
        steps: Vec::new(),
        view: View::default(),
        alone: false,
        expected: None,
        differs: None,
    }
}

/// A route to a cluster.
pub(crate) fn to(cluster: &str) -> Route {
    through(Target::Cluster(cluster.into()))
}

/// A route to one backend.
pub(crate) fn through(target: Target) -> Route {
    let backend = Backend::new(target, 1);
    Route::all("", Action::Forward(Forward { backends: vec![backend], ..Forward::default() }))
}

pub(crate) fn forward(route: &mut Route) -> &mut Forward {
    match &mut route.action {
        Action::Forward(forward) => forward,
        Action::Redirect(_) | Action::Respond(_) => panic!("this route forwards nothing"),
    }
}

impl Scenario {
    pub(crate) fn host(self, script: impl IntoIterator<Item = Play>) -> Self {
        self.host_with(script, |_| ())
    }

    pub(crate) fn host_with(mut self, script: impl IntoIterator<Item = Play>, edit: impl FnOnce(&mut Host)) -> Self {
        let script = script.into_iter().collect();
        let mut host = Host { kind: HostKind::Serving, script, health: Health::Healthy, priority: 0, weight: 1 };
        edit(&mut host);
        self.hosts.push(host);
        self
    }

    pub(crate) fn host_that_is(self, kind: HostKind) -> Self {
        self.host_with([ok()], |host| host.kind = kind)
    }

    /// So many hosts, that answer 200 unless [`Scenario::script`] says otherwise.
    pub(crate) fn equal_hosts(self, count: usize) -> Self {
        (0..count).fold(self, |scenario, _| scenario.host([ok()]))
    }

    pub(crate) fn script(mut self, script: impl IntoIterator<Item = Play>) -> Self {
        self.script = script.into_iter().collect();
        self
    }

    pub(crate) fn cluster(mut self, edit: impl FnOnce(&mut Cluster)) -> Self {
        edit(&mut self.cluster);
        self
    }

    pub(crate) fn limits(self, edit: impl FnOnce(&mut Thresholds)) -> Self {
        self.cluster(|cluster| edit(&mut cluster.breakers.default))
    }

    /// Envoy's defaults, and every host may be ejected, and there is no panic.
    pub(crate) fn outlier(self, edit: impl FnOnce(&mut OutlierDetection)) -> Self {
        self.cluster(|cluster| {
            let mut outlier = OutlierDetection { max_ejection_percent: 100, ..OutlierDetection::default() };
            edit(&mut outlier);
            cluster.outlier = Some(outlier);
            cluster.balancing.panic_threshold = 0;
        })
    }

    pub(crate) fn balancer(self, balancer: Balancer) -> Self {
        self.cluster(|cluster| cluster.balancer = balancer)
    }

    /// Changes the route that all scenarios have.
    pub(crate) fn route(mut self, edit: impl FnOnce(&mut Route)) -> Self {
        edit(&mut self.routes[0].1);
        self
    }

    pub(crate) fn forward(self, edit: impl FnOnce(&mut Forward)) -> Self {
        self.route(|route| edit(forward(route)))
    }

    /// One more route, under its own path.
    pub(crate) fn and_route(mut self, path: &'static str, route: Route) -> Self {
        self.routes.insert(0, (path, route));
        self
    }

    /// Retries without a long back-off.
    pub(crate) fn retry(self, on: RetryOn, edit: impl FnOnce(&mut RetryPolicy)) -> Self {
        let millisecond = Duration::from_millis(1);
        let backoff = Backoff { base: millisecond, max: millisecond };
        let mut policy = RetryPolicy { on, backoff, ..RetryPolicy::default() };
        edit(&mut policy);
        self.forward(|forward| forward.retry = Some(policy))
    }

    pub(crate) fn timeout(self, milliseconds: u64) -> Self {
        self.forward(|forward| forward.request_timeout = Some(Duration::from_millis(milliseconds)))
    }

    pub(crate) fn hashed_by(self, source: HashSource) -> Self {
        self.forward(|forward| forward.hash.push(HashPolicy { source, terminal: false }))
    }

    pub(crate) fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub(crate) fn send(self, call: Call) -> Self {
        self.step(Step::Send(call))
    }

    pub(crate) fn send_times(self, times: usize, call: Call) -> Self {
        (0..times).fold(self, |scenario, _| scenario.send(call.clone()))
    }

    pub(crate) fn start(self, times: usize, call: Call) -> Self {
        self.step(Step::Start(vec![call; times]))
    }

    pub(crate) fn arrived(self, requests: usize) -> Self {
        self.step(Step::Arrived(requests))
    }

    pub(crate) fn answered(self, requests: usize) -> Self {
        self.step(Step::Answered(requests))
    }

    pub(crate) fn begun(self, answers: usize) -> Self {
        self.step(Step::Begun(answers))
    }

    pub(crate) fn open(self) -> Self {
        self.step(Step::Open)
    }

    pub(crate) fn until(self, call: Call, answer: &'static str) -> Self {
        self.step(Step::Until(call, answer))
    }

    pub(crate) fn ejected(self, hosts: usize) -> Self {
        self.step(Step::Ejected(hosts))
    }

    pub(crate) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    pub(crate) fn until_ejected(self, hosts: usize) -> Self {
        self.step(Step::UntilEjected(get(), hosts))
    }

    pub(crate) fn anonymous(mut self) -> Self {
        self.view.anonymous = true;
        self
    }

    pub(crate) fn unordered(mut self) -> Self {
        self.view.unordered = true;
        self
    }

    pub(crate) fn uncounted(mut self) -> Self {
        self.view.uncounted = true;
        self
    }

    pub(crate) fn with_details(mut self) -> Self {
        self.view.details = true;
        self
    }

    pub(crate) fn with_body(mut self) -> Self {
        self.view.body = true;
        self
    }

    pub(crate) fn with_connections(mut self) -> Self {
        self.view.connections = true;
        self
    }

    pub(crate) fn with_headers(mut self, headers: impl IntoIterator<Item = &'static str>) -> Self {
        self.view.headers.extend(headers);
        self
    }

    pub(crate) fn sees(mut self, headers: impl IntoIterator<Item = &'static str>) -> Self {
        self.view.sees.extend(headers);
        self
    }

    /// What Envoy does, and ours.
    pub(crate) fn expect(mut self, outcome: &'static str) -> Self {
        self.expected = Some(outcome);
        self
    }

    /// Ours does this instead, on purpose.
    pub(crate) fn differs(mut self, why: &'static str, ours: &'static str) -> Self {
        self.differs = Some(Difference { why, ours });
        self
    }
}
