//! A real Kubernetes API server for tests: etcd, `kube-apiserver` and, where asked for, the controllers.
//!
//! Whether a watch survives what API servers do (compacted histories, dropped connections, conflicts, denied
//! verbs) is for a real one to say. There is no cluster in a test's reach, but the control plane of one is only
//! programs: `build.sh` makes them of Debian's packages on first use, which takes minutes, into
//! `target/peers/kubernetes`. `WEFT_KUBERNETES_PROGRAMS` names another directory, so that a second checkout or a CI cache
//! need not build again.
//!
//! Every server is private: ports of its own (below 32768, where no outgoing connection takes them), a throwaway
//! authority, a temporary directory. All of it ends when the [`ApiServer`] is dropped, or its process ends.

mod binaries;
mod crds;
mod credentials;
mod process;

pub use binaries::{Program, ensure, program};
pub use crds::{CustomKind, GATEWAY_API, ISTIO, WEFT};

use crate::tls::Ca;
use credentials::Credentials;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use process::{Process, free_port};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// An API server starts in some seconds; on a busy machine in more.
const STARTS_WITHIN: Duration = Duration::from_secs(120);

/// Where pods find the API server: the first address of the Services' range.
pub(crate) const SERVICE_IP: &str = "10.96.0.1";

/// What runs beside etcd and the API server, and where.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The address that pods reach it at, its node's; `None`: only its own machine does.
    pub address: Option<Ipv4Addr>,
    /// Deployments get pods, Services EndpointSlices, ServiceAccounts tokens, and what is owned by a deleted object goes too.
    pub controllers: bool,
}

/// A running API server. Dropped, it ends and leaves nothing.
pub struct ApiServer {
    // ended in this order
    controllers: Option<Process>,
    api: Process,
    etcd: Process,
    address: SocketAddr,
    etcd_port: u16,
    credentials: Credentials,
    client: Client,
    kubeconfig: PathBuf,
    directory: TempDir,
}

impl ApiServer {
    /// With etcd and nothing else: no controllers, and pods need no ServiceAccount.
    pub async fn start() -> ApiServer {
        ApiServer::start_with(Options::default()).await
    }

    /// With Kubernetes' controllers (all that need no node and no cloud).
    pub async fn start_with_controllers() -> ApiServer {
        ApiServer::start_with(Options { controllers: true, ..Options::default() }).await
    }

    /// # Panics
    /// When it does not come up; the message ends with what the program that failed said.
    pub async fn start_with(options: Options) -> ApiServer {
        tokio::task::spawn_blocking(binaries::ensure).await.expect("the message above says why");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        let credentials = Credentials::new(path, options.address.unwrap_or(Ipv4Addr::LOCALHOST));
        let (etcd, etcd_port) = start_etcd(path);
        wait_for_port(&etcd, etcd_port).await;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let api = start_api(path, address.port(), etcd_port, options);
        let kubeconfig = credentials.kubeconfig(path, "admin", &["system:masters"], &format!("https://{address}"));
        let client = client_of(&kubeconfig).await;
        let mut server =
            ApiServer { controllers: None, api, etcd, address, etcd_port, credentials, client, kubeconfig, directory };
        server.until_ready(Options::default()).await;
        if options.controllers {
            // Only now: they give up on a server that is not well after 10 s.
            server.controllers = Some(start_controllers(server.directory.path(), &server.kubeconfig));
            server.until_ready(options).await;
        }
        server
    }

    /// As an administrator. The kubeconfig file is [`ApiServer::kubeconfig`].
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where it listens (HTTPS).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority of its certificate, PEM.
    pub fn ca_pem(&self) -> String {
        self.credentials.ca.pem()
    }

    /// A kubeconfig of another user, whom nothing is allowed until somebody allows it.
    pub fn kubeconfig_of(&self, user: &str, groups: &[&str]) -> PathBuf {
        self.credentials.kubeconfig(self.directory.path(), user, groups, &format!("https://{}", self.address))
    }

    /// The administrator's kubeconfig with another address, such as that of a [`crate::relay::Relay`].
    pub fn kubeconfig_via(&self, address: SocketAddr) -> PathBuf {
        let groups = ["system:masters"];
        self.credentials.kubeconfig(self.directory.path(), "via", &groups, &format!("https://{address}"))
    }

    /// A client of that kubeconfig.
    pub async fn client_of(&self, kubeconfig: &Path) -> Client {
        client_of(kubeconfig).await
    }

