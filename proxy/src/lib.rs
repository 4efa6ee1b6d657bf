//! The data plane of Weft: what a sidecar and a gateway do with traffic.
//!
//! The problem: every request of every service passes here, so this must cost next to nothing, never
//! lose a request to a change of configuration, and know in words why a request failed. Therefore each
//! worker thread keeps to itself ([`Settings::workers`]), all configuration is one snapshot that is
//! swapped whole, and each request is an exchange that writes exactly one record.
//!
//! Files are in the order in which a request meets them: `listener` sockets are the workers'
//! (`worker`), then `destination` (where a redirected connection was going), `connection` (which chain), `detect`, `session` (hyper), `exchange` (decides, by its
//! `plan`), `forward` (does, `attempt` by attempt), `upstream` (lends connections), `connect`, `http1` (speaks to them),
//! `reply` (what the caller hears), `response`, `recorder`. Beside the way: `live` (what clusters and endpoints remember), `outliers` and
//! `health_check` (who is judged, and when), `health` (what the kubelet hears of us and of our app).

pub mod admin;
pub mod health;
pub mod overflow;
pub mod settings;
pub mod sockets;
pub mod telemetry;

mod attempt;
mod body;
mod configurator;
mod connect;
mod connection;
mod destination;
mod detect;
mod exchange;
mod fleet;
mod forward;
mod head;
mod health_check;
mod http1;
mod inspect;
mod live;
mod mirror;
mod nudge;
mod originate;
mod outliers;
mod plan;
mod quiet;
mod recorder;
mod rejection;
mod reply;
mod resolver;
mod response;
mod session;
mod shared;
mod snapshot;
mod source;
mod startup;
mod table;
mod tcp;
mod tls;
mod transport;
mod try_idle;
mod tunnel;
mod upgrade;
mod upstream;
mod wire;
mod worker;

pub use settings::{AccessLog, Settings};
pub use sockets::{Bind, Sockets};

use admin::Admin;
use anyhow::Context;
use configurator::{Configurator, Intake};
use fleet::Fleet;
use health::Health;
use inspect::Inspector;
use overflow::Overflows;
use parking_lot::Mutex;
use shared::Shared;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use telemetry::Telemetry;
use tokio_util::sync::CancellationToken;
use weft_xds::client::Client;

/// One data plane: worker threads that serve what the control plane says.
pub struct DataPlane {
    settings: Settings,
    sockets: Arc<dyn Sockets>,
    overflows: Overflows,
    health: Health,
}

impl DataPlane {
    pub fn new(settings: Settings, sockets: Arc<dyn Sockets>) -> DataPlane {
        DataPlane { settings, sockets, overflows: Overflows::default(), health: Health::default() }
    }

    /// With others to count what is too much for its rate limits.
    pub fn with_overflows(self, overflows: Overflows) -> DataPlane {
        DataPlane { overflows, ..self }
    }

    /// That tells its health, and its app's, to a kubelet.
    pub fn with_health(self, health: Health) -> DataPlane {
        DataPlane { health, ..self }
    }

    /// Serves until `shutdown` is cancelled (or an administrator says `/quitquitquit`), then stops accepting and
    /// finishes what is in flight, for at most [`Settings::drain`].
    ///
    /// # Errors
    /// When the admin's, the metrics' or a health address cannot be listened on, the access log cannot be opened, or a
    /// thread cannot be started. Nothing that the control plane says is an error here.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let DataPlane { settings, sockets, overflows, health } = self;
        let telemetry = Telemetry::start(&settings)?;
        let listen = |what: &str, address| {
            let listening = sockets.listen(address, 0);
            listening.with_context(|| format!("{what}: cannot listen on {address}; is another proxy running there?"))
        };
        let admin_socket = listen("admin", settings.admin)?;
        let scrape_socket = listen("metrics", settings.metrics)?;
        let health_sockets = health::Sockets {
            ready: health.ready.map(|address| listen("health", address)).transpose()?,
            app: health.app.map(|address| listen("the app's probes", address)).transpose()?,
        };
        let shared = Arc::new(Shared::new(settings, telemetry));
        let demand = shared.demand.clone();
        let fleet = Fleet::start(&shared)?;
        let (drain, ended) = (CancellationToken::new(), CancellationToken::new());
        let inspect = Inspector { shared: shared.clone(), drain: drain.clone(), quit: shutdown.clone() };
        let inspect = Arc::new(inspect);
        let node = &shared.settings.node;
        let app = health::App {
            address: node.app_address.unwrap_or(node.address),
            known_as: node.address,
            control_plane: shared.settings.control_plane.clone(),
            probes: health.probes,
        };
        let health = health::spawn(health_sockets, inspect.clone(), app, ended.clone())?;
        let admin = Admin { inspect, metrics: shared.telemetry.metrics.clone() };
        let admin = admin.spawn(admin_socket, scrape_socket, ended.clone())?;

        let seed = fastrand::u64(..);
        let configurator = Configurator::new(shared.clone(), sockets, fleet.commands(), overflows, seed);
        let configurator = Arc::new(Mutex::new(configurator));
        let held = configurator.lock().held();
        let applied = configurator.lock().applied();
        let node = shared.settings.node.clone();
        let client =
            Client::new(&shared.settings.control_plane, node, shared.settings.state_file.clone()).with_demand(demand);
        let ready = client.ready();
        let control = async {
            tokio::join!(
                client.run(Intake(configurator.clone()), ended.clone()),
                resolver::run(configurator.clone(), ended.clone()),
                outliers::run(shared.clone(), held, ended.clone()),
                health_check::run(shared.clone(), applied, ended.clone()),
                announce(&shared, ready, ended.clone()),
            )
        };
        let serve = async {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = drain.cancelled() => {}
            }
            // The configuration goes on being followed: what is in flight may still need a new endpoint.
            let drained = fleet.drain().await;
            if drain.is_cancelled() {
                shutdown.cancelled().await;
            }
            ended.cancel();
            drained
        };
        let (_, drained) = tokio::join!(control, serve);
        tokio::task::spawn_blocking(move || admin.join().and(health.map_or(Ok(()), |health| health.join())))
            .await?
            .map_err(|_| anyhow::anyhow!("the admin or the health thread panicked"))?;
        drained
    }
}

/// Tells `/ready` when a whole configuration is in service.
async fn announce(shared: &Shared, mut ready: tokio::sync::watch::Receiver<bool>, ended: CancellationToken) {
    let announced = async {
        // The client, which sends it, ends only with `ended`.
        if ready.wait_for(|ready| *ready).await.is_err() {
            return;
        }
        shared.configured.store(true, Ordering::Relaxed);
        // What nobody answers must not keep the proxy from serving all the rest.
        if tokio::time::timeout(health_check::FIRST_ROUND, health_check::first_round(shared)).await.is_err() {
            tracing::warn!("serving, though some endpoints have not answered their first health check");
        }
        shared.warm.store(true, Ordering::Relaxed);
        tracing::info!(node = shared.settings.node.id(), "serving");
        tokio::time::sleep(startup::SETTLING).await;
        startup::let_go();
    };
    ended.run_until_cancelled(announced).await;
}
