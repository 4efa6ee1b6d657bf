//! The replica that leads tells each author what became of the object, and runs what Gateways ask for.
//!
//! What a status says is `weft-config`'s to decide; here it is found out what only the outside knows (who has acknowledged,
//! which address a load balancer gave), and written where it differs. A write is always of what was just read: who was overtaken
//! looks again.

use super::apply::Applier;
use super::gateways::{self, Owner, Template};
use super::merge::merged;
use super::peers::Peers;
use crate::pipeline::Live;
use crate::sources::kubernetes::{ApiOf, api_of};
use anyhow::Context as _;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use weft_config::kinds::Gateway;
use weft_config::status::{Address, CONTROLLER_NAME, Facts, GatewayFacts, Status, statuses};
use weft_config::{Key, KindName, World};
use weft_model::node::Role;
use weft_xds::server::{NodeStatus, Status as Streams};

/// How often the outside is looked at.
const EVERY: Duration = Duration::from_millis(500);
/// How often the cluster is asked for the gateways' addresses.
const ADDRESSES_EVERY: Duration = Duration::from_secs(2);
/// After so long everything is written anew if it is not there: somebody may have deleted a part, or a status.
const RESYNC: Duration = Duration::from_secs(120);
/// Writes at once.
const WRITES: usize = 16;

pub(crate) struct Writer {
    client: Client,
    live: Arc<Live>,
    streams: Arc<Streams>,
    /// And where they are asked.
    peers: (Peers, u16),
    template: Template,
    applier: Applier,
    apis: Mutex<HashMap<KindName, ApiOf>>,
    addresses: BTreeMap<Key, Vec<Address>>,
    addresses_at: Option<Instant>,
    /// Of the Gateway API.
    bundle_version: Option<String>,
    /// How the gateways' data planes stood at the last look.
    standings: BTreeMap<Key, Standing>,
    /// With the listeners of their ListenerSets, as they were at the last look.
    gateways: BTreeMap<Key, Gateway>,
    /// What the statuses were computed from.
    last: Option<(Arc<World>, Facts)>,
    statuses: BTreeMap<Key, Status>,
    /// What was written, so that it is not again.
    written: HashMap<Key, (Value, Instant)>,
    applied: HashMap<Key, (Vec<Value>, Instant)>,
    /// Said already.
    troubles: HashMap<Key, String>,
}

impl Writer {
    pub(crate) fn new(
        client: Client,
        live: Arc<Live>,
        streams: Arc<Streams>,
        peers: (Peers, u16),
        template: Template,
    ) -> Writer {
        Writer {
            applier: Applier::new(client.clone()),
            client,
            live,
            streams,
            peers,
            template,
            apis: Mutex::default(),
            addresses: BTreeMap::new(),
            addresses_at: None,
            bundle_version: None,
            standings: BTreeMap::new(),
            gateways: BTreeMap::new(),
            last: None,
            statuses: BTreeMap::new(),
            written: HashMap::new(),
            applied: HashMap::new(),
            troubles: HashMap::new(),
        }
    }

