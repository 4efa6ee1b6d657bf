//! Watch torture: whatever happens to the watches on the way, what proxies hold in the end is what the objects in the end mean.
//!
//! Each round creates, edits and deletes objects at random with several writers at once, while connections are cut, the server is away,
//! its history is forgotten and the control plane is started anew. Then what a gateway and a sidecar hold is compared with what the
//! compiler makes of the objects that the server lists.

use crate::cluster::{ClusterPlane, apply, at_cluster, create, delete};
use crate::plane::{Proxy, node};
use futures_util::future::join_all;
use kube::Client;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use weft_config::compile::Mesh;
use weft_model::node::Role;
use weft_model::{Kind, Node, Resource};
use weft_testkit::kubernetes::ApiServer;
use weft_testkit::relay::Relay;
use weft_xds::client::Held;
use weft_xds::wire;

/// Rounds in CI; `WEFT_TORTURE_ROUNDS` asks for more.
const ROUNDS: u64 = 3;
/// A round that begins later is left out, so that CI ends; `WEFT_TORTURE_ROUNDS` has no such bound.
const BUDGET: Duration = Duration::from_secs(180);
const OBJECTS: usize = 500;
const WRITERS: usize = 4;
/// Of each writer in a round.
const WRITES: usize = 60;

/// Where the server lists what is compared.
const LISTS: [&str; 9] = [
    "/api/v1/namespaces",
    "/api/v1/nodes",
    "/api/v1/services",
    "/api/v1/pods",
    "/apis/discovery.k8s.io/v1beta1/endpointslices",
    "/apis/gateway.networking.k8s.io/v1/gateways",
    "/apis/gateway.networking.k8s.io/v1/httproutes",
    "/apis/networking.istio.io/v1/destinationrules",
    "/apis/networking.istio.io/v1/virtualservices",
];

/// The object of that number: one of five kinds, its content by chance.
fn object(number: usize, rng: &mut fastrand::Rng) -> Value {
    let name = format!("s{}", number / 5);
    let other = format!("s{}", rng.usize(..OBJECTS / 5));
    match number % 5 {
        0 => at_cluster::service(&name, *rng.choice(&[8080, 8080, 9090]).expect("not empty")),
        1 => {
            let count = rng.usize(..4);
            let addresses: Vec<String> =
                (0..count).map(|at| format!("10.{}.{}.{at}", number % 250, rng.u8(1..))).collect();
            at_cluster::slice(&name, &addresses.iter().map(String::as_str).collect::<Vec<_>>())
        }
        2 => at_cluster::route(&name, &format!("/{name}/{}", rng.u8(..9)), &other),
        3 => at_cluster::rule(&name, rng.u32(1..1000)),
        // Writers meet here: the same few objects, edited by all.
        _ => at_cluster::route(&format!("shared{}", number % 3), &format!("/shared/{}", rng.u8(..9)), &other),
    }
}

async fn write(client: Client, mut rng: fastrand::Rng, writes: usize) {
    for _ in 0..writes {
        let object = object(rng.usize(..OBJECTS), &mut rng);
        // Another writer may have been quicker; that is part of it.
        let _ = if rng.u8(..10) < 3 { delete(&client, &object).await } else { apply(&client, &object).await };
    }
}

/// Everything that goes wrong between the two, until the writers are done.
async fn disturb(server: &ApiServer, relay: &Relay, mut rng: fastrand::Rng, writers: impl Future<Output = Vec<()>>) {
    tokio::pin!(writers);
    loop {
        let pause = Duration::from_millis(rng.u64(20..300));
        if tokio::time::timeout(pause, &mut writers).await.is_ok() {
            return relay.open();
        }
        match rng.u8(..6) {
            0..=2 => relay.cut(),
            3 => relay.close(),
            4 => server.compact().await,
            _ => relay.open(),
        }
    }
}

/// What the compiler makes of all that the server has.
async fn compiled(client: &Client, node: &Node) -> BTreeMap<(Kind, String), Resource> {
    let mut files = BTreeMap::new();
    for path in LISTS {
        let request = http::Request::get(path).body(Vec::new()).expect("a whole request");
        let mut list: Value = client.request(request).await.expect("a list");
        let of = |name: &str| list[name].as_str().expect("a list's own type").to_owned();
        let (api_version, kind) = (of("apiVersion"), of("kind").trim_end_matches("List").to_owned());
        for item in list["items"].as_array_mut().expect("a list") {
            item["apiVersion"] = api_version.clone().into();
            item["kind"] = kind.clone().into();
            let text = |pointer| item.pointer(pointer).and_then(Value::as_str);
            let (lower, name) = (kind.to_lowercase(), text("/metadata/name").expect("a name"));
            let name = match text("/metadata/namespace") {
                Some(namespace) => format!("{namespace}/{lower}/{name}"),
                None => format!("{lower}/{name}"),
            };
            let parsed = weft_config::read_object(&name, item);
            files.insert(name, parsed);
        }
    }
    let (world, _) = weft_config::merge(files.iter().map(|(name, parsed)| (name.as_str(), parsed)));
    let resources = Mesh::compile(&world).for_node(node).into_iter();
    let sent = resources.map(|resource| wire::decode(&wire::encode(&resource)).expect("a resource of our own"));
    sent.map(|resource| ((resource.kind(), resource.name().to_owned()), resource)).collect()
}

