//! The hosts of one scenario: upstreams that follow its script, on the same addresses for every proxy that is run on it.
//!
//! The addresses have to stay, because they are what a hash ring is made of. So a run ends with [`Hosts::begin_again`].

use crate::scenario::{Host, HostKind, Play, Scenario};
use http::HeaderMap;
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use weft_model::{Endpoint, Endpoints};
use weft_testkit::raw::RawUpstream;
use weft_testkit::{Act, Answer, Gate, Upstream};

/// The response header that tells which host it was.
pub(crate) const HOST: &str = "x-host";
/// What the path of a request ends with that is repeated until its answer is the right one.
pub(crate) const POLL: &str = "&poll";

pub(crate) struct Hosts {
    servers: Vec<Server>,
    state: Arc<State>,
}

enum Server {
    Scripted(Upstream),
    Raw(RawUpstream),
    Deaf {
        address: SocketAddr,
        _socket: Socket,
        _queued: StdStream,
    },
    /// Bound, so that nobody else gets the port, and not listening.
    Absent {
        address: SocketAddr,
        _socket: Socket,
    },
}

struct State {
    shared: Vec<Play>,
    scripts: Vec<Vec<Play>>,
    run: Mutex<Run>,
    arrived: watch::Sender<usize>,
}

struct Run {
    gate: Gate,
    arrivals: Vec<Arrival>,
    connections_before: usize,
}

/// A request at a host.
#[derive(Clone)]
pub(crate) struct Arrival {
    pub(crate) host: usize,
    pub(crate) headers: HeaderMap,
    /// It does not count.
    pub(crate) poll: bool,
}

impl Hosts {
    pub(crate) async fn start(scenario: &Scenario) -> Hosts {
        let state = Arc::new(State {
            shared: scenario.script.clone(),
            scripts: scenario.hosts.iter().map(|host| host.script.clone()).collect(),
            run: Mutex::new(Run { gate: Gate::closed(), arrivals: Vec::new(), connections_before: 0 }),
            arrived: watch::Sender::new(0),
        });
        let mut servers = Vec::new();
        for (number, host) in scenario.hosts.iter().enumerate() {
            servers.push(Server::start(host.kind, number, &state).await);
        }
        Hosts { servers, state }
    }

    pub(crate) fn endpoints(&self, cluster: &str, hosts: &[Host]) -> Endpoints {
        let endpoint = |(server, host): (&Server, &Host)| Endpoint {
            health: host.health,
            priority: host.priority,
            weight: host.weight,
            ..Endpoint::at(server.address())
        };
        let endpoints = self.servers.iter().zip(hosts).map(endpoint).collect();
        Endpoints { cluster: cluster.into(), endpoints, ..Endpoints::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.state.run.lock().unwrap().arrivals.clone()
    }

    /// Waits until so many requests have come in this run.
    pub(crate) async fn has_seen(&self, requests: usize) {
        let mut arrived = self.state.arrived.subscribe();
        arrived.wait_for(|arrived| *arrived >= requests).await.expect("self holds the sender");
    }

    /// Lets those go that are held.
    pub(crate) fn open(&self) {
        self.state.run.lock().unwrap().gate.open();
    }

    /// Connections that were made in this run.
    pub(crate) fn connections(&self) -> usize {
        self.connections_ever() - self.state.run.lock().unwrap().connections_before
    }

    fn connections_ever(&self) -> usize {
        self.servers.iter().map(Server::connections).sum()
    }

    /// From the first line of every script.
    pub(crate) fn begin_again(&self) {
        self.open();
        let connections_before = self.connections_ever();
        *self.state.run.lock().unwrap() = Run { gate: Gate::closed(), arrivals: Vec::new(), connections_before };
        self.state.arrived.send_replace(0);
    }
}

/// `a`, `b`, …
pub(crate) fn letter(host: usize) -> String {
    char::from(b'a' + u8::try_from(host).expect("fewer hosts than letters")).to_string()
}

impl Server {
    async fn start(kind: HostKind, number: usize, state: &Arc<State>) -> Server {
        let state = state.clone();
        match kind {
            HostKind::Serving => Server::Scripted(
                Upstream::start(move |request| {
                    let poll = request.uri.to_string().ends_with(POLL);
                    state.next(number, Arrival { host: number, headers: request.headers.clone(), poll })
                })
                .await,
            ),
            HostKind::Refusing => {
                let serve = move |stream, _| refuse_the_first(stream, number, state.clone());
                Server::Raw(RawUpstream::start(serve).await)
            }
            HostKind::Babbling => Server::Raw(RawUpstream::start(move |stream, _| babble(stream)).await),
            HostKind::Absent => {
                let (socket, address) = bound();
                Server::Absent { address, _socket: socket }
            }
            HostKind::Deaf => {
                // Linux drops whoever comes when the one place in the queue of a backlog of 0 is taken.
                let (socket, address) = bound();
                socket.listen(0).unwrap();
                Server::Deaf { address, _socket: socket, _queued: StdStream::connect(address).unwrap() }
            }
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Server::Scripted(upstream) => upstream.address(),
            Server::Raw(upstream) => upstream.address(),
            Server::Deaf { address, .. } | Server::Absent { address, .. } => *address,
        }
    }

