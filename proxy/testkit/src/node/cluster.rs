//! The node as a member of a cluster: it takes pods, tells how they are, and makes Services work.
//!
//! It is the scheduler too: a pod that is bound to nobody is bound here. What is bound elsewhere runs here all the same,
//! since there is no elsewhere.

use super::pod::RunningPod;
use super::sandbox::{name, namespace};
use super::services::ServiceAddress;
use super::{NODE, Node};
use crate::netns::NODE_V4;
use futures_util::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{Endpoints, Node as NodeObject, Pod, Service};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher::{Config, Event, watcher};
use kube::runtime::{WatchStreamExt as _, reflector};
use kube::{Client, Resource as _};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A node that is not heard of for 40 s loses its pods.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What a pod's keeper must know of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Live,
    /// Within this time.
    End(Duration),
    /// The object is gone.
    Vanish,
}

pub(super) async fn run(node: Node, client: Client) {
    tokio::join!(pods(&node, &client), services(&node, &client), heartbeat(&client));
}

async fn heartbeat(client: &Client) {
    let api = Api::<NodeObject>::all(client.clone());
    let labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), NODE.to_owned())]);
    let mut node = NodeObject::default();
    (node.metadata.name, node.metadata.labels) = (Some(NODE.to_owned()), Some(labels));
    loop {
        let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let status = json!({ "status": {
            "addresses": [{ "type": "InternalIP", "address": NODE_V4.to_string() }],
            "conditions": [{ "type": "Ready", "status": "True", "lastHeartbeatTime": now }],
        }});
        // It is there from the second time on; what matters is told by the patch.
        let _ = api.create(&PostParams::default(), &node).await;
        if let Err(error) = api.patch_status(NODE, &PatchParams::default(), &Patch::Merge(status)).await {
            eprintln!("node: its status: {error}");
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}

async fn pods(node: &Node, client: &Client) {
    let mut events = watcher(Api::<Pod>::all(client.clone()), Config::default()).default_backoff().boxed();
    let mut wishes: BTreeMap<String, watch::Sender<Wish>> = BTreeMap::new();
    let mut listed = BTreeSet::new();
    let mut keepers = JoinSet::new();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            Some(_) = keepers.join_next() => continue,
        };
        let mut upsert = |pod: Pod| {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let wish = wish(&pod);
            let sender = wishes.entry(uid).or_insert_with(|| {
                let (sender, receiver) = watch::channel(wish);
                keepers.spawn(keep(node.clone(), client.clone(), pod, receiver));
                sender
            });
            sender.send_if_modified(|told| std::mem::replace(told, wish) != wish);
        };
        match event {
            Some(Ok(Event::Apply(pod))) => upsert(pod),
            Some(Ok(Event::InitApply(pod))) => {
                listed.extend(pod.metadata.uid.clone());
                upsert(pod);
            }
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitDone)) => wishes.retain(|uid, wish| {
                let there = listed.contains(uid);
                if !there {
                    wish.send_replace(Wish::Vanish);
                }
                there
            }),
            Some(Ok(Event::Delete(pod))) => {
                let wish = pod.metadata.uid.and_then(|uid| wishes.remove(&uid));
                wish.inspect(|wish| _ = wish.send_replace(Wish::Vanish));
            }
            Some(Err(error)) => eprintln!("node: watching pods: {error}"),
            None => return,
        }
    }
}

fn wish(pod: &Pod) -> Wish {
    let seconds = pod.metadata.deletion_grace_period_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    match pod.metadata.deletion_timestamp {
        Some(_) => Wish::End(Duration::from_secs(seconds.unwrap_or(30))),
        None => Wish::Live,
    }
}

/// One pod, from its binding to the end of its object.
async fn keep(node: Node, client: Client, pod: Pod, mut wish: watch::Receiver<Wish>) {
    let api = Api::<Pod>::namespaced(client.clone(), namespace(&pod));
    let (name, uid) = (name(&pod).to_owned(), pod.metadata.uid.clone());
    if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()) {
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": name },
            "target": { "apiVersion": "v1", "kind": "Node", "name": NODE },
        });
        let bound: Result<Value, _> = api.create_subresource("binding", &name, &PostParams::default(), &binding).await;
        if let Err(error) = bound {
            eprintln!("pod {name}: binding it: {error}");
        }
    }
    let finished = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if !matches!(finished, Some("Succeeded" | "Failed")) {
        let running = node.start(pod);
        live(&api, &name, running, &mut wish).await;
    }
    let asked = wish.wait_for(|wish| *wish != Wish::Live).await.map(|wish| *wish);
    if matches!(asked, Ok(Wish::End(_))) {
        let preconditions = Preconditions { uid, resource_version: None };
        let now = DeleteParams::default().grace_period(0).preconditions(preconditions);
        if let Err(error) = api.delete(&name, &now).await {
            eprintln!("pod {name}: deleting it: {error}");
        }
    }
}