    /// Writes while `leads`, until `shutdown`.
    pub(crate) async fn run(mut self, leads: watch::Receiver<bool>, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            if *leads.borrow() {
                let look = shutdown.run_until_cancelled(self.look());
                look.await;
            } else {
                // another may write meanwhile
                self.written.clear();
                self.applied.clear();
            }
        }
    }

    async fn look(&mut self) {
        let world = self.live.get();
        if world.objects.is_empty() {
            return;
        }
        self.ask_addresses().await;
        let (peers, monitoring) = &mut self.peers;
        let of_others = peers.gateways(*monitoring).await;
        let nodes: Vec<NodeStatus> = self.streams.snapshot().into_iter().chain(of_others).collect();
        let facts = self.facts(&world, &nodes);
        let is_same = |last: &(Arc<World>, Facts)| Arc::ptr_eq(&last.0, &world) && last.1 == facts;
        if !self.last.as_ref().is_some_and(is_same) {
            self.statuses = statuses(&world, &facts);
            self.last = Some((world.clone(), facts));
        }
        self.written.retain(|key, _| world.objects.contains_key(key));
        self.applied.retain(|key, _| world.objects.contains_key(key));
        self.troubles.retain(|key, _| world.objects.contains_key(key));
        self.run_gateways(&world).await;
        self.write().await;
    }

    /// What the outside says.
    fn facts(&mut self, world: &World, nodes: &[NodeStatus]) -> Facts {
        let gateways = world.objects.keys().filter(|key| key.kind == KindName::Gateway);
        let now: BTreeMap<Key, Standing> = gateways.map(|key| (key.clone(), Standing::of(nodes, key))).collect();
        let is_new = self.last.as_ref().is_none_or(|(last, _)| !std::ptr::eq(&**last, world));
        let before = std::mem::replace(&mut self.standings, now);
        let served = if is_new { weft_config::gateways(world) } else { std::mem::take(&mut self.gateways) };
        let gateways = self.standings.iter().map(|(key, now)| {
            let was_told = self.last.as_ref().is_some_and(|(last, facts)| {
                let is_same = last.objects.get(key) == world.objects.get(key);
                // with a ListenerSet's listener it is another one
                let is_same = is_same && (!is_new || self.gateways.get(key) == served.get(key));
                is_same && facts.gateways.get(key).is_some_and(|facts| facts.acknowledged)
            });
            let before = before.get(key).copied().filter(|_| !is_new);
            let acknowledged = now.is_acknowledged(before, was_told);
            let addresses = self.addresses.get(key).cloned().unwrap_or_default();
            (key.clone(), GatewayFacts { addresses, acknowledged })
        });
        let facts = Facts { gateways: gateways.collect(), bundle_version: self.bundle_version.clone() };
        self.gateways = served;
        facts
    }

    async fn ask_addresses(&mut self) {
        let ours = self.statuses.values().any(|status| matches!(status, Status::Gateway(_)));
        if !ours || self.addresses_at.is_some_and(|at| at.elapsed() < ADDRESSES_EVERY) {
            return;
        }
        self.addresses_at = Some(Instant::now());
        self.ask_bundle_version().await;
        let params = ListParams::default().labels("gateway.networking.k8s.io/gateway-name").match_any();
        match Api::<Service>::all(self.client.clone()).list(&params).await {
            Ok(services) => self.addresses = services.items.iter().filter_map(addresses).collect(),
            Err(error) => tracing::debug!("the gateways' Services cannot be listed: {error}"),
        }
    }

    async fn ask_bundle_version(&mut self) {
        let definitions = Api::<CustomResourceDefinition>::all(self.client.clone());
        if let Ok(Some(definition)) = definitions.get_metadata_opt("gateways.gateway.networking.k8s.io").await {
            let annotations = definition.metadata.annotations.unwrap_or_default();
            self.bundle_version = annotations.get("gateway.networking.k8s.io/bundle-version").cloned();
        }
    }

    /// Applies what each Gateway of ours asks for, where that changed.
    async fn run_gateways(&mut self, world: &World) {
        let ours = self.statuses.iter().filter(|(_, status)| matches!(status, Status::Gateway(_)));
        for key in ours.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            let Some(object) = world.objects.get(&key) else { continue };
            // without a uid it is of a file, and nobody could own what runs for it
            let (Some(gateway), Some(uid)) = (self.gateways.get(&key), &object.meta.uid) else { continue };
            let parts = gateways::parts(&Owner { key: &key, uid }, gateway, &self.template);
            let known = self.applied.get(&key);
            if known.is_some_and(|(before, at)| *before == parts && at.elapsed() < RESYNC) {
                continue;
            }
            let mut result = Ok(());
            for part in &parts {
                result = self.applier.apply(part, false).await.map(drop);
                if result.is_err() {
                    break;
                }
            }
            if self.told(&key, result) {
                self.applied.insert(key, (parts, Instant::now()));
            }
        }
    }

    async fn write(&mut self) {
        let mut due = Vec::new();
        for (key, status) in &self.statuses {
            let wanted = match serde_json::to_value(status) {
                Ok(wanted) => wanted,
                Err(error) => {
                    tracing::error!("the status of {key} cannot be written down: {error}. Please report it");
                    continue;
                }
            };
            let known = self.written.get(key);
            if known.is_none_or(|(before, at)| *before != wanted || at.elapsed() >= RESYNC) {
                due.push((key.clone(), wanted));
            }
        }
        let this = &*self;
        let writes = due.into_iter().map(|(key, wanted)| async move {
            let result = this.write_one(&key, &wanted).await;
            (key, wanted, result)
        });
        let results: Vec<_> = futures_util::stream::iter(writes).buffer_unordered(WRITES).collect().await;
        for (key, wanted, result) in results {
            if self.told(&key, result) {
                self.written.insert(key, (wanted, Instant::now()));
            }
        }
    }

    async fn write_one(&self, key: &Key, wanted: &Value) -> anyhow::Result<()> {
        // an object of a file has no status
        let Some(api) = self.api(key).await? else { return Ok(()) };
        let Some(mut object) = api.get_opt(&key.name).await.context("it cannot be read")? else { return Ok(()) };
        let current = object.data.get("status").cloned().unwrap_or_default();
        let status = merged(&current, wanted, CONTROLLER_NAME, &now());
        if status == current {
            return Ok(());
        }
        object.data["status"] = status;
        let written = api.replace_status(&key.name, &PostParams::default(), &object).await;
        written.map(drop).context("its status cannot be written")
    }

    async fn api(&self, key: &Key) -> anyhow::Result<Option<Api<DynamicObject>>> {
        let mut apis = self.apis.lock().await;
        if !apis.contains_key(&key.kind) {
            let Some(api) = api_of(&self.client, key.kind.as_str()).await? else { return Ok(None) };
            apis.insert(key.kind.clone(), api);
        }
        let resource = &apis[&key.kind];
        Ok(Some(match key.namespace.as_str() {
            "" => Api::all_with(self.client.clone(), resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, resource),
        }))
    }

    /// Says each trouble once. Whether there was none.
    fn told(&mut self, key: &Key, result: anyhow::Result<()>) -> bool {
        match result {
            Ok(()) => {
                self.troubles.remove(key);
                true
            }
            // somebody else wrote meanwhile; the next look sees what
            Err(error) if is_conflict(&error) => false,
            Err(error) => {
                let words = format!("{error:#}");
                if self.troubles.get(key) != Some(&words) {
                    tracing::warn!("{key}: {words}");
                    self.troubles.insert(key.clone(), words);
                }
                false
            }
        }
    }
}

