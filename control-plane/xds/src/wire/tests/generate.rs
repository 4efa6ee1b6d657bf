//! Resources in normal form.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use weft_model::cluster::{Balancer, Cluster, Discovery, Pool, Protocol, Service};
use weft_model::endpoint::{Endpoint, Endpoints, Health, Workload};
use weft_model::listener::*;
use weft_model::node::{Node, Role};
use weft_model::route::*;
use weft_model::{Origin, Resource, Secret};

pub(super) fn resource() -> impl Strategy<Value = Resource> {
    prop_oneof![
        3 => listener().boxed().prop_map(Resource::Listener),
        6 => table().boxed().prop_map(Resource::RouteTable),
        3 => cluster().boxed().prop_map(Resource::Cluster),
        1 => (name(), vec(endpoint().boxed(), 0..4))
            .prop_map(|(cluster, endpoints)| Resource::Endpoints(Endpoints { cluster, endpoints, ..Endpoints::default() })),
        1 => (name(), text(), text()).prop_map(|(name, certificate_chain, private_key)| {
            Resource::Secret(Secret { name, certificate_chain, private_key })
        }),
    ]
}

pub(super) fn node() -> impl Strategy<Value = Node> {
    let labels = proptest::collection::btree_map(name(), text(), 0..4);
    (any::<bool>(), any::<IpAddr>(), word(), word(), word(), labels, of(any::<IpAddr>())).prop_map(
        |(sidecar, address, pod, namespace, workload, labels, app_address)| Node {
            role: if sidecar { Role::Sidecar } else { Role::Gateway },
            address,
            pod: format!("{pod}.{pod}"),
            namespace,
            workload,
            labels,
            app_address,
            locality: Default::default(),
        },
    )
}

fn word() -> impl Strategy<Value = String> {
    "[a-z0-9-]{1,8}"
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![word(), "[ -~]{1,24}", "\\PC{1,6}"]
}

/// Any text, and often one that means something to Envoy.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![word(), "[ -~]{0,24}", "[%\\\\/.*|^$a]{0,8}", "\\PC{0,6}"]
}

fn time() -> impl Strategy<Value = Duration> {
    (0..100_000_u64, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos.max(1)))
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![Just(Origin::default()), (text(), text()).prop_map(|(place, object)| Origin { place, object })]
}

fn listener() -> impl Strategy<Value = Listener> {
    let direction = prop_oneof![Just(Direction::Inbound), Just(Direction::Outbound), Just(Direction::Edge)];
    (name(), any::<SocketAddr>().prop_map(plain), direction, vec(chain().boxed(), 0..3), of(time())).prop_map(
        |(name, address, direction, chains, detect_timeout)| Listener {
            name,
            address,
            direction,
            chains,
            detect_timeout,
        },
    )
}

/// Scope and flow of IPv6 do not travel.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

fn chain() -> impl Strategy<Value = FilterChain> {
    let application = prop_oneof![Just(None), Just(Some(ApplicationProtocol::Http))];
    let matches = (vec(word(), 0..3), any::<Option<bool>>(), application)
        .prop_map(|(server_names, tls, application)| ChainMatch { server_names, tls, application });
    let tls = (vec(name(), 0..3), vec(word(), 0..3)).prop_map(|(secrets, alpn)| TlsTermination { secrets, alpn });
    let tcp = (name(), of(time())).prop_map(|(cluster, idle_timeout)| TcpHandler { cluster, idle_timeout });
    let handler = prop_oneof![tcp.prop_map(Handler::Tcp), http().boxed().prop_map(Handler::Http)];
    (text(), matches, of(tls), handler).prop_map(|(name, matches, tls, handler)| FilterChain {
        name,
        matches,
        tls,
        handler,
    })
}