/// Until nothing of it runs; tells every change.
async fn live(api: &Api<Pod>, name: &str, running: RunningPod, wish: &mut watch::Receiver<Wish>) {
    let mut report = running.changes();
    let mut told = Value::Null;
    loop {
        let (status, ended) = {
            let report = report.borrow_and_update();
            (report.status(), report.ended.is_some())
        };
        if status != told {
            let patch = Patch::Merge(json!({ "status": status }));
            match api.patch_status(name, &PatchParams::default(), &patch).await {
                Ok(_) => told = status,
                Err(kube::Error::Api(error)) if error.code == 404 => return running.gone_now().await,
                Err(error) => {
                    eprintln!("pod {name}: its status: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            }
        }
        if ended {
            return running.gone().await;
        }
        let asked = *wish.borrow_and_update();
        match asked {
            Wish::Live => {}
            Wish::End(grace) => running.delete_within(grace),
            Wish::Vanish => return running.gone_now().await,
        }
        tokio::select! {
            changed = report.changed() => if changed.is_err() { return },
            changed = wish.changed() => if changed.is_err() { return running.gone_now().await },
        }
    }
}

async fn services(node: &Node, client: &Client) {
    let (services, service_writer) = store::<Service>();
    let (endpoints, endpoint_writer) = store::<Endpoints>();
    let all = Config::default;
    let service_events = watcher(Api::all(client.clone()), all()).default_backoff();
    let endpoint_events = watcher(Api::all(client.clone()), all()).default_backoff();
    let mut service_events = reflector(service_writer, service_events).boxed();
    let mut endpoint_events = reflector(endpoint_writer, endpoint_events).boxed();
    loop {
        let error = tokio::select! {
            Some(event) = service_events.next() => event.err(),
            Some(event) = endpoint_events.next() => event.err(),
            else => return,
        };
        if let Some(error) = error {
            eprintln!("node: watching Services: {error}");
        }
        // What is there already comes at once.
        while service_events.next().now_or_never().flatten().is_some() {}
        while endpoint_events.next().now_or_never().flatten().is_some() {}
        let addresses = joined(&services, &endpoints);
        let node = node.clone();
        let served = tokio::task::spawn_blocking(move || node.serve(addresses)).await;
        served.expect("the rules can be made");
    }
}

/// Each Service with its ready endpoints.
fn joined(services: &Store<Service>, endpoints: &Store<Endpoints>) -> Vec<ServiceAddress> {
    let mut all: Vec<_> = services.state().iter().filter_map(|service| address(service, endpoints)).collect();
    all.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    all
}

fn address(service: &Service, endpoints: &Store<Endpoints>) -> Option<ServiceAddress> {
    let namespace = service.meta().namespace.clone()?;
    let name = service.meta().name.clone()?;
    let spec = service.spec.as_ref()?;
    let key = reflector::ObjectRef::new(&name).within(&namespace);
    let subsets = endpoints.get(&key).and_then(|endpoints| endpoints.subsets.clone()).unwrap_or_default();
    let stands_behind = |port: &Option<String>| -> Vec<SocketAddr> {
        let mut found = Vec::new();
        for subset in &subsets {
            let numbers = subset.ports.iter().flatten().filter(|p| p.name == *port).map(|p| p.port);
            for number in numbers.filter_map(|number| u16::try_from(number).ok()) {
                let ips = subset.addresses.iter().flatten().filter_map(|a| a.ip.parse::<IpAddr>().ok());
                found.extend(ips.map(|ip| SocketAddr::new(ip, number)));
            }
        }
        found
    };
    let own = spec.cluster_ips.clone().unwrap_or_else(|| spec.cluster_ip.iter().cloned().collect());
    let ports = spec.ports.iter().flatten().filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let ports = ports.filter_map(|port| Some((u16::try_from(port.port).ok()?, stands_behind(&port.name))));
    Some(ServiceAddress {
        addresses: own.iter().filter_map(|ip| ip.parse().ok()).collect(),
        ports: ports.collect(),
        namespace,
        name,
    })
}
