//! Who asks: Istio's node id and metadata.

use super::parts::{self, Decoded, refuse};
use super::{DecodeError, endpoint};
use envoy_types::pb::envoy::config::core::v3::{self as core, node::UserAgentVersionType};
use envoy_types::pb::google::protobuf::value::Kind;
use std::collections::BTreeMap;
use std::net::IpAddr;
use weft_model::Node;
use weft_model::node::Role;

const WORKLOAD_NAME: &str = "WORKLOAD_NAME";
const NAMESPACE: &str = "NAMESPACE";
const LABELS: &str = "LABELS";
const INTERCEPTION_MODE: &str = "INTERCEPTION_MODE";
/// nftables' or iptables' REDIRECT.
const REDIRECT: &str = "REDIRECT";
/// A client that asks for outbound listeners by name, once its traffic wants them.
const ON_DEMAND: &str = "weft.on-demand";
const APP_ADDRESS: &str = "APP_ADDRESS";

pub fn encode(node: &Node) -> core::Node {
    let labels = node.labels.iter().map(|(name, value)| (name.as_str(), parts::string(value))).collect();
    let mut fields = vec![
        (WORKLOAD_NAME, parts::string(&node.workload)),
        (NAMESPACE, parts::string(&node.namespace)),
        (LABELS, parts::object(labels)),
    ];
    if let Some(address) = node.app_address {
        fields.push((APP_ADDRESS, parts::string(address.to_string())));
    }
    if node.interception {
        fields.push((INTERCEPTION_MODE, parts::string(REDIRECT)));
    }
    core::Node {
        id: node.id(),
        cluster: format!("{}.{}", node.workload, node.namespace),
        metadata: Some(parts::structure(fields)),
        locality: endpoint::encode_locality(&node.locality),
        client_features: asks_on_demand(node).then(|| ON_DEMAND.to_owned()).into_iter().collect(),
        user_agent_name: "weft".into(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(env!("CARGO_PKG_VERSION").into())),
        ..Default::default()
    }
}

/// Our own data plane asks on demand where it sees which addresses its workload calls.
pub fn asks_on_demand(node: &Node) -> bool {
    node.interception && node.role == Role::Sidecar
}

/// Whether a client says so of itself.
pub(crate) fn is_on_demand(node: &core::Node) -> bool {
    node.client_features.iter().any(|feature| feature == ON_DEMAND)
}

/// Fails on an id that is not `role~address~pod.namespace~domain`. What the metadata does not say is taken
/// from the id, or stays empty.
pub fn decode(node: &core::Node) -> Result<Node, DecodeError> {
    let (role, address, pod, namespace) = read_id(&node.id)?;
    let metadata = node.metadata.as_ref();
    let app_address = match parts::text_at(metadata, APP_ADDRESS) {
        "" => None,
        text => match text.parse() {
            Ok(address) => Some(address),
            Err(_) => return refuse("node.metadata.APP_ADDRESS", format!("`{text}` is no IP address")),
        },
    };
    Ok(Node {
        role,
        address,
        workload: match parts::text_at(metadata, WORKLOAD_NAME) {
            "" => pod.clone(),
            workload => workload.into(),
        },
        namespace: match parts::text_at(metadata, NAMESPACE) {
            "" => namespace,
            namespace => namespace.into(),
        },
        pod,
        labels: read_labels(node),
        app_address,
        interception: read_interception(parts::text_at(metadata, INTERCEPTION_MODE))?,
        locality: endpoint::read_locality(node.locality.clone()),
    })
}

fn read_interception(mode: &str) -> Decoded<bool> {
    match mode {
        "" | "NONE" => Ok(false),
        REDIRECT => Ok(true),
        other => {
            refuse("node.metadata.INTERCEPTION_MODE", format!("`{other}` is not supported; use {REDIRECT} or NONE"))
        }
    }
}

fn read_id(id: &str) -> Decoded<(Role, IpAddr, String, String)> {
    let wrong = |what: String| {
        DecodeError::new(
            "node.id",
            format!(
                "`{id}`: {what}; write role~address~pod.namespace~domain, e.g. sidecar~10.0.0.7~order-0.default~default.svc.cluster.local"
            ),
        )
    };
    let parts: Vec<&str> = id.split('~').collect();
    let [role, address, pod, _domain] = parts.as_slice() else {
        return Err(wrong(format!("has {} parts", parts.len())));
    };
    let role = match *role {
        "sidecar" => Role::Sidecar,
        "router" => Role::Gateway,
        other => return Err(wrong(format!("`{other}` is neither sidecar nor router"))),
    };
    let address = address.parse().map_err(|_| wrong(format!("`{address}` is no IP address")))?;
    match pod.rsplit_once('.') {
        Some((pod, namespace)) if !pod.is_empty() && !namespace.is_empty() => {
            Ok((role, address, pod.into(), namespace.into()))
        }
        _ => Err(wrong(format!("`{pod}` is not pod.namespace"))),
    }
}

fn read_labels(node: &core::Node) -> BTreeMap<String, String> {
    let labels = parts::struct_at(node.metadata.as_ref(), LABELS);
    let texts = labels.into_iter().flat_map(|labels| &labels.fields).filter_map(|(name, value)| match &value.kind {
        Some(Kind::StringValue(text)) => Some((name.clone(), text.clone())),
        _ => None,
    });
    texts.collect()
}
