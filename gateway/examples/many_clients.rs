//! Many clients, each from an address of its own, each asking so often: how many are refused under a limit per client?
//! `many_clients 127.0.0.1:8080 /orders 10000 5 10`: 10,000 clients (127.42.0.0 and on), 5 requests a second each, for 10 s. Says how
//! many a second were answered in truth, and with which status. It needs as many open files (`ulimit -n`).

use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 42, 0, 0);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [gateway, path, clients, per_second, seconds] = given.as_slice() else {
        bail!("many_clients GATEWAY PATH CLIENTS REQUESTS_PER_SECOND SECONDS");
    };
    let gateway: SocketAddr = gateway.parse().with_context(|| format!("{gateway} is no address"))?;
    let (clients, per_second, seconds): (u32, u32, u32) = (clients.parse()?, per_second.parse()?, seconds.parse()?);
    let request = format!("GET {path} HTTP/1.1\r\nhost: shop\r\n\r\n");
    let mut connections = Vec::new();
    for client in 0..clients {
        let source = Ipv4Addr::from_bits(FIRST.to_bits() + client);
        connections.push(connect(source, gateway).await.with_context(|| format!("client {client}"))?);
    }
    let (mut asking, began) = (JoinSet::new(), Instant::now());
    let every = Duration::from_secs(1) / per_second;
    for (client, connection) in connections.into_iter().enumerate() {
        // spread over the time between two requests
        let after = every * client as u32 / clients;
        asking.spawn(ask(connection, request.clone(), after, every, per_second * seconds));
    }
    let mut statuses = BTreeMap::<String, u64>::new();
    while let Some(answers) = asking.join_next().await {
        for status in answers.context("a client's task")?? {
            *statuses.entry(status).or_default() += 1;
        }
    }
    let took = began.elapsed();
    let answered: u64 = statuses.values().sum();
    println!(
        "{answered} answers within {took:.1?}, {:.0} a second: {statuses:?}",
        answered as f64 / took.as_secs_f64()
    );
    Ok(())
}

async fn connect(source: Ipv4Addr, gateway: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source.into(), 0))?;
    let stream = socket.connect(gateway).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The statuses of so many requests, one at its time, or as soon as the one before is answered.
async fn ask(
    mut stream: TcpStream,
    request: String,
    after: Duration,
    every: Duration,
    times: u32,
) -> anyhow::Result<Vec<String>> {
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + after, every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut statuses = Vec::new();
    for _ in 0..times {
        tick.tick().await;
        stream.write_all(request.as_bytes()).await?;
        statuses.push(status(&mut stream).await?);
    }
    Ok(statuses)
}

/// Reads one whole answer, which must say how long it is.
async fn status(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut read = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            bail!("the gateway closed in the middle of an answer");
        }
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("an answer without a length")?.trim().parse()?;
        if body.len() >= length {
            return Ok(head.split(' ').nth(1).unwrap_or_default().to_owned());
        }
    }
}
