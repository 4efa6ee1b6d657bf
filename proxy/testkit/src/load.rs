//! A constant rate of requests, whatever the server does.
//!
//! Open loop: a request is due at its time even when earlier ones are still waiting, so that a
//! server that stalls is not spared the requests which it would have had to take meanwhile.
//! Connections are kept alive and reused; whatever goes wrong with a request is counted by kind,
//! and nothing is tried again.

use crate::raw::RawClient;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What is asked for, and how often.
#[derive(Clone, Debug)]
pub struct Load {
    pub address: SocketAddr,
    /// Bytes of one request, which must keep the connection alive.
    pub request: Vec<u8>,
    pub per_second: u32,
    /// Connections opened before the first request and kept; more are opened when all are busy.
    pub connections: usize,
    /// A request without its whole response for so long has failed.
    pub timeout: Duration,
}

impl Load {
    /// `GET` of a path at a host, 16 connections, 10 s.
    pub fn get(address: SocketAddr, host: &str, path: &str, per_second: u32) -> Load {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes();
        Load { address, request, per_second, connections: 16, timeout: Duration::from_secs(10) }
    }

    /// Starts, and goes on until [`Running::stop`].
    pub async fn start(self) -> Running {
        let running = Running {
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            state: Arc::new(State { idle: Mutex::default(), report: Mutex::default(), load: self }),
        };
        let mut first = VecDeque::new();
        for _ in 0..running.state.load.connections {
            first.push_back(RawClient::connect(running.state.load.address).await);
        }
        *running.state.idle.lock().unwrap() = first;
        running.tasks.spawn(ticks(running.state.clone(), running.stop.clone(), running.tasks.clone()));
        running
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub sent: u64,
    /// Whole responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a whole response, by what went wrong.
    pub failures: BTreeMap<String, u64>,
    /// Connections that the server closed with notice: by a header, or while they were idle.
    pub closed: u64,
}

impl Report {
    /// Asserts that every request got a whole response with a status below 400.
    ///
    /// # Panics
    /// When one did not.
    pub fn assert_flawless(&self) {
        let fine = self.failures.is_empty() && self.statuses.keys().all(|status| *status < 400);
        assert!(fine && self.sent > 0, "not every request was answered: {self:?}");
        assert_eq!(self.statuses.values().sum::<u64>(), self.sent);
    }
}

/// A load under way.
pub struct Running {
    stop: CancellationToken,
    tasks: TaskTracker,
    state: Arc<State>,
}

impl Running {
    /// Requests sent so far.
    pub fn sent(&self) -> u64 {
        self.state.report.lock().unwrap().sent
    }

    /// Waits until so many more requests have been sent.
    pub async fn more(&self, requests: u64) {
        let until = self.sent() + requests;
        crate::eventually("the load's next requests", || async { (self.sent() >= until).then_some(()) }).await;
    }

    /// Sends no more and waits for what is under way.
    pub async fn stop(self) -> Report {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.state.report.lock().unwrap().clone()
    }
}

struct State {
    load: Load,
    idle: Mutex<VecDeque<RawClient>>,
    report: Mutex<Report>,
}

impl State {
    /// The connection idle longest, so that all stay in use. As every client library does, one that the
    /// server has closed meanwhile is passed over; a request that crosses such an end has failed.
    fn idle(&self) -> Option<RawClient> {
        let mut idle = self.idle.lock().unwrap();
        let closed = idle.iter().position(RawClient::is_open).unwrap_or(idle.len());
        idle.drain(..closed);
        let found = idle.pop_front();
        drop(idle);
        self.report.lock().unwrap().closed += closed as u64;
        found
    }
}

async fn ticks(state: Arc<State>, stop: CancellationToken, tasks: TaskTracker) {
    const TICK: Duration = Duration::from_millis(5);
    let start = Instant::now();
    let mut due = 0_u64;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let by_now = (start.elapsed().as_secs_f64() * f64::from(state.load.per_second)) as u64;
        for _ in due..by_now {
            state.report.lock().unwrap().sent += 1;
            tasks.spawn(one(state.clone()));
        }
        due = by_now;
    }
}

async fn one(state: Arc<State>) {
    let idle = state.idle();
    let reused = idle.is_some();
    let exchange = async {
        let mut client = match idle {
            Some(client) => client,
            None => {
                let fresh = TcpStream::connect(state.load.address).await.map_err(|error| named("connect", &error))?;
                RawClient::from(fresh)
            }
        };
        client.try_send(&state.load.request).await.map_err(|error| named("send", &error))?;
        let reply = client.try_response().await.map_err(|error| named("response", &error))?;
        Ok::<_, String>((client, reply))
    };
    let outcome = tokio::time::timeout(state.load.timeout, exchange).await;
    let mut report = state.report.lock().unwrap();
    let kept = match outcome {
        Ok(Ok((client, reply))) => {
            *report.statuses.entry(reply.status).or_default() += 1;
            report.closed += u64::from(reply.closes());
            (!reply.closes()).then_some(client)
        }
        Ok(Err(what)) => {
            let connection = if reused { "kept" } else { "new" };
            *report.failures.entry(format!("{connection} connection, {what}")).or_default() += 1;
            None
        }
        Err(_) => {
            *report.failures.entry("no response in time".into()).or_default() += 1;
            None
        }
    };
    drop(report);
    // the two locks are never held together
    state.idle.lock().unwrap().extend(kept);
}

fn named(step: &str, error: &std::io::Error) -> String {
    format!("{step}: {:?}", error.kind())
}
