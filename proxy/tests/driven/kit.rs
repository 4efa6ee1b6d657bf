//! A data plane that is driven by resources: what YAML cannot say yet, xDS can.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use weft_model::balancer::Balancer;
use weft_model::cluster::Discovery;
use weft_model::health_check::{HealthCheck, Probe};
use weft_model::listener::{Binding, ChainMatch, Direction, FilterChain, Handler, HttpHandler};
use weft_model::node::Role;
use weft_model::route::{Action, Backend, Forward, Route, Target, VirtualHost};
use weft_model::{Cluster, Endpoint, Listener, Node, Resource, RouteTable};
use weft_proxy::{AccessLog, Bind, DataPlane, Settings};
use weft_testkit::client::body;
use weft_testkit::{Client, Reply, eventually, nobody};
use weft_xds::server::{self, Catalog, ResourceSet, Status};

/// So long that a test would fail before.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);
pub(crate) const SOON: Duration = Duration::from_millis(5);

/// The cluster's name in every test.
const NAME: &str = "shop";
const TABLE: &str = "table";

struct Shelf(watch::Sender<Arc<ResourceSet>>);

impl Catalog for Shelf {
    fn subscribe(&self, _: &Node) -> watch::Receiver<Arc<ResourceSet>> {
        self.0.subscribe()
    }
}

/// A data plane with one listener, whose requests all go to one cluster.
pub(crate) struct Driven {
    shelf: Arc<Shelf>,
    status: Arc<Status>,
    address: SocketAddr,
    admin: SocketAddr,
    generation: u32,
    handler: HttpHandler,
    route: Route,
    _stop: DropGuard,
}

impl Driven {
    pub(crate) async fn by(cluster: Cluster) -> Driven {
        Driven::through(handler(), route(Forward::default()), cluster).await
    }

    /// As [`Driven::by`], through this handler and this route.
    pub(crate) async fn through(handler: HttpHandler, route: Route, cluster: Cluster) -> Driven {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control_plane = listener.local_addr().unwrap();
        let (shelf, shutdown) = (Arc::new(Shelf(watch::Sender::default())), CancellationToken::new());
        let status = Arc::new(Status::new());
        let settings = server::Settings { shutdown: shutdown.clone(), ..Default::default() };
        tokio::spawn(server::serve(listener, shelf.clone(), status.clone(), settings));
        let (address, admin, metrics) = (nobody(), nobody(), nobody());
        let settings = Settings {
            node: node(),
            control_plane: control_plane.to_string(),
            workers: 1,
            admin,
            metrics,
            access_log: AccessLog::Off,
            otlp: None,
            state_file: None,
            drain: Duration::ZERO,
        };
        tokio::spawn(DataPlane::new(settings, Arc::new(Bind)).run(shutdown.clone()));
        let mut driven =
            Driven { shelf, status, address, admin, generation: 0, handler, route, _stop: shutdown.drop_guard() };
        driven.put(cluster).await;
        driven
    }

    /// Gives it this cluster, and waits until it serves it.
    pub(crate) async fn put(&mut self, cluster: Cluster) {
        self.generation += 1;
        let generation = format!("generation-{}", self.generation);
        self.publish(vec![Resource::Cluster(cluster), Resource::Listener(self.listener()), self.table(&generation)]);
        let admin = self.admin;
        let live = || async {
            tokio::net::TcpStream::connect(admin).await.ok()?;
            let dump = Client::http1(admin).await.get("localhost", "/config_dump").await.text();
            dump.contains(&generation).then_some(())
        };
        eventually("the newest configuration", live).await;
    }

    /// Offers it its listener, changed in a way that it refuses; its words.
    pub(crate) async fn refuses(&self, cluster: Cluster, change: impl FnOnce(&mut Listener)) -> String {
        let mut listener = self.listener();
        change(&mut listener);
        let generation = format!("generation-{}", self.generation);
        self.publish(vec![Resource::Cluster(cluster), Resource::Listener(listener), self.table(&generation)]);
        let refusal = || async { self.status.snapshot().first()?.last_nack.clone() };
        eventually("a refusal", refusal).await.text
    }

