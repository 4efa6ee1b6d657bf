//! The control plane of both: a server of ours that gives every node the same.

use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft_model::{Node, Resource};
use weft_testkit::eventually;
use weft_xds::server::{self, Catalog, ResourceSet, Settings, Status};

pub(crate) struct Control {
    pub(crate) address: SocketAddr,
    status: Arc<Status>,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

struct Shelf(watch::Sender<Arc<ResourceSet>>);

impl Catalog for Shelf {
    fn subscribe(&self, _: &Node) -> watch::Receiver<Arc<ResourceSet>> {
        self.0.subscribe()
    }
}

impl Control {
    pub(crate) async fn start(mut resources: Vec<Resource>) -> Control {
        let any = "127.0.0.1:0".parse().unwrap();
        resources.push(Resource::Listener(super::listener(any)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shelf = Arc::new(Shelf(watch::Sender::new(Arc::new(ResourceSet::build(resources, None)))));
        let (status, shutdown) = (Arc::new(Status::new()), CancellationToken::new());
        let settings = Settings { shutdown: shutdown.clone(), ..Settings::default() };
        let serving = server::serve(listener, shelf, status.clone(), settings);
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Control { address, status, shutdown, server }
    }

    /// Waits until a pod holds all that it should.
    ///
    /// # Panics
    /// When it refuses anything, with its words.
    pub(super) async fn in_step(&self, pod: &str) {
        eventually(&format!("{pod} in step"), async || {
            let all = self.status.snapshot();
            let status = all.iter().find(|status| status.node.pod == pod)?;
            assert_eq!(status.last_nack, None, "{pod} refuses");
            // Envoy's listener does not come from here
            let has = |kind: &str| status.kinds.get(kind).is_some_and(|kind| kind.in_sync);
            ["CDS", "EDS", "RDS"].into_iter().all(has).then_some(())
        })
        .await;
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.server.await.unwrap();
    }
}
