//! A cluster as a source: its API server is asked for every kind that Weft reads, and watched from then on.
//!
//! An API server is an honest and difficult partner. It drops connections, forgets its history (410), does not have
//! a kind yet or has it in an older version, denies one kind and grants another, and is away for a while, all of
//! which are ordinary days. So each kind is followed by a task of its own ([`Kind`]):
//!
//! - a list is the truth: what it does not name is gone, so a deletion that a broken watch missed is made good;
//! - an object is read where it comes in and only its typed form is kept, never its JSON;
//! - what cannot be asked (away, denied) takes nothing out of force, and is said in words;
//! - a kind that is not there is no object of that kind only if its definition is not there either.
//!
//! Nothing is told before every kind has been listed, denied or found absent once: a restart never takes anything out
//! of force because the answer to one question came before the answer to another.

mod backoff;
mod definitions;
mod discovery;
mod kind;
mod object;
#[cfg(test)]
mod tests;
mod wanted;

pub(crate) use kube::core::discovery::ApiResource as ApiOf;

/// How the server's API names a kind that is read from it; `None`: it is not, or the server has none.
pub(crate) async fn api_of(client: &Client, kind: &str) -> anyhow::Result<Option<ApiOf>> {
    let Some(wanted) = KINDS.iter().find(|wanted| wanted.kind == kind) else { return Ok(None) };
    let found =
        discovery::find(client, wanted).await.with_context(|| format!("the API server was asked for {kind}"))?;
    Ok(match found {
        discovery::Found::Served(resource) => Some(resource),
        discovery::Found::Absent | discovery::Found::NotYet => None,
    })
}

use super::inbox::Inbox;
use anyhow::Context as _;
use definitions::Definitions;
use futures_util::future::join_all;
use kind::Kind;
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use wanted::{KINDS, Wanted};
use weft_config::{Place, Problem};

/// Which cluster, and as whom.
#[derive(Clone, Debug, Default)]
pub struct Kubernetes {
    /// `None`: that of the Pod that this runs in, else what `kubectl` would take (`$KUBECONFIG`, `~/.kube/config`).
    pub kubeconfig: Option<PathBuf>,
    /// A context of that file; `None`: its current one.
    pub context: Option<String>,
}

impl Kubernetes {
    /// A client, and the API server's address for people. Asks nobody yet. Errors: no such file, no such context.
    pub async fn client(&self) -> anyhow::Result<(Client, String)> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match (&self.kubeconfig, &self.context) {
            (Some(file), _) => {
                let read = Kubeconfig::read_from(file).with_context(|| format!("kubeconfig {}", file.display()))?;
                let config = Config::from_custom_kubeconfig(read, &options).await;
                config.with_context(|| format!("kubeconfig {}", file.display()))?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options).await.context("the kubeconfig that kubectl takes")?,
            (None, None) => Config::infer().await.context(
                "no cluster is known: this is no Pod with a ServiceAccount, and there is no kubeconfig (give --kubeconfig)",
            )?,
        };
        let name = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        Ok((Client::try_from(config).context("the kubeconfig's credentials")?, name))
    }
}

/// Watches one cluster and tells the inbox.
pub(crate) struct Cluster {
    client: Client,
    /// The API server, for people.
    name: String,
    inbox: Arc<Inbox>,
    state: Mutex<State>,
}

struct State {
    /// Kinds of which nobody knows yet what there is.
    open: BTreeSet<&'static str>,
    /// By the kind, or by [`AWAY`].
    troubles: BTreeMap<&'static str, Problem>,
}

/// The trouble that is not one kind's.
const AWAY: &str = "";

impl Cluster {
    pub(crate) fn new(client: Client, name: String, inbox: Arc<Inbox>) -> Cluster {
        let open = KINDS.iter().map(|wanted| wanted.kind).collect();
        Cluster { client, name, inbox, state: Mutex::new(State { open, troubles: BTreeMap::new() }) }
    }

    /// Until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        tracing::info!(server = self.name, kinds = KINDS.len(), "watching the cluster");
        let definitions = Definitions::new(self.client.clone());
        let kinds = join_all(KINDS.iter().map(|wanted| Kind::new(&self, wanted, definitions.changed()).run()));
        tokio::select! {
            () = definitions.run() => {}
            _ = kinds => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// It is known now what there is of this kind, if only that nobody may know.
    fn settle(&self, wanted: &Wanted) {
        let mut state = self.state();
        if state.open.remove(wanted.kind) && state.open.is_empty() {
            tracing::info!(server = self.name, "every kind has been listed");
            self.inbox.cluster_is_listed(Instant::now());
        }
    }

    fn trouble(&self, of: &'static str, problem: Problem) {
        let mut state = self.state();
        if state.troubles.get(of) != Some(&problem) {
            state.troubles.insert(of, problem);
            self.tell_troubles(&state);
        }
    }

    /// The kind is answered for, so the server is there too.
    fn no_trouble(&self, of: &'static str) {
        let mut state = self.state();
        let mended = [of, AWAY].into_iter().filter(|of| state.troubles.remove(of).is_some()).count();
        if mended > 0 {
            self.tell_troubles(&state);
        }
    }

    fn is_away(&self, error: &(dyn std::error::Error + 'static)) {
        let message = format!("the API server {} does not answer: {}", self.name, in_words(error));
        let hint = "what it said before stays in force; before the first answer, proxies wait";
        self.trouble(AWAY, Problem::warning(Place::new("kubernetes", 0, 0), "", message).hint(hint));
    }

    fn is_denied(&self, wanted: &Wanted, message: &str) {
        let place = Place::new(format!("kubernetes/{}", wanted.plural), 0, 0);
        let message = format!("the API server lets nobody here read {}: {message}", wanted.kind);
        let hint = format!("grant get, list and watch on {}; all other kinds go on", wanted.full_plural());
        self.trouble(wanted.kind, Problem::warning(place, "", message).hint(hint));
    }

    fn tell_troubles(&self, state: &State) {
        self.inbox.cluster_problems(state.troubles.values().cloned().collect());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change of the state can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The innermost reason is what an operator can act on.
fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
