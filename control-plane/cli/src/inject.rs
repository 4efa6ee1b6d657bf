//! `weft inject`: sidecars into YAML, offline, by the very code of the webhook.
//!
//! Only documents that change are written anew; all others come out as they went in, comments included.

use crate::files;
use crate::look::{BAD, WARN, paint, print};
use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use weft_injector::{Namespace, Settings, inject_document};

/// Put sidecars into the YAML of pods, without a cluster
///
/// Pods, and the pods of Deployments, StatefulSets, DaemonSets, Jobs, CronJobs and Lists, come out with the
/// sidecar that the webhook would give them; all else comes out unchanged. A pod that says
/// sidecar.istio.io/inject: "false", or whose Namespace is among the documents and is not labelled, gets none.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  weft inject order.yaml | kubectl apply -f -
  kubectl get deployment order -o yaml | weft inject -f - | kubectl apply -f -
  weft inject manifests/*.yaml --settings injection.yaml

Settings, as YAML: image, imagePullPolicy, controlPlane, revision, nativeSidecars,
holdApplicationUntilProxyStarts, rewriteProbes, logLevel, drainSeconds, terminationDrainSeconds,
resources {cpu, memory, cpuLimit, memoryLimit}, ignoredNamespaces.")]
pub(crate) struct InjectArgs {
    /// Files of YAML; - is standard input.
    #[arg(value_name = "FILE", required_unless_present = "filenames")]
    paths: Vec<PathBuf>,
    /// The same, as kubectl has it.
    #[arg(long = "filename", short = 'f', id = "filenames", value_name = "FILE")]
    filenames: Vec<PathBuf>,
    /// YAML that says how the mesh injects.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

pub(crate) fn run(args: InjectArgs) -> anyhow::Result<ExitCode> {
    let settings = settings(args.settings.as_deref())?;
    let mut documents = Vec::new();
    for path in args.filenames.iter().chain(&args.paths) {
        let (name, text) = read(path)?;
        documents.extend(split(&name, &text)?);
    }
    let injected = inject(&documents, &settings);
    for note in &injected.notes {
        anstream::eprintln!("{} {note}", paint(WARN, "!"));
    }
    for problem in &injected.problems {
        anstream::eprintln!("{} {problem}", paint(BAD, "error:"));
    }
    // Half of what was asked for would be applied as if it were all.
    if !injected.problems.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    print(injected.text)?;
    Ok(ExitCode::SUCCESS)
}

/// How the mesh injects: what a file says, or the defaults.
pub(crate) fn settings(path: Option<&Path>) -> anyhow::Result<Settings> {
    let Some(path) = path else { return Ok(Settings::default()) };
    let text = files::text(path)?;
    serde_saphyr::from_str(&text).with_context(|| format!("{}: these are no settings of injection", path.display()))
}

fn read(path: &Path) -> anyhow::Result<(String, String)> {
    if path != Path::new("-") {
        return Ok((path.display().to_string(), files::text(path)?));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    Ok(("standard input".into(), text))
}

/// One document of a file.
struct Document {
    /// Its text, from its `---` to before the next.
    text: String,
    value: Value,
}

/// Errors: a document that is no YAML, with its line.
fn split(name: &str, text: &str) -> anyhow::Result<Vec<Document>> {
    let mut texts: Vec<(usize, String)> = Vec::new();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        // At the beginning of a line, nothing else can be so: text in a block is indented.
        let begins = line.trim_end() == "---" || line.starts_with("--- ");
        match texts.last_mut() {
            Some((_, text)) if !begins => text.push_str(line),
            _ => texts.push((number + 1, line.to_owned())),
        }
    }
    let parse = |(line, text): (usize, String)| {
        // As Kubernetes reads it: 0644 is a number of the octal kind.
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        let value = serde_saphyr::from_str_with_options::<Option<Value>>(&text, options)
            .with_context(|| format!("{name}: the document that begins at line {line} is no YAML"))?;
        Ok(Document { text, value: value.unwrap_or_default() })
    };
    texts.into_iter().map(parse).collect()
}

#[derive(Default)]
struct Output {
    text: String,
    notes: Vec<String>,
    problems: Vec<String>,
}

fn inject(documents: &[Document], settings: &Settings) -> Output {
    let namespaces = labels(documents);
    let namespace = |name: &str| match namespaces.get(name) {
        Some(labels) => Namespace::labelled(name, labels.clone()),
        None => Namespace::chosen(name),
    };
    let mut output = Output::default();
    for document in documents {
        match inject_document(&document.value, &namespace, settings) {
            Ok(injection) => {
                output.notes.extend(injection.notes);
                let text = injection.changed.then(|| serde_saphyr::to_string(&injection.document));
                match text.transpose() {
                    Ok(Some(text)) => append(&mut output.text, &text),
                    Ok(None) => append(&mut output.text, &document.text),
                    Err(error) => output.problems.push(format!("a document cannot be written as YAML: {error}")),
                }
            }
            Err(refusal) => output.problems.extend(refusal.problems),
        }
    }
    output
}

/// The Namespaces among the documents.
fn labels(documents: &[Document]) -> BTreeMap<String, BTreeMap<String, String>> {
    let namespaces = documents.iter().filter(|document| document.value["kind"] == "Namespace");
    let named = namespaces.filter_map(|document| {
        let metadata = &document.value["metadata"];
        let labels = metadata["labels"].as_object().into_iter().flatten();
        let labels = labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
        Some((metadata["name"].as_str()?.to_owned(), labels))
    });
    named.collect()
}

fn append(out: &mut String, document: &str) {
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    if !out.is_empty() && !document.starts_with("---") {
        out.push_str("---\n");
    }
    out.push_str(document);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injected(text: &str) -> Output {
        inject(&split("test.yaml", text).unwrap(), &Settings::default())
    }

    const CONFIG: &str = "# kept\napiVersion: v1\nkind: ConfigMap\nmetadata: { name: a } # as it is\ndata:\n  script: |\n    a\n     --- b\n";
    const POD: &str = "---\napiVersion: v1\nkind: Pod\nmetadata: { name: order, namespace: shop }\nspec: { containers: [{ name: order, image: shop/order }] }\n";

    #[test]
    fn what_has_no_pod_comes_out_as_it_went_in() {
        let output = injected(&format!("{CONFIG}---\n# nothing\n{POD}"));
        assert!(output.text.starts_with(&format!("{CONFIG}---\n# nothing\n---\n")), "{}", output.text);
        let documents = split("again", &output.text).unwrap();
        assert_eq!(documents.len(), 3);
        assert_eq!(documents[2].value["spec"]["initContainers"][1]["name"], "weft-proxy");
        let again = inject(&documents, &Settings::default());
        assert_eq!(again.text, output.text, "a second time changes nothing");
        assert_eq!(again.notes, ["Pod shop/order: left alone: the pod has its sidecar already"]);
    }

    #[test]
    fn a_namespace_among_the_documents_is_asked() {
        let namespace =
            |labels: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{ name: shop{labels} }}\n{POD}");
        assert!(injected(&namespace(", labels: { istio-injection: enabled }")).text.contains("weft-proxy"));
        let left = injected(&namespace(", labels: { istio-injection: disabled }"));
        assert!(
            !left.text.contains("weft-proxy") && left.notes[0].contains("istio-injection=disabled"),
            "{:?}",
            left.notes
        );
    }

    #[test]
    fn a_wrong_annotation_is_a_problem_of_its_object() {
        let pod = POD.replace("namespace: shop", "namespace: shop, annotations: { sidecar.istio.io/proxyCPU: lots }");
        let output = injected(&pod);
        assert_eq!(output.problems.len(), 1);
        assert!(
            output.problems[0].starts_with("Pod shop/order: annotation sidecar.istio.io/proxyCPU: "),
            "{:?}",
            output.problems
        );
    }

    #[test]
    fn what_is_no_yaml_is_named_by_its_line() {
        let error = split("a.yaml", "a: 1\n---\nb: {\n").err().unwrap();
        assert!(error.to_string().contains("a.yaml: the document that begins at line 2"), "{error:#}");
    }
}