    /// `kubectl` as an administrator, to be given its arguments.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(program(Program::Kubectl));
        command.arg("--kubeconfig").arg(&self.kubeconfig).env("HOME", self.directory.path());
        command
    }

    /// `kubectl apply` of this YAML.
    ///
    /// # Panics
    /// When it is refused, with kubectl's words.
    pub async fn apply(&self, yaml: &str) {
        let file = tempfile::NamedTempFile::new_in(self.directory.path()).expect("a temporary file");
        std::fs::write(file.path(), yaml).expect("a temporary file");
        let mut command = self.kubectl();
        command.args(["apply", "--validate=false", "-f"]).arg(file.path());
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it does not panic");
        let output = output.expect("kubectl runs");
        assert!(output.status.success(), "kubectl apply: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Forgets the history: a watch that asks for an older version is told 410 Gone.
    ///
    /// # Panics
    /// When etcd does not do it.
    pub async fn compact(&self) {
        let url = format!("http://127.0.0.1:{}", self.etcd_port);
        let script = "import json,sys,urllib.request as r\n\
            def post(p,b):\n  q=r.Request(sys.argv[1]+p,json.dumps(b).encode(),{'content-type':'application/json'})\n  \
            return json.load(r.build_opener(r.ProxyHandler({})).open(q))\n\
            v=post('/v3/kv/range',{'key':'AA=='})['header']['revision']\n\
            post('/v3/kv/compaction',{'revision':v,'physical':True})\n";
        let output = tokio::process::Command::new("python3").args(["-c", script, &url]).output().await;
        let output = output.expect("python3 runs");
        assert!(output.status.success(), "etcd: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Answers to `/readyz`, has its first namespace, and with controllers that namespace's ServiceAccount.
    async fn until_ready(&self, options: Options) {
        let search = async {
            loop {
                if self.is_ready(options).await {
                    return;
                }
                self.api.check();
                self.controllers.iter().for_each(Process::check);
                self.etcd.check();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(STARTS_WITHIN, search).await.is_err() {
            panic!("the API server is not ready after {STARTS_WITHIN:?}; it said: {}", self.api.last_words());
        }
    }

    async fn is_ready(&self, options: Options) -> bool {
        use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
        let request = http::Request::get("/readyz").body(Vec::new()).expect("a whole request");
        let ready = self.client.request_text(request).await.is_ok_and(|text| text == "ok");
        let namespaces = kube::Api::<Namespace>::all(self.client());
        let accounts = kube::Api::<ServiceAccount>::namespaced(self.client(), "default");
        ready
            && namespaces.get("default").await.is_ok()
            && (!options.controllers || accounts.get("default").await.is_ok())
    }
}

async fn client_of(kubeconfig: &Path) -> Client {
    // Fails when it is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let read = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig of our own");
    let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a kubeconfig of our own")).expect("a kubeconfig of our own")
}

async fn wait_for_port(process: &Process, port: u16) {
    crate::eventually("etcd's port", || async move {
        process.check();
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await;
}

fn start_etcd(directory: &Path) -> (Process, u16) {
    let (clients, peers) = (free_port(), free_port());
    let [clients_url, peers_url] = [clients, peers].map(|port| format!("http://127.0.0.1:{port}"));
    let mut command = Command::new(program(Program::Etcd));
    command.arg("--data-dir").arg(directory.join("etcd"));
    command.args(["--listen-client-urls", &clients_url, "--advertise-client-urls", &clients_url]);
    command.args(["--listen-peer-urls", &peers_url, "--initial-advertise-peer-urls", &peers_url]);
    command.arg(format!("--initial-cluster=default={peers_url}"));
    (Process::start("etcd", command, directory), clients)
}

fn start_api(directory: &Path, port: u16, etcd_port: u16, options: Options) -> Process {
    let file = |name: &str| directory.join(name).display().to_string();
    let mut command = Command::new(program(Program::ApiServer));
    command.arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"));
    let (bind, advertise) = match options.address {
        Some(address) => (Ipv4Addr::UNSPECIFIED, address),
        None => (Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST),
    };
    command.arg(format!("--bind-address={bind}")).arg(format!("--advertise-address={advertise}"));
    command.arg(format!("--secure-port={port}"));
    command.arg(format!("--tls-cert-file={}", file("server.pem")));
    command.arg(format!("--tls-private-key-file={}", file("server.key")));
    command.arg(format!("--client-ca-file={}", file("ca.pem")));
    command.args(["--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=RBAC"]);
    command.arg(format!("--service-account-key-file={}", file("account.pub")));
    command.arg(format!("--service-account-signing-key-file={}", file("account.key")));
    command.args(["--service-cluster-ip-range=10.96.0.0/16", "--allow-privileged=true"]);
    command.arg("--enable-admission-plugins=MutatingAdmissionWebhook,ValidatingAdmissionWebhook");
    // Tests hammer one server; it must not be its fairness that fails them.
    command.args(["--max-requests-inflight=4000", "--max-mutating-requests-inflight=2000"]);
    if !options.controllers {
        command.arg("--disable-admission-plugins=ServiceAccount");
    }
    Process::start("kube-apiserver", command, directory)
}

fn start_controllers(directory: &Path, kubeconfig: &Path) -> Process {
    let file = |name: &str| directory.join(name).display().to_string();
    let mut command = Command::new(program(Program::ControllerManager));
    command.arg("--kubeconfig").arg(kubeconfig);
    command.args(["--port=0", "--secure-port=0", "--leader-elect=false", "--use-service-account-credentials=false"]);
    command.arg(format!("--service-account-private-key-file={}", file("account.key")));
    command.arg(format!("--root-ca-file={}", file("ca.pem")));
    command.args(["--controllers=*,-nodelifecycle,-nodeipam,-route,-service,-attachdetach,-persistentvolume-binder"]);
    Process::start("kube-controller-manager", command, directory)
}
