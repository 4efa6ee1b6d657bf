//! Resources, a catalog, a server, and a sink that tells what it was given.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft_model::listener::{Binding, ChainMatch, Direction, FilterChain, Handler, HttpHandler};
use weft_model::node::Role;
use weft_model::route::VirtualHost;
use weft_model::{Cluster, Endpoint, Endpoints, Kind, Listener, Node, Resource, RouteTable};
use weft_xds::client::{Client, Held, Nack, Sink};
use weft_xds::server::{self, Catalog, NodeStatus, ResourceSet, Settings, Status};

pub(crate) fn node(pod: &str) -> Node {
    Node {
        role: Role::Sidecar,
        address: "127.0.1.2".parse().unwrap(),
        pod: pod.into(),
        namespace: "default".into(),
        workload: "order".into(),
        labels: BTreeMap::from([("app".into(), "order".into())]),
        app_address: Some("127.0.2.2".parse().unwrap()),
        interception: false,
        locality: Default::default(),
    }
}

pub(crate) fn cluster(name: &str) -> Resource {
    Resource::Cluster(Cluster::new(name))
}

pub(crate) fn endpoints(name: &str, ports: &[u16]) -> Resource {
    let endpoint = |port: &u16| Endpoint::at(SocketAddr::from(([127, 0, 1, 3], *port)));
    let endpoints = ports.iter().map(endpoint).collect();
    Resource::Endpoints(Endpoints { cluster: name.into(), endpoints, ..Endpoints::default() })
}

/// A listener that is routed by the table of the same name.
pub(crate) fn listener(name: &str) -> Resource {
    let handler = Handler::Http(HttpHandler::new(name));
    let chain = FilterChain { name: String::new(), matches: ChainMatch::default(), tls: None, handler };
    Resource::Listener(Listener {
        name: name.into(),
        address: "127.0.0.1:80".parse().unwrap(),
        binding: Binding::Socket,
        direction: Direction::Outbound,
        chains: vec![chain],
        detect_timeout: None,
    })
}

/// `revision` is its content.
pub(crate) fn table(name: &str, revision: &str) -> Resource {
    let host = VirtualHost { name: revision.into(), domains: vec!["*".into()], routes: vec![] };
    Resource::RouteTable(RouteTable { name: name.into(), virtual_hosts: vec![host] })
}

/// A shop's worth: one cluster, one listener, one table.
pub(crate) fn small(revision: &str) -> Vec<Resource> {
    vec![cluster("order"), endpoints("order", &[8080]), listener("edge"), table("edge", revision)]
}

pub(crate) fn revision(held: &Held, name: &str) -> Option<String> {
    Some(held.route_table(name)?.virtual_hosts[0].name.clone())
}

/// What each pod should hold.
#[derive(Default)]
pub(crate) struct Shelf {
    pods: Mutex<HashMap<String, watch::Sender<Arc<ResourceSet>>>>,
}

impl Shelf {
    pub(crate) fn put(&self, pod: &str, resources: Vec<Resource>) {
        let mut pods = self.pods.lock().unwrap();
        let sender = pods.entry(pod.into()).or_default();
        let next = ResourceSet::build(resources, Some(&sender.borrow()));
        sender.send_replace(Arc::new(next));
    }
}

impl Catalog for Shelf {
    fn subscribe(&self, node: &Node) -> watch::Receiver<Arc<ResourceSet>> {
        self.pods.lock().unwrap().entry(node.pod.clone()).or_default().subscribe()
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) status: Arc<Status>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::start_on("127.0.0.1:0".parse().unwrap(), Arc::default()).await
    }

    pub(crate) async fn start_on(address: SocketAddr, shelf: Arc<Shelf>) -> Server {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(Status::new());
        let shutdown = CancellationToken::new();
        let settings = Settings { shutdown: shutdown.clone(), ..Settings::default() };
        let serving = server::serve(listener, Arc::clone(&shelf) as _, Arc::clone(&status), settings);
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Server { address, shelf, status, shutdown, task }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        within(self.task).await.unwrap();
    }

    /// Looks until the node's status is as asked.
    pub(crate) async fn status_of(&self, pod: &str, fits: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
        let look = async {
            loop {
                let found = self.status.snapshot().into_iter().find(|status| status.node.pod == pod && fits(status));
                match found {
                    Some(status) => return status,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        within(look).await
    }
}

/// A hang is a failure, and not a hang.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it comes to pass")
}

/// Refuses route tables of these revisions.
pub(crate) struct Recorder {
    seen: mpsc::UnboundedSender<Held>,
    refuses: &'static str,
}

impl Sink for Recorder {
    fn apply(&mut self, held: &Held) -> Result<(), Vec<Nack>> {
        let refused = held.route_tables().filter(|table| table.virtual_hosts[0].name == self.refuses);
        let nack = |table: &RouteTable| Nack {
            kind: Kind::RouteTable,
            name: table.name.clone(),
            reason: "virtual_hosts[0]: unheard of".into(),
        };
        let nacks: Vec<Nack> = refused.map(nack).collect();
        if nacks.is_empty() {
            self.seen.send(held.clone()).ok();
            Ok(())
        } else {
            Err(nacks)
        }
    }
}

pub(crate) struct Running {
    seen: mpsc::UnboundedReceiver<Held>,
    pub(crate) ready: watch::Receiver<bool>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(address: SocketAddr, pod: &str, state_file: Option<std::path::PathBuf>) -> Running {
        let (sender, seen) = mpsc::unbounded_channel();
        let client = Client::new(address.to_string(), node(pod), state_file);
        let ready = client.ready();
        let shutdown = CancellationToken::new();
        let recorder = Recorder { seen: sender, refuses: "bad" };
        let task = tokio::spawn(client.run(recorder, shutdown.clone()));
        Running { seen, ready, shutdown, task }
    }

    /// Waits until what is held is as asked.
    pub(crate) async fn holds(&mut self, fits: impl Fn(&Held) -> bool) -> Held {
        let look = async {
            loop {
                let held = self.seen.recv().await.expect("the client runs");
                if fits(&held) {
                    return held;
                }
            }
        };
        within(look).await
    }

    /// What was applied and not looked at yet.
    pub(crate) fn applied_since(&mut self) -> usize {
        std::iter::from_fn(|| self.seen.try_recv().ok()).count()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        within(self.task).await.unwrap();
    }
}
