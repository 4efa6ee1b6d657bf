//! Which endpoints are near: Istio's `localityLbSetting`, as priorities and shares of localities for one data plane.
//!
//! What is near depends on where the caller runs, so these endpoints are each node's own. They are made only for upstreams whose
//! rule asks for it; all others are shared by everybody. The rules are Istio's (`loadbalancer.go`): `distribute` shares load among
//! localities and excludes `failover`; failover needs outlier detection, which a cluster of ours always has, so
//! writing `localityLbSetting` is enough; without it a rule with `outlierDetection` fails over from near to far, as in Istio.

use super::clusters::{Member, members};
use super::index::Index;
use super::policy;
use super::upstreams::Upstream;
use crate::Object;
use crate::kinds::{Labels, LocalityDistribute, LocalityLb, SliceEndpoint};
use std::collections::{BTreeMap, BTreeSet};
use weft_model::endpoint::Locality;
use weft_model::{Endpoint, Endpoints, Node};

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUB_ZONE: &str = "topology.istio.io/subzone";

/// Shares are written in percent; this keeps their parts exact when several localities divide one.
const SCALE: u64 = 10_000;

/// Where an endpoint runs: by its Pod's labels, else its machine's, and for the zone what its slice says first.
pub(crate) fn of_endpoint(index: &Index, endpoint: &SliceEndpoint, pod: Option<&Object>) -> Locality {
    let known = of_labels(index, endpoint.node_name.as_deref(), pod.map(|pod| &pod.meta.labels));
    Locality { zone: endpoint.zone.clone().unwrap_or(known.zone), ..known }
}

/// By a Pod's labels, else by those of the machine that it runs on.
pub(crate) fn of_labels(index: &Index, machine: Option<&str>, of_pod: Option<&Labels>) -> Locality {
    let of_machine = machine.and_then(|name| index.machine_labels(name));
    let find = |name: &str| {
        let labels = [of_pod, of_machine];
        labels.into_iter().flatten().find_map(|labels| labels.get(name)).cloned().unwrap_or_default()
    };
    Locality { region: find(REGION), zone: find(ZONE), sub_zone: find(SUB_ZONE) }
}

/// Where a data plane runs, by its own word, else by its labels.
fn of_node(node: &Node) -> Locality {
    if node.locality != Locality::default() {
        return node.locality.clone();
    }
    let label = |name: &str| node.labels.get(name).cloned().unwrap_or_default();
    Locality { region: label(REGION), zone: label(ZONE), sub_zone: label(SUB_ZONE) }
}

/// The endpoints of an upstream as this node should use them; `None` when it uses them as everybody does.
pub(crate) fn endpoints(index: &Index, upstream: &Upstream<'_>, node: &Node) -> Option<Endpoints> {
    let policy = upstream.policy();
    let balancer = policy.load_balancer.filter(|balancer| balancer.locality.is_some());
    let setting = balancer.map(policy::locality);
    let own = of_node(node);
    let unsaid = LocalityLb::default();
    let setting = match setting {
        Some(written) => written?,
        None if policy.outlier_detection.is_some() => &unsaid,
        None => return None,
    };
    if setting.distribute.is_empty() && own == Locality::default() {
        return None;
    }
    let labels = upstream.subset.map(|subset| &subset.labels);
    let members = members(index, upstream.object, upstream.port, labels);
    let mut endpoints = Endpoints { cluster: upstream.name(), ..Endpoints::default() };
    if setting.distribute.is_empty() {
        endpoints.endpoints = prioritized(members, setting, &own, &node.labels);
    } else {
        endpoints.endpoints = members.into_iter().map(|member| member.endpoint).collect();
        distribute(&mut endpoints, &setting.distribute, &own);
    }
    Some(endpoints)
}

/// Shares of the first entry that this node is meant by; without one, localities weigh what their endpoints do together.
fn distribute(endpoints: &mut Endpoints, entries: &[LocalityDistribute], own: &Locality) {
    let mut weights: BTreeMap<Locality, u64> = BTreeMap::new();
    for endpoint in &endpoints.endpoints {
        *weights.entry(endpoint.locality.clone()).or_default() += u64::from(endpoint.weight);
    }
    if let Some(entry) = entries.iter().find(|entry| fits(&entry.from, own)) {
        weights = shares(&weights, &entry.to);
        endpoints.endpoints.retain(|endpoint| weights.contains_key(&endpoint.locality));
    }
    let weight = |weight: u64| u32::try_from(weight).unwrap_or(u32::MAX);
    endpoints.locality_weights = weights.into_iter().map(|(locality, of)| (locality, weight(of))).collect();
}

