//! `weft proxy` and `weft gateway`: one data plane, at two places.

use super::{duration, until_signal};
use clap::Args;
use clap::builder::FalseyValueParser;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use weft_gateway::Hosting;
use weft_model::Node;
use weft_model::node::Role;
use weft_proxy::health::{AppProbes, Health};
use weft_proxy::{AccessLog, Bind, DataPlane, Settings};

/// Run the sidecar of one workload
///
/// Inbound it listens on the pod's address at the ports that Services name and passes on to the
/// app; outbound it is an explicit HTTP proxy on port 15001 of the pod's address. With --intercept
/// it takes what is redirected to it instead.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  weft proxy --pod order-0 --workload order --label app=order --address 127.0.1.2 --app-address 127.0.2.2
  weft proxy --pod order-0 --workload order --address 10.0.0.7 --access-log off --workers 1
  weft proxy --pod order-0 --workload order --address 10.0.0.7 --intercept")]
pub(crate) struct ProxyArgs {
    /// The pod's name.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pod: String,
    #[arg(long, env = "POD_NAMESPACE", default_value = "default", value_name = "NS")]
    namespace: String,
    /// The workload's name (its Deployment's); by default the pod's name.
    #[arg(long, env = "WORKLOAD_NAME", value_name = "NAME")]
    workload: Option<String>,
    /// The pod's address, where the sidecar listens.
    #[arg(long, env = "POD_IP", value_name = "IP")]
    address: IpAddr,
    /// Where the app listens, at the same ports; by default 127.0.0.1.
    #[arg(long, env = "WEFT_APP_ADDRESS", value_name = "IP")]
    app_address: Option<IpAddr>,
    /// The pod's connections are redirected here (ports 15001 out, 15006 in), and the app knows of no
    /// proxy. Run as user 1337, whose own connections are let through.
    #[arg(long, env = "WEFT_INTERCEPT", value_parser = FalseyValueParser::new())]
    intercept: bool,
    /// A label of the pod, by which Services find it; may be given more than once.
    #[arg(long = "label", env = "POD_LABELS", value_delimiter = ',', value_parser = label, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
    /// Where the app's probes are answered. A port alone is one of the pod's address.
    #[arg(long, env = "WEFT_APP_HEALTH", value_parser = door, value_name = "ADDR")]
    app_health: Option<Door>,
    /// What they were: JSON by path, as `weft inject` writes it.
    #[arg(long, env = "WEFT_APP_PROBES", default_value = "{}", value_name = "JSON")]
    app_probes: AppProbes,
    #[command(flatten)]
    data_plane: DataPlaneArgs,
}

/// Run the gateway of one Gateway object
///
/// It serves the listeners and routes of that Gateway. SIGTERM drains it. A new process started
/// with --upgrade takes over the listening sockets of the one that runs, without one refused
/// connection, and the old one drains.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  weft gateway shop
  weft gateway shop --namespace mall --address 0.0.0.0 --workers 4
  weft gateway shop --upgrade          # replaces the gateway that runs")]
pub(crate) struct GatewayArgs {
    /// The Gateway object's name.
    #[arg(env = "GATEWAY_NAME", value_name = "NAME")]
    name: String,
    #[arg(long, env = "POD_NAMESPACE", default_value = "default", value_name = "NS")]
    namespace: String,
    /// The address that its listeners bind.
    #[arg(long, env = "POD_IP", default_value = "127.0.0.1", value_name = "IP")]
    address: IpAddr,
    /// The name it goes by, when several processes serve one Gateway.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pod: Option<String>,
    /// Take over the sockets of the gateway that runs now, if one does.
    #[arg(long)]
    upgrade: bool,
    /// Where an old and a new process meet; at most 100 bytes, in a directory that only the
    /// gateway's user may write. By default <temporary directory>/weft-<user>/<namespace>.<name>.sock.
    #[arg(long, env = "WEFT_UPGRADE_SOCKET", value_name = "PATH")]
    upgrade_socket: Option<PathBuf>,
    /// Holds the process id of the gateway that serves.
    #[arg(long, env = "WEFT_PID_FILE", value_name = "FILE")]
    pid_file: Option<PathBuf>,
    #[command(flatten)]
    data_plane: DataPlaneArgs,
}

