//! The rules of a stream, with time as an argument.

use super::session::{Answer, Session};
use super::set::{Encoded, ResourceSet};
use crate::wire;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::rpc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weft_model::listener::{Binding, ChainMatch, Direction, FilterChain, Handler, HttpHandler};
use weft_model::route::VirtualHost;
use weft_model::{Cluster, Endpoints, Kind, Listener, Resource, RouteTable};

const PATIENCE: Duration = Duration::from_secs(1);

fn cluster(name: &str) -> Resource {
    Resource::Cluster(Cluster::new(name))
}

fn endpoints(name: &str) -> Resource {
    Resource::Endpoints(Endpoints { cluster: name.into(), ..Endpoints::default() })
}

fn listener(name: &str) -> Resource {
    let handler = Handler::Http(HttpHandler::new(name));
    let chain = FilterChain { name: String::new(), matches: ChainMatch::default(), tls: None, handler };
    Resource::Listener(Listener {
        name: name.into(),
        address: "127.0.0.1:80".parse().unwrap(),
        binding: Binding::Socket,
        direction: Direction::Edge,
        chains: vec![chain],
        detect_timeout: None,
    })
}

/// `revision` is its content.
fn table(name: &str, revision: &str) -> Resource {
    let host = VirtualHost { name: revision.into(), domains: vec![revision.into()], routes: vec![] };
    Resource::RouteTable(RouteTable { name: name.into(), virtual_hosts: vec![host] })
}

fn set(resources: Vec<Resource>) -> Arc<ResourceSet> {
    Arc::new(ResourceSet::build(resources, None))
}

fn ask(kind: Kind, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: wire::type_url(kind).into(),
        resource_names_subscribe: names.iter().map(|name| name.to_string()).collect(),
        ..Default::default()
    }
}

fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..Default::default()
    }
}

fn nack(response: &DeltaDiscoveryResponse, message: &str) -> DeltaDiscoveryRequest {
    let error = rpc::Status { code: 3, message: message.into(), ..Default::default() };
    DeltaDiscoveryRequest { error_detail: Some(error), ..ack(response) }
}

/// `CDS +a +b -c` for each response.
fn said(responses: &[DeltaDiscoveryResponse]) -> Vec<String> {
    let text = |response: &DeltaDiscoveryResponse| {
        let kind = wire::kind(&response.type_url).unwrap().discovery();
        let added = response.resources.iter().map(|resource| format!(" +{}", resource.name));
        let removed = response.removed_resources.iter().map(|name| format!(" -{name}"));
        format!("{kind}{}", added.chain(removed).collect::<String>())
    };
    responses.iter().map(text).collect()
}

struct Talk {
    session: Session,
    now: Instant,
}

impl Talk {
    fn new(resources: Vec<Resource>) -> Self {
        Talk { session: Session::new(set(resources), PATIENCE), now: Instant::now() }
    }

    /// All kinds asked for and acknowledged, as a client does that holds all of it.
    fn in_step(resources: Vec<Resource>) -> Self {
        let names = |kind: Kind| -> Vec<String> {
            let of_kind = resources.iter().filter(|resource| resource.kind() == kind);
            of_kind.map(|resource| resource.name().to_string()).collect()
        };
        let wanted: Vec<_> = [Kind::Endpoints, Kind::RouteTable].map(|kind| (kind, names(kind))).into();
        let mut talk = Talk::new(resources);
        let mut queue = talk.hear(ask(Kind::Cluster, &[]));
        for (kind, names) in wanted {
            queue.extend(talk.hear(ask(kind, &names.iter().map(String::as_str).collect::<Vec<_>>())));
        }
        queue.extend(talk.hear(ask(Kind::Listener, &[])));
        talk.acknowledge_all(queue);
        talk
    }

    fn hear(&mut self, request: DeltaDiscoveryRequest) -> Vec<DeltaDiscoveryResponse> {
        self.answer(request).1
    }

    fn answer(&mut self, request: DeltaDiscoveryRequest) -> (Answer, Vec<DeltaDiscoveryResponse>) {
        let (_, answer) = self.session.receive(request).unwrap().unwrap();
        (answer, self.session.next(self.now))
    }

    fn want(&mut self, resources: Vec<Resource>) -> Vec<DeltaDiscoveryResponse> {
        let next = ResourceSet::build(resources, Some(self.session.wanted()));
        self.session.want(Arc::new(next));
        self.session.next(self.now)
    }

