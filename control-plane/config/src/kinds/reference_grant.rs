//! `gateway.networking.k8s.io` ReferenceGrant: a namespace lets others refer to its objects.

use crate::Place;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Who may refer; 1 to 16.
    pub from: Vec<GrantFrom>,
    /// To what in the grant's own namespace; 1 to 16.
    pub to: Vec<GrantTo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantFrom {
    pub place: Place,
    /// Empty: Kubernetes' core group.
    pub group: String,
    pub kind: String,
    pub namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantTo {
    pub place: Place,
    /// Empty: Kubernetes' core group.
    pub group: String,
    pub kind: String,
    /// `None`: every one of the kind.
    pub name: Option<String>,
}
