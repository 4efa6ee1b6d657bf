//! The cluster under test: how it comes up, and what people do to it.

use serde_json::Value;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weft_testkit::kubernetes::{self, ApiServer, GATEWAY_API, ISTIO, Options};
use weft_testkit::netns::NODE_V4;
use weft_testkit::node::{Images, Node, Objects, on_a_node};

/// Pods of several processes on a small machine take a while.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Kit {
    api: ApiServer,
    node: Node,
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Skipped, with a word, only where network namespaces are not permitted.
pub(crate) fn on_a_cluster(test: impl AsyncFnOnce(Kit) + Send) {
    // from the outside: a node reaches no package mirror
    kubernetes::ensure();
    let images = Images::default().with("weft", &[env!("CARGO_BIN_EXE_weft")]);
    on_a_node(images, Objects::default(), async move |node| {
        let api = ApiServer::start_with(Options { controllers: true, address: Some(NODE_V4) }).await;
        api.define(GATEWAY_API).await;
        api.define(ISTIO).await;
        let joined = tokio::spawn({
            let (node, client) = (node.clone(), api.client());
            async move { node.join(client).await }
        });
        test(Kit { api, node }).await;
        joined.abort();
    });
}

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests")
}

impl Kit {
    /// By `weft install`, as people do.
    pub(crate) async fn install(&self) {
        let told = self.weft(&["check", "--pre"]).await;
        assert!(told.contains("everything would be taken"), "{told}");
        self.weft(&["install", "--wait", "170s"]).await;
        let told = self.weft(&["check"]).await;
        assert!(told.contains("GatewayClass weft: is accepted"), "{told}");
    }

