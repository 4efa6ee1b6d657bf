//! One question to one endpoint, and what came of it.

use super::http::Client;
use super::{grpc, http, tcp};
use crate::connect::{self, ConnectError, Speaks};
use crate::originate::Originator;
use crate::transport::Transport;
use std::fmt;
use std::net::SocketAddr;
use weft_model::Cluster;
use weft_model::health_check::{HealthCheck, Probe};
use weft_policy::health_check::CheckResult;

/// What one probe found.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) result: CheckResult,
    /// There was an answer, whatever it said.
    pub(super) answered: bool,
    /// What was asked and answered.
    words: String,
}

impl Finding {
    pub(super) fn new(result: CheckResult, words: impl Into<String>) -> Finding {
        Finding { result, answered: true, words: words.into() }
    }

    fn no_answer(words: String) -> Finding {
        Finding { result: CheckResult::Failure, answered: false, words }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// There was no answer, or none that could be read to its end. In words.
#[derive(Debug)]
pub(super) struct Broken(pub(super) String);

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Broken {
        Broken(format!("the connection broke: {error}"))
    }
}

impl From<hyper::Error> for Broken {
    fn from(error: hyper::Error) -> Broken {
        Broken(format!("no answer: {error}"))
    }
}

impl From<ConnectError> for Broken {
    fn from(error: ConnectError) -> Broken {
        Broken(match error {
            ConnectError::Timeout => "cannot connect in time".into(),
            ConnectError::Io(error) => format!("cannot connect: {error}"),
            ConnectError::Tls(error) => format!("no TLS with it: {error}"),
            ConnectError::Handshake(error) => format!("cannot speak HTTP with it: {error}"),
        })
    }
}

/// What an answer was, and whether its connection is good for another question.
pub(super) struct Answered {
    pub(super) finding: Finding,
    pub(super) is_reusable: bool,
}

/// A connection for probes of one kind.
enum Connection {
    Http(Client),
    Tcp(Transport),
}

impl Connection {
    /// Whether the endpoint has neither closed it nor said something unasked.
    fn is_open(&mut self) -> bool {
        match self {
            Connection::Http(client) => client.is_open(),
            Connection::Tcp(stream) => stream.is_silent(),
        }
    }
}

/// Asks one endpoint in the way of one check.
pub(super) struct Prober<'c> {
    cluster: &'c Cluster,
    /// As for requests: an endpoint that wants TLS wants it from everybody.
    tls: Option<&'c Originator>,
    check: &'c HealthCheck,
    address: SocketAddr,
    kept: Option<Connection>,
}

impl<'c> Prober<'c> {
    pub(super) fn new(
        cluster: &'c Cluster,
        tls: Option<&'c Originator>,
        check: &'c HealthCheck,
        address: SocketAddr,
    ) -> Prober<'c> {
        Prober { cluster, tls, check, address, kept: None }
    }

    /// Asks once, within the check's timeout.
    pub(super) async fn ask(&mut self) -> Finding {
        let timeout = self.check.timeout;
        match tokio::time::timeout(timeout, self.ask_in_peace()).await {
            Ok(Ok(finding)) => finding,
            Ok(Err(Broken(words))) => Finding::no_answer(words),
            Err(_) => Finding::no_answer(format!("no answer within {timeout:?}")),
        }
    }

    async fn ask_in_peace(&mut self) -> Result<Finding, Broken> {
        if let Some(mut kept) = self.kept.take()
            && kept.is_open()
            && let Ok(finding) = self.ask_over(kept).await
        {
            return Ok(finding);
        }
        // A kept connection that was closed in the moment of asking is nobody's fault: a new one is asked.
        let fresh = self.connect().await?;
        self.ask_over(fresh).await
    }

    async fn connect(&self) -> Result<Connection, Broken> {
        let speaks = match &self.check.probe {
            Probe::Http { http2: false, .. } => Speaks::Http1,
            Probe::Http { http2: true, .. } | Probe::Grpc { .. } => Speaks::Http2,
            Probe::Tcp { .. } => Speaks::Anything,
        };
        let stream = connect::open_as(self.cluster, self.tls, self.address, speaks).await?;
        Ok(match speaks {
            Speaks::Http1 => Connection::Http(Client::open(stream, false).await?),
            Speaks::Http2 => Connection::Http(Client::open(stream, true).await?),
            Speaks::Anything => Connection::Tcp(stream),
        })
    }

    async fn ask_over(&mut self, mut connection: Connection) -> Result<Finding, Broken> {
        let check = self.check;
        let authority = |wanted: &str| http::authority(wanted, &self.cluster.name, self.address);
        let answered = match (&check.probe, &mut connection) {
            (Probe::Http { host, .. }, Connection::Http(client)) => http::ask(client, check, &authority(host)).await?,
            (Probe::Grpc { service, authority: wanted }, Connection::Http(client)) => {
                grpc::ask(client, service, &authority(wanted)).await?
            }
            (Probe::Tcp { send, receive }, Connection::Tcp(stream)) => tcp::ask(stream, send, receive).await?,
            (Probe::Http { .. } | Probe::Grpc { .. }, Connection::Tcp(_))
            | (Probe::Tcp { .. }, Connection::Http(_)) => {
                unreachable!("a prober makes its connections for its own probe")
            }
        };
        self.kept = (check.reuse_connection && answered.is_reusable).then_some(connection);
        Ok(answered.finding)
    }
}
