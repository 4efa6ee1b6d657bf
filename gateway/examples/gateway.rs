//! One gateway process with the least settings, for the hand-over test:
//! `gateway CONTROL_PLANE GATEWAY_NAME ADDRESS DIR WORKERS [--upgrade]`.
//!
//! `DIR` holds the upgrade socket, the pid file and the last good configuration.

use anyhow::Context;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [control_plane, name, address, dir, workers, rest @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: gateway CONTROL_PLANE GATEWAY_NAME ADDRESS DIR WORKERS [--upgrade]");
    };
    let address: IpAddr = address.parse().context("ADDRESS")?;
    let dir = PathBuf::from(dir);
    let settings = weft_proxy::Settings {
        node: weft_model::Node {
            role: weft_model::node::Role::Gateway,
            address,
            pod: format!("{name}-0"),
            namespace: "default".into(),
            workload: name.clone(),
            labels: [("app".to_owned(), name.clone())].into(),
            app_address: None,
            interception: false,
            locality: Default::default(),
        },
        control_plane: control_plane.clone(),
        workers: workers.parse().context("WORKERS")?,
        admin: SocketAddr::new(address, 15000),
        metrics: SocketAddr::new(address, 15090),
        access_log: weft_proxy::AccessLog::Off,
        otlp: None,
        state_file: Some(dir.join("state.json")),
        drain: Duration::from_secs(20),
    };
    let hosting = weft_gateway::Hosting {
        upgrade: rest.iter().any(|argument| argument == "--upgrade"),
        pid_file: Some(dir.join("pid")),
        ..weft_gateway::Hosting::new(dir.join("upgrade.sock"))
    };
    weft_gateway::run(settings, Default::default(), hosting)
}
