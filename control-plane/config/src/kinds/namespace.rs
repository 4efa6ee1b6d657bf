//! `v1` Namespace: only its metadata matters here (its labels open Gateways to routes).

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace;