    fn acknowledge_all(&mut self, mut queue: Vec<DeltaDiscoveryResponse>) {
        while let Some(response) = queue.pop() {
            queue.extend(self.hear(ack(&response)));
        }
    }

    fn wait(&mut self, time: Duration) -> Vec<DeltaDiscoveryResponse> {
        self.now += time;
        self.session.next(self.now)
    }
}

#[test]
fn a_route_change_is_one_response_at_once() {
    let mut talk =
        Talk::in_step(vec![cluster("a"), endpoints("a"), listener("l"), table("l", "one"), table("m", "one")]);
    let responses = talk.want(vec![cluster("a"), endpoints("a"), listener("l"), table("l", "two"), table("m", "one")]);
    assert_eq!(said(&responses), ["RDS +l"]);
    assert_eq!(said(&talk.hear(ack(&responses[0]))), [""; 0]);
}

#[test]
fn routes_wait_until_their_new_cluster_has_endpoints() {
    let mut talk = Talk::in_step(vec![cluster("a"), endpoints("a"), listener("l"), table("l", "to a")]);
    let clusters =
        talk.want(vec![cluster("a"), endpoints("a"), cluster("b"), endpoints("b"), listener("l"), table("l", "to b")]);
    assert_eq!(said(&clusters), ["CDS +b"]);
    assert_eq!(said(&talk.hear(ack(&clusters[0]))), [""; 0]);
    let members = talk.hear(ask(Kind::Endpoints, &["b"]));
    assert_eq!(said(&members), ["EDS +b"]);
    assert_eq!(said(&talk.hear(ack(&members[0]))), ["RDS +l"]);
}

#[test]
fn what_goes_goes_last_and_only_when_the_new_routes_are_acknowledged() {
    let mut talk = Talk::in_step(vec![
        cluster("a"),
        endpoints("a"),
        cluster("b"),
        endpoints("b"),
        listener("l"),
        table("l", "to a"),
    ]);
    let routes = talk.want(vec![cluster("b"), endpoints("b"), listener("l"), table("l", "to b")]);
    assert_eq!(said(&routes), ["RDS +l"]);
    assert_eq!(said(&talk.hear(ack(&routes[0]))), ["CDS -a", "EDS -a"]);
}

#[test]
fn a_client_that_never_asks_for_endpoints_is_not_waited_for_for_ever() {
    let mut talk = Talk::in_step(vec![listener("l"), table("l", "one")]);
    let clusters = talk.want(vec![cluster("a"), endpoints("a"), listener("l"), table("l", "to a")]);
    assert_eq!(said(&clusters), ["CDS +a"]);
    talk.hear(ack(&clusters[0]));
    assert_eq!(said(&talk.wait(PATIENCE - Duration::from_millis(1))), [""; 0]);
    assert_eq!(talk.session.wake_at(talk.now), Some(talk.now + Duration::from_millis(1)));
    assert_eq!(said(&talk.wait(Duration::from_millis(1))), ["RDS +l"]);
    assert_eq!(talk.session.wake_at(talk.now), None);
}

#[test]
fn a_silent_client_gets_the_latest_and_not_the_history() {
    let mut talk = Talk::in_step(vec![listener("l"), table("l", "0")]);
    let first = talk.want(vec![listener("l"), table("l", "1")]);
    for revision in 2..100 {
        assert_eq!(said(&talk.want(vec![listener("l"), table("l", &revision.to_string())])), [""; 0]);
    }
    let last = talk.hear(ack(&first[0]));
    assert_eq!(said(&last), ["RDS +l"]);
    let wanted = talk.session.wanted().get(Kind::RouteTable, "l").unwrap().version.clone();
    assert_eq!(last[0].resources[0].version, wanted);
}

#[test]
fn what_was_rejected_is_not_sent_again_until_it_changes() {
    let mut talk = Talk::in_step(vec![listener("l"), table("l", "good"), table("m", "good")]);
    let pushed = talk.want(vec![listener("l"), table("l", "bad"), table("m", "better")]);
    assert_eq!(said(&pushed), ["RDS +l +m"]);
    let (answer, next) = talk.answer(nack(&pushed[0], "l: no such thing"));
    assert_eq!(answer, Answer::Nack { names: vec!["l".into()], text: "l: no such thing".into() });
    assert_eq!(said(&next), [""; 0]);
    let mended = talk.want(vec![listener("l"), table("l", "mended"), table("m", "better")]);
    assert_eq!(said(&mended), ["RDS +l"]);
}

