//! Pods of every kind, each with what becomes of it beside it.
//!
//! `tests/pods/NAME.yaml` is what somebody wrote, `tests/expected/NAME.yaml` what comes out, with what is said of it
//! as comments. `BLESS=1 cargo test -p weft-injector` writes the latter anew. In a pod's first lines, `# settings:` and
//! `# namespace:` (its labels) say what it meets, and `# strict: false` that it has fields which no schema knows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(clippy::disallowed_methods, reason = "the crate is pure, its tests read files")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use weft_injector::{Injection, Namespace, Refusal, Settings, inject_document, patch};
use weft_testkit::peers::{self, Peer};

struct Golden {
    name: String,
    document: Value,
    settings: Settings,
    labels: Option<BTreeMap<String, String>>,
    text: String,
}

impl Golden {
    fn all() -> Vec<Golden> {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(directory("pods")).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| Golden::read(path)).collect()
    }

    fn read(path: &Path) -> Golden {
        let text = fs::read_to_string(path).unwrap();
        let note = |name: &str| {
            let lines = text.lines().take_while(|line| line.starts_with('#'));
            lines
                .filter_map(|line| line.strip_prefix("# ")?.strip_prefix(name)?.strip_prefix(": "))
                .next()
                .map(str::to_owned)
        };
        Golden {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            document: yaml(&text),
            settings: note("settings").map(|text| serde_saphyr::from_str(&text).unwrap()).unwrap_or_default(),
            labels: note("namespace").map(|text| serde_saphyr::from_str(&text).unwrap()),
            text,
        }
    }

    fn has(&self, note: &str) -> bool {
        self.text.lines().any(|line| line == format!("# {note}"))
    }

    fn inject(&self, document: &Value) -> Result<Injection, Refusal> {
        let namespace = |name: &str| Namespace { name: name.to_owned(), labels: self.labels.clone() };
        inject_document(document, &namespace, &self.settings)
    }

    fn outcome(&self) -> String {
        match self.inject(&self.document) {
            Ok(injection) => {
                let notes: String = injection.notes.iter().map(|note| format!("# {note}\n")).collect();
                format!("{notes}{}", serde_saphyr::to_string(&injection.document).unwrap())
            }
            Err(refusal) => refusal.problems.iter().map(|problem| format!("# refused: {problem}\n")).collect(),
        }
    }
}

/// As Kubernetes reads it: `0644` is a number of the octal kind.
fn yaml(text: &str) -> Value {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(text, options).unwrap()
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

#[test]
fn every_pod_comes_out_as_it_is_written_beside_it() {
    let bless = std::env::var_os("BLESS").is_some();
    let goldens = Golden::all();
    assert!(goldens.len() >= 40, "the pods were found");
    let mut differ = Vec::new();
    for golden in &goldens {
        let (path, outcome) = (directory("expected").join(format!("{}.yaml", golden.name)), golden.outcome());
        assert_eq!(outcome, golden.outcome(), "{} comes out the same each time", golden.name);
        if bless {
            fs::create_dir_all(directory("expected")).unwrap();
            fs::write(&path, &outcome).unwrap();
        } else if fs::read_to_string(&path).unwrap_or_default() != outcome {
            differ.push(format!("--- {}\n{outcome}", golden.name));
        }
    }
    assert!(differ.is_empty(), "not as in tests/expected (BLESS=1 writes them anew):\n{}", differ.join("\n"));
}

#[test]
fn the_patch_makes_the_same_pod_and_a_second_time_nothing_changes() {
    let mut injected = 0;
    for golden in Golden::all() {
        let Ok(injection) = golden.inject(&golden.document) else { continue };
        let (name, changes) = (&golden.name, patch(&golden.document, &injection.document));
        assert_eq!(changes.0.is_empty(), !injection.changed, "{name}");
        let mut patched = golden.document.clone();
        json_patch::patch(&mut patched, &changes).unwrap();
        assert_eq!(patched, injection.document, "{name}");
        let again = golden.inject(&injection.document).unwrap();
        assert_eq!((again.changed, &again.document), (false, &injection.document), "{name}");
        injected += usize::from(injection.changed);
    }
    assert!(injected >= 40, "{injected} pods have a sidecar");
}

/// The schemas of Kubernetes, which know every field; and PyYAML, which reads YAML as `kubectl` does.
#[test]
fn kubernetes_takes_every_pod() {
    let mut child = Command::new(peers::python(&[Peer::KubernetesValidate]))
        .args(["-c", include_str!("validate.py")])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for golden in Golden::all() {
        let Ok(injection) = golden.inject(&golden.document) else { continue };
        if golden.has("invalid: true") {
            continue;
        }
        let line = serde_json::json!({
            "name": golden.name,
            "json": injection.document,
            "yaml": serde_saphyr::to_string(&injection.document).unwrap(),
            "strict": !golden.has("strict: false"),
        });
        writeln!(input, "{line}").unwrap();
    }
    drop(input);
    assert!(child.wait().unwrap().success(), "what is wrong is above");
}