fn http() -> impl Strategy<Value = HttpHandler> {
    let codec = prop_oneof![Just(Codec::Auto), Just(Codec::Http1), Just(Codec::Http2)];
    let limits = (of(time()), of(time()), of(time()), 1..8192_u32, 1..=u32::MAX);
    (name(), codec, any::<bool>(), any::<u32>(), limits, vec(word(), 0..3)).prop_map(
        |(route_table, codec, edge, trusted_hops, limits, upgrades)| HttpHandler {
            route_table,
            codec,
            edge,
            trusted_hops,
            idle_timeout: limits.0,
            request_headers_timeout: limits.1,
            stream_idle_timeout: limits.2,
            max_request_head_bytes: limits.3 * 1024,
            max_request_headers: limits.4,
            upgrades,
        },
    )
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let discovery = prop_oneof![
        Just(Discovery::Eds),
        vec(endpoint().boxed(), 0..3).prop_map(Discovery::Static),
        (text(), any::<u16>()).prop_map(|(host, port)| Discovery::Dns { host, port }),
        Just(Discovery::Forward),
    ];
    let balancer = prop_oneof![
        Just(Balancer::RoundRobin),
        Just(Balancer::Random),
        (2..=u32::MAX).prop_map(|choices| Balancer::LeastRequest { choices, bias: 1.0 }),
    ];
    let protocol = prop_oneof![Just(Protocol::Http1), Just(Protocol::Http2), Just(Protocol::Downstream)];
    let pool = (of(1..=u32::MAX), of(time())).prop_map(|(max_requests_per_connection, idle_timeout)| Pool {
        max_requests_per_connection,
        idle_timeout,
        ..Pool::default()
    });
    let service = (text(), text(), text()).prop_map(|(host, name, namespace)| Service { host, name, namespace });
    (name(), discovery, balancer, protocol, time(), pool, service, origin()).prop_map(
        |(name, discovery, balancer, protocol, connect_timeout, pool, service, origin)| Cluster {
            name,
            balancing: Default::default(),
            breakers: Default::default(),
            outlier: None,
            health_checks: Vec::new(),
            balancer: if discovery == Discovery::Forward { Balancer::default() } else { balancer },
            discovery,
            protocol,
            connect_timeout,
            pool,
            service,
            origin,
        },
    )
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let health = prop_oneof![Just(Health::Healthy), Just(Health::Draining), Just(Health::Unhealthy)];
    let part = || "[a-z0-9.]{0,6}";
    let workload = (part(), part(), part(), part()).prop_map(|(name, namespace, app, version)| Workload {
        name,
        namespace,
        app,
        version,
    });
    (any::<SocketAddr>().prop_map(plain), health, 1..=u32::MAX, workload)
        .prop_map(|(address, health, weight, workload)| Endpoint { health, weight, workload, ..Endpoint::at(address) })
}

fn table() -> impl Strategy<Value = RouteTable> {
    let domain = prop_oneof![Just("*".to_string()), word(), "\\*\\.[a-z]{1,5}", "[a-z]{1,5}:[0-9]{2,4}"];
    let host = (name(), vec(domain, 0..3), vec(route().boxed(), 0..3))
        .prop_map(|(name, domains, routes)| VirtualHost { name, domains, routes });
    (name(), vec(host, 0..3)).prop_map(|(name, virtual_hosts)| RouteTable { name, virtual_hosts })
}

fn route() -> impl Strategy<Value = Route> {
    let cors = (vec(allowed_origin(), 0..3), names(), names(), names(), any::<bool>(), of(0..u64::MAX)).prop_map(
        |(allow_origins, allow_methods, allow_headers, expose_headers, allow_credentials, max_age)| Cors {
            allow_origins,
            allow_methods,
            allow_headers,
            expose_headers,
            allow_credentials,
            max_age: max_age.map(Duration::from_secs),
        },
    );
    (
        text(),
        matches().boxed().prop_flat_map(|matches| (action(matches.path.clone()).boxed(), Just(matches))),
        edits().boxed(),
        edits().boxed(),
        of(cors),
        origin(),
    )
        .prop_map(|(name, (action, matches), request_headers, response_headers, cors, origin)| Route {
            name,
            matches,
            action,
            request_headers,
            response_headers,
            cors,
            fault: None,
            rate_limits: Vec::new(),
            origin,
        })
}

fn allowed_origin() -> impl Strategy<Value = String> {
    prop_oneof![Just("*".to_string()), "https://\\*\\.[a-z]{1,5}\\.(com|example:8443)", "https?://[a-z.+]{1,8}"]
}

fn names() -> impl Strategy<Value = Vec<String>> {
    vec("[A-Za-z*-]{1,6}", 0..3)
}

