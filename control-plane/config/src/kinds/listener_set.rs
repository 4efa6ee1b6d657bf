//! `gateway.networking.k8s.io/v1` ListenerSet: listeners of a Gateway that others than its author write (GEP-1713).

use super::GatewayListener;
use super::gateway::{check_unique, listener};
use crate::Place;
use crate::read::{Cursor, Fields, group, kind, label, object_name};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSet {
    pub parent: ParentGateway,
    /// 1 to 64, each (port, protocol, hostname) once.
    pub listeners: Vec<GatewayListener>,
}

/// `spec.parentRef`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentGateway {
    pub place: Place,
    /// Default `gateway.networking.k8s.io`.
    pub group: String,
    /// Default `Gateway`.
    pub kind: String,
    /// `None`: the ListenerSet's own.
    pub namespace: Option<String>,
    pub name: String,
}

pub(crate) fn read_listener_set(f: &mut Fields<'_>) -> Option<ListenerSet> {
    f.must("spec", |at| at.fields(spec))?
}

fn spec(f: &mut Fields<'_>) -> Option<ListenerSet> {
    let parent = f.must("parentRef", parent);
    let listeners = f.list("listeners", 1..=64, listener);
    check_unique(f, &listeners);
    Some(ListenerSet { parent: parent?, listeners })
}

fn parent(at: &Cursor<'_>) -> Option<ParentGateway> {
    at.fields(|f| ParentGateway {
        place: f.place(),
        group: f.opt("group", group).unwrap_or_else(|| "gateway.networking.k8s.io".into()),
        kind: f.opt("kind", kind).unwrap_or_else(|| "Gateway".into()),
        namespace: f.opt("namespace", label),
        name: f.need("name", object_name),
    })
}

#[cfg(test)]
mod tests {
    use super::super::FromNamespaces;
    use crate::Body;
    use crate::read::tests::{body, problems};

    const HEAD: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: s}
spec:
";

    #[test]
    fn a_listener_set_is_read_whole() {
        let text = format!(
            "{HEAD}  parentRef: {{group: gateway.networking.k8s.io, kind: Gateway, name: edge, namespace: infra}}
  listeners:
  - {{name: http, port: 80, protocol: HTTP, hostname: a.example}}
  - {{name: https, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: cert}}]}}, allowedRoutes: {{namespaces: {{from: All}}}}}}
"
        );
        let Body::ListenerSet(set) = body(&text) else { panic!() };
        assert_eq!((set.parent.name.as_str(), set.parent.namespace.as_deref()), ("edge", Some("infra")));
        let [http, https] = set.listeners.as_slice() else { panic!("{set:?}") };
        assert_eq!((http.port, http.allowed_routes.namespaces.clone()), (80, FromNamespaces::Same));
        assert_eq!((https.port, https.place.line), (443, 8));
    }

    #[test]
    fn what_is_wrong_is_said_as_of_a_gateway() {
        assert_eq!(
            problems(&format!(
                "{HEAD}  listeners:
  - {{name: a, port: 80, protocol: HTTP}}
  - {{name: a, port: 80, protocol: HTTP}}
"
            )),
            [
                "5:3 spec.parentRef: is missing (write `parentRef:`)",
                "7:5 spec.listeners: a listener is already named a in line 6 (rename it)",
                "7:5 spec.listeners: the listener in line 6 has the same port, protocol and hostname \
                 (give it another hostname or port)",
            ]
        );
    }

    #[test]
    fn a_gateway_says_which_listener_sets_it_lets_in() {
        let of = |more: &str| {
            let text = format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec: {{gatewayClassName: weft, {more}listeners: [{{name: a, port: 80, protocol: HTTP}}]}}\n"
            );
            let Body::Gateway(gateway) = body(&text) else { panic!() };
            gateway.allowed_listeners
        };
        assert_eq!(of(""), FromNamespaces::None);
        assert_eq!(of("allowedListeners: {}, "), FromNamespaces::None);
        assert_eq!(of("allowedListeners: {namespaces: {}}, "), FromNamespaces::None);
        assert_eq!(of("allowedListeners: {namespaces: {from: Same}}, "), FromNamespaces::Same);
        assert_eq!(of("allowedListeners: {namespaces: {from: All}}, "), FromNamespaces::All);
        assert!(matches!(
            of("allowedListeners: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}}, "),
            FromNamespaces::Selector(_)
        ));
    }
}
