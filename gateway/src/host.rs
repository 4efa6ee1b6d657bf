//! pingora's `Server` around the data plane.
//!
//! Three services, each starting when the one before it is ready:
//!
//! 1. *data plane*: gets its configuration, and is ready when it asks for its first listener;
//! 2. *bootstrap* (pingora's): receives the old process's sockets, when there is one;
//! 3. *sockets*: unpacks them; the data plane, which waited, goes on and accepts.
//!
//! So an old process is disturbed only when its successor needs nothing more than the sockets.
//!
//! What pingora does that shaped this: it sleeps the whole grace period before it ends its runtimes,
//! and then drops their tasks but waits for their blocking threads. So the grace period is 0, and the
//! data plane runs on a blocking thread: the process ends when the data plane has drained, neither
//! sooner nor later. The daemon mode, which forks and exits with code 0 whatever happened, is not used.

use crate::Hosting;
use crate::inventory::{Inventory, Place};
use crate::mailbox;
use crate::record::{self, Record};
use crate::signals::Signals;
use anyhow::{Context, ensure};
use parking_lot::Mutex;
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::server::{ListenFds, RunArgs, Server, ShutdownWatch};
use pingora_core::services::{ServiceReadyNotifier, ServiceWithDependents};
use std::future::Future;
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_proxy::Sockets;

/// The one descriptor that pingora carries.
const MAILBOX: &str = "weft";

/// How long after the hand-over an inherited socket may wait to be asked for.
const CLAIM_WITHIN: Duration = Duration::from_secs(10);

/// `UnixAddr` holds 108 bytes.
const PATH_LIMIT: usize = 100;

/// What the host must know of the data plane's settings.
pub(crate) struct Plan {
    pub(crate) workers: usize,
    pub(crate) early: Vec<SocketAddr>,
    pub(crate) drain: Duration,
}

/// Runs `serve` (given the number of workers, its sockets, and the token that asks it to drain)
/// inside pingora's server.
pub(crate) fn host<S, F>(plan: Plan, hosting: Hosting, serve: S) -> anyhow::Result<()>
where
    S: FnOnce(usize, Arc<dyn Sockets>, CancellationToken) -> F + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<()>>,
{
    let upgrade_socket = usable(&hosting.upgrade_socket)?;
    let record_path = Record::path(&upgrade_socket);
    let predecessor = if hosting.upgrade { Record::of_the_living(&record_path) } else { None };
    if hosting.upgrade && predecessor.is_none() {
        tracing::warn!(record = %record_path.display(), "no running process to take over from: starting afresh");
    }
    let workers = plan.workers.max(predecessor.map_or(1, |old| old.workers));
    if workers > plan.workers {
        tracing::warn!(
            workers,
            asked = plan.workers,
            "as many workers as the old process has, so that none of its sockets is lost"
        );
    }

    let own = Record::own(workers)?;
    let hand_over = Arc::new(HandOver {
        inventory: Arc::new(Inventory::new(plan.early)),
        upgrade_socket,
        predecessor,
        own,
        pid_file: hosting.pid_file.clone(),
        fds: Mutex::default(),
    });
    let (ended, has_ended) = watch::channel(false);
    let result = Arc::new(Mutex::new(None));
    let data_plane = DataPlaneService {
        hand_over: hand_over.clone(),
        serve: Some(move |sockets, shutdown| serve(workers, sockets, shutdown)),
        result: result.clone(),
        ended,
    };

    let mut server = Server::new_with_opt_and_conf(
        Opt { upgrade: predecessor.is_some(), ..Opt::default() },
        ServerConf {
            upgrade_sock: hand_over.upgrade_socket.to_str().expect("checked to be UTF-8").to_owned(),
            grace_period_seconds: Some(0),
            graceful_shutdown_timeout_seconds: Some((plan.drain + hosting.grace).as_secs_f64().ceil() as u64),
            ..ServerConf::default()
        },
    );
    let data_plane = server.add_service(data_plane);
    let bootstrap = server.bootstrap_as_a_service();
    bootstrap.add_dependency(&data_plane);
    server.add_service(SocketsService { hand_over: hand_over.clone() }).add_dependency(&bootstrap);
    server.run(RunArgs { shutdown_signal: Box::new(Signals { hand_over: hand_over.clone(), ended: has_ended }) });

    own.remove(&record_path);
    if let Some(path) = &hosting.pid_file {
        record::remove_pid(path);
    }
    let result = result.lock().take();
    result.unwrap_or_else(|| {
        tracing::warn!("ended before all requests were finished");
        Ok(())
    })
}

