//! One of everything that the wire can say.

mod resilience;

use std::net::SocketAddr;
use std::time::Duration;
use weft_model::cluster::{Balancer, Cluster, Discovery, Protocol, Service};
use weft_model::endpoint::{Endpoint, Endpoints, Health, Workload};
use weft_model::listener::{
    ApplicationProtocol, Binding, ChainMatch, ClientValidation, Direction, FilterChain, Handler, HttpHandler, Listener,
    TcpHandler, TlsTermination,
};
use weft_model::route::{
    Action, Backend, Cors, Forward, HeaderEdits, HeaderMatch, Mirror, OriginMatch, PathMatch, PathRewrite, QueryMatch,
    Redirect, Respond, Rewrite, Route, RouteMatch, RouteTable, Share, StringMatch, Target, UrlChange, VirtualHost,
};
use weft_model::{Origin, Resource, Secret};
use weft_testkit::tls::Certificate;

const ORDER: &str = "outbound|8080||order.default.svc.cluster.local";
const SECRET: &str = "kubernetes://default/cert";

pub(crate) struct Backends {
    pub(crate) order: SocketAddr,
    pub(crate) certificate: Certificate,
    /// Whose signature of callers is believed, PEM.
    pub(crate) authorities: String,
}

pub(crate) fn everything(backends: &Backends) -> Vec<Resource> {
    let mut resources = clusters(backends.order);
    resources.extend(resilience::clusters(SocketAddr::new(backends.order.ip(), 1)));
    resources.extend(listeners(&backends.authorities).into_iter().map(Resource::Listener));
    resources.push(Resource::Secret(Secret {
        name: SECRET.into(),
        certificate_chain: backends.certificate.chain_pem.clone(),
        private_key: backends.certificate.key_pem.clone(),
    }));
    resources.push(hosts("edge", vec![("all", vec!["*"], edge_routes())]));
    let order = route("order", PathMatch::Any, to(ORDER));
    resources
        .push(hosts("out", vec![("order", vec!["order:8080", "order"], vec![order]), ("rest", vec!["*"], through())]));
    resources
}

/// A table with one route, for these domains.
pub(crate) fn table(name: &str, domains: &[&str], action: Action) -> Resource {
    hosts(name, vec![("all", domains.to_vec(), vec![route("all", PathMatch::Any, action)])])
}

fn hosts(name: &str, hosts: Vec<(&str, Vec<&str>, Vec<Route>)>) -> Resource {
    let host = |(name, domains, routes): (&str, Vec<&str>, Vec<Route>)| VirtualHost {
        name: name.into(),
        domains: domains.into_iter().map(String::from).collect(),
        routes,
    };
    Resource::RouteTable(RouteTable { name: name.into(), virtual_hosts: hosts.into_iter().map(host).collect() })
}

fn clusters(order: SocketAddr) -> Vec<Resource> {
    let mut by_eds = Cluster::new(ORDER);
    by_eds.service =
        Service { host: "order.default.svc.cluster.local".into(), name: "order".into(), namespace: "default".into() };
    by_eds.origin = Origin { place: "order.yaml:1".into(), object: "Service default/order".into() };
    let mut fixed = Cluster::new("fixed");
    fixed.discovery = Discovery::Static(vec![endpoint(order, Health::Healthy)]);
    fixed.balancer = Balancer::RoundRobin;
    let mut http2 = Cluster::new("http2");
    http2.discovery = Discovery::Static(vec![]);
    http2.protocol = Protocol::Http2;
    let mut named = Cluster::new("named");
    named.discovery = Discovery::Dns { host: "localhost".into(), port: order.port() };
    named.balancer = Balancer::Random;
    named.protocol = Protocol::Downstream;
    named.pool.max_requests_per_connection = Some(100);
    named.pool.idle_timeout = None;
    let mut forward = Cluster::new("PassthroughCluster");
    forward.discovery = Discovery::Forward;
    forward.protocol = Protocol::Downstream;
    let mut redirected = Cluster::new("InboundPassthroughCluster");
    redirected.discovery = Discovery::OriginalDestination;
    redirected.bind_source = vec![[127, 0, 0, 6].into(), std::net::Ipv6Addr::from(6).into()];
    let nowhere = SocketAddr::new(order.ip(), 1);
    let members = vec![
        endpoint(order, Health::Healthy),
        endpoint(nowhere, Health::Draining),
        endpoint(SocketAddr::new(order.ip(), 2), Health::Unhealthy),
    ];
    let endpoints =
        Resource::Endpoints(Endpoints { cluster: ORDER.into(), endpoints: members, ..Endpoints::default() });
    [by_eds, fixed, http2, named, forward, redirected].into_iter().map(Resource::Cluster).chain([endpoints]).collect()
}

