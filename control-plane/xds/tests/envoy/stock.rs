//! A stock Envoy beside our server.

use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft_model::{Node, Resource};
use weft_testkit::envoy::Envoy;
use weft_testkit::eventually;
use weft_xds::server::{self, Catalog, NodeStatus, ResourceSet, Settings, Status};

struct Shelf(watch::Sender<Arc<ResourceSet>>);

impl Catalog for Shelf {
    fn subscribe(&self, _: &Node) -> watch::Receiver<Arc<ResourceSet>> {
        self.0.subscribe()
    }
}

pub(crate) struct Stock {
    shelf: Arc<Shelf>,
    status: Arc<Status>,
    envoy: Envoy,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl Stock {
    pub(crate) async fn start(resources: Vec<Resource>) -> Stock {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control_plane = listener.local_addr().unwrap();
        let shelf = Arc::new(Shelf(watch::Sender::new(Arc::new(ResourceSet::build(resources, None)))));
        let (status, shutdown) = (Arc::new(Status::new()), CancellationToken::new());
        let settings = Settings { shutdown: shutdown.clone(), ..Settings::default() };
        let serving = server::serve(listener, Arc::clone(&shelf) as _, Arc::clone(&status), settings);
        let server = tokio::spawn(async move { serving.await.unwrap() });
        let envoy = Envoy::start(control_plane, None).await;
        Stock { shelf, status, envoy, shutdown, server }
    }

    pub(crate) fn publish(&self, resources: Vec<Resource>) {
        let next = ResourceSet::build(resources, Some(&self.shelf.0.borrow()));
        self.shelf.0.send_replace(Arc::new(next));
    }

    /// Looks until Envoy's status has something to tell.
    pub(crate) async fn status<T>(&self, tells: impl Fn(&NodeStatus) -> Option<T>) -> T {
        eventually("Envoy's status", async || tells(self.status.snapshot().first()?)).await
    }

    /// Its status once it holds all that it should.
    pub(crate) async fn in_step(&self) -> NodeStatus {
        let whole = |status: &NodeStatus| {
            status.in_sync && ["CDS", "EDS", "LDS", "RDS", "SDS"].iter().all(|kind| status.kinds.contains_key(*kind))
        };
        self.status(|status| whole(status).then(|| status.clone())).await
    }

    /// Where a listener listens: they are all bound to port 0.
    pub(crate) async fn listener(&self, name: &str) -> SocketAddr {
        self.envoy.listener(name).await
    }

    pub(crate) async fn stop(self) {
        self.envoy.stop().await;
        self.shutdown.cancel();
        self.server.await.unwrap();
    }
}
