//! `gateway.networking.k8s.io` ReferenceGrant: a namespace lets others refer to its objects.

use crate::Place;
use crate::read::{Cursor, Fields, group, kind, label, object_name};

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

pub(crate) fn read_reference_grant(f: &mut Fields<'_>) -> Option<ReferenceGrant> {
    f.must("spec", |at| {
        at.fields(|f| ReferenceGrant { from: f.list("from", 1..=16, grant_from), to: f.list("to", 1..=16, grant_to) })
    })
}

fn grant_from(at: &Cursor<'_>) -> Option<GrantFrom> {
    at.fields(|f| GrantFrom {
        place: f.place(),
        group: f.need("group", group),
        kind: f.need("kind", kind),
        namespace: f.need("namespace", label),
    })
}

fn grant_to(at: &Cursor<'_>) -> Option<GrantTo> {
    at.fields(|f| GrantTo {
        place: f.place(),
        group: f.need("group", group),
        kind: f.need("kind", kind),
        name: f.opt("name", object_name),
    })
}
