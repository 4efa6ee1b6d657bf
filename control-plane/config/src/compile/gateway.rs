//! A Gateway object as the listeners, tables and certificates of the gateways that serve it.
//!
//! HTTP listeners that share a port share a route table; their isolation (a request belongs to the listener with the most
//! specific host name, even when none of its routes fits) is kept by giving every listener's own host name a virtual host,
//! and each domain to the most specific listener that covers it. An HTTPS listener is chosen by the name in the
//! TLS handshake, so it has a filter chain and a table of its own; a request for a host of another listener has come over the
//! wrong connection there, and is told so (421).
//!
//! Listeners of ListenerSets are the Gateway's like its own (`listener_sets`), but for what they refer to and what refers to them.
//!
//! VirtualServices that name the Gateway come after the HTTPRoutes of a domain: where both claim it, what no HTTPRoute's rule
//! fits is theirs. They need no listener's `sectionName`, but it must be the Gateway's own, and its `allowedRoutes.namespaces` must
//! let them in.

use super::affinity::Affinities;
use super::attach::{self, listener_hostname};
use super::hostname::{self, covers, specificity};
use super::index::{Class, Index};
use super::precedence::{Age, Rank};
use super::rules::Compiled;
use super::virtual_services::{self, Listening, Merged};
use super::{certificate, frontend, layer4, rate_limits};
use crate::kinds::{Gateway, GatewayListener, HttpRoute, Layer4Route, ListenerProtocol};
use crate::{Key, KindName, Object};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use weft_model::listener::{
    Binding, ChainMatch, ClientValidation, Direction, FilterChain, Handler, HttpHandler, TlsTermination,
};
use weft_model::rate_limit::RateLimit;
use weft_model::route::{Action, Respond, Route, VirtualHost};
use weft_model::{Listener, RouteTable, Secret};

/// How long a TLS hello may take. Linkerd's time for protocol detection.
const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTPRoute and what it was compiled to.
pub(crate) struct RouteOf<'i> {
    pub(crate) route: &'i HttpRoute,
    pub(crate) compiled: Compiled,
}

/// For each Gateway the routes that are attached to each of its listeners.
pub(crate) type Attached<'i> = BTreeMap<&'i Key, BTreeSet<(usize, &'i Key)>>;

/// All that the gateways of one Gateway object hold, but for their addresses and clusters.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// By port.
    ports: BTreeMap<u16, Port>,
    pub(crate) tables: Vec<RouteTable>,
    /// For the routes of its tables.
    pub(crate) affinities: Affinities,
    pub(crate) secrets: Vec<Secret>,
    /// The clusters that GRPCRoutes send to: whatever else their Services say, they speak HTTP/2.
    pub(crate) grpc: BTreeSet<String>,
    /// The secret that is shown to backends which ask who calls.
    pub(crate) client_certificate: Option<String>,
}

#[derive(Debug)]
struct Port {
    name: String,
    chains: Vec<FilterChain>,
}

impl Plan {
    pub(crate) fn listeners(&self, address: IpAddr) -> impl Iterator<Item = Listener> {
        self.ports.iter().map(move |(port, plan)| Listener {
            name: plan.name.clone(),
            address: SocketAddr::new(address, *port),
            binding: Binding::Socket,
            direction: Direction::Edge,
            chains: plan.chains.clone(),
            detect_timeout: Some(DETECT_TIMEOUT),
        })
    }

    /// The clusters that connections go to which nobody looks into.
    pub(crate) fn stream_targets(&self) -> impl Iterator<Item = &str> {
        let chains = self.ports.values().flat_map(|port| &port.chains);
        let clusters = chains.flat_map(|chain| match &chain.handler {
            Handler::Tcp(tcp) => tcp.clusters.as_slice(),
            Handler::Http(_) => &[],
        });
        clusters.map(|cluster| cluster.name.as_str())
    }
}

/// Goes through all routes once.
pub(crate) fn attachments(index: &Index) -> Attached<'_> {
    let mut attached = Attached::new();
    for route in index.attaching() {
        for reference in route.parent_refs {
            let parent = attach::parent(index, route.object, reference);
            let Ok(attach::Parent::Gateway(gateway_object, gateway)) = parent else { continue };
            let listeners = attach::listeners(index, (gateway_object, gateway), &route, reference);
            for listener in listeners.into_iter().flatten() {
                attached.entry(&gateway_object.key).or_default().insert((listener, &route.object.key));
            }
        }
    }
    for (gateway, routes) in &mut attached {
        if let Some((_, gateway)) = index.gateway(&gateway.namespace, &gateway.name) {
            displace(index, gateway, routes);
        }
    }
    attached
}