/// A locality belongs to the most specific name that fits it; those of one name divide its share by their weights.
fn shares(weights: &BTreeMap<Locality, u64>, to: &BTreeMap<String, u32>) -> BTreeMap<Locality, u64> {
    let name_of = |locality: &Locality| {
        let fitting = to.iter().filter(|(name, _)| fits(name, locality));
        fitting.max_by_key(|(name, _)| name.split('/').filter(|part| *part != "*").count())
    };
    let mut totals: BTreeMap<&String, u64> = BTreeMap::new();
    for (locality, weight) in weights {
        if let Some((name, _)) = name_of(locality) {
            *totals.entry(name).or_default() += weight;
        }
    }
    let share = |(locality, weight): (&Locality, &u64)| {
        let (name, percent) = name_of(locality).filter(|(_, percent)| **percent > 0)?;
        let part = u64::from(*percent) * SCALE * weight / totals[name];
        Some((locality.clone(), part.max(1)))
    };
    weights.iter().filter_map(share).collect()
}

/// `region/zone/subzone`, where `*` or nothing fits everything.
fn fits(written: &str, locality: &Locality) -> bool {
    let mut parts = written.split('/');
    let mut fits = |value: &str| parts.next().is_none_or(|part| part.is_empty() || part == "*" || part == value);
    fits(&locality.region) && fits(&locality.zone) && fits(&locality.sub_zone)
}

/// In order of address, nearest priority 0, no priority left out.
fn prioritized(members: Vec<Member<'_>>, setting: &LocalityLb, own: &Locality, labels: &Labels) -> Vec<Endpoint> {
    let by_distance = setting.failover_priority.is_empty() || !setting.failover.is_empty();
    let rank = |member: &Member<'_>| {
        let by_labels = by_labels(member, &setting.failover_priority, own, labels);
        let distance = if by_distance { distance(&member.endpoint.locality, own, setting) } else { 0 };
        (by_labels, distance)
    };
    let ranked: Vec<((usize, u32), Endpoint)> =
        members.into_iter().map(|member| (rank(&member), member.endpoint)).collect();
    let ranks: BTreeSet<(usize, u32)> = ranked.iter().map(|(rank, _)| *rank).collect();
    let priorities: BTreeMap<(usize, u32), u32> = ranks.into_iter().zip(0..).collect();
    ranked.into_iter().map(|(rank, endpoint)| Endpoint { priority: priorities[&rank], ..endpoint }).collect()
}

/// How many of the `failoverPriority` labels, from the first one that differs on, are not shared with this node.
fn by_labels(member: &Member<'_>, priority: &[String], own: &Locality, labels: &Labels) -> usize {
    let theirs = |name: &str| label(name, &member.endpoint.locality, member.labels);
    let differs = |written: &String| match written.split_once('=') {
        Some((name, value)) => theirs(name) != Some(value),
        None => theirs(written) != label(written, own, Some(labels)),
    };
    priority.iter().position(differs).map_or(0, |first| priority.len() - first)
}

fn label<'l>(name: &str, locality: &'l Locality, labels: Option<&'l Labels>) -> Option<&'l str> {
    let of_locality = match name {
        REGION => &locality.region,
        ZONE => &locality.zone,
        SUB_ZONE => &locality.sub_zone,
        _ => return labels.and_then(|labels| labels.get(name)).map(String::as_str),
    };
    Some(of_locality.as_str()).filter(|value| !value.is_empty())
}

/// 0 is the same sub-zone, 1 the same zone, 2 the same region, 3 elsewhere, 4 elsewhere but not where this region fails over to.
fn distance(theirs: &Locality, own: &Locality, setting: &LocalityLb) -> u32 {
    if theirs.region == own.region {
        return match (theirs.zone == own.zone, theirs.sub_zone == own.sub_zone) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        };
    }
    match setting.failover.iter().find(|failover| failover.from == own.region) {
        Some(failover) if failover.to != theirs.region => 4,
        _ => 3,
    }
}
