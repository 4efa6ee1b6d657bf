//! What ListenerSets say, and what is said of them (GEP-1713).

use super::*;
use crate::status::{ListenerSetStatus, ListenerStatus};

/// A ListenerSet of `infra/edge` that was made at that second of a minute.
fn set(name: &str, second: u8, listeners: &str) -> String {
    let spec = format!("parentRef: {{name: edge, namespace: infra}}, listeners: [{listeners}]");
    let made = format!("creationTimestamp: \"2026-01-01T00:00:{second:02}Z\", generation: 7");
    object("ListenerSet", name, &spec).replace("generation: 7", &made)
}

fn letting_in(from: &str) -> String {
    gateway(HTTP, &format!("allowedListeners: {{namespaces: {{{from}}}}}, "))
}

fn set_status(yaml: &str, name: &str) -> Option<ListenerSetStatus> {
    let (namespace, name) = name.split_once('/').unwrap_or(("infra", name));
    match statuses(&world(yaml), &live()).remove(&Key::new(KindName::ListenerSet, namespace, name))? {
        Status::ListenerSet(status) => Some(status),
        other => panic!("{other:?}"),
    }
}

/// Accepted and Programmed.
fn both(status: &ListenerSetStatus) -> [(bool, &str); 2] {
    ["Accepted", "Programmed"].map(|kind| find(&status.conditions, kind))
}

fn attached_sets(yaml: &str) -> usize {
    gateway_status(yaml, &live()).attached_listener_sets
}

const OTHER: &str = "{name: web, port: 81, protocol: HTTP}";

#[test]
fn listener_set_allowed_namespaces() {
    let sets = format!("{}{}", set("near", 1, OTHER), set("team/far", 2, "{name: web, port: 82, protocol: HTTP}"));
    let team = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team, labels: {trusted: \"yes\"}}\n---\n";
    let (taken, not) = ([(true, "Accepted"), (true, "Programmed")], [(false, "NotAllowed"); 2]);
    for (gateway, near, far) in [
        (gateway(HTTP, ""), not, not),
        (letting_in("from: None"), not, not),
        (letting_in("from: Same"), taken, not),
        (letting_in("from: All"), taken, taken),
        (letting_in("from: Selector, selector: {matchLabels: {trusted: \"yes\"}}"), not, taken),
    ] {
        let yaml = format!("{gateway}{sets}{team}");
        assert_eq!(both(&set_status(&yaml, "near").unwrap()), near, "{gateway}");
        assert_eq!(both(&set_status(&yaml, "team/far").unwrap()), far, "{gateway}");
        let expected = [near, far].iter().filter(|one| **one == taken).count();
        assert_eq!(attached_sets(&yaml), expected, "{gateway}");
        let own = gateway_status(&yaml, &live());
        assert_eq!(own.listeners.len(), 1, "a Gateway speaks of its own listeners alone");
        assert_eq!(find(&own.conditions, "Accepted"), (true, "Accepted"));
    }
}

#[test]
fn listener_set_without_a_gateway_of_ours_is_nobodys() {
    let foreign = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: theirs}\nspec: {controllerName: example.com/x}\n---\n";
    let theirs = letting_in("from: All").replace("gatewayClassName: weft", "gatewayClassName: theirs");
    assert_eq!(set_status(&set("s", 1, OTHER), "s"), None);
    assert_eq!(set_status(&format!("{foreign}{theirs}{}", set("s", 1, OTHER)), "s"), None);
    let closed = theirs.replace("from: All", "from: None");
    assert_eq!(set_status(&format!("{foreign}{closed}{}", set("s", 1, OTHER)), "s"), None);
}

#[test]
fn listener_set_parent_not_accepted() {
    let gateway =
        letting_in("from: All").replace("listeners:", "addresses: [{type: NamedAddress, value: x}], listeners:");
    let yaml = format!("{gateway}{}", set("s", 1, OTHER));
    let expected = [(false, "ParentNotAccepted"), (false, "ParentNotProgrammed")];
    assert_eq!(both(&set_status(&yaml, "s").unwrap()), expected);
    assert_eq!(attached_sets(&yaml), 0);
}

#[test]
fn listener_set_is_programmed_with_its_gateway() {
    let yaml = format!("{}{}", letting_in("from: All"), set("s", 1, OTHER));
    let key = Key::new(KindName::ListenerSet, "infra", "s");
    let Some(Status::ListenerSet(status)) = statuses(&world(&yaml), &Facts::default()).remove(&key) else { panic!() };
    assert_eq!(both(&status), [(true, "Accepted"), (false, "ParentNotProgrammed")]);
    assert_eq!(find(&status.listeners[0].conditions, "Programmed"), (false, "Pending"));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == 7));
}

fn of_listener<'s>(status: &'s ListenerSetStatus, name: &str) -> &'s ListenerStatus {
    status.listeners.iter().find(|listener| listener.name == name).unwrap()
}

fn assert_lost(listener: &ListenerStatus, reason: &str) {
    let of = ["Conflicted", "Accepted", "Programmed"].map(|kind| find(&listener.conditions, kind));
    assert_eq!(of, [(true, reason), (false, "PortUnavailable"), (false, "PortUnavailable")]);
}

fn assert_served(listener: &ListenerStatus) {
    let of = ["Conflicted", "Accepted", "Programmed"].map(|kind| find(&listener.conditions, kind));
    assert_eq!(of, [(false, "NoConflicts"), (true, "Accepted"), (true, "Programmed")]);
}

