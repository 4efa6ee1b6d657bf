//! Probes and hooks, from outside the pod, as the kubelet does them.

use super::sandbox::{Beside, Sandbox};
use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How often to ask, and how many answers in a row count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    pub(super) first: Duration,
    pub(super) period: Duration,
    pub(super) successes: u32,
    pub(super) failures: u32,
}

impl Rhythm {
    /// Kubernetes' defaults: every 10 s, one success, three failures.
    pub(super) fn of(probe: &Probe) -> Rhythm {
        let count =
            |number: Option<i32>, otherwise: u32| number.and_then(|n| n.try_into().ok()).unwrap_or(otherwise).max(1);
        Rhythm {
            first: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
        }
    }
}

fn seconds(number: Option<i32>, otherwise: u64) -> Duration {
    Duration::from_secs(number.and_then(|n| n.try_into().ok()).unwrap_or(otherwise))
}

/// Asks once.
pub(super) async fn ask(
    probe: &Probe,
    container: &Container,
    beside: &Beside,
    sandbox: &Sandbox,
) -> Result<(), String> {
    let asking = async {
        if let Some(ExecAction { command }) = &probe.exec {
            sandbox.exec(beside, command.as_deref().unwrap_or_default()).await
        } else if let Some(action) = &probe.http_get {
            http(action, container, sandbox).await
        } else if let Some(action) = &probe.tcp_socket {
            connect(address(action.host.as_deref(), &action.port, container, sandbox)?).await.map(drop)
        } else if let Some(action) = &probe.grpc {
            let port = IntOrString::Int(action.port);
            connect(address(None, &port, container, sandbox)?).await.map(drop)
        } else {
            Err("a probe of no kind".to_owned())
        }
    };
    let longest = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
    tokio::time::timeout(longest, asking).await.unwrap_or_else(|_| Err(format!("no answer in {longest:?}")))
}

/// Does what a `postStart` or `preStop` says.
pub(super) async fn hook(
    handler: &LifecycleHandler,
    container: &Container,
    beside: &Beside,
    sandbox: &Sandbox,
) -> Result<(), String> {
    if let Some(ExecAction { command }) = &handler.exec {
        sandbox.exec(beside, command.as_deref().unwrap_or_default()).await
    } else if let Some(action) = &handler.http_get {
        http(action, container, sandbox).await
    } else {
        let seconds = handler.sleep.as_ref().and_then(|action| u64::try_from(action.seconds).ok());
        tokio::time::sleep(Duration::from_secs(seconds.unwrap_or(0))).await;
        Ok(())
    }
}

/// 200 to 399 is well. HTTPS is only connected to.
async fn http(action: &HTTPGetAction, container: &Container, sandbox: &Sandbox) -> Result<(), String> {
    let address = address(action.host.as_deref(), &action.port, container, sandbox)?;
    let mut stream = connect(address).await?;
    if action.scheme.as_deref() == Some("HTTPS") {
        return Ok(());
    }
    let path = action.path.as_deref().unwrap_or("/");
    let mut request = format!("GET {path} HTTP/1.1\r\nconnection: close\r\nuser-agent: kube-probe/1.33\r\n");
    let headers = action.http_headers.as_deref().unwrap_or_default();
    if !headers.iter().any(|header| header.name.eq_ignore_ascii_case("host")) {
        request += &format!("host: {address}\r\n");
    }
    for header in headers {
        request += &format!("{}: {}\r\n", header.name, header.value);
    }
    request += "\r\n";
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    let code = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    match code {
        Some(200..400) => Ok(()),
        _ => Err(format!("{address}{path}: {line:?} {}", read.err().map(|e| e.to_string()).unwrap_or_default())),
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))
}

fn address(
    host: Option<&str>,
    port: &IntOrString,
    container: &Container,
    sandbox: &Sandbox,
) -> Result<SocketAddr, String> {
    let ip: IpAddr = match host.filter(|host| !host.is_empty()) {
        Some(host) => host.parse().map_err(|_| format!("the host {host:?} of a probe is no address"))?,
        None => sandbox.v4.into(),
    };
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let ports = container.ports.as_deref().unwrap_or_default();
            let named = ports.iter().find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port);
            named.or_else(|| name.parse().ok())
        }
    };
    let number = number.and_then(|n| u16::try_from(n).ok()).ok_or_else(|| format!("no port {port:?} for a probe"))?;
    Ok(SocketAddr::new(ip, number))
}
