//! `weft up`: a whole mesh on one machine, without a cluster. Real processes, each pod with loopback
//! addresses of its own, every hop through a sidecar, policy from the same YAML that a cluster takes.
//!
//! Way of things: `manifests` reads the YAML → `plan` says what should run → `fleet` starts it
//! (`launch`, `supervise`) and watches it (`probe`, `member`) → `endpoints` tells the control plane
//! who may be asked. `screen` tells people, `control` answers other commands.

pub(crate) mod advice;
pub(crate) mod control;
pub(crate) mod endpoints;
pub(crate) mod fleet;
pub(crate) mod known;
pub(crate) mod launch;
pub(crate) mod manifests;
pub(crate) mod member;
pub(crate) mod network;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod probe;
pub(crate) mod screen;
pub(crate) mod state;
pub(crate) mod supervise;
pub(crate) mod view;
pub(crate) mod yaml;

use anyhow::{Context as _, bail};
use clap::Args;
use control::Wish;
use fleet::{Fleet, Part, Told};
use launch::Site;
use manifests::Manifests;
use member::Change;
use network::Network;
use screen::Screen;
use state::State;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use supervise::Stopping;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use view::View;

/// Run the services, their sidecars, the gateways and the control plane on this machine
///
/// Each pod of each Deployment becomes an app and a sidecar, real processes with loopback addresses
/// of their own; each Gateway becomes a gateway. Edits of the manifests are live at the next
/// request. A process that crashes is started again. Ctrl-C drains everything and leaves nothing
/// behind; a second one does not wait.
///
/// An app is told by its environment where to listen (HOST, PORT), how to reach others
/// (HTTP_PROXY: `http://order:8080/` goes through its sidecar), and where its data may be
/// (DATA_DIR, EVENT_LOG). A container with `image: weft` runs this binary with its args; any other
/// needs a `command` that runs on this machine.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  weft up                                  # the shop of ./manifests; the gateway is on port 8080
  weft up --dir my-shop                    # another directory of manifests
  weft up --keep                           # with the data of the last run
  weft up --pod-cidr 127.7.0.0/16 --bind 127.7.0.1 --state /tmp/second   # a second one beside it

While it runs:
  weft status                              # does every proxy hold what was pushed?
  weft scale order 3                       # more pods
  weft check manifests                     # what is wrong in the YAML")]
pub(crate) struct UpArgs {
    /// The directory of manifests, with all below it.
    #[arg(long, default_value = "manifests", env = "WEFT_MANIFESTS", value_name = "DIR")]
    dir: PathBuf,
    /// Where gateways listen; 0.0.0.0 lets others in.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    bind: IpAddr,
    /// Logs, data, and what `weft up` writes for the control plane.
    #[arg(long, default_value = ".weft", value_name = "DIR")]
    state: PathBuf,
    /// Keep the data and the logs of the last run; without it each run starts afresh.
    #[arg(long)]
    keep: bool,
    /// The /16 of the loopback network that everything but the gateways' listeners is in: control
    /// plane .0.1, pods .1.N, their apps .2.N, the gateways' admin .3.N.
    #[arg(long, default_value = "127.0.0.0/16", value_name = "CIDR")]
    pod_cidr: Network,
    /// Worker threads of each proxy.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=512), value_name = "N")]
    workers: u16,
    /// How long each part may finish what is in flight when it is stopped, in seconds.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    drain: u64,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut manifests = Manifests::new(args.dir.clone())?;
    let state = State::open(&args.state, args.keep)?;
    let site = Site {
        executable: std::env::current_exe().context("cannot find this very program")?,
        manifests: args.dir,
        state: args.state,
        network: args.pod_cidr,
        bind: args.bind,
        workers: args.workers.into(),
        drain_seconds: args.drain,
    };
    let plan = manifests.read()?;
    let pods = plan.deployments.values().map(|d| d.replicas).sum::<u32>();
    let taken = ports::taken(&ports::needed(&site, &plan, u8::try_from(pods).unwrap_or(u8::MAX)));
    if !taken.is_empty() {
        bail!("{}", taken.join("\n  "));
    }

    let grace = Duration::from_secs(args.drain + 3);
    let stopping = Stopping { grace, now: CancellationToken::new() };
    let (told, inbox) = mpsc::unbounded_channel();
    let (wishes, asked) = mpsc::channel(16);
    tokio::spawn(control::serve(control::bind(state.path())?, wishes));
    let screen = Screen::new(&site, &manifests);
    let fleet = Fleet::new(site.clone(), stopping.clone(), told)?;
    let mut up = Up { site, state, manifests, fleet, screen, published: None, troubles: Vec::new(), announcing: None };
    up.fleet.start_control_plane();
    up.until_signal(plan, inbox, asked, &mut signals).await;