/// Of an HTTPRoute and a GRPCRoute with a host name in common a listener takes only the older one.
fn displace(index: &Index, gateway: &Gateway, routes: &mut BTreeSet<(usize, &Key)>) {
    for (at, listener) in gateway.listeners.iter().enumerate() {
        let keys: Vec<&Key> = routes.iter().filter(|(of, _)| *of == at).map(|(_, key)| *key).collect();
        if !keys.iter().any(|key| key.kind == KindName::GrpcRoute) {
            continue;
        }
        let found = keys.iter().filter_map(|key| Some((*key, index.layer7_route(key)?)));
        let mut by_age: Vec<_> = found.collect();
        by_age.sort_by_cached_key(|(_, (object, _))| Age::of(object));
        let mut taken: Vec<(&KindName, Vec<String>)> = Vec::new();
        for (key, (_, route)) in by_age {
            let domains = attach::domains(listener, &route.hostnames);
            let meet = |others: &Vec<String>| {
                domains.iter().any(|one| others.iter().any(|other| hostname::intersect(one, other).is_some()))
            };
            match taken.iter().any(|(kind, others)| **kind != key.kind && meet(others)) {
                true => drop(routes.remove(&(at, key))),
                false => taken.push((&key.kind, domains)),
            }
        }
    }
}

/// The plan of one Gateway; empty when it is not ours.
pub(crate) fn plan(
    index: &Index,
    (object, gateway): (&Object, &Gateway),
    routes: &BTreeMap<&Key, RouteOf<'_>>,
    attached: &BTreeSet<(usize, &Key)>,
    bound: &[&Merged<'_>],
) -> Plan {
    let mut plan = Plan::default();
    if !is_ours(index, gateway) {
        return plan;
    }
    let key = &object.key;
    plan.affinities = Affinities::new(index, &key.namespace);
    let shown = gateway.client_certificate.as_ref();
    if let Some(Ok(secret)) = shown.map(|reference| certificate::secret(index, key, reference)) {
        plan.client_certificate = Some(secret.name.clone());
        plan.secrets.push(secret);
    }
    let grpc = attached.iter().filter(|(_, route)| route.kind == KindName::GrpcRoute);
    let clusters = grpc.flat_map(|(_, route)| routes[route].compiled.targets());
    plan.grpc = clusters.map(str::to_owned).collect();
    for (port, listeners) in by_port(gateway) {
        let name = format!("{}/{}|{port}", key.namespace, key.name);
        let sites: Vec<Site<'_>> = listeners
            .iter()
            .filter(|(_, listener)| attach::is_http(listener))
            .map(|(at, listener)| Site {
                listener,
                rate_limits: rate_limits::of_listener(index, key, listener),
                routes: attached.iter().filter(|(of, _)| of == at).filter_map(|(_, key)| routes.get(key)).collect(),
                virtual_services: of_virtual_services(index, key, listener, bound, &plan.affinities),
            })
            .collect();
        let streams = |at| index.layer4_routes().filter(move |(object, _)| attached.contains(&(at, &object.key)));
        let chains = match family(&listeners[0].1.protocol) {
            Some(Family::Http) => {
                plan.tables.push(table(&name, &sites, &listeners));
                vec![chain("http", ChainMatch::default(), None, &name)]
            }
            Some(Family::Tls) => {
                let mut chains = match frontend::clients(index, (key, gateway), port) {
                    Ok(clients) => https_chains(index, key, &name, &sites, &listeners, clients.as_ref(), &mut plan),
                    Err(_) => Vec::new(), // no caller could be judged; checking says why
                };
                for (at, listener) in listeners.iter().filter(|(_, listener)| !attach::is_http(listener)) {
                    let routes: Vec<(&Object, &Layer4Route)> = streams(*at).collect();
                    let (more, secrets) = layer4::tls_chains(index, key, listener, &listeners, &routes);
                    chains.extend(more);
                    plan.secrets.extend(secrets);
                }
                chains
            }
            Some(Family::Tcp) => layer4::tcp_chains(index, &streams(listeners[0].0).collect::<Vec<_>>()),
            None => Vec::new(),
        };
        if !chains.is_empty() {
            plan.ports.insert(port, Port { name, chains });
        }
    }
    plan.secrets.sort_by(|a, b| a.name.cmp(&b.name));
    plan.secrets.dedup_by(|a, b| a.name == b.name);
    plan
}

/// Protocols that may share a port: what has a name in its handshake can be told apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Http,
    Tls,
    Tcp,
}

