//! What a classic sidecar's hooks run: `weft wait-ready` before the app starts, `weft wait-drained` while it ends.
//!
//! The kubelet ends all containers of a pod at once, and a sidecar that goes first cuts off the app's last calls. It cannot
//! see the app's processes, but it shares the app's network: as long as a socket of another user's than its own listens, or
//! is connected, somebody is still there.

use super::duration;
use anyhow::bail;
use clap::Args;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

const LOOK_EVERY: Duration = Duration::from_millis(250);
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Wait until the sidecar of this pod is ready
#[derive(Args, Debug)]
pub(crate) struct WaitReadyArgs {
    /// The pod's address.
    #[arg(long, env = "POD_IP", default_value = "127.0.0.1", value_name = "IP")]
    address: IpAddr,
    /// Where the sidecar's health is.
    #[arg(long, default_value_t = 15021, value_name = "PORT")]
    port: u16,
    /// Give up then.
    #[arg(long, default_value = "5m", value_parser = duration, value_name = "TIME")]
    timeout: Duration,
}

/// Wait until the app beside this sidecar has ended its connections
#[derive(Args, Debug)]
pub(crate) struct WaitDrainedArgs {
    /// Wait so long in any case: callers go on for a moment before they hear that the pod ends.
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    at_least: Duration,
    /// Wait no longer, whoever is there.
    #[arg(long, default_value = "25s", value_parser = duration, value_name = "TIME")]
    at_most: Duration,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn wait_ready(args: WaitReadyArgs) -> anyhow::Result<ExitCode> {
    let address = SocketAddr::new(args.address, args.port);
    let waiting = async {
        let mut ticks = ticks();
        loop {
            ticks.tick().await;
            if timeout(ANSWER_WITHIN, is_ready(address)).await.unwrap_or(false) {
                return;
            }
        }
    };
    if timeout(args.timeout, waiting).await.is_err() {
        bail!("the sidecar at {address} was not ready within {:?}", args.timeout);
    }
    Ok(ExitCode::SUCCESS)
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn wait_drained(args: WaitDrainedArgs) -> anyhow::Result<ExitCode> {
    let own = rustix::process::geteuid().as_raw();
    let start = Instant::now();
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        let waited = start.elapsed();
        if waited >= args.at_most || waited >= args.at_least && !is_anybody_there(own)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn is_ready(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /healthz/ready HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\n\r\n").await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        std::io::Result::Ok(head.ends_with(b" 200"))
    };
    ask.await.unwrap_or(false)
}

fn is_anybody_there(own: u32) -> anyhow::Result<bool> {
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match std::fs::read_to_string(table) {
            Ok(text) if holds_anothers(&text, own) => return Ok(true),
            // A pod may have no IPv6.
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => bail!("{table}: {error}"),
        }
    }
    Ok(false)
}

/// Whether a table of the kernel's has a socket of another user's that listens or is connected.
fn holds_anothers(table: &str, own: u32) -> bool {
    const ESTABLISHED: &str = "01";
    const LISTEN: &str = "0A";
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(3);
        let state = fields.next();
        let user = fields.nth(3).and_then(|user| user.parse::<u32>().ok());
        matches!(state, Some(ESTABLISHED | LISTEN)) && user.is_some_and(|user| user != own)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn line(state: &str, user: u32) -> String {
        format!(
            "   0: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  {user}        0 1 1 0 100 0 0 10 0\n"
        )
    }

    #[test]
    fn only_open_sockets_of_others_are_somebody() {
        assert!(!holds_anothers(HEAD, 1337));
        assert!(
            !holds_anothers(&(HEAD.to_owned() + &line("0A", 1337) + &line("06", 0)), 1337),
            "our own, and one that waits to be forgotten"
        );
        assert!(holds_anothers(&(HEAD.to_owned() + &line("0A", 1337) + &line("0A", 0)), 1337), "a listener");
        assert!(holds_anothers(&(HEAD.to_owned() + &line("01", 1000)), 1337), "a connection");
    }

    #[test]
    fn the_kernels_own_table_is_understood() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = rustix::process::geteuid().as_raw();
        assert!(is_anybody_there(own + 1).unwrap(), "{listener:?} is another's for that user");
    }

    #[tokio::test]
    async fn only_200_is_ready() {
        for (answer, expected) in
            [("HTTP/1.1 200 OK\r\n\r\n", true), ("HTTP/1.1 503 Not yet\r\n\r\n", false), ("", false)]
        {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let serving = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                // Who has read enough may hang up on the rest.
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            };
            assert_eq!(tokio::join!(is_ready(address), serving).0, expected, "{answer:?}");
        }
    }
}