#[derive(Args, Debug)]
struct DataPlaneArgs {
    /// Where /healthz/ready is, for the kubelet. A port alone is one of the pod's address.
    #[arg(long, env = "WEFT_HEALTH", value_parser = door, value_name = "ADDR")]
    health: Option<Door>,
    /// The control plane's xDS address.
    #[arg(long, env = "WEFT_CONTROL_PLANE", default_value = "127.0.0.1:15010", value_name = "ADDR")]
    control_plane: String,
    /// Worker threads; by default one per processor.
    #[arg(long, env = "WEFT_WORKERS", value_parser = clap::value_parser!(u16).range(1..=512), value_name = "N")]
    workers: Option<u16>,
    /// Where /ready, /config_dump, /clusters, /stats and /drain are. Keep it on loopback.
    #[arg(long, env = "WEFT_ADMIN", default_value = "127.0.0.1:15000", value_name = "ADDR")]
    admin: SocketAddr,
    /// Where /stats/prometheus is. A port alone is one of the pod's address.
    #[arg(long, env = "WEFT_METRICS", default_value = "127.0.0.1:15090", value_parser = door, value_name = "ADDR")]
    metrics: Door,
    /// One JSON line for each request: off, stdout, or a file's path.
    #[arg(long, env = "WEFT_ACCESS_LOG", default_value = "stdout", value_parser = access_log, value_name = "WHERE")]
    access_log: AccessLog,
    /// Where traces go (OTLP over gRPC), such as http://127.0.0.1:4317; without it there are none.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp: Option<String>,
    /// Keeps the last good configuration, to start from when the control plane is away.
    #[arg(long, env = "WEFT_STATE_FILE", value_name = "FILE")]
    state_file: Option<PathBuf>,
    /// How long requests in flight may take once a stop was asked for.
    #[arg(long, env = "WEFT_DRAIN", default_value = "45s", value_parser = duration, value_name = "TIME")]
    drain: Duration,
}

/// An address to listen on: in a pod only the port is known before the pod is.
#[derive(Clone, Copy, Debug)]
enum Door {
    Port(u16),
    Address(SocketAddr),
}

impl Door {
    fn of(self, pod: IpAddr) -> SocketAddr {
        match self {
            Door::Port(port) => SocketAddr::new(pod, port),
            Door::Address(address) => address,
        }
    }
}

fn door(text: &str) -> Result<Door, String> {
    let port = text.parse().map(Door::Port);
    let door = port.or_else(|_| text.parse().map(Door::Address));
    door.map_err(|_| "write a port (15021) or an address with a port (127.0.0.1:15021)".to_owned())
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn proxy(args: ProxyArgs) -> anyhow::Result<ExitCode> {
    let shutdown = until_signal()?;
    let health = args.health();
    DataPlane::new(args.settings(), Arc::new(Bind)).with_health(health).run(shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn gateway(args: GatewayArgs) -> anyhow::Result<ExitCode> {
    let socket = args.upgrade_socket.clone().unwrap_or_else(|| args.meeting_place());
    let hosting = Hosting { upgrade: args.upgrade, pid_file: args.pid_file.clone(), ..Hosting::new(socket) };
    let ready = args.data_plane.health.map(|door| door.of(args.address));
    weft_gateway::run(args.settings(), Health { ready, ..Health::default() }, hosting)?;
    Ok(ExitCode::SUCCESS)
}

impl ProxyArgs {
    fn health(&self) -> Health {
        let at = |door: Option<Door>| door.map(|door| door.of(self.address));
        Health { ready: at(self.data_plane.health), app: at(self.app_health), probes: self.app_probes.clone() }
    }

    fn settings(self) -> Settings {
        let node = Node {
            role: Role::Sidecar,
            address: self.address,
            workload: self.workload.unwrap_or_else(|| self.pod.clone()),
            pod: self.pod,
            namespace: self.namespace,
            labels: self.labels.into_iter().collect(),
            app_address: self.app_address,
            interception: self.intercept,
            locality: Default::default(),
        };
        self.data_plane.settings(node)
    }
}

impl GatewayArgs {
    fn settings(self) -> Settings {
        let node = Node {
            role: Role::Gateway,
            address: self.address,
            pod: self.pod.unwrap_or_else(|| self.name.clone()),
            namespace: self.namespace,
            workload: self.name,
            labels: BTreeMap::new(),
            app_address: None,
            interception: false,
            locality: Default::default(),
        };
        self.data_plane.settings(node)
    }

    /// A directory by user, so that no other user's can be met there.
    fn meeting_place(&self) -> PathBuf {
        let user = rustix::process::geteuid().as_raw();
        std::env::temp_dir().join(format!("weft-{user}")).join(format!("{}.{}.sock", self.namespace, self.name))
    }
}

impl DataPlaneArgs {
    fn settings(self, node: Node) -> Settings {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let metrics = self.metrics.of(node.address);
        Settings {
            node,
            control_plane: self.control_plane,
            workers: self.workers.map_or_else(processors, usize::from),
            admin: self.admin,
            metrics,
            access_log: self.access_log,
            otlp: self.otlp.filter(|url| !url.is_empty()),
            state_file: self.state_file,
            drain: self.drain,
        }
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| "write a label as key=value".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

fn access_log(text: &str) -> Result<AccessLog, Infallible> {
    Ok(match text {
        "off" => AccessLog::Off,
        "stdout" => AccessLog::Stdout,
        path => AccessLog::File(path.into()),
    })
}
