//! `v1` Namespace: only its metadata matters here (its labels open Gateways to routes).

use crate::read::Fields;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace;

pub(crate) fn read_namespace(f: &mut Fields<'_>) -> Option<Namespace> {
    f.skip(&["spec"]);
    Some(Namespace)
}
