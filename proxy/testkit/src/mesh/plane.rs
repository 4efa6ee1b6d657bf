//! One data plane of a mesh, and what it says of itself.

use crate::client::{Client, Reply};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft_model::Node;
use weft_proxy::{AccessLog, Bind, DataPlane, Settings};

/// A running data plane. Dropped, it stops.
pub struct Plane {
    settings: Settings,
    access_log: PathBuf,
    running: Option<(CancellationToken, JoinHandle<anyhow::Result<()>>)>,
}

impl Plane {
    /// Starts it and waits until it is ready.
    pub(super) async fn start(node: Node, control_plane: SocketAddr, dir: &Path) -> Plane {
        let access_log = dir.join(format!("{}.log", node.pod));
        let settings = Settings {
            control_plane: control_plane.to_string(),
            workers: 2,
            admin: SocketAddr::new(node.address, 15000),
            metrics: SocketAddr::new(node.address, 15090),
            access_log: AccessLog::File(access_log.clone()),
            otlp: None,
            state_file: Some(dir.join(format!("{}.state", node.pod))),
            drain: Duration::from_secs(20),
            node,
        };
        let mut plane = Plane { settings, access_log, running: None };
        plane.resume().await;
        plane
    }

    /// Starts it again after [`Plane::stop`], with the same settings.
    pub async fn resume(&mut self) {
        let shutdown = CancellationToken::new();
        let plane = DataPlane::new(self.settings.clone(), Arc::new(Bind));
        self.running = Some((shutdown.clone(), tokio::spawn(plane.run(shutdown))));
        let admin = self.settings.admin;
        crate::eventually("a ready data plane", || async move {
            tokio::net::TcpStream::connect(admin).await.ok()?;
            let mut client = Client::http1(admin).await;
            let request =
                client.request("GET", "localhost", "/ready").body(crate::client::body("")).expect("a request");
            let reply = client.try_send(request).await.ok()?;
            (reply.status == 200).then_some(())
        })
        .await;
    }

    /// Asks it to drain and waits for its end.
    pub async fn stop(&mut self) {
        let (shutdown, running) = self.running.take().expect("it runs");
        shutdown.cancel();
        crate::in_time("the data plane's end", running).await.expect("no panic").expect("no error");
    }

    /// Its own address, with a port.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.settings.node.address, port)
    }

    /// Its explicit proxy.
    pub fn outbound(&self) -> SocketAddr {
        self.at(15001)
    }

    /// The access log so far.
    ///
    /// # Panics
    /// When a line is not JSON.
    pub fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.access_log).unwrap_or_default();
        // the last line may be half written
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// Waits for records of this path, and returns all of them when there are so many.
    pub async fn logged(&self, path: &str, count: usize) -> Vec<Value> {
        let found = || self.log().into_iter().filter(|record| record["path"] == path).collect::<Vec<_>>();
        crate::eventually(&format!("{count} records of {path}"), || async {
            let found = found();
            (found.len() >= count).then_some(found)
        })
        .await
    }

    /// Asks the admin port.
    pub async fn admin(&self, path: &str) -> Reply {
        Client::http1(self.settings.admin).await.get("localhost", path).await
    }

    /// The whole Prometheus page.
    pub async fn metrics(&self) -> String {
        Client::http1(self.settings.metrics).await.get("localhost", "/stats/prometheus").await.text()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Some((shutdown, _)) = &self.running {
            shutdown.cancel();
        }
    }
}
