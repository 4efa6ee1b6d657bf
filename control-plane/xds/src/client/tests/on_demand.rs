//! What is held because traffic wants it, and no longer than that.

use super::*;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use weft_model::cluster::Discovery;
use weft_model::listener::{Binding, ChainMatch, Direction, FilterChain, Handler, HttpHandler};
use weft_model::route::{Action, Backend, Forward, Route, Target, VirtualHost};
use weft_model::{Endpoints, Listener, RouteTable};

/// Remembers whole states.
#[derive(Default)]
struct Patient(Held);

impl Sink for Patient {
    fn apply(&mut self, held: &Held) -> Result<(), Vec<Nack>> {
        self.0 = held.clone();
        Ok(())
    }
}

impl Patient {
    fn names(&self) -> Vec<String> {
        let all =
            Kind::ALL.into_iter().flat_map(|kind| self.0.iter(kind).map(move |(name, _)| format!("{kind} {name}")));
        all.collect()
    }

    /// The cluster that the table sends to.
    fn target(&self) -> &Target {
        let table = self.0.route_table("table").unwrap();
        let Action::Forward(forward) = &table.virtual_hosts[0].routes[0].action else { panic!("it forwards") };
        &forward.backends[0].target
    }
}

fn sidecar() -> Replica {
    let mut replica = Replica::new(&node(true));
    replica.open();
    replica
}

fn node(interception: bool) -> Node {
    Node {
        role: Role::Sidecar,
        address: "10.0.0.1".parse().unwrap(),
        pod: "web-0".into(),
        namespace: "default".into(),
        workload: "web".into(),
        labels: BTreeMap::new(),
        app_address: None,
        interception,
        locality: Default::default(),
    }
}

fn says(resources: Vec<Resource>, kind: Kind, removed: &[&str]) -> DeltaDiscoveryResponse {
    let wire = |resource: &Resource| {
        let any = wire::encode(resource);
        Wire { name: resource.name().into(), version: wire::version(&any), resource: Some(any), ..Default::default() }
    };
    DeltaDiscoveryResponse {
        type_url: wire::type_url(kind).into(),
        nonce: "n".into(),
        resources: resources.iter().map(wire).collect(),
        removed_resources: removed.iter().map(|name| (*name).into()).collect(),
        ..Default::default()
    }
}

fn listener(name: &str) -> Resource {
    let handler = Handler::Http(HttpHandler::new("table"));
    Resource::Listener(Listener {
        name: name.into(),
        address: SocketAddr::from(([10, 96, 0, 1], 80)),
        binding: Binding::Handed,
        direction: Direction::Outbound,
        chains: vec![FilterChain { name: "http".into(), matches: ChainMatch::default(), tls: None, handler }],
        detect_timeout: None,
    })
}

fn table_to(cluster: &str) -> Resource {
    let backend = Backend::new(Target::Cluster(cluster.into()), 1);
    let route = Route::all("r", Action::Forward(Forward { backends: vec![backend], ..Forward::default() }));
    let host = VirtualHost { name: "h".into(), domains: vec!["*".into()], routes: vec![route] };
    Resource::RouteTable(RouteTable { name: "table".into(), virtual_hosts: vec![host] })
}

fn by_eds(name: &str) -> Resource {
    Resource::Cluster(Cluster { discovery: Discovery::Eds, ..Cluster::new(name) })
}

fn endpoints(name: &str) -> Resource {
    Resource::Endpoints(Endpoints { cluster: name.into(), ..Endpoints::default() })
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The names that the requests subscribe to.
fn asked(requests: &[envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest]) -> Vec<&str> {
    requests.iter().flat_map(|request| &request.resource_names_subscribe).map(String::as_str).collect()
}

/// A sidecar whose workload goes to `vip`, and by it to the cluster `a`.
fn in_use() -> (Replica, Patient) {
    let (mut replica, mut sink) = (sidecar(), Patient::default());
    replica.receive(says(vec![], Kind::Listener, &[]), &mut sink);
    assert_eq!(asked(&replica.demand(set(&["vip"]), &mut sink)), ["vip"]);
    assert_eq!(replica.spoken_of(), None, "not yet answered");
    assert_eq!(asked(&replica.receive(says(vec![listener("vip")], Kind::Listener, &[]), &mut sink)), ["table"]);
    assert_eq!(asked(&replica.receive(says(vec![table_to("a")], Kind::RouteTable, &[]), &mut sink)), ["a"]);
    assert_eq!(asked(&replica.receive(says(vec![by_eds("a")], Kind::Cluster, &[]), &mut sink)), ["a"]);
    assert_eq!(replica.spoken_of(), None, "nobody is known who answers");
    replica.receive(says(vec![endpoints("a")], Kind::Endpoints, &[]), &mut sink);
    assert_eq!(replica.spoken_of(), Some(set(&["vip"])));
    (replica, sink)
}

#[test]
fn a_listener_brings_all_that_it_needs_and_takes_it_away_again() {
    let (mut replica, mut sink) = in_use();
    assert_eq!(sink.names(), ["CDS a", "EDS a", "LDS vip", "RDS table"]);
    let requests = replica.demand(set(&[]), &mut sink);
    let let_go: usize = requests.iter().map(|request| request.resource_names_unsubscribe.len()).sum();
    assert_eq!((let_go, sink.names().len()), (4, 0));
}

#[test]
fn a_name_that_is_nothing_is_an_answer() {
    let (mut replica, mut sink) = in_use();
    replica.demand(set(&["vip", "nothing"]), &mut sink);
    assert_eq!(replica.spoken_of(), None);
    replica.receive(says(vec![], Kind::Listener, &["nothing"]), &mut sink);
    assert_eq!(replica.spoken_of(), Some(set(&["nothing", "vip"])));
}

#[test]
fn a_table_in_service_waits_for_the_clusters_of_its_successor() {
    let (mut replica, mut sink) = in_use();
    let old = Target::Cluster("a".into());
    assert_eq!(asked(&replica.receive(says(vec![table_to("b")], Kind::RouteTable, &[]), &mut sink)), ["b"]);
    assert_eq!(sink.target(), &old);
    replica.receive(says(vec![by_eds("b")], Kind::Cluster, &[]), &mut sink);
    assert_eq!(sink.target(), &old, "without endpoints it would refuse");
    replica.receive(says(vec![endpoints("b")], Kind::Endpoints, &[]), &mut sink);
    assert_eq!(sink.target(), &Target::Cluster("b".into()));
    assert_eq!(sink.names(), ["CDS b", "EDS b", "LDS vip", "RDS table"]);
}

#[test]
fn a_cluster_that_does_not_exist_is_not_waited_for() {
    let (mut replica, mut sink) = in_use();
    replica.receive(says(vec![table_to("gone")], Kind::RouteTable, &[]), &mut sink);
    replica.receive(says(vec![], Kind::Cluster, &["gone"]), &mut sink);
    assert_eq!(sink.target(), &Target::Cluster("gone".into()));
}

#[test]
fn who_does_not_ask_on_demand_never_begins_to() {
    let mut replica = Replica::new(&node(false));
    replica.open();
    assert!(replica.demand(set(&["10.0.0.1_80"]), &mut Patient::default()).is_empty());
    let again: Vec<String> = replica.open().into_iter().map(|request| request.type_url).collect();
    assert!(again.contains(&wire::type_url(Kind::Cluster).to_owned()), "clusters by wildcard: {again:?}");
}
