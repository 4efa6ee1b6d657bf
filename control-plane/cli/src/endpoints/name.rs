//! Which clusters somebody means by a name, and which name he may have meant.

use std::collections::BTreeSet;
use weft_proxy::admin::ClusterView;

/// Whether `cluster` is what `name` stands for: itself by its full name, or its service as `order`, `order.shop` or
/// `order.shop.svc.cluster.local`.
pub(super) fn means(name: &str, cluster: &ClusterView) -> bool {
    name == cluster.name || !is_inbound(cluster) && is_service(name, cluster)
}

fn is_service(name: &str, ClusterView { service, host, .. }: &ClusterView) -> bool {
    let is_short = service.split_once('.').is_some_and(|(short, _)| short == name);
    !name.is_empty() && (name == host || name == service || is_short)
}

/// Names of services, longer ones only where short ones mean several.
pub(super) fn services<'a>(clusters: impl Iterator<Item = &'a ClusterView>) -> Vec<String> {
    let all: BTreeSet<&str> = clusters
        .filter(|cluster| !is_inbound(cluster))
        .map(|cluster| if cluster.service.is_empty() { cluster.host.as_str() } else { cluster.service.as_str() })
        .filter(|name| !name.is_empty())
        .collect();
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let in_full = |name: &str| name.matches('.').count() != 1;
    let is_alone = |name: &str| all.iter().filter(|other| short(other) == short(name)).count() == 1;
    all.iter().map(|name| if in_full(name) || !is_alone(name) { (*name).to_owned() } else { short(name) }).collect()
}

/// The known name that is nearest to `name`, if it is near at all.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let far = 1 + wanted.chars().count() / 3;
    let distance = |known: &str| strsim::damerau_levenshtein(&wanted, &known.to_lowercase());
    known.map(|known| (distance(known), known)).filter(|(distance, _)| *distance <= far).min().map(|(_, known)| known)
}

/// The proxy's own program, which is no answer to who answers for a service.
fn is_inbound(cluster: &ClusterView) -> bool {
    cluster.name.starts_with("inbound|")
}
