//! Whatever JSON comes: no panic, and nothing that was there is lost.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use weft_injector::{Namespace, Outcome, Settings, inject, inject_document};

/// Words that mean something somewhere in a pod, so that chance meets the code.
const NAMES: [&str; 28] = [
    "metadata",
    "spec",
    "labels",
    "annotations",
    "containers",
    "initContainers",
    "volumes",
    "name",
    "image",
    "env",
    "ports",
    "containerPort",
    "livenessProbe",
    "readinessProbe",
    "lifecycle",
    "preStop",
    "httpGet",
    "tcpSocket",
    "grpc",
    "port",
    "host",
    "hostNetwork",
    "securityContext",
    "weft-proxy",
    "ownerReferences",
    "terminationGracePeriodSeconds",
    "weft.dev/status",
    "tomorrow",
];
const TEXTS: [&str; 8] = ["weft-proxy", "istio-proxy", "order", "http", "8080", "", "true", "*"];

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f32>().prop_map(|number| json!(number)),
        prop::sample::select(&TEXTS[..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let entry = (prop::sample::select(&NAMES[..]).prop_map(str::to_owned), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            prop::collection::vec(entry, 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// An object with whatever in it, now and then something else.
fn any_object() -> impl Strategy<Value = Value> {
    let entry = (prop::sample::select(&NAMES[..]).prop_map(str::to_owned), any_value());
    let object = prop::collection::vec(entry, 0..5).prop_map(|entries| Value::Object(entries.into_iter().collect()));
    prop_oneof![1 => any_value(), 30 => object, 10 => Just(Value::Null)]
}

/// `first`, and what `rest` has besides.
fn joined(mut first: Value, rest: Value) -> Value {
    if let (Value::Object(first), Value::Object(rest)) = (&mut first, rest) {
        for (field, value) in rest {
            first.entry(field).or_insert(value);
        }
    }
    first
}

fn container() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(&["order", "cache", "logs", "weft-proxy", "weft-init"][..]);
    (name, any_object(), any_object(), any_object()).prop_map(|(name, probe, hooks, rest)| {
        joined(
            json!({ "name": name, "livenessProbe": probe, "readinessProbe": null, "lifecycle": { "preStop": hooks } }),
            rest,
        )
    })
}

fn nearly_a_pod() -> impl Strategy<Value = Value> {
    let containers = prop::collection::vec(container(), 0..4);
    let init = prop::collection::vec(container(), 0..2);
    (any_object(), any_object(), containers, init, any_object()).prop_map(|(labels, rest, containers, init, more)| {
        json!({
            "kind": "Pod", "metadata": joined(json!({ "labels": labels, "annotations": {} }), rest),
            "spec": { "containers": containers, "initContainers": init, "volumes": [{ "name": "weft-token" }], "more": more },
        })
    })
}

/// Whether all of `before` is in `after`; lists may have gained entries, probes may be asked elsewhere, `null` is nothing.
fn keeps(before: &Value, after: &Value, path: &str) -> Result<(), String> {
    let rewritten = ["httpGet", "tcpSocket", "grpc"].iter().any(|kind| path.ends_with(kind));
    match (before, after) {
        (Value::Null, _) => Ok(()),
        _ if rewritten => Ok(()),
        (Value::Object(before), Value::Object(after)) => before.iter().try_for_each(|(name, value)| {
            let gone = ["tcpSocket", "grpc"].contains(&name.as_str()) && after.contains_key("httpGet");
            match after.get(name) {
                Some(now) => keeps(value, now, &format!("{path}.{name}")),
                None if value.is_null() || gone => Ok(()),
                None => Err(format!("{path}.{name} is lost")),
            }
        }),
        (Value::Array(before), Value::Array(after)) => before.iter().enumerate().try_for_each(|(at, value)| {
            let found = after.iter().any(|now| keeps(value, now, &format!("{path}[]")).is_ok());
            if found { Ok(()) } else { Err(format!("{path}[{at}] is lost")) }
        }),
        (before, after) if before == after => Ok(()),
        _ => Err(format!("{path} was {before} and is {after}")),
    }
}

fn without_templates(pod: &Value) -> Value {
    let mut pod = pod.clone();
    for list in ["containers", "initContainers"] {
        let list = pod["spec"][list].as_array_mut().expect("a list");
        list.retain(|container| !container["name"].as_str().expect("a name").starts_with("weft-"));
    }
    pod
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_answered(document in any_value(), native: bool) {
        let settings = Settings { native_sidecars: Some(native), ..Settings::default() };
        let _ = inject(&document, &Namespace::chosen("shop"), &settings);
        for kind in ["Pod", "Deployment", "CronJob", "List"] {
            let mut document = document.clone();
            if let Value::Object(fields) = &mut document {
                fields.insert("kind".into(), kind.into());
            }
            let _ = inject_document(&document, &|name| Namespace::chosen(name), &settings);
        }
    }

    #[test]
    fn a_pod_loses_no_field_and_a_second_time_changes_nothing(pod in nearly_a_pod(), native: bool) {
        let settings = Settings { native_sidecars: Some(native), ..Settings::default() };
        let namespace = Namespace::chosen("shop");
        if let Ok(Outcome::Injected(injected)) = inject(&pod, &namespace, &settings) {
            prop_assert_eq!(keeps(&without_templates(&pod), &injected.pod, "pod"), Ok(()));
            let again = inject(&injected.pod, &namespace, &settings).unwrap();
            prop_assert!(matches!(again, Outcome::Left { .. }), "{:?}", again);
        }
    }
}

#[test]
fn the_property_meets_pods_that_are_injected() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let injected = (0..500).filter(|_| {
        let pod = nearly_a_pod().new_tree(&mut runner).unwrap().current();
        matches!(inject(&pod, &Namespace::chosen("shop"), &Settings::default()), Ok(Outcome::Injected(_)))
    });
    assert!(injected.count() > 25);
}