#[test]
fn routes_do_not_wait_for_a_cluster_that_was_rejected() {
    let mut talk = Talk::in_step(vec![listener("l"), table("l", "one")]);
    let clusters = talk.want(vec![cluster("a"), endpoints("a"), listener("l"), table("l", "two")]);
    assert_eq!(said(&talk.hear(nack(&clusters[0], "a: refused"))), ["RDS +l"]);
}

#[test]
fn only_error_detail_makes_a_nack_and_only_the_latest_nonce_answers() {
    let mut talk = Talk::new(vec![table("a", "1"), table("b", "1")]);
    let first = talk.hear(ask(Kind::RouteTable, &["a"]));
    let stale = DeltaDiscoveryRequest {
        response_nonce: "older".into(),
        resource_names_subscribe: vec!["b".into()],
        ..ack(&first[0])
    };
    let (answer, next) = talk.answer(stale);
    assert_eq!((answer, said(&next)), (Answer::None, vec![]));
    let (answer, next) = talk.answer(ack(&first[0]));
    assert_eq!((answer, said(&next)), (Answer::Ack, vec!["RDS +b".to_string()]));
}

#[test]
fn a_name_that_does_not_exist_is_said_to_be_gone_once() {
    let mut talk = Talk::new(vec![table("a", "1")]);
    let first = talk.hear(ask(Kind::RouteTable, &["a", "ghost"]));
    assert_eq!(said(&first), ["RDS +a -ghost"]);
    assert_eq!(said(&talk.hear(ack(&first[0]))), [""; 0]);
    assert_eq!(said(&talk.want(vec![table("a", "1"), table("ghost", "1")])), ["RDS +ghost"]);
}

#[test]
fn a_name_that_is_asked_for_again_is_sent_again() {
    let mut talk = Talk::new(vec![table("a", "1")]);
    let first = talk.hear(ask(Kind::RouteTable, &["a"]));
    talk.hear(ack(&first[0]));
    assert_eq!(said(&talk.hear(ask(Kind::RouteTable, &["a"]))), ["RDS +a"]);
}

#[test]
fn a_resumed_stream_gets_only_what_is_new_or_gone() {
    let mut talk = Talk::new(vec![cluster("a"), cluster("b")]);
    let version = |name: &str| talk.session.wanted().get(Kind::Cluster, name).unwrap().version.clone();
    let held = [("a", version("a")), ("b", "an older one".into()), ("c", "gone since".into())];
    let request = DeltaDiscoveryRequest {
        initial_resource_versions: held.map(|(name, version)| (name.to_string(), version)).into(),
        ..ask(Kind::Cluster, &[])
    };
    let news = talk.hear(request);
    assert_eq!(said(&news), ["CDS +b"]);
    assert_eq!(said(&talk.hear(ack(&news[0]))), [""; 0], "it may still route to c");
    let listeners = talk.hear(ask(Kind::Listener, &[]));
    assert_eq!(said(&listeners), ["LDS"]);
    assert_eq!(said(&talk.hear(ack(&listeners[0]))), ["CDS -c"]);
}

#[test]
fn an_explicit_wildcard_can_be_given_up_for_names() {
    let mut talk = Talk::new(vec![cluster("a"), cluster("b")]);
    let all = talk.hear(ask(Kind::Cluster, &["*"]));
    assert_eq!(said(&all), ["CDS +a +b"]);
    talk.hear(ack(&all[0]));
    let narrower = DeltaDiscoveryRequest { resource_names_unsubscribe: vec!["*".into()], ..ask(Kind::Cluster, &["b"]) };
    assert_eq!(said(&talk.hear(narrower)), ["CDS +b"]);
    talk.acknowledge_all(vec![]);
}

#[test]
fn an_empty_wildcard_is_answered_so_that_the_client_can_go_on() {
    let mut talk = Talk::new(vec![]);
    let first = talk.hear(ask(Kind::Cluster, &[]));
    assert_eq!(said(&first), ["CDS"]);
    assert_eq!(said(&talk.hear(ack(&first[0]))), [""; 0]);
}

