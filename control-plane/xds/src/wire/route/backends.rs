//! The backends that a route chooses among.
//!
//! Normal form: an empty rewritten host is `None`, and so is a rewrite of nothing.
//!
//! - [`Target::Invalid`] is a cluster named `weft.dev/invalid|reason`, which nobody serves, with
//!   `cluster_not_found_response_code: 500`. Envoy has one such code per route: in a mixture, the share of a
//!   *valid* backend whose cluster is missing gets 500 as well there, where our proxy says 503.
//! - Envoy takes no backends that weigh nothing together. They get one more, `weft.dev/none`, of weight 1, so that all is answered 500.
//! - Of what one backend does to the URL, Envoy has a field for the host alone. The rest travels in our metadata, an entry for each
//!   backend in their order. A stock Envoy leaves the path to such a backend as the route says.
//! - A backend that redirects is named `weft.dev/redirect|cluster`, which nobody serves either: a stock Envoy answers its share 500 rather
//!   than send it where it should not go.

use super::super::parts::{self, At, Decoded, apart, each, refuse};
use super::edits;
use envoy_types::pb::envoy::config::route::v3 as rds;
use rds::route_action::ClusterSpecifier;
use rds::weighted_cluster::{ClusterWeight, cluster_weight::HostRewriteSpecifier};
use serde::{Deserialize, Serialize};
use weft_model::route::{Backend, PathRewrite, Redirect, Rewrite, Target, UrlChange};

const INVALID: &str = "weft.dev/invalid|";
const NONE: &str = "weft.dev/none";
const REDIRECT: &str = "weft.dev/redirect|";

/// What Envoy has no field for, of one backend.
#[derive(PartialEq, Serialize, Deserialize)]
pub(super) enum Ours {
    Nothing,
    Path(PathRewrite),
    Redirect(Redirect),
}

impl Ours {
    fn of(backend: &Backend) -> Ours {
        match backend.url.as_deref() {
            None | Some(UrlChange::Rewrite(Rewrite { path: None, .. })) => Ours::Nothing,
            Some(UrlChange::Rewrite(Rewrite { path: Some(path), .. })) => Ours::Path(path.clone()),
            Some(UrlChange::Redirect(redirect)) => Ours::Redirect(redirect.clone()),
        }
    }
}

/// `None` when there is nothing that Envoy does not know.
pub(super) fn ours(backends: &[Backend]) -> Option<Vec<Ours>> {
    let is_known = |backend: &Backend| match backend.url.as_deref() {
        None => true,
        Some(UrlChange::Rewrite(rewrite)) => rewrite.path.is_none(),
        Some(UrlChange::Redirect(_)) => false,
    };
    let all_known = backends.iter().all(is_known);
    (!all_known).then(|| backends.iter().map(Ours::of).collect())
}

/// Whether each of them is a cluster that requests are sent to.
pub(super) fn are_sound(backends: &[Backend]) -> bool {
    let is_sound = |backend: &Backend| matches!(backend.target, Target::Cluster(_)) && !backend.redirects();
    total_weight(backends) > 0 && backends.iter().all(is_sound)
}

fn total_weight(backends: &[Backend]) -> u64 {
    backends.iter().map(|backend| u64::from(backend.weight)).sum()
}

pub(super) fn encode(backends: &[Backend]) -> ClusterSpecifier {
    if let [Backend { target, weight: 1, request_headers, response_headers, url: None }] = backends
        && request_headers.is_empty()
        && response_headers.is_empty()
    {
        return ClusterSpecifier::Cluster(cluster_name(target));
    }
    let none = ClusterWeight { name: NONE.into(), weight: parts::number(1), ..Default::default() };
    let none = (total_weight(backends) == 0).then_some(none);
    ClusterSpecifier::WeightedClusters(rds::WeightedCluster {
        clusters: backends.iter().map(encode_backend).chain(none).collect(),
        ..Default::default()
    })
}

