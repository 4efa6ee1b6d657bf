//! A control plane on real files and ports, and proxies that only hold what they are given.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft_control_plane::{ControlPlane, Settings};
use weft_model::node::Role;
use weft_model::{Kind, Node, Resource};
use weft_xds::client::{Client, Held, Nack, Sink};

/// Longer than anything takes that comes at all.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Plane {
    pub(crate) xds: SocketAddr,
    pub(crate) monitoring: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Plane {
    pub(crate) async fn start(dirs: &[PathBuf]) -> Plane {
        Plane::start_at(dirs, (Ipv4Addr::LOCALHOST, 0).into()).await
    }

    pub(crate) async fn start_at(dirs: &[PathBuf], xds: SocketAddr) -> Plane {
        let monitoring = (Ipv4Addr::LOCALHOST, 0).into();
        Plane::start_with(Settings { dirs: dirs.to_vec(), kubernetes: None, xds, monitoring }).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Plane {
        let bound = ControlPlane::new(settings).bind().await.unwrap();
        let (xds, monitoring) = (bound.xds_addr(), bound.monitoring_addr());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(bound.run(shutdown.clone()));
        Plane { xds, monitoring, shutdown, task }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(LONG, self.task).await.expect("the control plane ends");
        ended.unwrap().unwrap();
    }

    /// Status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.monitoring).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Asks until the answer fits.
    pub(crate) async fn until(&self, path: &str, fits: impl Fn(u16, &str) -> bool) -> String {
        let asking = async {
            loop {
                let (status, body) = self.get(path).await;
                if fits(status, &body) {
                    return body;
                }
            }
        };
        tokio::time::timeout(LONG, asking).await.unwrap_or_else(|_| panic!("{path} never answers as it should"))
    }
}

pub(crate) fn node(role: Role, name: &str, namespace: &str) -> Node {
    Node {
        role,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        pod: name.into(),
        namespace: namespace.into(),
        workload: name.into(),
        labels: BTreeMap::from([("app".into(), name.into())]),
        app_address: None,
        interception: false,
        locality: Default::default(),
    }
}

struct Collect {
    held: watch::Sender<Held>,
    /// Names of route tables that this proxy will not have.
    refuses: Option<String>,
    brake: Brake,
}

/// Holds a proxy up on its way from hearing to obeying.
#[derive(Clone, Default)]
pub(crate) struct Brake(Arc<(Mutex<bool>, Condvar)>);

impl Brake {
    pub(crate) fn pull(&self) {
        *self.0.0.lock().unwrap() = true;
    }

    pub(crate) fn release(&self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let (pulled, released) = &*self.0;
        drop(released.wait_while(pulled.lock().unwrap(), |pulled| *pulled).unwrap());
    }
}

impl Sink for Collect {
    fn apply(&mut self, held: &Held) -> Result<(), Vec<Nack>> {
        tokio::task::block_in_place(|| self.brake.wait());
        let refused = held.route_tables().find(|table| {
            let paths = format!("{table:?}");
            self.refuses.as_ref().is_some_and(|word| paths.contains(word))
        });
        if let Some(table) = refused {
            let reason = "no proxy can do this".into();
            return Err(vec![Nack { kind: Kind::RouteTable, name: table.name.clone(), reason }]);
        }
        self.held.send_replace(held.clone());
        Ok(())
    }
}

/// A proxy that holds and does nothing.
pub(crate) struct Proxy {
    held: watch::Receiver<Held>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) fn connect(xds: SocketAddr, node: Node) -> Proxy {
        Proxy::connect_as(xds, node, None, Brake::default())
    }

    /// Obeys nothing for as long as its brake is pulled.
    pub(crate) fn connect_braked(xds: SocketAddr, node: Node, brake: Brake) -> Proxy {
        Proxy::connect_as(xds, node, None, brake)
    }

    /// Refuses every route table that has this word in it.
    pub(crate) fn connect_refusing(xds: SocketAddr, node: Node, word: &str) -> Proxy {
        Proxy::connect_as(xds, node, Some(word.to_owned()), Brake::default())
    }

    fn connect_as(xds: SocketAddr, node: Node, refuses: Option<String>, brake: Brake) -> Proxy {
        let (sender, held) = watch::channel(Held::default());
        let sink = Collect { held: sender, refuses, brake };
        let shutdown = CancellationToken::new();
        let running = shutdown.clone();
        let client = Client::new(xds.to_string(), node, None);
        let task = tokio::spawn(async move { client.run(sink, running).await });
        Proxy { held, shutdown, task }
    }

    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&Held) -> bool) -> Held {
        let held = tokio::time::timeout(LONG, self.held.wait_for(|held| holds(held))).await;
        held.unwrap_or_else(|_| panic!("{what} never came")).unwrap().clone()
    }

    pub(crate) fn held(&self) -> Held {
        self.held.borrow().clone()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(LONG, self.task).await.expect("the client ends").unwrap();
    }
}