/// `None`: not served.
fn family(protocol: &ListenerProtocol) -> Option<Family> {
    match protocol {
        ListenerProtocol::Http => Some(Family::Http),
        ListenerProtocol::Https | ListenerProtocol::Tls => Some(Family::Tls),
        ListenerProtocol::Tcp => Some(Family::Tcp),
        ListenerProtocol::Udp | ListenerProtocol::Other(_) => None,
    }
}

pub(crate) fn is_ours(index: &Index, gateway: &Gateway) -> bool {
    index.class(&gateway.class_name) == Class::Ours
}

pub(crate) fn is_served(listener: &GatewayListener) -> bool {
    family(&listener.protocol).is_some()
}

/// The listeners that are served. Where protocols that cannot share a port do, the first one's has it; of two listeners of the
/// same host name, the first.
pub(crate) fn by_port(gateway: &Gateway) -> BTreeMap<u16, Vec<(usize, &GatewayListener)>> {
    let mut ports: BTreeMap<u16, Vec<(usize, &GatewayListener)>> = BTreeMap::new();
    for (at, listener) in gateway.listeners.iter().enumerate().filter(|(_, listener)| is_served(listener)) {
        let of_port = ports.entry(listener.port).or_default();
        let is_rival = |other: &GatewayListener| {
            family(&other.protocol) != family(&listener.protocol) || other.hostname == listener.hostname
        };
        if !of_port.iter().any(|(_, other)| is_rival(other)) {
            of_port.push((at, listener));
        }
    }
    ports
}

/// A listener and what is attached to it.
struct Site<'s> {
    listener: &'s GatewayListener,
    routes: Vec<&'s RouteOf<'s>>,
    rate_limits: Vec<RateLimit>,
    /// By domain.
    virtual_services: BTreeMap<String, Vec<Route>>,
}

fn of_virtual_services(
    index: &Index,
    gateway: &Key,
    listener: &GatewayListener,
    bound: &[&Merged<'_>],
    affinities: &Affinities,
) -> BTreeMap<String, Vec<Route>> {
    let listening = Listening {
        caller: &gateway.namespace,
        gateway: Some((&gateway.namespace, &gateway.name)),
        port: listener.port,
        is_tls: listener.protocol == ListenerProtocol::Https,
        affinities,
    };
    let let_in = |merged: &&&Merged<'_>| {
        listener.set.is_none() && attach::allows_namespace(index, gateway, listener, &merged.object.key.namespace)
    };
    let bound: Vec<&Merged<'_>> = bound.iter().filter(let_in).copied().collect();
    virtual_services::of_listener(index, &bound, listener_hostname(listener), &listening)
}

fn https_chains(
    index: &Index,
    gateway: &Key,
    name: &str,
    sites: &[Site<'_>],
    port: &[(usize, &GatewayListener)],
    clients: Option<&ClientValidation>,
    plan: &mut Plan,
) -> Vec<FilterChain> {
    let mut chains = Vec::new();
    for site in sites {
        let listener = site.listener;
        let secrets = certificate::secrets(index, gateway, listener);
        if secrets.is_empty() {
            continue; // nothing to show to a caller; checking says why
        }
        let table_name = format!("{name}|{}", listener.full_name());
        let mut table = table(&table_name, std::slice::from_ref(site), port);
        table.virtual_hosts.extend(misdirected(listener, port));
        plan.tables.push(table);
        let matches = ChainMatch {
            server_names: listener.hostname.iter().map(|hostname| hostname.as_str().to_owned()).collect(),
            tls: Some(true),
            application: None,
        };
        let tls = TlsTermination {
            secrets: secrets.iter().map(|secret| secret.name.clone()).collect(),
            alpn: vec!["h2".into(), "http/1.1".into()],
            clients: clients.cloned(),
        };
        chains.push(chain(&listener.full_name(), matches, Some(tls), &table_name));
        plan.secrets.extend(secrets);
    }
    chains
}

/// The hosts of the other listeners, asked for over a connection to this one.
fn misdirected<'s>(
    listener: &'s GatewayListener,
    port: &'s [(usize, &'s GatewayListener)],
) -> impl Iterator<Item = VirtualHost> + 's {
    let own = listener_hostname(listener);
    let others = port.iter().map(|(_, other)| listener_hostname(other)).filter(move |other| *other != own);
    others.map(move |other| {
        let body = format!("{other} is served on another connection: this one was opened for {own}\n");
        let routes = vec![Route::all("misdirected", Action::Respond(Respond { status: 421, body }))];
        VirtualHost { name: other.to_owned(), domains: vec![other.to_owned()], routes }
    })
}

