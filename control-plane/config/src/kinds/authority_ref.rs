//! References to the certificates of authorities, by which a peer's certificate is judged.

use crate::Place;
use crate::read::{Cursor, Fields, group, kind, label, object_name};

/// An object with PEM under the key `ca.crt`: a ConfigMap, or a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityRef {
    pub place: Place,
    /// Empty: Kubernetes' core group.
    pub group: String,
    pub kind: String,
    /// `None`: that of the object which refers to it. Another one needs a ReferenceGrant there.
    pub namespace: Option<String>,
    pub name: String,
}

/// One that may be of another namespace.
pub(crate) fn authority_ref(at: &Cursor<'_>) -> Option<AuthorityRef> {
    at.fields(|f| {
        let namespace = f.opt("namespace", label);
        local_authority_ref(f, namespace)
    })
}

/// But for the namespace.
pub(crate) fn local_authority_ref(f: &mut Fields<'_>, namespace: Option<String>) -> AuthorityRef {
    AuthorityRef {
        place: f.place(),
        group: f.need("group", group),
        kind: f.need("kind", kind),
        namespace,
        name: f.need("name", object_name),
    }
}