fn endpoint(address: SocketAddr, health: Health) -> Endpoint {
    let workload =
        Workload { name: "order".into(), namespace: "default".into(), app: "order".into(), version: "v1".into() };
    Endpoint { health, workload, ..Endpoint::at(address) }
}

fn listeners(authorities: &str) -> Vec<Listener> {
    let tls = |secrets: &[&str]| {
        let secrets = secrets.iter().map(|name| name.to_string()).collect();
        Some(TlsTermination { secrets, alpn: vec!["h2".into(), "http/1.1".into()], clients: None })
    };
    let asking = |required| {
        let clients = Some(ClientValidation { authorities: authorities.to_owned(), required });
        tls(&[SECRET]).map(|tls| TlsTermination { clients, ..tls })
    };
    let names = |name: &str| ChainMatch { server_names: vec![name.into()], ..Default::default() };
    let by_http = ChainMatch { application: Some(ApplicationProtocol::Http), ..Default::default() };
    let http = |table: &str| Handler::Http(HttpHandler::new(table));
    let proxy = HttpHandler { upgrades: vec!["websocket".into(), "CONNECT".into()], ..HttpHandler::new("out") };
    let tcp = Handler::Tcp(TcpHandler::to(ORDER, None));
    let edge = Handler::Http(HttpHandler { edge: true, ..HttpHandler::new("edge") });
    let any = ChainMatch::default;
    vec![
        listener("edge", Direction::Edge, vec![chain("http", any(), None, edge)]),
        listener(
            "tls",
            Direction::Edge,
            vec![
                chain("exact", names("shop.example"), tls(&[SECRET]), http("edge")),
                chain("wildcard", names("*.shop.example"), tls(&[SECRET]), http("edge")),
                chain("known", names("known.shop.example"), asking(true), http("edge")),
                chain("anybody", names("anybody.shop.example"), asking(false), http("edge")),
            ],
        ),
        listener("out", Direction::Outbound, vec![chain("http", any(), None, Handler::Http(proxy))]),
        listener(
            "in",
            Direction::Inbound,
            vec![chain("http", by_http, None, http("edge")), chain("tcp", any(), None, tcp.clone())],
        ),
        bound(
            Binding::OriginalDestination,
            listener("virtual", Direction::Outbound, vec![chain("", any(), None, tcp.clone())]),
        ),
        Listener {
            // an address of its own: to Envoy one without a socket has its address all the same
            address: "10.96.0.7:80".parse().unwrap(),
            ..bound(Binding::Handed, listener("handed", Direction::Outbound, vec![chain("", any(), None, tcp)]))
        },
    ]
}

fn listener(name: &str, direction: Direction, chains: Vec<FilterChain>) -> Listener {
    Listener {
        name: name.into(),
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        binding: Binding::Socket,
        direction,
        chains,
        detect_timeout: Some(Duration::from_secs(1)),
    }
}

fn bound(binding: Binding, listener: Listener) -> Listener {
    Listener { binding, ..listener }
}

fn chain(name: &str, matches: ChainMatch, tls: Option<TlsTermination>, handler: Handler) -> FilterChain {
    FilterChain { name: name.into(), matches, tls, handler }
}

fn edge_routes() -> Vec<Route> {
    let order = || to(ORDER);
    let elements = |path: &str| PathMatch::PathPrefix(path.into());
    let prefix = |path: &str| PathRewrite::Prefix(path.into());
    let invalid = || backend(Target::Invalid { reason: "Service default/nope is missing".into() }, 1);
    let regex = PathRewrite::Regex { pattern: "/r/([a-z]+)/x".into(), substitution: r"/\1".into() };
    let edited = HeaderEdits { set: vec![("x-backend".into(), "1".into())], ..Default::default() };
    let valid = Backend { request_headers: edited, ..backend(Target::Cluster(ORDER.into()), 9) };
    let own_url = |url| Backend { url, ..backend(Target::Cluster(ORDER.into()), 1) };
    let own_host = Rewrite { host: Some("own.example".into()), path: None };
    let away = Redirect { status: 302, ..Default::default() };
    let mut routes = vec![
        route("exact", PathMatch::Exact("/exact".into()), rewritten(PathRewrite::Full("/full".into()))),
        route("by-elements", elements("/orders"), rewritten(prefix("/"))),
        route("by-elements-too", elements("/foo"), rewritten(prefix("/bar"))),
        route("by-characters", PathMatch::Prefix("/chars".into()), rewritten(prefix("/c"))),
        route("by-expression", PathMatch::Regex("/r/[a-z]+/x".into()), rewritten(regex)),
        route("mixture", elements("/mix"), split(vec![valid, invalid()])),
        route("own-url", elements("/own"), split(vec![own_url(UrlChange::rewrite(own_host))])),
        route("moving", elements("/moving"), split(vec![own_url(UrlChange::redirect(away))])),
        route("invalid", elements("/invalid"), split(vec![invalid()])),
        route("nobody", elements("/nobody"), split(vec![])),
        route("zero", elements("/zero"), split(vec![backend(Target::Cluster(ORDER.into()), 0)])),
        route("absent", elements("/absent"), to("not there")),
        route("teapot", elements("/teapot"), Action::Respond(Respond { status: 418, body: "a".repeat(5000) })),
        route("limits", elements("/limits"), limited()),
    ];
    routes.extend(redirects());
    routes.extend(resilience::routes());
    routes.push(Route { cors: Some(cors()), ..route("cors", elements("/cors"), order()) });
    routes.push(fussy());
    routes.push(route("rest", PathMatch::Any, rewritten(prefix("/base"))));
    routes
}