    fn publish(&self, resources: Vec<Resource>) {
        self.shelf.0.send_modify(|set| *set = Arc::new(ResourceSet::build(resources, Some(set))));
    }

    fn listener(&self) -> Listener {
        let handler = Handler::Http(self.handler.clone());
        let chain = FilterChain { name: String::new(), matches: ChainMatch::default(), tls: None, handler };
        Listener {
            name: "listener".into(),
            address: self.address,
            binding: Binding::Socket,
            direction: Direction::Outbound,
            chains: vec![chain],
            detect_timeout: None,
        }
    }

    fn table(&self, generation: &str) -> Resource {
        let (name, domains, routes) = (generation.to_owned(), vec!["*".into()], vec![self.route.clone()]);
        Resource::RouteTable(RouteTable {
            name: TABLE.into(),
            virtual_hosts: vec![VirtualHost { name, domains, routes }],
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        Client::http1(self.address).await.get("shop", path).await
    }

    /// A request that comes by way of these hops.
    pub(crate) async fn get_for(&self, forwarded_for: &str) -> Reply {
        self.get_with("x-forwarded-for", forwarded_for).await
    }

    /// A request with this header.
    pub(crate) async fn get_with(&self, name: &str, value: &str) -> Reply {
        let mut client = Client::http1(self.address).await;
        let request = client.request("GET", "shop", "/").header(name, value);
        client.send(request.body(body("")).unwrap()).await
    }

    /// The status and words of a page of its admin.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        let reply = Client::http1(self.admin).await.get("localhost", path).await;
        (reply.status.as_u16(), reply.text())
    }

    /// Its statistic of the cluster.
    pub(crate) async fn stat(&self, name: &str) -> u64 {
        let (_, stats) = self.admin("/stats").await;
        let prefix = format!("cluster.{NAME}.{name}: ");
        let value = stats.lines().find_map(|line| line.strip_prefix(&prefix));
        value.unwrap_or_else(|| panic!("no {prefix} in {stats}")).parse().unwrap()
    }

    /// Waits until a request is answered so.
    pub(crate) async fn answers(&self, status: u16) {
        let answered = || async { (self.get("/").await.status == status).then_some(()) };
        eventually(&format!("an answer {status}"), answered).await;
    }
}

fn node() -> Node {
    Node {
        role: Role::Gateway,
        address: "127.0.0.1".parse().unwrap(),
        pod: "edge-0".into(),
        namespace: "default".into(),
        workload: "edge".into(),
        labels: Default::default(),
        app_address: None,
        interception: false,
        locality: Default::default(),
    }
}

/// By the only table there is.
pub(crate) fn handler() -> HttpHandler {
    HttpHandler::new(TABLE)
}

/// Everything, to the only cluster there is.
pub(crate) fn route(forward: Forward) -> Route {
    let backend = Backend::new(Target::Cluster(NAME.into()), 1);
    Route::all("all", Action::Forward(Forward { backends: vec![backend], ..forward }))
}

/// Of these members, which takes turns and refuses rather than panics.
pub(crate) fn cluster(members: &[SocketAddr], checks: Vec<HealthCheck>) -> Cluster {
    let mut cluster = Cluster::new(NAME);
    cluster.discovery = Discovery::Static(members.iter().copied().map(Endpoint::at).collect());
    cluster.balancer = Balancer::RoundRobin;
    cluster.balancing.panic_threshold = 0;
    cluster.health_checks = checks;
    cluster
}

/// A check that is made again soon, and of which one result is enough.
pub(crate) fn check(probe: Probe) -> HealthCheck {
    HealthCheck {
        timeout: NEVER,
        interval: SOON,
        no_traffic_interval: SOON,
        interval_jitter: Duration::ZERO,
        unhealthy_threshold: 1,
        healthy_threshold: 1,
        reuse_connection: true,
        probe,
    }
}

/// `GET /healthz`, where 500 to 599 may pass.
pub(crate) fn http() -> Probe {
    Probe::Http {
        host: String::new(),
        path: "/healthz".into(),
        method: "GET".into(),
        expected: vec![],
        retriable: vec![500..=599],
        http2: false,
    }
}