/// What is not the very same in both: resent, new or gone.
pub(crate) fn difference(before: &Held, after: &Held) -> BTreeSet<(Kind, String)> {
    let is_same = |kind: Kind, name: &str| match (before.get(kind, name), after.get(kind, name)) {
        (Some(before), Some(after)) => Arc::ptr_eq(before, after),
        _ => false,
    };
    let names = |held: &Held| {
        let all = Kind::ALL.into_iter().flat_map(|kind| held.iter(kind).map(move |(name, _)| (kind, name.to_owned())));
        all.collect::<BTreeSet<_>>()
    };
    names(before).union(&names(after)).filter(|(kind, name)| !is_same(*kind, name)).cloned().collect()
}

/// Whether a route to that path is held.
pub(crate) fn routes(held: &Held, path: &str) -> bool {
    held.iter(Kind::RouteTable).any(|(_, resource)| match &**resource {
        Resource::RouteTable(table) => {
            let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
            routes.into_iter().any(|route| format!("{:?}", route.matches.path).contains(&format!("{path:?}")))
        }
        _ => false,
    })
}

/// As a careful editor saves: never half a file.
pub(crate) fn save(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    let temporary = path.with_file_name(format!(".{name}.tmp"));
    std::fs::write(&temporary, text).unwrap();
    std::fs::rename(&temporary, &path).unwrap();
}

pub(crate) fn service(name: &str, namespace: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{ name: {name}, namespace: {namespace} }}
spec:
  selector: {{ app: {name} }}
  ports: [{{ name: http, port: 8080 }}]
"
    )
}

/// Who serves it.
pub(crate) fn endpoints(service: &str, namespace: &str, addresses: &[&str]) -> String {
    let endpoints = addresses.iter().map(|address| format!("  - addresses: [{address}]\n")).collect::<String>();
    format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: {service}-1, namespace: {namespace}, labels: {{ kubernetes.io/service-name: {service} }} }}
addressType: IPv4
ports: [{{ name: http, port: 8080 }}]
endpoints:
{endpoints}"
    )
}

pub(crate) fn gateway() -> String {
    "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: edge, namespace: shop }
spec:
  gatewayClassName: weft
  listeners: [{ name: http, port: 8080, protocol: HTTP }]
"
    .into()
}

/// Of the gateway, to the service of the same name.
pub(crate) fn route(name: &str, path: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: {name}, namespace: shop }}
spec:
  parentRefs: [{{ name: edge }}]
  rules:
    - matches: [{{ path: {{ type: PathPrefix, value: {path} }} }}]
      backendRefs: [{{ name: {name}, port: 8080 }}]
"
    )
}

/// A shop of two services behind a gateway.
pub(crate) fn shop() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    save(directory.path(), "gateway.yaml", &gateway());
    for name in ["order", "product"] {
        save(directory.path(), &format!("{name}.yaml"), &service(name, "shop"));
        save(directory.path(), &format!("{name}-route.yaml"), &route(name, &format!("/{name}")));
    }
    directory
}