/// Checks what pingora would panic over.
fn usable(upgrade_socket: &Path) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(upgrade_socket).context("upgrade socket")?;
    let text = path.to_str().with_context(|| format!("upgrade socket {}: the path must be UTF-8", path.display()))?;
    ensure!(
        text.len() <= PATH_LIMIT,
        "upgrade socket {text}: {} bytes, at most {PATH_LIMIT} can be a socket's path; choose a shorter one",
        text.len()
    );
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir).with_context(|| format!("upgrade socket {text}: its directory cannot be made"))?;
    Ok(path)
}

/// What the parts of one process share to take sockets over and to hand them on.
pub(crate) struct HandOver {
    inventory: Arc<Inventory>,
    upgrade_socket: PathBuf,
    predecessor: Option<Record>,
    own: Record,
    pid_file: Option<PathBuf>,
    /// pingora's table, and the mailbox that it names once there is one.
    fds: Mutex<(Option<ListenFds>, Option<OwnedFd>)>,
}

impl HandOver {
    pub(crate) fn upgrade_socket(&self) -> &Path {
        &self.upgrade_socket
    }

    /// Puts every socket where pingora will send it from, and says how many there are.
    pub(crate) fn pack(&self) -> anyhow::Result<usize> {
        let mut guard = self.fds.lock();
        let (Some(fds), mailbox) = &mut *guard else {
            anyhow::bail!("this process has not taken its own sockets yet");
        };
        let (reader, count) =
            self.inventory.all(|sockets| mailbox::pack(sockets).map(|reader| (reader, sockets.len())))?;
        fds.lock().add(MAILBOX.into(), reader.as_raw_fd());
        *mailbox = Some(reader);
        Ok(count)
    }

