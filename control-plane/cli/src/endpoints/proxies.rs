//! Which proxies there are, and what they say of their clusters.

use super::name;
use crate::fetch::{self, Ask};
use crate::up::control::Client;
use crate::up::launch::ADMIN_PORT;
use crate::up::plan::Id;
use crate::up::view::View;
use anyhow::{Context as _, bail};
use serde::Deserialize;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use weft_proxy::admin::ClusterView;

const PATIENCE: Duration = Duration::from_secs(5);

/// A proxy that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proxy {
    /// `pod order-0`, `gateway shop`.
    pub(super) name: String,
    /// Where its admin listens, `host:port`.
    pub(super) admin: String,
}

/// What a proxy answered: its clusters, or why it did not.
pub(super) type Answered = (Proxy, anyhow::Result<Vec<ClusterView>>);

impl Proxy {
    pub(super) fn at(address: &str) -> Proxy {
        let admin = address.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Proxy { name: format!("proxy {admin}"), admin }
    }

    fn new(role: &str, id: &Id, address: Ipv4Addr) -> Proxy {
        Proxy { name: format!("{role} {id}"), admin: format!("{address}:{ADMIN_PORT}") }
    }
}

/// Those of the running `weft up`; only the one that is `wanted`, or all gateways for `gateway`.
pub(super) async fn of_up(state: &Path, wanted: Option<&str>) -> anyhow::Result<Vec<Proxy>> {
    let Some(up) = Client::new(state).view().await? else {
        bail!(
            "no `weft up` runs with the state directory {}: start it with `weft up`, name its --state, or say which proxy with --admin",
            state.display()
        );
    };
    select(&up, wanted)
}

pub(super) fn select(up: &View, wanted: Option<&str>) -> anyhow::Result<Vec<Proxy>> {
    let gateways = up.gateways.iter().map(|gateway| {
        let id = Id::new(&*gateway.namespace, &*gateway.name);
        (gateway.name.as_str(), Proxy::new("gateway", &id, gateway.admin))
    });
    let pods = up.pods.iter().filter(|pod| !pod.leaving).map(|pod| {
        let id = Id::new(&*pod.namespace, &*pod.name);
        (pod.name.as_str(), Proxy::new("pod", &id, pod.address))
    });
    let all: Vec<(&str, Proxy)> = gateways.chain(pods).collect();
    let Some(wanted) = wanted else { return Ok(all.into_iter().map(|(_, proxy)| proxy).collect()) };
    // As ids are written, without the namespace that goes without saying.
    let wanted = wanted.strip_prefix("default/").unwrap_or(wanted);
    let is_wanted = |short: &str, proxy: &Proxy| match proxy.name.split_once(' ') {
        Some((role, id)) => [short, id, role].contains(&wanted) && wanted != "pod",
        None => false,
    };
    let found: Vec<Proxy> =
        all.iter().filter(|(short, proxy)| is_wanted(short, proxy)).map(|(_, proxy)| proxy.clone()).collect();
    if found.is_empty() {
        let names: Vec<&str> = all.iter().map(|(short, _)| *short).collect();
        match name::nearest(wanted, names.iter().copied()) {
            Some(near) => bail!("no proxy is called {wanted}: did you mean {near}?"),
            None => bail!("no proxy is called {wanted}; there are {}", names.join(", ")),
        }
    }
    Ok(found)
}

/// Asks all of them at once. In their order.
pub(super) async fn ask_all(proxies: Vec<Proxy>) -> Vec<Answered> {
    let mut asked = JoinSet::new();
    for (place, proxy) in proxies.into_iter().enumerate() {
        asked.spawn(async move {
            let answer = clusters(&proxy.admin).await;
            (place, (proxy, answer))
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answered)| answered).collect()
}

async fn clusters(admin: &str) -> anyhow::Result<Vec<ClusterView>> {
    #[derive(Deserialize)]
    struct Page {
        clusters: Vec<ClusterView>,
    }
    let answer = fetch::tcp(admin, Ask::get(admin, "/clusters?format=json"), PATIENCE).await?;
    if !answer.status.is_success() {
        bail!("GET http://{admin}/clusters answered {}", answer.status);
    }
    let page: Page =
        serde_json::from_slice(&answer.body).with_context(|| format!("what {admin} answers is not of this version"))?;
    Ok(page.clusters)
}