#[test]
fn listener_set_conflicts_are_those_of_the_later_one() {
    // names say the contrary of the times
    let door = "port: 81, protocol: HTTP, hostname: x.example";
    let old = set("z-old", 1, &format!("{{name: a, {door}}}"));
    let young = set("team/a-young", 2, &format!("{{name: b, {door}}}, {{name: c, port: 82, protocol: HTTP}}"));
    let lost = set("team/b-lost", 3, &format!("{{name: d, {door}}}, {{name: e, port: 80, protocol: TCP}}"));
    let yaml = [letting_in("from: All"), young, lost, old].concat();
    assert_served(&gateway_status(&yaml, &live()).listeners[0]);
    let old = set_status(&yaml, "z-old").unwrap();
    assert_eq!(both(&old), [(true, "Accepted"), (true, "Programmed")]);
    assert_served(&old.listeners[0]);
    let young = set_status(&yaml, "team/a-young").unwrap();
    assert_eq!(both(&young), [(true, "ListenersNotValid"), (true, "Programmed")]);
    assert_lost(of_listener(&young, "b"), "HostnameConflict");
    assert_served(of_listener(&young, "c"));
    let lost = set_status(&yaml, "team/b-lost").unwrap();
    assert_eq!(both(&lost), [(false, "ListenersNotValid"); 2]);
    assert_lost(of_listener(&lost, "d"), "HostnameConflict");
    assert_lost(of_listener(&lost, "e"), "ProtocolConflict");
    assert_eq!(attached_sets(&yaml), 2);
    let message = &of_listener(&lost, "d").conditions[0].message;
    assert_eq!(message, "another listener of the Gateway has port 81 already", "who else is there is not said");
}

#[test]
fn listener_set_of_one_age_are_ordered_by_name() {
    let yaml = [letting_in("from: All"), set("b", 1, OTHER), set("a", 1, OTHER)].concat();
    assert_served(&set_status(&yaml, "a").unwrap().listeners[0]);
    assert_lost(&set_status(&yaml, "b").unwrap().listeners[0], "HostnameConflict");
}

#[test]
fn listener_set_reference_grant() {
    let tls = "port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert, namespace: vault}]}";
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: cert, namespace: vault}\ntype: kubernetes.io/tls\nstringData:\n  \
                  tls.crt: \"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n\"\n  \
                  tls.key: \"-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----\\n\"\n---\n";
    let granted = |kind: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: vault}}\nspec: {{from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: infra}}], to: [{{group: \"\", kind: Secret}}]}}\n---\n"
        )
    };
    let of = |kind: &str| {
        let yaml =
            [letting_in("from: All"), secret.to_owned(), granted(kind), set("s", 1, &format!("{{name: a, {tls}}}"))];
        set_status(&yaml.concat(), "s").unwrap()
    };
    let without = of("Gateway");
    assert_eq!(find(&without.listeners[0].conditions, "ResolvedRefs"), (false, "RefNotPermitted"));
    assert_eq!(both(&without), [(false, "ListenersNotValid"); 2]);
    let with = of("ListenerSet");
    assert_eq!(find(&with.listeners[0].conditions, "ResolvedRefs"), (true, "ResolvedRefs"));
    assert_eq!(both(&with), [(true, "Accepted"), (true, "Programmed")]);
}

#[test]
fn listener_set_as_the_parent_of_routes() {
    let sets = [
        set(
            "s",
            1,
            &format!("{OTHER}, {{name: open, port: 82, protocol: HTTP, allowedRoutes: {{namespaces: {{from: All}}}}}}"),
        ),
        set("team/out", 2, "{name: web, port: 83, protocol: HTTP}"),
    ];
    let base = [letting_in("from: Same"), service("order"), sets.concat()].concat();
    let of =
        |parent: &str| of_route(&format!("{base}{}", route("r", &format!("parentRefs: [{{{parent}}}], {TO_ORDER}"))));
    let accepted = |parent: &str| {
        let conditions = of(parent);
        let (status, reason) = find(&conditions, "Accepted");
        (status, reason.to_owned())
    };
    assert_eq!(accepted("kind: ListenerSet, name: s"), (true, "Accepted".into()));
    assert_eq!(accepted("kind: ListenerSet, name: s, sectionName: web"), (true, "Accepted".into()));
    assert_eq!(accepted("kind: ListenerSet, name: s, sectionName: http"), (false, "NoMatchingParent".into()));
    assert_eq!(accepted("name: edge, sectionName: web"), (false, "NoMatchingParent".into()));
    assert_eq!(accepted("kind: ListenerSet, name: out, namespace: team"), (false, "NoMatchingParent".into()));
    let routes = [
        route("one", &format!("parentRefs: [{{kind: ListenerSet, name: s}}], {TO_ORDER}")),
        route("team/two", &format!("parentRefs: [{{kind: ListenerSet, name: s, namespace: infra}}], {TO_ORDER}")),
        route("three", TO_ORDER),
    ];
    let yaml = format!("{base}{}", routes.concat());
    let counts = |listeners: Vec<ListenerStatus>| listeners.iter().map(|one| one.attached_routes).collect::<Vec<_>>();
    assert_eq!(counts(set_status(&yaml, "s").unwrap().listeners), [1, 2]);
    assert_eq!(counts(gateway_status(&yaml, &live()).listeners), [1]);
    let not_let_in = route(
        "team/r",
        &format!("parentRefs: [{{kind: ListenerSet, name: s, namespace: infra, sectionName: web}}], {TO_ORDER}"),
    );
    let key = Key::new(KindName::HttpRoute, "team", "r");
    let Some(Status::Route(status)) = statuses(&world(&format!("{base}{not_let_in}")), &live()).remove(&key) else {
        panic!()
    };
    assert_eq!(find(&status.parents[0].conditions, "Accepted"), (false, "NotAllowedByListeners"));
    assert_eq!(status.parents[0].parent_ref.kind, "ListenerSet");
}