    /// Asks the old process for its sockets.
    fn summon(&self) -> anyhow::Result<()> {
        let Some(old) = self.predecessor else { return Ok(()) };
        let pid = i32::try_from(old.pid).ok().and_then(rustix::process::Pid::from_raw).context("no such process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT)
            .with_context(|| format!("cannot ask process {} for its sockets (SIGQUIT)", old.pid))
    }

    /// Takes out of pingora's table what the old process put in, and lets the data plane go on.
    fn receive(&self, fds: ListenFds) {
        let inherited = self.unpack(&fds).unwrap_or_else(|error| {
            // the old process ends in any case, so new sockets are the best that is left
            tracing::error!(error = format!("{error:#}"), "the take-over failed: binding new sockets");
            Vec::new()
        });
        if self.predecessor.is_some() {
            tracing::info!(sockets = inherited.len(), "took over from the old process");
        }
        self.fds.lock().0 = Some(fds);
        self.inventory.open(inherited);
        let recorded = self.own.write(&Record::path(&self.upgrade_socket));
        let pid_written = self.pid_file.as_deref().map_or(Ok(()), record::write_pid);
        if let Err(error) = recorded.and(pid_written) {
            tracing::error!(error = format!("{error:#}"), "the next upgrade will not find this process");
        }
    }

    fn unpack(&self, fds: &ListenFds) -> anyhow::Result<Vec<(Place, TcpListener)>> {
        if self.predecessor.is_none() {
            return Ok(Vec::new());
        }
        let fd = *fds.lock().get(MAILBOX).context("the old process sent no mailbox: is it a weft gateway?")?;
        #[expect(unsafe_code, reason = "pingora has raw descriptors only")]
        // SAFETY: pingora received this descriptor from the old process and never closes it, and this
        // runs once, so that nobody else owns it.
        let reader = unsafe { OwnedFd::from_raw_fd(fd) };
        mailbox::unpack(&reader)
    }
}

/// The data plane, on a thread of its own.
struct DataPlaneService<S> {
    hand_over: Arc<HandOver>,
    serve: Option<S>,
    result: Arc<Mutex<Option<anyhow::Result<()>>>>,
    ended: watch::Sender<bool>,
}

#[async_trait::async_trait]
impl<S, F> ServiceWithDependents for DataPlaneService<S>
where
    S: FnOnce(Arc<dyn Sockets>, CancellationToken) -> F + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<()>>,
{
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        _shutdown: ShutdownWatch,
        _listeners_per_fd: usize,
        ready: ServiceReadyNotifier,
    ) {
        let Some(serve) = self.serve.take() else { return };
        // to drop it would set the bootstrap going, which must not happen in a process that ends
        let ready = ManuallyDrop::new(ready);
        let inventory = self.hand_over.inventory.clone();
        let drain = Drain { token: CancellationToken::new(), inventory: inventory.clone() };
        let thread = tokio::task::spawn_blocking({
            let (sockets, token, result) = (inventory.clone(), drain.token.clone(), self.result.clone());
            move || {
                let ran = catch_unwind(AssertUnwindSafe(|| run_to_end(|| serve(sockets, token.clone()), &token)));
                *result.lock() = ran.unwrap_or_else(|_| Some(Err(anyhow::anyhow!("the data plane panicked"))));
            }
        });
        let mut thread = std::pin::pin!(thread);

        tokio::select! {
            () = inventory.live() => {
                if let Err(error) = self.hand_over.summon() {
                    tracing::error!(error = format!("{error:#}"), "no hand-over");
                }
                ManuallyDrop::into_inner(ready).notify_ready();
                let _ = thread.await;
            }
            _ = &mut thread => {}
        }
        self.ended.send_replace(true);
    }

    fn name(&self) -> &str {
        "data plane"
    }
}

/// Asks the data plane to drain when it is dropped, that is when pingora ends the service: with no
/// grace period that comes right upon its shutdown message, which the service might not live to read.
struct Drain {
    token: CancellationToken,
    inventory: Arc<Inventory>,
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.token.cancel();
        self.inventory.end();
    }
}

/// Runs the data plane on a runtime of this thread. `None`: it was cut off while it drained.
fn run_to_end<F>(serve: impl FnOnce() -> F, drain: &CancellationToken) -> Option<anyhow::Result<()>>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Some(Err(error).context("the data plane's runtime")),
    };
    runtime.block_on(async {
        tokio::select! {
            result = serve() => Some(match result {
                Ok(()) if !drain.is_cancelled() => Err(anyhow::anyhow!("the data plane ended unasked")),
                result => result,
            }),
            () = impatience(drain) => None,
        }
    })
}

/// `SIGINT` while the data plane drains.
async fn impatience(drain: &CancellationToken) {
    drain.cancelled().await;
    match signal(SignalKind::interrupt()) {
        Ok(mut interrupt) => drop(interrupt.recv().await),
        Err(_) => std::future::pending().await,
    }
}

/// Brings the old process's sockets to the data plane, and keeps pingora's table for the next one.
struct SocketsService {
    hand_over: Arc<HandOver>,
}

#[async_trait::async_trait]
impl ServiceWithDependents for SocketsService {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        _shutdown: ShutdownWatch,
        _listeners_per_fd: usize,
        _ready: ServiceReadyNotifier,
    ) {
        let Some(fds) = fds else { return };
        self.hand_over.receive(fds);
        tokio::time::sleep(CLAIM_WITHIN).await;
        for (address, worker) in self.hand_over.inventory.close_unclaimed() {
            tracing::info!(%address, worker, "closed a socket of the old process: no listener of that address");
        }
    }

    fn name(&self) -> &str {
        "sockets"
    }
}