fn is_held(expected: &BTreeMap<(Kind, String), Resource>, held: &Held) -> bool {
    let count: usize = Kind::ALL.into_iter().map(|kind| held.len(kind)).sum();
    count == expected.len()
        && expected.iter().all(|((kind, name), resource)| held.get(*kind, name).is_some_and(|held| **held == *resource))
}

/// What differs, for whoever has to find out why.
fn difference(expected: &BTreeMap<(Kind, String), Resource>, held: &Held) -> Vec<String> {
    let differs = expected.iter().filter_map(|((kind, name), resource)| match held.get(*kind, name) {
        None => Some(format!("{kind:?} {name} is missing")),
        Some(held) if **held != *resource => Some(format!("{kind:?} {name} differs:\n  {resource:?}\n  {held:?}")),
        Some(_) => None,
    });
    let held = Kind::ALL.into_iter().flat_map(|kind| held.iter(kind).map(move |(name, _)| (kind, name.to_owned())));
    let extra = held.filter(|key| !expected.contains_key(key)).map(|(kind, name)| format!("{kind:?} {name} is extra"));
    differs.chain(extra).take(5).collect()
}

struct Round<'r> {
    server: &'r ApiServer,
    relay: &'r Relay,
    proxies: &'r mut [(Node, Proxy)],
}

impl Round<'_> {
    async fn run(&mut self, seed: u64, plane: ClusterPlane) -> ClusterPlane {
        let mut rng = fastrand::Rng::with_seed(seed);
        let client = self.server.client();
        let writers = join_all((0..WRITERS).map(|_| write(client.clone(), rng.fork(), WRITES)));
        disturb(self.server, self.relay, rng.fork(), writers).await;
        let plane = if rng.bool() { self.restart(plane).await } else { plane };
        for (node, proxy) in &mut *self.proxies {
            let expected = compiled(&client, node).await;
            let waiting = proxy.until("the final state", |held| is_held(&expected, held));
            if tokio::time::timeout(Duration::from_secs(45), waiting).await.is_err() {
                panic!("seed {seed}: {} holds something else: {:#?}", node.id(), difference(&expected, &proxy.held()));
            }
        }
        plane
    }

    async fn restart(&self, plane: ClusterPlane) -> ClusterPlane {
        let xds = plane.xds();
        plane.stop().await;
        ClusterPlane::start_at(&self.server.kubeconfig_via(self.relay.address()), xds).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_the_watches_the_final_state_is_that_of_the_final_objects() {
    let asked = std::env::var("WEFT_TORTURE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let first = std::env::var("WEFT_TORTURE_SEED").ok().and_then(|seed| seed.parse().ok());
    let (rounds, first) = (asked.unwrap_or(ROUNDS), first.unwrap_or_else(|| fastrand::u64(..1_000_000)));
    let server = ApiServer::start().await;
    server.define_all().await;
    let client = server.client();
    server.apply("apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n").await;
    create(&client, &at_cluster::edge()).await;
    let mut rng = fastrand::Rng::with_seed(first);
    for number in 0..OBJECTS {
        create(&client, &object(number, &mut rng)).await;
    }
    let relay = Relay::to(server.address()).await;
    let mut plane = ClusterPlane::start(&server.kubeconfig_via(relay.address())).await;
    let nodes = [node(Role::Gateway, "edge", "shop"), node(Role::Sidecar, "s1", "shop")];
    let mut proxies = nodes.map(|node| (node.clone(), Proxy::connect(plane.xds(), node)));
    let mut round = Round { server: &server, relay: &relay, proxies: &mut proxies };
    let start = Instant::now();
    for seed in first..first + rounds {
        if asked.is_none() && start.elapsed() > BUDGET {
            println!("stopped before seed {seed}: the time is over");
            break;
        }
        println!("seed {seed} after {:?} (again: WEFT_TORTURE_SEED={seed} WEFT_TORTURE_ROUNDS=1)", start.elapsed());
        plane = round.run(seed, plane).await;
    }
    plane.stop().await;
}