fn is_conflict(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if status.is_conflict())
}

/// How a Gateway's data planes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// There are none.
    Absent,
    /// One of them does not hold what it should.
    Behind,
    InStep,
}

impl Standing {
    fn of(nodes: &[NodeStatus], gateway: &Key) -> Standing {
        let of_gateway = nodes.iter().filter(|status| {
            let node = &status.node;
            node.role == Role::Gateway && node.namespace == gateway.namespace && node.workload == gateway.name
        });
        let step = |in_sync| if in_sync { Standing::InStep } else { Standing::Behind };
        let all = of_gateway.map(|node| node.in_sync).reduce(|one, other| one && other);
        all.map_or(Standing::Absent, step)
    }

    /// Whether the Gateway, as it is now, has been acknowledged. Two looks in a row at one world must find it in step: between a new
    /// configuration and the moment in which the streams know of it, one look could be deceived. What was told of
    /// this very Gateway holds while there are data planes: endpoints come and go all the time, and are no news of it.
    fn is_acknowledged(self, before: Option<Standing>, was_told: bool) -> bool {
        match self {
            Standing::Absent => false,
            Standing::Behind => was_told,
            Standing::InStep => was_told || before == Some(Standing::InStep),
        }
    }
}

/// Of the Gateway that a Service stands before: what the load balancer gave; without one, the cluster's own address.
fn addresses(service: &Service) -> Option<(Key, Vec<Address>)> {
    let labels = service.metadata.labels.as_ref()?;
    let name = labels.get("gateway.networking.k8s.io/gateway-name")?;
    let key = Key::new(KindName::Gateway, service.metadata.namespace.clone().unwrap_or_default(), name.clone());
    let address = |kind: &str, value: &str| Address { kind: kind.to_owned(), value: value.to_owned() };
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let given = ingress.iter().filter_map(|ingress| match (&ingress.ip, &ingress.hostname) {
        (Some(ip), _) => Some(address("IPAddress", ip)),
        (None, Some(name)) => Some(address("Hostname", name)),
        (None, None) => None,
    });
    let mut all: Vec<Address> = given.collect();
    let own = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    if let (true, Some(own)) = (all.is_empty(), own.filter(|own| *own != "None" && !own.is_empty())) {
        all.push(address("IPAddress", own));
    }
    Some((key, all))
}

/// RFC 3339, in seconds, as Kubernetes writes times.
fn now() -> String {
    let now = k8s_openapi::jiff::Timestamp::now();
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::Standing::{Absent, Behind, InStep};

    #[test]
    fn a_gateway_is_acknowledged_by_two_looks_at_one_world() {
        assert!(!InStep.is_acknowledged(None, false), "a new world: the streams may not know of it yet");
        assert!(!InStep.is_acknowledged(Some(Behind), false));
        assert!(InStep.is_acknowledged(Some(InStep), false));
    }

    #[test]
    fn what_was_told_of_a_gateway_holds_while_others_change() {
        assert!(InStep.is_acknowledged(None, true));
        assert!(Behind.is_acknowledged(None, true));
        assert!(!Absent.is_acknowledged(Some(InStep), true), "but not without a data plane");
    }
}
