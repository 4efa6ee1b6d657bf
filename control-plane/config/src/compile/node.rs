//! Who a data plane is: what it says of itself, and what the cluster knows of its Pod where it says nothing.

use super::index::Index;
use super::locality;
use crate::Body;
use std::borrow::Cow;
use weft_model::Node;
use weft_model::endpoint::Locality;

/// Labels and locality of the Pod of that name, for a data plane that told none. Its own word always comes first.
pub(crate) fn identify<'n>(index: &Index, node: &'n Node) -> Cow<'n, Node> {
    let lacks_locality = node.locality == Locality::default();
    if !node.labels.is_empty() && !lacks_locality {
        return Cow::Borrowed(node);
    }
    let Some(object) = index.pod(&node.namespace, &node.pod) else { return Cow::Borrowed(node) };
    let Body::Pod(pod) = &object.body else { return Cow::Borrowed(node) };
    let mut known = node.clone();
    if known.labels.is_empty() {
        known.labels.clone_from(&object.meta.labels);
    }
    if lacks_locality {
        known.locality = locality::of_labels(index, pod.spec.node_name.as_deref(), Some(&object.meta.labels));
    }
    Cow::Owned(known)
}
