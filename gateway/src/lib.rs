//! The data plane at the edge, hosted by pingora.
//!
//! A gateway is where the outside knocks, so replacing its binary must not cost a connection. The
//! data path is the sidecar's ([`weft_proxy::DataPlane`]); what differs is the process around it:
//! pingora's `Server` orders the services, obeys the signals, and carries the listening sockets
//! from an old process to a new one.
//!
//! # Signals and exit code
//!
//! | signal | what happens | exit code |
//! |---|---|---|
//! | `SIGTERM` | stops accepting, finishes what is in flight, at most [`weft_proxy::Settings::drain`] | 0 |
//! | `SIGINT` | ends at once; during a drain it cuts the drain short | 0 |
//! | `SIGQUIT` | hands its sockets to the process that waits for them, then as `SIGTERM`; with nobody waiting it serves on | 0 |
//!
//! [`run`] returns an error, so that `main` can exit with another code, when the data plane ends by
//! itself. A successor that asked for the sockets and got none exits with code 1 from inside
//! pingora, before it has taken a single connection; the old process then serves on.
//!
//! # Replacing the binary
//!
//! Start the new binary with the same settings and [`Hosting::upgrade`]; that is all. It
//!
//! 1. finds the running process by the record beside the upgrade socket (`<upgrade_socket>.owner`;
//!    with none alive it starts as if `upgrade` were false),
//! 2. gets its own configuration first, from the control plane or from the state file, while the
//!    old process serves,
//! 3. sends `SIGQUIT` to the old process (an operator who sends it too does no harm) and receives
//!    every listening socket over the upgrade socket,
//! 4. accepts. The old process accepts too for five more seconds (pingora's constant), then drains
//!    and exits.
//!
//! No socket is ever closed with connections in its queue: each one goes over, whichever worker it
//! belonged to. The new process therefore runs at least as many workers as the old one.
//!
//! The upgrade socket's directory must be writable by the gateway's user alone: who can create that
//! path can take the sockets.

mod host;
mod inventory;
pub mod limits;
mod mailbox;
mod record;
mod signals;

use std::path::PathBuf;
use std::time::Duration;
use weft_proxy::health::Health;

/// How the process is hosted; what the data plane does is in [`weft_proxy::Settings`].
#[derive(Clone, Debug)]
pub struct Hosting {
    /// Take over from the process that runs now, if one does.
    pub upgrade: bool,
    /// Where the old and the new process meet. Both must name the same path, at most 100 bytes.
    pub upgrade_socket: PathBuf,
    /// Holds the process id of whoever serves; written once it does, removed at the end.
    pub pid_file: Option<PathBuf>,
    /// How much longer than [`weft_proxy::Settings::drain`] the process may take to end before the
    /// rest is cut off. pingora's own default is 5 s.
    pub grace: Duration,
}

impl Hosting {
    /// No upgrade, no pid file, pingora's grace.
    pub fn new(upgrade_socket: impl Into<PathBuf>) -> Hosting {
        Hosting { upgrade: false, upgrade_socket: upgrade_socket.into(), pid_file: None, grace: Duration::from_secs(5) }
    }
}

/// Serves until a signal ends it; see the [crate's page](crate) for which. Blocks; call it outside any
/// runtime.
///
/// # Errors
/// When a path of `hosting` cannot be used, or the data plane ended by itself.
pub fn run(settings: weft_proxy::Settings, health: Health, hosting: Hosting) -> anyhow::Result<()> {
    let early = [settings.admin, settings.metrics].into_iter().chain(health.ready).collect();
    let plan = host::Plan { workers: settings.workers, early, drain: settings.drain };
    host::host(plan, hosting, move |workers, sockets, shutdown| {
        let settings = weft_proxy::Settings { workers, ..settings };
        weft_proxy::DataPlane::new(settings, sockets)
            .with_overflows(limits::overflows())
            .with_health(health)
            .run(shutdown)
    })
}