fn matches() -> impl Strategy<Value = RouteMatch> {
    let path = prop_oneof![
        Just(PathMatch::Any),
        text().prop_map(PathMatch::Exact),
        "/[a-z.*]{1,4}(/[a-z]{1,3})?".prop_map(PathMatch::PathPrefix),
        "/[a-z.]{1,4}/?".prop_map(PathMatch::Prefix),
        text().prop_map(PathMatch::Regex),
    ];
    let method = prop_oneof![Just("GET".to_string()), Just("CONNECT".to_string()), "[A-Z|*.^-]{1,5}"];
    let header =
        ("[a-z-]{1,6}", value(), any::<bool>()).prop_map(|(name, value, invert)| HeaderMatch { name, value, invert });
    let query = (text(), value()).prop_map(|(name, value)| QueryMatch { name, value });
    (path, vec(method, 0..4), vec(header, 0..3), vec(query, 0..3))
        .prop_map(|(path, methods, headers, query)| RouteMatch { path, methods, headers, query })
}

fn value() -> impl Strategy<Value = StringMatch> {
    let some = || text().prop_filter("says something", |text| !text.is_empty());
    prop_oneof![
        text().prop_map(StringMatch::Exact),
        some().prop_map(StringMatch::Prefix),
        some().prop_map(StringMatch::Suffix),
        some().prop_map(StringMatch::Contains),
        text().prop_map(StringMatch::Regex),
        Just(StringMatch::Present),
    ]
}

fn action(path: PathMatch) -> impl Strategy<Value = Action> {
    let rewrite = of(path_rewrite(path.clone()));
    let forward = (
        vec(backend().boxed(), 0..4),
        of(word()),
        rewrite,
        of(time()),
        of(time()),
        vec((target(), 0..=1_000_000_u32), 0..3),
    )
        .prop_map(|(backends, host, path, request_timeout, backend_timeout, mirrors)| {
            let mirror = |(target, share)| Mirror {
                target,
                share: Share::ratio(share, 1_000_000).expect("generated under a million"),
            };
            Action::Forward(Forward {
                backends,
                rewrite: Rewrite { host, path },
                request_timeout,
                backend_timeout,
                mirrors: mirrors.into_iter().map(mirror).collect(),
                ..Forward::default()
            })
        });
    let status = prop_oneof![Just(301), Just(302), Just(303), Just(307), Just(308)];
    let redirect = (of(word()), of(word()), of(1..=u16::MAX), of(path_rewrite(path)), status)
        .prop_map(|(scheme, host, port, path, status)| Action::Redirect(Redirect { scheme, host, port, path, status }));
    let respond = (100..600_u16, prop_oneof![text(), "a{4000,5000}"])
        .prop_map(|(status, body)| Action::Respond(Respond { status, body }));
    prop_oneof![4 => forward.boxed(), 2 => redirect.boxed(), 1 => respond]
}

/// What suits the match, in normal form.
fn path_rewrite(path: PathMatch) -> BoxedStrategy<PathRewrite> {
    let full = text().prop_map(PathRewrite::Full);
    let regex = (text(), text()).prop_map(|(pattern, substitution)| PathRewrite::Regex { pattern, substitution });
    let others = prop_oneof![full, regex];
    match path {
        PathMatch::Regex(_) => others.boxed(),
        PathMatch::Any | PathMatch::PathPrefix(_) => {
            prop_oneof![others, "/|(/[a-z]{1,3}){1,2}".prop_map(PathRewrite::Prefix)].boxed()
        }
        PathMatch::Exact(_) | PathMatch::Prefix(_) => {
            prop_oneof![others, "/[a-z/]{0,3}".prop_map(PathRewrite::Prefix)].boxed()
        }
    }
}

fn backend() -> impl Strategy<Value = Backend> {
    let weight = prop_oneof![Just(0), Just(1), 0..1_000_000_u32];
    let edits = || prop_oneof![3 => Just(HeaderEdits::default()), 1 => edits().boxed()];
    (target(), weight, edits().boxed(), edits().boxed()).prop_map(
        |(target, weight, request_headers, response_headers)| Backend {
            target,
            weight,
            request_headers,
            response_headers,
        },
    )
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![name().prop_map(Target::Cluster), text().prop_map(|reason| Target::Invalid { reason })]
}

fn edits() -> impl Strategy<Value = HeaderEdits> {
    let header = || ("[a-z-]{1,6}", text());
    (vec(header(), 0..3), vec(header(), 0..3), vec("[a-z-]{1,6}", 0..2)).prop_map(|(set, add, remove)| HeaderEdits {
        set,
        add,
        remove,
    })
}
