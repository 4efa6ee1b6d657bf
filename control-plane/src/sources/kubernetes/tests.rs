use super::object;
use super::wanted::{KINDS, Part};
use kube::api::DynamicObject;
use kube::core::discovery::ApiResource;
use serde_json::{Value, json};
use weft_config::{Body, Object};

fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    ApiResource {
        group: group.to_owned().into(),
        version: version.to_owned().into(),
        api_version: api_version.to_owned().into(),
        kind: kind.to_owned().into(),
        plural: String::new().into(),
    }
}

/// What is kept of it.
fn read(resource: &ApiResource, json: Value) -> Object {
    let object: DynamicObject = serde_json::from_value(json).unwrap();
    let name = object::name(resource, &object);
    let parsed = object::read(&name, resource, Part::Whole, object).unwrap();
    assert_eq!(parsed.problems, []);
    (*parsed.objects[0]).clone()
}

#[test]
fn every_kind_that_is_watched_is_read_in_every_version() {
    for wanted in KINDS {
        for version in wanted.versions {
            let api_version =
                if wanted.group.is_empty() { (*version).to_owned() } else { format!("{}/{version}", wanted.group) };
            let json = json!({ "apiVersion": api_version, "kind": wanted.kind, "metadata": { "name": "a" } });
            let parsed = weft_config::read_object("a", &json);
            let unread =
                parsed.problems.iter().filter(|problem| matches!(problem.path.as_str(), "apiVersion" | "kind"));
            assert_eq!(unread.count(), 0, "{api_version} {}: {:?}", wanted.kind, parsed.problems);
        }
    }
}

#[test]
fn of_a_pod_only_what_is_read_is_kept() {
    let pod = resource("v1", "Pod");
    let json = json!({
        "metadata": {
            "name": "order-0", "namespace": "shop", "labels": { "app": "order" },
            "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b" },
            "managedFields": [{ "manager": "kubectl" }], "aFieldOfTomorrow": 1,
        },
        "spec": {
            "containers": [{ "name": "order", "env": [{ "name": "A", "value": "b" }], "aFieldOfTomorrow": {},
                             "ports": [{ "name": "http", "containerPort": 8080 }] }],
            "volumes": [], "nodeName": "one", "aFieldOfTomorrow": [],
        },
        "status": { "podIP": "10.0.0.1", "phase": "Running", "conditions": [] },
    });
    let object = read(&pod, json);
    assert_eq!(&*object.place.file, "shop/pod/order-0");
    assert_eq!(object.place.to_string(), "shop/pod/order-0");
    assert_eq!(object.meta.annotations.keys().collect::<Vec<_>>(), ["a"]);
    let Body::Pod(pod) = &object.body else { panic!("{object:?}") };
    assert_eq!(pod.pod_ip, Some("10.0.0.1".parse().unwrap()));
    assert_eq!((pod.spec.port("http"), pod.spec.node_name.as_deref()), (Some(8080), Some("one")));
    assert!(pod.spec.containers[0].env.is_empty());
}

#[test]
fn of_a_config_map_only_the_authority_is_kept() {
    let map = resource("v1", "ConfigMap");
    let with = |data: Value| {
        json!({
            "metadata": { "name": "a", "namespace": "shop", "labels": { "app": "a" }, "annotations": { "a": "b" } },
            "data": data, "binaryData": { "jar": "AAAA" }, "immutable": true, "aFieldOfTomorrow": 1,
        })
    };
    let authority = read(&map, with(json!({ "ca.crt": "PEM", "settings": "long" })));
    let Body::ConfigMap(read_map) = &authority.body else { panic!("{authority:?}") };
    assert_eq!(read_map.ca_certificates.as_deref(), Some("PEM"));
    assert_eq!((authority.meta.labels.len(), authority.meta.annotations.len()), (0, 0));
    // a policy that names it is told that it holds no certificate, and not that it is not there
    let settings = read(&map, with(json!({ "settings": "long" })));
    let Body::ConfigMap(read_map) = &settings.body else { panic!("{settings:?}") };
    assert_eq!((&*settings.key.name, read_map.ca_certificates.as_deref()), ("a", None));
}

#[test]
fn a_pod_that_has_ended_is_over() {
    let with_phase = |phase: &str| {
        let json = json!({ "metadata": { "name": "a" }, "status": { "phase": phase } });
        serde_json::from_value::<DynamicObject>(json).unwrap()
    };
    let pod = resource("v1", "Pod");
    let over =
        ["Pending", "Running", "Succeeded", "Failed", "Unknown"].map(|phase| object::is_over(&pod, &with_phase(phase)));
    assert_eq!(over, [false, false, true, true, false]);
}

#[test]
fn a_slice_of_an_old_server_tells_zone_and_machine_as_its_topology() {
    let json = json!({
        "metadata": { "name": "order-x", "namespace": "shop", "labels": { "kubernetes.io/service-name": "order" } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": ["10.0.0.1"], "topology": {
            "kubernetes.io/hostname": "one", "topology.kubernetes.io/zone": "a" } }],
        "ports": null,
    });
    let object = read(&resource("discovery.k8s.io/v1beta1", "EndpointSlice"), json);
    let Body::EndpointSlice(slice) = &object.body else { panic!("{object:?}") };
    let endpoint = &slice.endpoints[0];
    assert_eq!((endpoint.node_name.as_deref(), endpoint.zone.as_deref()), (Some("one"), Some("a")));
}
