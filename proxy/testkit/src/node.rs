//! A cluster's node without a cluster: pods as local programs, each in a network namespace of its own.
//!
//! Whether an injected pod works is seen only when something runs it as a kubelet does: init containers one after the
//! other, native sidecars before the app and after it, probes from outside, a grace at the end, status told back. This does
//! so with what one machine has. A container is a program that runs on the machine's own files, over which it sees its
//! volumes and its own `/etc/hosts`; what it writes elsewhere is gone with it. An image is a name for a program
//! ([`Images`]). Service addresses work for every pod, in the mesh or not, as kube-proxy makes them work.
//!
//! Left out, since nothing here needs it: cgroups, users' namespaces, a shared process namespace, resource limits, HTTPS and
//! gRPC in probes (they are probed as TCP).
//!
//! All ends with the [`Node`]; what a killed test left is removed by the next one that makes a namespace.

mod cluster;
mod container;
mod objects;
mod pod;
mod probe;
mod report;
mod sandbox;
mod services;

pub use objects::Objects;
pub use pod::RunningPod;
pub use services::ServiceAddress;

use crate::netns::{Network, is_left_behind};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// Its name in a cluster.
pub const NODE: &str = "node";

/// What its directory's name begins with, before the id of the process whose it is.
const PREFIX: &str = "weft-node-";

/// What runs for a container, by its image's name: as written, or without registry and tag.
#[derive(Clone, Debug, Default)]
pub struct Images(BTreeMap<String, Vec<String>>);

/// A node, and the pods that it runs.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

struct Shared {
    network: Network,
    images: Images,
    objects: Objects,
    directory: TempDir,
    services: services::Services,
}

impl Images {
    /// `command` is what the image starts by itself: a pod's `command` is instead of it, a pod's `args` come after it.
    /// A `command` whose program has the same file name runs this program.
    pub fn with(mut self, image: &str, command: &[&str]) -> Images {
        self.0.insert(image.to_owned(), command.iter().map(|&word| word.to_owned()).collect());
        self
    }

    /// The whole command of a container.
    fn command(&self, image: &str, command: Option<&[String]>, args: &[String]) -> Result<Vec<String>, String> {
        let short = image.rsplit('/').next().unwrap_or(image).split([':', '@']).next().unwrap_or(image);
        let own = self.0.get(image).or_else(|| self.0.get(short));
        let own =
            own.ok_or_else(|| format!("no program is known for the image {image:?}: name one by Images::with"))?;
        let file_name = |path: &str| path.rsplit('/').next().map(str::to_owned);
        let mut words = match command {
            None | Some([]) => own.clone(),
            Some(words) => words.to_vec(),
        };
        if let (Some(first), Some(program)) = (words.first_mut(), own.first())
            && file_name(first) == file_name(program)
        {
            first.clone_from(program);
        }
        words.extend(args.iter().cloned());
        Ok(words)
    }
}

/// Runs `test` in a node's network, with a runtime of its own: what it listens on and whom it calls is the node's. Without
/// leave to make namespaces it says so, and does nothing.
///
/// # Panics
/// As `test` does.
pub fn on_a_node<F, T>(images: Images, objects: Objects, test: F)
where
    F: FnOnce(Node) -> T + Send,
    T: Future<Output = ()>,
{
    let Some(network) = Network::new() else { return };
    remove_left_behind();
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let directory = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a directory for the pods");
    let services = services::Services::default();
    let node = Node { shared: Arc::new(Shared { network, images, objects, directory, services }) };
    let kept = node.clone();
    kept.shared.network.node().run(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(test(node));
    });
}

/// Directories of tests that did not live to remove them.
fn remove_left_behind() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if is_left_behind(&entry.file_name().to_string_lossy(), PREFIX) {
            // Another test may have been faster.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Node {
    /// Starts a pod, which may be bound to any node or none.
    ///
    /// # Panics
    /// When it is no pod.
    pub fn run_pod(&self, pod: &Value) -> RunningPod {
        let pod: Pod = serde_json::from_value(pod.clone()).expect("a Pod");
        self.start(pod)
    }

    fn start(&self, pod: Pod) -> RunningPod {
        RunningPod::start(self.shared.clone(), pod)
    }

    /// Makes these Services' addresses lead to these endpoints, instead of the ones before.
    ///
    /// # Panics
    /// When the rules cannot be made.
    pub fn serve(&self, services: Vec<ServiceAddress>) {
        self.shared.services.replace(&self.shared.network, services);
    }

    /// Runs the pods that this API server knows, wherever they are bound, and its Services, until the future is dropped.
    /// Their status is told back.
    ///
    /// # Panics
    /// When it joined one before.
    pub async fn join(&self, client: kube::Client) {
        self.shared.objects.ask(client.clone());
        cluster::run(self.clone(), client).await;
    }

    /// What a container of a pod of that uid has printed.
    pub fn log_of(&self, uid: &str, container: &str) -> String {
        std::fs::read_to_string(self.shared.pod_directory(uid).join(format!("{container}.log"))).unwrap_or_default()
    }

    pub fn network(&self) -> &Network {
        &self.shared.network
    }
}

impl Shared {
    fn pod_directory(&self, uid: &str) -> PathBuf {
        self.directory.path().join("pods").join(uid)
    }

    fn claim_directory(&self, namespace: &str, name: &str) -> PathBuf {
        self.directory.path().join("claims").join(namespace).join(name)
    }
}
