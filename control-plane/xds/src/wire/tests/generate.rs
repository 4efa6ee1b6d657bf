//! Resources in normal form.

mod cluster;
mod route;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use weft_model::listener::*;
use weft_model::node::{Node, Role};
use weft_model::{Origin, Resource, Secret};

pub(super) fn resource() -> impl Strategy<Value = Resource> {
    prop_oneof![
        3 => listener().boxed().prop_map(Resource::Listener),
        8 => route::table().boxed().prop_map(Resource::RouteTable),
        6 => cluster::cluster().boxed().prop_map(Resource::Cluster),
        2 => cluster::endpoints().boxed().prop_map(Resource::Endpoints),
        1 => (name(), text(), text()).prop_map(|(name, certificate_chain, private_key)| {
            Resource::Secret(Secret { name, certificate_chain, private_key })
        }),
    ]
}

pub(super) fn node() -> impl Strategy<Value = Node> {
    let labels = proptest::collection::btree_map(name(), text(), 0..4);
    let flags = (any::<bool>(), any::<bool>());
    (flags, any::<IpAddr>(), word(), word(), word(), labels, of(any::<IpAddr>()), cluster::locality()).prop_map(
        |((sidecar, interception), address, pod, namespace, workload, labels, app_address, locality)| Node {
            interception,
            role: if sidecar { Role::Sidecar } else { Role::Gateway },
            address,
            pod: format!("{pod}.{pod}"),
            namespace,
            workload,
            labels,
            app_address,
            locality,
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

/// Of a percentage, a factor: any that a double can be is too much to ask of arithmetic, but it must come back bit by bit.
fn real(range: std::ops::Range<f64>) -> impl Strategy<Value = f64> {
    prop_oneof![range.clone(), range.prop_map(f64::floor)]
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![Just(Origin::default()), (text(), text()).prop_map(|(place, object)| Origin { place, object })]
}

fn listener() -> impl Strategy<Value = Listener> {
    let direction = prop_oneof![Just(Direction::Inbound), Just(Direction::Outbound), Just(Direction::Edge)];
    let binding = prop_oneof![Just(Binding::Socket), Just(Binding::OriginalDestination), Just(Binding::Handed)];
    let at = (any::<SocketAddr>().prop_map(plain), binding);
    (name(), at, direction, vec(chain().boxed(), 0..3), of(time())).prop_map(
        |(name, (address, binding), direction, chains, detect_timeout)| Listener {
            name,
            address,
            binding,
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
    let clients =
        (name(), any::<bool>()).prop_map(|(authorities, required)| ClientValidation { authorities, required });
    let tls = (vec(name(), 0..3), vec(word(), 0..3), of(clients)).prop_map(|(secrets, alpn, clients)| TlsTermination {
        secrets,
        alpn,
        clients,
    });
    let weighted = (name(), 1..=u32::MAX).prop_map(|(name, weight)| WeightedCluster { name, weight });
    let tcp =
        (vec(weighted, 1..4), of(time())).prop_map(|(clusters, idle_timeout)| TcpHandler { clusters, idle_timeout });
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
