use super::*;
use crate::up::plan::Id;
use std::fs;

fn gateway(name: &str, port: u16) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{ name: {name} }}\nspec:\n  gatewayClassName: weft\n  \
         listeners: [{{ name: http, protocol: HTTP, port: {port} }}]\n"
    )
}

fn ports(plan: &Plan) -> Vec<(&str, u16)> {
    plan.gateways.iter().map(|(Id { name, .. }, gateway)| (name.as_str(), gateway.listeners[0].port)).collect()
}

#[tokio::test]
async fn a_broken_document_keeps_its_last_good_version_and_its_neighbours_go_live() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("doors.yaml");
    fs::write(&file, format!("{}---\n{}", gateway("front", 8080), gateway("back", 8081))).unwrap();
    let mut manifests = Manifests::new(directory.path().to_owned()).unwrap();
    assert_eq!(ports(&manifests.read().unwrap()), [("back", 8081), ("front", 8080)]);

    let broken = gateway("front", 9090).replace("port: 9090", "port: ninety");
    fs::write(&file, format!("{broken}---\n{}", gateway("back", 9091))).unwrap();
    assert_eq!(ports(&manifests.read().unwrap()), [("back", 9091), ("front", 8080)]);
    let said = manifests.problems();
    assert!(said.iter().any(|(error, text)| *error && text.contains("doors.yaml:6")), "{said:?}");

    fs::write(&file, gateway("back", 9091)).unwrap();
    assert_eq!(ports(&manifests.read().unwrap()), [("back", 9091)], "what was removed is not broken");
    assert!(manifests.problems().is_empty());
}

#[tokio::test]
async fn a_document_without_a_name_may_be_any_of_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let (file, other) = (directory.path().join("front.yaml"), directory.path().join("back.yaml"));
    fs::write(&file, gateway("front", 8080)).unwrap();
    fs::write(&other, gateway("back", 8081)).unwrap();
    let mut manifests = Manifests::new(directory.path().to_owned()).unwrap();
    manifests.read().unwrap();
    fs::write(&file, "kind: Gateway\nspec: [what\n").unwrap();
    fs::remove_file(&other).unwrap();
    assert_eq!(ports(&manifests.read().unwrap()), [("front", 8080)]);
}

#[tokio::test]
async fn a_change_is_seen_however_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("door.yaml");
    fs::write(&file, gateway("front", 8080)).unwrap();
    let mut manifests = Manifests::new(directory.path().to_owned()).unwrap();
    manifests.read().unwrap();
    let beside = directory.path().join("door.tmp");
    fs::write(&beside, gateway("front", 8081)).unwrap();
    fs::rename(&beside, &file).unwrap();
    manifests.changed().await;
    assert_eq!(ports(&manifests.read().unwrap()), [("front", 8081)]);
    fs::remove_file(&file).unwrap();
    manifests.changed().await;
    assert!(manifests.read().unwrap().gateways.is_empty());
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_named() {
    let error = Manifests::new("/no/manifests".into()).err().unwrap().to_string();
    assert!(error.contains("/no/manifests") && error.contains("--dir"), "{error}");
}