    fn connections(&self) -> usize {
        match self {
            Server::Scripted(upstream) => upstream.connections(),
            Server::Raw(_) | Server::Deaf { .. } | Server::Absent { .. } => 0,
        }
    }
}

impl State {
    /// How many requests this host, and all together, have seen before.
    fn arrive(&self, arrival: Arrival) -> (usize, usize) {
        let mut run = self.run.lock().unwrap();
        let (own, all) = (run.arrivals.iter().filter(|one| one.host == arrival.host).count(), run.arrivals.len());
        run.arrivals.push(arrival);
        self.arrived.send_modify(|arrived| *arrived += 1);
        (own, all)
    }

    fn next(&self, host: usize, arrival: Arrival) -> Act {
        let (own, all) = self.arrive(arrival);
        let (script, line) = if self.shared.is_empty() { (&self.scripts[host], own) } else { (&self.shared, all) };
        let signed = |answer: &Answer| answer.clone().header(HOST, &letter(host));
        match &script[line.min(script.len() - 1)] {
            Play::Held(answer) => Act::Answer(signed(answer).behind(&self.run.lock().unwrap().gate)),
            Play::Torn => Act::Tear(signed(&Answer::ok("part")), self.run.lock().unwrap().gate.clone()),
            Play::Act(Act::Answer(answer)) => Act::Answer(signed(answer)),
            Play::Act(Act::Stall(answer)) => Act::Stall(signed(answer)),
            Play::Act(other) => other.clone(),
        }
    }
}

/// A socket that has a port and does not listen.
fn bound() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().expect("it is bound to an IP address");
    (socket, address)
}

async fn babble(mut stream: TcpStream) {
    // closed at once, unread bytes would have the answer thrown away
    let mut unread = [0; 1024];
    let _ = stream.read(&mut unread).await;
    let _ = stream.write_all(b"what is this?\r\n\r\n").await;
    while stream.read(&mut unread).await.is_ok_and(|read| read > 0) {}
}

/// HTTP/2 as far as [`HostKind::Refusing`] needs it, to the end of the connection.
async fn refuse_the_first(mut stream: TcpStream, host: usize, state: Arc<State>) {
    const PREFACE: usize = 24;
    let mut preface = [0; PREFACE];
    // how it ends is what the proxy sees
    let serving = async {
        stream.read_exact(&mut preface).await?;
        send(&mut stream, SETTINGS, 0, 0, &[]).await?;
        loop {
            answer_frame(&mut stream, host, &state).await?;
        }
    };
    let _: std::io::Result<()> = serving.await;
}

async fn answer_frame(stream: &mut TcpStream, host: usize, state: &State) -> std::io::Result<()> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    match (head[3], head[4] & ACK != 0) {
        (SETTINGS, false) => send(stream, SETTINGS, ACK, 0, &[]).await,
        (PING, false) => send(stream, PING, ACK, 0, &payload).await,
        (HEADERS, _) => match state.arrive(Arrival { host, headers: HeaderMap::new(), poll: false }) {
            (_, 0) => send(stream, RST_STREAM, 0, id, &REFUSED_STREAM.to_be_bytes()).await,
            // `:status: 200` is the eighth of HPACK's static table
            _ => send(stream, HEADERS, END_STREAM | END_HEADERS, id, &[0x88]).await,
        },
        _ => Ok(()),
    }
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;

async fn send(stream: &mut TcpStream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> std::io::Result<()> {
    let length = u8::try_from(payload.len()).expect("short frames only");
    let mut frame = vec![0, 0, length, kind, flags];
    frame.extend(id.to_be_bytes());
    frame.extend(payload);
    stream.write_all(&frame).await
}
