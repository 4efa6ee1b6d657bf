//! The arrows between the crates, kept by a test: which crate may know which, who stays pure, and
//! that a folder is nested one level at most. The reasons are in the README.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Whom each crate may depend on, besides what is not ours.
const ARROWS: [(&str, &[&str]); 12] = [
    ("weft-model", &[]),
    ("weft-config", &["weft-model"]),
    ("weft-injector", &[]),
    ("weft-xds", &["weft-model"]),
    ("weft-policy", &["weft-model"]),
    ("weft-interception", &[]),
    ("weft-control-plane", &["weft-config", "weft-injector", "weft-model", "weft-xds"]),
    ("weft-proxy", &["weft-model", "weft-policy", "weft-xds"]),
    ("weft-gateway", &["weft-model", "weft-proxy"]),
    ("weft-shop", &[]),
    // Builds meshes in one process for tests; nobody depends on it but tests.
    ("weft-testkit", &["weft-control-plane", "weft-model", "weft-proxy"]),
    (
        "weft",
        &[
            "weft-config",
            "weft-control-plane",
            "weft-gateway",
            "weft-injector",
            "weft-interception",
            "weft-model",
            "weft-proxy",
            "weft-shop",
            "weft-xds",
        ],
    ),
];

/// They decide; clocks, sockets and dice are handed to them.
const PURE: [&str; 4] = ["weft-model", "weft-config", "weft-injector", "weft-policy"];
const IMPURE: [&str; 6] = ["tokio", "hyper", "tonic", "rustls", "mio", "socket2"];

/// `x86_64-unknown-linux-gnu`.
fn host() -> String {
    let told = Command::new("rustc").arg("-vV").output().expect("rustc, which built this");
    let told = String::from_utf8(told.stdout).expect("rustc speaks UTF-8");
    told.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
        // only what is built for here is there without a network
        .other_options(["--locked", "--offline", "--filter-platform", &host()].map(str::to_owned))
        .exec()
        .expect("cargo metadata of this workspace")
}

/// Names of what `package` depends on when it is used (not when it is tested or built), directly.
fn uses<'a>(metadata: &'a Metadata, package: &PackageId) -> Vec<(&'a str, &'a PackageId)> {
    let resolve = metadata.resolve.as_ref().expect("metadata with dependencies");
    let node = resolve.nodes.iter().find(|node| node.id == *package).expect("every package is resolved");
    let normal = node.deps.iter().filter(|d| d.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal));
    normal.map(|d| (metadata[&d.pkg].name.as_str(), &d.pkg)).collect()
}

/// All that `package` reaches, each with one way to it.
fn reaches(metadata: &Metadata, package: &PackageId) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![(package.clone(), String::new())];
    while let Some((package, way)) = open.pop() {
        for (name, id) in uses(metadata, &package) {
            let way = format!("{way} → {name}");
            if found.insert(name.to_owned(), way.clone()).is_none() {
                open.push((id.clone(), way));
            }
        }
    }
    found
}

#[test]
fn each_crate_knows_only_whom_the_map_allows() {
    let metadata = metadata();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let ours: BTreeSet<&str> = metadata.workspace_packages().iter().map(|p| p.name.as_str()).collect();
    assert_eq!(ours, allowed.keys().copied().collect(), "a crate came or went: draw its arrows here and in the README");
    for package in metadata.workspace_packages() {
        for (name, _) in uses(&metadata, &package.id) {
            let fine = !ours.contains(name) || allowed[package.name.as_str()].contains(&name);
            assert!(fine, "{} must not depend on {name}", package.name);
        }
    }
}

#[test]
fn the_proxy_and_the_control_plane_share_only_the_model_and_the_wire() {
    let metadata = metadata();
    let reached = |name: &str| {
        let package = metadata.workspace_packages().into_iter().find(|p| p.name == name).expect("a crate of ours");
        reaches(&metadata, &package.id)
    };
    for (one, others) in
        [("weft-proxy", ["weft-control-plane", "weft-config"]), ("weft-control-plane", ["weft-proxy", "weft-policy"])]
    {
        let reached = reached(one);
        for other in others {
            assert!(!reached.contains_key(other), "{one}{}", reached[other]);
        }
    }
}

#[test]
fn the_pure_crates_reach_no_runtime_no_socket_and_no_tls() {
    let metadata = metadata();
    for package in metadata.workspace_packages().into_iter().filter(|p| PURE.contains(&p.name.as_str())) {
        let reached = reaches(&metadata, &package.id);
        for impure in IMPURE {
            assert!(!reached.contains_key(impure), "{}{} must stay away", package.name, reached[impure]);
        }
    }
}

#[test]
fn folders_are_nested_one_level_at_most() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.strip_prefix(&metadata.workspace_root).expect("inside the workspace");
        assert!(folder.components().count() <= 3, "{folder}: a crate is a folder, or a folder's folder");
    }
}

#[test]
fn no_module_is_called_mod_rs() {
    let metadata = metadata();
    let mut open: Vec<std::path::PathBuf> = metadata
        .workspace_packages()
        .iter()
        .filter_map(|p| Some(p.manifest_path.parent()?.join("src").into()))
        .collect();
    let mut seen = 0;
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).expect("a crate has its sources").flatten() {
            let path = entry.path();
            assert_ne!(path.file_name().and_then(|n| n.to_str()), Some("mod.rs"), "{}", path.display());
            seen += 1;
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    assert!(seen > 10, "the sources were looked at");
}