fn encode_backend(backend: &Backend) -> ClusterWeight {
    let name = cluster_name(&backend.target);
    let (name, host) = match backend.url.as_deref() {
        None => (name, None),
        Some(UrlChange::Rewrite(rewrite)) => (name, rewrite.host.clone()),
        Some(UrlChange::Redirect(_)) => (format!("{REDIRECT}{name}"), None),
    };
    ClusterWeight {
        name,
        weight: parts::number(backend.weight),
        request_headers_to_add: edits::encode(&backend.request_headers),
        request_headers_to_remove: backend.request_headers.remove.clone(),
        response_headers_to_add: edits::encode(&backend.response_headers),
        response_headers_to_remove: backend.response_headers.remove.clone(),
        host_rewrite_specifier: host.filter(|host| !host.is_empty()).map(HostRewriteSpecifier::HostRewriteLiteral),
        ..Default::default()
    }
}

pub(super) fn cluster_name(target: &Target) -> String {
    match target {
        Target::Cluster(name) => name.clone(),
        Target::Invalid { reason } => format!("{INVALID}{reason}"),
    }
}

/// `ours` is what our metadata says of them.
pub(super) fn decode(specifier: ClusterSpecifier, ours: Option<Vec<Ours>>) -> Decoded<Vec<Backend>> {
    match specifier {
        ClusterSpecifier::Cluster(_) if ours.is_some() => {
            refuse("cluster", "has no room for what our metadata says of backends: use weighted_clusters")
        }
        ClusterSpecifier::Cluster(name) => Ok(vec![Backend::new(target("cluster", name)?, 1)]),
        ClusterSpecifier::WeightedClusters(weighted) => decode_weighted(weighted, ours).at("weighted_clusters"),
        _ => refuse("cluster_specifier", "only cluster and weighted_clusters are supported by this proxy"),
    }
}

fn decode_weighted(weighted: rds::WeightedCluster, ours: Option<Vec<Ours>>) -> Decoded<Vec<Backend>> {
    apart!(weighted => rds::WeightedCluster {
        read: clusters;
        ignored: total_weight, runtime_key_prefix;
        refused: random_value_specifier
    });
    let clusters: Vec<ClusterWeight> = clusters.into_iter().filter(|cluster| cluster.name != NONE).collect();
    let ours = match ours {
        None => clusters.iter().map(|_| Ours::Nothing).collect(),
        Some(ours) if ours.len() == clusters.len() => ours,
        Some(ours) => {
            let message = format!("are {}, but our metadata speaks of {} backends", clusters.len(), ours.len());
            return refuse("clusters", message);
        }
    };
    each("clusters", clusters.into_iter().zip(ours).collect(), |(cluster, ours)| decode_backend(cluster, ours))
}

fn decode_backend(cluster: ClusterWeight, ours: Ours) -> Decoded<Backend> {
    apart!(cluster => ClusterWeight {
        read: name, weight, request_headers_to_add, request_headers_to_remove, response_headers_to_add,
            response_headers_to_remove, host_rewrite_specifier;
        ignored: ;
        refused: cluster_header, metadata_match, typed_per_filter_config
    });
    let host = host_rewrite_specifier
        .map(|HostRewriteSpecifier::HostRewriteLiteral(host)| host)
        .filter(|host| !host.is_empty());
    let (name, url) = match (name.strip_prefix(REDIRECT), ours) {
        (Some(_), Ours::Redirect(_)) if host.is_some() => {
            return refuse("host_rewrite_literal", "means nothing for a backend that redirects");
        }
        (Some(name), Ours::Redirect(redirect)) => (name.to_owned(), UrlChange::redirect(redirect)),
        (Some(_), _) | (None, Ours::Redirect(_)) => {
            return refuse("name", format!("`{name}` and our metadata do not agree whether the backend redirects"));
        }
        (None, Ours::Path(path)) => (name, UrlChange::rewrite(Rewrite { host, path: Some(path) })),
        (None, Ours::Nothing) => (name, UrlChange::rewrite(Rewrite { host, path: None })),
    };
    Ok(Backend {
        target: target("name", name)?,
        weight: weight.map_or(0, |weight| weight.value),
        request_headers: edits::decode("request_headers_to_add", request_headers_to_add, request_headers_to_remove)?,
        response_headers: edits::decode(
            "response_headers_to_add",
            response_headers_to_add,
            response_headers_to_remove,
        )?,
        url,
    })
}

pub(super) fn target(field: &str, name: String) -> Decoded<Target> {
    match name.strip_prefix(INVALID) {
        Some(reason) => Ok(Target::Invalid { reason: reason.into() }),
        None if name.is_empty() => refuse(field, "is empty"),
        None => Ok(Target::Cluster(name)),
    }
}