fn chain(name: &str, matches: ChainMatch, tls: Option<TlsTermination>, table: &str) -> FilterChain {
    let handler = HttpHandler { edge: true, ..HttpHandler::new(table) };
    FilterChain { name: name.to_owned(), matches, tls, handler: Handler::Http(handler) }
}

/// One table for listeners that share it. `port`: all listeners of their port.
fn table(name: &str, sites: &[Site<'_>], port: &[(usize, &GatewayListener)]) -> RouteTable {
    let mut virtual_hosts = Vec::new();
    for site in sites {
        let own = listener_hostname(site.listener).to_owned();
        let of_routes = site.routes.iter().flat_map(|entry| attach::domains(site.listener, &entry.route.hostnames));
        let of_virtual_services = site.virtual_services.keys().cloned();
        let domains: BTreeSet<String> = std::iter::once(own).chain(of_routes).chain(of_virtual_services).collect();
        let by_hostname = by_hostname(&site.routes);
        for domain in domains.into_iter().filter(|domain| is_owner(site.listener, domain, port)) {
            let mut routes = routes_of_domain(&domain, &by_hostname);
            let nearest = hostname::covering(&domain).find_map(|name| site.virtual_services.get(&name));
            routes.extend(nearest.into_iter().flatten().cloned());
            for route in &mut routes {
                // the listener's are met before the route's own
                route.rate_limits.splice(0..0, site.rate_limits.iter().cloned());
            }
            virtual_hosts.push(VirtualHost { name: domain.clone(), domains: vec![domain], routes });
        }
    }
    virtual_hosts.sort_by(|one, other| one.name.cmp(&other.name));
    RouteTable { name: name.to_owned(), virtual_hosts }
}

/// The routes by each of their own host names, `*` for those that have none.
fn by_hostname<'s>(routes: &[&'s RouteOf<'s>]) -> BTreeMap<&'s str, Vec<&'s RouteOf<'s>>> {
    let mut by_hostname: BTreeMap<&str, Vec<&RouteOf<'_>>> = BTreeMap::new();
    for &entry in routes {
        if entry.route.hostnames.is_empty() {
            by_hostname.entry("*").or_default().push(entry);
        }
        for hostname in &entry.route.hostnames {
            by_hostname.entry(hostname.as_str()).or_default().push(entry);
        }
    }
    by_hostname
}

/// In order, all that cover the domain; each by the most specific of its host names that does.
fn routes_of_domain(domain: &str, by_hostname: &BTreeMap<&str, Vec<&RouteOf<'_>>>) -> Vec<Route> {
    let mut seen: BTreeSet<*const RouteOf<'_>> = BTreeSet::new();
    let mut ranked: Vec<(Rank, &Route)> = Vec::new();
    for hostname in hostname::covering(domain) {
        for &entry in by_hostname.get(hostname.as_str()).into_iter().flatten() {
            if seen.insert(std::ptr::from_ref(entry)) {
                ranked.extend(entry.compiled.ranked(&hostname));
            }
        }
    }
    ranked.sort_by(|(one, _), (other, _)| one.cmp(other));
    ranked.into_iter().map(|(_, route)| route.clone()).collect()
}

/// Whether what is for the domain belongs to this listener: no other of its port covers it that is more specific.
pub(crate) fn is_owner(listener: &GatewayListener, domain: &str, port: &[(usize, &GatewayListener)]) -> bool {
    let own = specificity(listener_hostname(listener));
    let others = port.iter().map(|(_, other)| listener_hostname(other));
    !others.into_iter().any(|other| covers(other, domain) && specificity(other) > own)
}
