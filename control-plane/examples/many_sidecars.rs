//! What an edit of one Service's endpoints costs a control plane with many sidecars in a large mesh.
//! `many_sidecars target/release/weft 500 2000 20`: 500 sidecars of one namespace whose connections are redirected, 2,000 Services of ten
//! endpoints, 20 edits. Says how long an edit took until it was compiled and published to all, and the control plane's CPU for it.

use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use weft_model::Node;
use weft_model::node::Role;
use weft_xds::client::{Client, Held, Nack, Sink};

const XDS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 76, 0, 1)), 15010);
const MONITORING: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 76, 0, 1)), 15014);

/// The control plane, ended with this.
struct ControlPlane(Child);

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Holds, and does nothing.
struct Nothing;

impl Sink for Nothing {
    fn apply(&mut self, _: &Held) -> Result<(), Vec<Nack>> {
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [weft, sidecars, services, edits] = given.as_slice() else {
        bail!("many_sidecars WEFT SIDECARS SERVICES EDITS");
    };
    let (sidecars, services, edits): (u32, u32, u32) = (sidecars.parse()?, services.parse()?, edits.parse()?);
    let directory = tempfile::tempdir()?;
    for service in 0..services {
        std::fs::write(directory.path().join(format!("service-{service}.yaml")), of_service(service))?;
        serve(directory.path(), service, 0)?;
    }
    let control_plane = Command::new(weft)
        .args(["control-plane", "--dir"])
        .arg(directory.path())
        .args(["--xds", &XDS.to_string(), "--monitoring", &MONITORING.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| weft.clone())?;
    let control_plane = ControlPlane(control_plane);
    let shutdown = CancellationToken::new();
    let mut connected = Vec::new();
    for sidecar in 0..sidecars {
        let client = Client::new(XDS.to_string(), node(sidecar), None);
        connected.push(client.ready());
        tokio::spawn(client.run(Nothing, shutdown.clone()));
    }
    for mut connected in connected {
        connected.wait_for(|ready| *ready).await?;
    }
    let process = control_plane.0.id();
    let (before, began) = (measured().await?, cpu(process)?);
    for edit in 1..=edits {
        serve(directory.path(), edit % services, edit.div_ceil(services))?;
        while measured().await?.0 < before.0 + u64::from(edit) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let (after, ended) = (measured().await?, cpu(process)?);
    let each = |total: f64| 1e3 * total / f64::from(edits);
    println!(
        "{sidecars} sidecars, {services} Services: an edit is compiled and published to all in {:.1} ms, for {:.1} ms of CPU; {} resident",
        each(after.1 - before.1),
        each(ended - began),
        resident(process)?
    );
    shutdown.cancel();
    Ok(())
}

fn of_service(service: u32) -> String {
    let (third, fourth) = (service / 250, service % 250 + 1);
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: service-{service}, namespace: default}}\n\
         spec: {{clusterIP: 10.96.{third}.{fourth}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n"
    )
}

/// Ten endpoints, others with each turn. Renamed into place, so that it is one change.
fn serve(directory: &Path, service: u32, turn: u32) -> anyhow::Result<()> {
    let address =
        |one: u32| format!("  - addresses: [{}]\n", Ipv4Addr::from_bits(0x0a80_0000 + service * 32 + turn % 16 + one));
    let endpoints: String = (0..10).map(address).collect();
    let slice = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: service-{service}-1, namespace: default, labels: {{kubernetes.io/service-name: service-{service}}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints:\n{endpoints}"
    );
    let draft = directory.join(".draft");
    std::fs::write(&draft, slice)?;
    Ok(std::fs::rename(draft, directory.join(format!("slice-{service}.yaml")))?)
}

fn node(number: u32) -> Node {
    Node {
        role: Role::Sidecar,
        address: Ipv4Addr::from_bits(0x0a40_0000 + number).into(),
        pod: format!("caller-{number}"),
        namespace: "default".into(),
        workload: "caller".into(),
        labels: BTreeMap::from([("app".to_owned(), "caller".to_owned())]),
        app_address: None,
        interception: true,
        locality: Default::default(),
    }
}

/// How many configurations were compiled and published, and the seconds that it took in all.
async fn measured() -> anyhow::Result<(u64, f64)> {
    let mut stream = TcpStream::connect(MONITORING).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.with_context(|| format!("no {name}")).and_then(|value| Ok(value.trim().parse::<f64>()?))
    };
    Ok((value("weft_config_compile_seconds_count ")? as u64, value("weft_config_compile_seconds_sum ")?))
}

/// Seconds that a process computed.
fn cpu(process: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("/proc speaks otherwise")?;
    let ticks = fields.split_ascii_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

fn resident(process: u32) -> anyhow::Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.context("/proc speaks otherwise")?.trim().to_owned())
}
