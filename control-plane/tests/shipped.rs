//! The YAML that comes with Weft is right, so that whoever begins from it begins well: the manifests, and each experiment laid over
//! them as its script does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use weft_config::{Severity, merge, read, validate};

/// By their path below the folder that they are laid in, as `cp -r` does it: of two with one path the later counts.
type Files = BTreeMap<String, String>;

fn lay(files: &mut Files, from: &Path, below: &str) {
    let entries = fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    for path in entries.map(|entry| entry.expect("a folder that was opened is listed").path()) {
        let name = format!("{below}/{}", path.file_name().expect("an entry has a name").display());
        if path.is_dir() {
            lay(files, &path, &name);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            files.insert(name, text);
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The shop under these experiments.
fn experiment(folders: &[&str]) -> Files {
    let mut files = Files::new();
    for folder in ["shop", "gateway"] {
        lay(&mut files, &repository().join("manifests").join(folder), &format!("/{folder}"));
    }
    for folder in folders {
        lay(&mut files, &repository().join("services/experiments").join(folder), "");
    }
    files
}

/// What `weft check --strict` would say.
fn problems(files: &Files) -> Vec<(Severity, String)> {
    assert!(!files.is_empty());
    let parsed: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), read(name, text))).collect();
    let (world, merged) = merge(parsed.iter().map(|(name, parsed)| (*name, parsed)));
    let read = parsed.iter().flat_map(|(_, parsed)| parsed.problems.clone());
    read.chain(merged).chain(validate(&world)).map(|problem| (problem.severity, problem.to_string())).collect()
}

#[test]
fn nothing_is_wrong_with_the_manifests() {
    let mut files = Files::new();
    lay(&mut files, &repository().join("manifests"), "");
    assert_eq!(problems(&files), []);
}

#[test]
fn nothing_is_wrong_with_the_experiments() {
    let all: [&[&str]; 4] =
        [&["fun-shop"], &["course"], &["food-delivery"], &["food-delivery", "food-delivery-retries"]];
    for folders in all {
        assert_eq!(problems(&experiment(folders)), [], "{folders:?}");
    }
}