#[test]
fn a_push_larger_than_a_message_is_sent_in_parts() {
    let long = "x".repeat(700_000);
    let tables: Vec<Resource> = ["a", "b", "c", "d", "e", "f"].map(|name| table(name, &long)).into();
    let mut talk = Talk::new(tables);
    let first = talk.hear(ask(Kind::RouteTable, &["a", "b", "c", "d", "e", "f"]));
    assert_eq!(said(&first), ["RDS +a +b"]);
    let second = talk.hear(ack(&first[0]));
    assert_eq!(said(&second), ["RDS +c +d"]);
}

#[test]
fn a_client_that_subscribes_to_everything_imaginable_is_refused() {
    let mut session = Session::new(set(vec![]), PATIENCE);
    let names = (0..100_001).map(|i| i.to_string()).collect();
    let request = DeltaDiscoveryRequest { resource_names_subscribe: names, ..ask(Kind::RouteTable, &[]) };
    assert!(session.receive(request).is_err());
}

#[test]
fn what_takes_anothers_place_is_encoded_once_for_all_who_hold_it() {
    let at = |address: &str| {
        let endpoints = vec![weft_model::Endpoint::at(address.parse().unwrap())];
        Resource::Endpoints(Endpoints { cluster: "a".into(), endpoints, ..Endpoints::default() })
    };
    let first = set(vec![cluster("a"), at("10.0.0.1:80")]);
    let mut encoded = Encoded::default();
    assert!(first.with(vec![at("10.0.0.1:80")], &mut encoded).is_none(), "it is there already");
    let next = [(); 2].map(|()| first.with(vec![at("10.0.0.2:80")], &mut encoded).unwrap());
    let held = |set: &ResourceSet, kind| set.get(kind, "a").unwrap().clone();
    assert_eq!(held(&next[0], Kind::Endpoints).resource, at("10.0.0.2:80"));
    assert!(Arc::ptr_eq(&held(&next[0], Kind::Endpoints), &held(&next[1], Kind::Endpoints)));
    assert!(Arc::ptr_eq(&held(&first, Kind::Cluster), &held(&next[0], Kind::Cluster)), "all else is the same");
    assert!(first.shares(&next[0], Kind::Cluster) && !first.shares(&next[0], Kind::Endpoints));
}

#[test]
fn equal_resources_are_encoded_once() {
    let first = ResourceSet::build(vec![cluster("a"), cluster("b")], None);
    let second = ResourceSet::build(vec![cluster("a"), table("t", "1")], Some(&first));
    let of = |set: &ResourceSet| Arc::clone(set.get(Kind::Cluster, "a").unwrap());
    assert!(Arc::ptr_eq(&of(&first), &of(&second)));
    let third = ResourceSet::build(vec![cluster("a"), table("t", "2")], Some(&second));
    assert!(third.shares(&second, Kind::Cluster) && !third.shares(&second, Kind::RouteTable));
}

/// A listener for one address of one Service.
fn handed(name: &str) -> Resource {
    let Resource::Listener(listener) = listener(name) else { panic!("it makes listeners") };
    Resource::Listener(Listener { binding: Binding::Handed, direction: Direction::Outbound, ..listener })
}

#[test]
fn who_asks_on_demand_is_given_by_wildcard_only_what_everybody_needs() {
    let mut talk = Talk::new(vec![listener("all"), handed("a"), handed("b")]);
    talk.session = Session::new(set(vec![listener("all"), handed("a"), handed("b")]), PATIENCE).on_demand();
    let first = talk.hear(ask(Kind::Listener, &["*"]));
    assert_eq!(said(&first), ["LDS +all"]);
    talk.hear(ack(&first[0]));
    let named = talk.hear(ask(Kind::Listener, &["a", "never"]));
    assert_eq!(said(&named), ["LDS +a -never"]);
    talk.hear(ack(&named[0]));
    let appears = talk.want(vec![listener("all"), handed("a"), handed("b"), handed("never")]);
    assert_eq!(said(&appears), ["LDS +never"]);
    talk.hear(ack(&appears[0]));
    let goes = DeltaDiscoveryRequest { resource_names_unsubscribe: vec!["a".into()], ..ask(Kind::Listener, &[]) };
    assert_eq!(said(&talk.hear(goes)), [""; 0]);
    assert_eq!(said(&talk.hear(ask(Kind::Listener, &["a"]))), ["LDS +a"], "it may have been forgotten meanwhile");
}