fn redirects() -> [Route; 2] {
    let moved = Redirect {
        scheme: Some("https".into()),
        host: Some("shop.example".into()),
        path: Some(PathRewrite::Prefix("/new".into())),
        status: 308,
        port: None,
    };
    let full = PathRewrite::Full("/elsewhere".into());
    let other = Redirect { path: Some(full), status: 303, port: Some(9443), ..Default::default() };
    [("/old", moved), ("/rfull", other)]
        .map(|(path, redirect)| route("moved", PathMatch::PathPrefix(path.into()), Action::Redirect(redirect)))
}

fn limited() -> Action {
    let mirror = |target, share| Mirror { target, share };
    let half = Share::ratio(1, 2).expect("one half is a share");
    Action::Forward(Forward {
        backends: vec![backend(Target::Cluster("named".into()), 1)],
        rewrite: Rewrite { host: Some("elsewhere".into()), path: None },
        request_timeout: Some(Duration::from_secs(20)),
        backend_timeout: Some(Duration::from_secs(10)),
        mirrors: vec![
            mirror(Target::Cluster("http2".into()), half),
            mirror(Target::Invalid { reason: "no such Service".into() }, Share::ALL),
        ],
        ..Forward::default()
    })
}

fn cors() -> Cors {
    Cors {
        allow_origins: vec![
            OriginMatch::pattern("https://*.shop.example"),
            OriginMatch::Prefix("https://partner.".into()),
            OriginMatch::Regex(r"https://pr-[0-9]+\.example".into()),
        ],
        allow_methods: vec!["GET".into(), "PUT".into()],
        allow_headers: vec!["x-a".into()],
        expose_headers: vec!["x-b".into()],
        allow_credentials: true,
        max_age: Some(Duration::from_secs(60)),
    }
}

/// Fits only what fits all of its parts.
fn fussy() -> Route {
    let said = Action::Respond(Respond { status: 200, body: "fussy".into() });
    let mut route = route("fussy", PathMatch::PathPrefix("/fussy".into()), said);
    route.matches.methods = vec!["GET".into(), "POST".into()];
    route.matches.headers = vec![
        HeaderMatch { name: "x-no".into(), value: StringMatch::Exact("no".into()), invert: true },
        HeaderMatch { name: "x-yes".into(), value: StringMatch::Present, invert: false },
    ];
    route.matches.query = vec![QueryMatch { name: "q".into(), value: StringMatch::Regex("[0-9]+".into()) }];
    route
}

/// A sidecar's way out: whatever the caller names.
fn through() -> Vec<Route> {
    let mut connect = route("connect", PathMatch::Any, to("PassthroughCluster"));
    connect.matches.methods = vec!["CONNECT".into()];
    vec![connect, route("through", PathMatch::Any, to("PassthroughCluster"))]
}

fn route(name: &str, path: PathMatch, action: Action) -> Route {
    let header = |name: &str, value: &str| (name.to_string(), value.to_string());
    Route {
        matches: RouteMatch { path, methods: vec![], headers: vec![], query: vec![] },
        request_headers: HeaderEdits {
            set: vec![header("x-set", "100%"), header("x-empty", "")],
            add: vec![header("x-add", "1")],
            remove: vec!["x-gone".into()],
        },
        response_headers: HeaderEdits { set: vec![header("x-route", name)], ..Default::default() },
        origin: Origin { place: "routes.yaml:1".into(), object: "HTTPRoute default/all".into() },
        ..Route::all(name, action)
    }
}

fn to(cluster: &str) -> Action {
    split(vec![backend(Target::Cluster(cluster.into()), 1)])
}

fn split(backends: Vec<Backend>) -> Action {
    Action::Forward(Forward { backends, ..Default::default() })
}

fn rewritten(path: PathRewrite) -> Action {
    Action::Forward(Forward {
        backends: vec![backend(Target::Cluster(ORDER.into()), 1)],
        rewrite: Rewrite { host: None, path: Some(path) },
        ..Default::default()
    })
}

fn backend(target: Target, weight: u32) -> Backend {
    Backend::new(target, weight)
}