    /// What a command of weft prints.
    pub(crate) async fn weft(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
        command.args(arguments).arg("--kubeconfig").arg(self.api.kubeconfig());
        let output = run(command).await;
        let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "weft {}: {told}", arguments.join(" "));
        told
    }

    /// manifests/cluster, less what this old API server has not got: autoscaling by container, and the new disruption budget.
    pub(crate) fn overlay(&self) -> String {
        let mut command = Command::new("kubectl");
        let output = command.arg("kustomize").arg(manifests().join("cluster")).output().expect("kubectl is installed");
        assert!(output.status.success(), "kubectl kustomize: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("YAML is UTF-8");
        let documents = text.split("\n---\n").filter(|document| !document.contains("kind: HorizontalPodAutoscaler"));
        documents.collect::<Vec<_>>().join("\n---\n").replace("policy/v1\n", "policy/v1beta1\n")
    }

    pub(crate) async fn apply(&self, yaml: &str) {
        self.try_apply(yaml).await.unwrap_or_else(|why| panic!("kubectl apply: {why}\n{yaml}"));
    }

    /// kubectl's words when it is refused.
    pub(crate) async fn try_apply(&self, yaml: &str) -> Result<(), String> {
        let mut command = self.api.kubectl();
        command.args(["apply", "--validate=false", "-f", "-"]);
        let output = fed(command, yaml).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    pub(crate) async fn get(&self, object: &str, namespace: &str) -> Value {
        self.try_get(object, namespace).await.unwrap_or_else(|| panic!("there is no {object}"))
    }

    pub(crate) async fn try_get(&self, object: &str, namespace: &str) -> Option<Value> {
        let mut command = self.kubectl(namespace);
        command.args(["get", object, "-o", "json"]);
        let output = run(command).await;
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("kubectl prints JSON"))
    }

    pub(crate) async fn delete(&self, object: &str, namespace: &str) {
        let mut command = self.kubectl(namespace);
        command.args(["delete", object]);
        done(run(command).await, "kubectl delete");
    }

    pub(crate) async fn patch(&self, object: &str, namespace: &str, patch: &Value) {
        let mut command = self.kubectl(namespace);
        command.args(["patch", object, "--type=merge", "-p", &patch.to_string()]);
        done(run(command).await, "kubectl patch");
    }

    fn kubectl(&self, namespace: &str) -> Command {
        let mut command = self.api.kubectl();
        if !namespace.is_empty() {
            command.args(["-n", namespace]);
        }
        command
    }

    /// kubectl with these arguments.
    pub(crate) async fn run(&self, arguments: &[&str]) {
        let mut command = self.api.kubectl();
        command.args(arguments);
        done(run(command).await, &format!("kubectl {}", arguments.join(" ")));
    }

    /// Asks for each of these through the gateway, again and again, over a connection of its own each time.
    pub(crate) async fn load(&self, paths: &[&'static str], every: Duration) -> Load {
        let (address, over) = (self.gateway().await, CancellationToken::new());
        let mut askers = JoinSet::new();
        for path in paths {
            askers.spawn(ask_on_and_on(address, path, every, over.clone()));
        }
        Load { over, askers }
    }

    async fn gateway(&self) -> SocketAddr {
        let service = self.get("service/shop-weft", "mall").await;
        let ip = service["spec"]["clusterIP"].as_str().and_then(|ip| ip.parse().ok());
        SocketAddr::new(ip.expect("the gateway's Service has an address"), 8080)
    }

    /// The first pod of these labels, once it is ready.
    pub(crate) async fn ready_pod(&self, namespace: &str, labels: &str) -> Value {
        let mut found = Value::Null;
        let mut last = Value::Null;
        let ready = async {
            loop {
                let pods = self.pods(namespace, labels).await;
                let conditions = |pod: &Value| pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let is_ready =
                    |pod: &&Value| conditions(pod).iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
                if let Some(pod) = pods.iter().find(is_ready) {
                    found = pod.clone();
                    return;
                }
                last = pods.first().map_or(Value::Null, |pod| pod["status"].clone());
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, ready).await.is_err() {
            let said = self.said(namespace, labels).await;
            panic!("no pod {labels} of {namespace} is ready after {PATIENCE:?}: {last}\n{said}");
        }
        found
    }

    pub(crate) async fn pods(&self, namespace: &str, labels: &str) -> Vec<Value> {
        let mut command = self.kubectl(namespace);
        command.args(["get", "pods", "-l", labels, "-o", "json"]);
        let list: Value = serde_json::from_slice(&run(command).await.stdout).unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// The last words of all containers of those pods.
    async fn said(&self, namespace: &str, labels: &str) -> String {
        let mut all = String::new();
        for pod in self.pods(namespace, labels).await {
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
            for list in ["initContainers", "containers"] {
                let containers = pod["spec"][list].as_array().into_iter().flatten();
                for name in containers.filter_map(|container| container["name"].as_str()) {
                    let log = self.node.log_of(uid, name);
                    let lines: Vec<&str> = log.lines().rev().take(25).collect();
                    let lines: Vec<&str> = lines.into_iter().rev().collect();
                    all.push_str(&format!("── {name}\n{}\n", lines.join("\n")));
                }
            }
        }
        all
    }

    /// Asks through the gateway, as somebody outside would.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Reply> {
        let address = self.gateway().await;
        request(address, method, path, body).await
    }

    /// What the gateway holds.
    pub(crate) async fn gateway_config(&self) -> String {
        let nodes = self.control_plane("/debug/syncz").await;
        let nodes: Value = serde_json::from_str(&nodes).unwrap_or_default();
        let gateway = nodes.as_array().into_iter().flatten().find_map(|node| {
            let id = node["id"].as_str()?;
            id.starts_with("router~").then(|| id.to_owned())
        });
        match gateway {
            Some(id) => self.control_plane(&format!("/debug/config?node={id}")).await.replace([' ', '\n'], ""),
            None => String::new(),
        }
    }

    pub(crate) async fn problems(&self) -> String {
        self.control_plane("/debug/problems").await
    }

    /// From each replica: data planes are connected to one of them.
    async fn control_plane(&self, path: &str) -> String {
        let mut all = String::new();
        for pod in self.pods("weft-system", "app=weft-control-plane").await {
            let Some(ip) = pod["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok()) else { continue };
            if let Ok(reply) = request(SocketAddr::new(ip, 15014), "GET", path, None).await
                && reply.status == 200
                && (all.is_empty() || reply.body.contains("router~"))
            {
                all = reply.body;
            }
        }
        all
    }

    pub(crate) async fn logs(&self, namespace: &str, labels: &str, container: &str) -> String {
        self.pods(namespace, labels).await.iter().map(|pod| self.log(pod, container)).collect()
    }

    /// Of a pod that may be gone.
    pub(crate) fn log(&self, pod: &Value, container: &str) -> String {
        self.node.log_of(pod["metadata"]["uid"].as_str().unwrap_or_default(), container)
    }

    pub(crate) async fn until(&self, what: &str, look: impl AsyncFn() -> bool) {
        let search = async {
            while !look().await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, search).await.is_ok(), "{what}: not after {PATIENCE:?}");
    }
}

/// A constant load.
pub(crate) struct Load {
    over: CancellationToken,
    askers: JoinSet<Report>,
}

#[derive(Default)]
pub(crate) struct Report {
    pub(crate) sent: usize,
    /// What was answered, or why nothing was.
    pub(crate) failed: Vec<String>,
}

impl Load {
    pub(crate) async fn end(mut self) -> Report {
        self.over.cancel();
        let mut all = Report::default();
        while let Some(report) = self.askers.join_next().await {
            let report = report.expect("it does not panic");
            all.sent += report.sent;
            all.failed.extend(report.failed);
        }
        all
    }
}

async fn ask_on_and_on(address: SocketAddr, path: &'static str, every: Duration, over: CancellationToken) -> Report {
    let mut report = Report::default();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !over.is_cancelled() {
        ticks.tick().await;
        report.sent += 1;
        match request(address, "GET", path, None).await {
            Ok(reply) if reply.status == 200 => {}
            Ok(reply) => report.failed.push(format!("{path}: {} {}", reply.status, reply.body)),
            Err(error) => report.failed.push(format!("{path}: {error}")),
        }
    }
    report
}

async fn run(mut command: Command) -> Output {
    let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output()).await;
    output.expect("it does not panic").expect("the program runs")
}

async fn fed(mut command: Command, input: &str) -> Output {
    let input = input.to_owned();
    let work = move || {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().expect("it is piped").write_all(input.as_bytes())?;
        child.wait_with_output()
    };
    tokio::task::spawn_blocking(work).await.expect("it does not panic").expect("the program runs")
}

fn done(output: Output, what: &str) {
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

/// One request over a connection of its own.
async fn request(address: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Reply> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other(format!("no answer: {text}")))?;
        let body = text.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned());
        Ok(Reply { status, body })
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.map_err(std::io::Error::from).flatten()
}
