//! What a cluster applies, judged by those who will: Kubernetes' own schemas, an API server, Prometheus.

#![allow(clippy::unwrap_used, reason = "a helper of tests may fail as a test does")]

mod monitored;
mod served;
mod valid;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(directory(name)).unwrap_or_else(|error| panic!("manifests/{name}: {error}"))
}

/// A directory as `kubectl apply -k` takes it; where no such kubectl is, its own files as they are.
fn manifests(name: &str) -> String {
    if !knows_kustomize() {
        println!("no kubectl of 1.27 or newer is on PATH: the files of manifests/{name} are taken as they are");
        return plain(name);
    }
    let output = Command::new("kubectl").arg("kustomize").arg(directory(name)).output().unwrap();
    assert!(output.status.success(), "kubectl kustomize manifests/{name}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A kubectl whose kustomize is of the generation that has `labels` and `patches` without a file.
fn knows_kustomize() -> bool {
    let asked = Command::new("kubectl").args(["version", "--client", "-o", "json"]).stderr(Stdio::null()).output();
    let version = asked.ok().and_then(|output| serde_json::from_slice::<serde_json::Value>(&output.stdout).ok());
    let minor = version.as_ref().and_then(|version| version["clientVersion"]["minor"].as_str());
    minor.and_then(|minor| minor.trim_end_matches('+').parse::<u32>().ok()).is_some_and(|minor| minor >= 27)
}

fn plain(name: &str) -> String {
    let files = std::fs::read_dir(directory(name)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|file| file.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    files.retain(|file| !file.ends_with("kustomization.yaml"));
    let texts: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    texts.join("\n---\n")
}

/// The documents of a text, as text.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n---\n").filter(|document| document.contains("kind:"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs a program on that input.
fn fed(command: &mut Command, input: &str) -> Output {
    use std::io::Write as _;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // a program that prints before it has read all must not wait for us, nor we for it
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output().unwrap()
    })
}
