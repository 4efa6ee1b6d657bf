//! ListenerSets, their listeners, and routes that name them.

use super::*;

#[test]
fn listener_sets_that_are_nobodys_are_said_with_what_to_write() {
    let set = |namespace: &str, parent: &str, listeners: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {{name: more, namespace: {namespace}}}\n\
             spec: {{parentRef: {{{parent}}}, listeners: [{listeners}]}}\n---\n"
        )
    };
    let letting_in = |from: &str| {
        gateway(HTTP).replace("listeners:", &format!("allowedListeners: {{namespaces: {{{from}}}}}, listeners:"))
    };
    let other = "{name: web, port: 81, protocol: HTTP}";
    let of = |from: &str, namespace: &str, parent: &str| {
        said(&format!("{}{}", letting_in(from), set(namespace, parent, other)))
    };
    assert_eq!(of("from: Same", "infra", "name: edge"), [""; 0]);
    assert_eq!(of("from: All", "team", "name: edge, namespace: infra"), [""; 0]);
    assert_eq!(
        of("from: Same", "infra", "name: egde"),
        ["spec.parentRef: there is no Gateway infra/egde: these listeners are not served (did you mean \"edge\"?)"]
    );
    assert_eq!(
        of("from: Same", "infra", "name: edge, kind: Service"),
        ["spec.parentRef: a parent of kind Service is not known; write Gateway: these listeners are not served"]
    );
    assert_eq!(
        of("from: None", "infra", "name: edge"),
        ["spec.parentRef: Gateway infra/edge allows no ListenerSets of namespace infra (spec.allowedListeners): \
          these listeners are not served \
          (let its allowedListeners.namespaces be from: Same or All, or a Selector that takes infra)"]
    );
    let [refused] = <[_; 1]>::try_from(of("from: Same", "team", "name: edge, namespace: infra")).unwrap();
    assert!(
        refused.ends_with("(let its allowedListeners.namespaces be from: All, or a Selector that takes team)"),
        "{refused}"
    );
    // what is wrong with a listener is said where it is written
    let late = set("infra", "name: edge", &format!("{other}, {HTTP}"));
    let problems = problems(&format!("{}{late}", letting_in("from: Same")));
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!(problem.object.as_ref().unwrap().to_string(), "ListenerSet infra/more");
    assert_eq!(
        (problem.path.as_str(), problem.message.as_str()),
        ("spec.listeners[1]", "port 80 has a listener of the same hostname already: this listener is not served")
    );
    let of_route = |parent: &str, from: &str| {
        let sound = format!("{}{}{}", letting_in(from), set("infra", "name: edge", other), service("infra", "order"));
        let route = route("infra", &format!("parentRefs: [{{kind: ListenerSet, {parent}}}], {OK}"));
        said(&format!("{sound}{route}")).into_iter().filter(|said| said.contains("parentRefs")).collect::<Vec<_>>()
    };
    assert_eq!(of_route("name: more, sectionName: web", "from: Same"), [""; 0]);
    assert_eq!(
        of_route("name: mroe", "from: Same"),
        ["spec.parentRefs[0]: there is no ListenerSet infra/mroe (did you mean \"more\"?)"]
    );
    assert_eq!(
        of_route("name: more, sectionName: http", "from: Same"),
        ["spec.parentRefs[0]: the ListenerSet has no listener \"http\"; it has web"]
    );
    assert_eq!(
        of_route("name: more", "from: None"),
        ["spec.parentRefs[0]: the ListenerSet is not attached: \
          Gateway infra/edge allows no ListenerSets of namespace infra (spec.allowedListeners)"]
    );
}