    up.screen.stopping();
    let fleet_stops = up.fleet.stop();
    tokio::pin!(fleet_stops);
    let patient = tokio::select! {
        () = &mut fleet_stops => true,
        () = signals.next() => {
            stopping.now.cancel();
            fleet_stops.await;
            false
        }
    };
    up.state.close();
    up.screen.stopped(patient);
    Ok(if patient { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Up {
    site: Site,
    state: State,
    manifests: Manifests,
    fleet: Fleet,
    screen: Screen,
    published: Option<View>,
    /// What could not be done, and was said.
    troubles: Vec<String>,
    /// Ends when all proxies know all pods: then it is said that all is up.
    announcing: Option<JoinHandle<()>>,
}

/// Never, where nothing is to be announced.
async fn announcement(waiting: &mut Option<JoinHandle<()>>) {
    match waiting {
        // It neither panics nor is it aborted; and if it were, all is up all the same.
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}

impl Up {
    /// Takes one thing after the other, and lets the fleet settle after each.
    async fn until_signal(
        &mut self,
        plan: plan::Plan,
        mut inbox: mpsc::UnboundedReceiver<Told>,
        mut asked: mpsc::Receiver<Wish>,
        signals: &mut Signals,
    ) {
        // The others start when the control plane is there, and need no back-off of their own.
        let mut first_plan = Some(plan);
        let patience = tokio::time::sleep(Duration::from_secs(20));
        tokio::pin!(patience);
        let mut patient = true;
        loop {
            tokio::select! {
                () = signals.next() => return,
                Some(told) = inbox.recv() => {
                    let news = self.fleet.on(told);
                    if let Some((Part::ControlPlane, Change::Ready)) = &news
                        && let Some(plan) = first_plan.take()
                    {
                        self.screen.problems(&self.manifests.problems());
                        self.screen.notes(&plan);
                        self.fleet.set_plan(plan);
                    }
                    if let Some((part, change)) = news {
                        self.screen.change(&part, &change, &self.fleet);
                    }
                }
                Some(wish) = asked.recv() => self.grant(wish),
                () = self.manifests.changed() => match self.manifests.read() {
                    Ok(plan) if first_plan.is_some() => first_plan = Some(plan),
                    Ok(plan) => {
                        self.screen.problems(&self.manifests.problems());
                        self.screen.notes(&plan);
                        self.screen.plan(self.fleet.plan(), &plan);
                        self.fleet.set_plan(plan);
                    }
                    Err(e) => self.screen.trouble(&format!("{e:#}; going on with what was read before")),
                },
                () = announcement(&mut self.announcing) => {
                    self.announcing = None;
                    if self.fleet.complete() {
                        self.screen.complete(&self.fleet.view(), self.fleet.plan(), self.site.bind);
                    }
                }
                () = &mut patience, if patient => {
                    patient = false;
                    if !self.fleet.complete() {
                        self.screen.still_waiting(&self.fleet.view());
                    }
                }
            }
            if first_plan.is_none() {
                self.settle();
            }
        }
    }

    fn settle(&mut self) {
        let troubles = self.fleet.settle();
        for trouble in troubles.iter().filter(|trouble| !self.troubles.contains(trouble)) {
            self.screen.trouble(trouble);
        }
        self.troubles = troubles;
        let view = self.fleet.view();
        if self.published.as_ref() != Some(&view) {
            if let Err(e) = self.state.publish(&view) {
                self.screen.trouble(&format!("{e:#}"));
            }
            self.published = Some(view);
        }
        if self.fleet.complete() && self.screen.expects_table() && self.announcing.is_none() {
            let known = known::by_all(self.fleet.admins(), self.fleet.endpoints(), Duration::from_secs(5));
            self.announcing = Some(tokio::spawn(known));
        }
    }

    fn grant(&mut self, wish: Wish) {
        // Who asked may have hung up; that changes nothing.
        match wish {
            Wish::Fleet(reply) => drop(reply.send(self.fleet.view())),
            Wish::Scale(scale, reply) => {
                let result = self.fleet.scale(&scale.deployment, scale.replicas);
                if result.is_ok() {
                    self.screen.scaled(&scale.deployment, scale.replicas);
                }
                drop(reply.send(result));
            }
        }
    }
}

/// What asks us to stop.
struct Signals {
    all: [Signal; 3],
}

impl Signals {
    fn new() -> anyhow::Result<Signals> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [a, b, c] = kinds.map(signal);
        Ok(Signals { all: [a?, b?, c?] })
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.all;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
