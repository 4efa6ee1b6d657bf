//! `v1` ConfigMap: authorities' certificates for policies that name one. What else it holds is not kept.

use crate::read::{Cursor, Fields};
use crate::tree::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMap {
    /// `data["ca.crt"]`, as written.
    pub ca_certificates: Option<String>,
}

pub(crate) fn read_config_map(f: &mut Fields<'_>) -> Option<ConfigMap> {
    f.skip(&["binaryData", "immutable"]);
    // a value that is no text is refused by the cluster; here it is nobody's
    let certificates = |name: &str, value: &Cursor<'_>| match &value.node.value {
        Value::Scalar(scalar) if name == "ca.crt" => Some(scalar.text.to_string()),
        _ => None,
    };
    let data = f.opt("data", |at| Some(at.entries(|name, value| certificates(name, value)))).unwrap_or_default();
    Some(ConfigMap { ca_certificates: data.into_values().next() })
}
