use super::*;
use crate::{Body, Severity, merge};

/// What is wrong with one file, without its name.
pub(crate) fn problems(text: &str) -> Vec<String> {
    let parsed = read("f", text);
    parsed.problems.iter().map(|problem| problem.to_string().trim_start_matches("f:").to_owned()).collect()
}

/// The body of the only object of a file in which nothing is wrong.
#[track_caller]
pub(crate) fn body(text: &str) -> Body {
    let parsed = read("f", text);
    assert_eq!(parsed.problems, [], "{text}");
    assert_eq!(parsed.objects.len(), 1, "{text}");
    parsed.objects[0].body.clone()
}

fn keys(parsed: &Parsed) -> Vec<String> {
    parsed.objects.iter().map(|object| object.key.to_string()).collect()
}

fn bad(parsed: &Parsed) -> Vec<(Option<String>, u32)> {
    parsed.bad.iter().map(|bad| (bad.key.as_ref().map(Key::to_string), bad.place.line)).collect()
}

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";

#[test]
fn everything_wrong_in_a_document_is_said_at_once() {
    let text = include_str!("tests/wrong.yaml");
    let expected: Vec<&str> = include_str!("tests/wrong.txt").lines().collect();
    let parsed = read("wrong.yaml", text);
    let found: Vec<String> = parsed.problems.iter().map(Problem::to_string).collect();
    assert_eq!(found, expected, "found:\n{}\n", found.join("\n"));
    assert_eq!(bad(&parsed), [(Some("HTTPRoute shop/orders".into()), 2)]);
    assert!(parsed.problems.iter().all(|problem| problem.object == parsed.bad[0].key));
}

#[test]
fn a_bad_document_hides_none_of_its_neighbours() {
    let broken = "apiVersion: v1\nkind: Service\nmetadata:\n  name: order\n  namespace: shop\nspec:\n\tports: []\n";
    let parsed = read("f", &format!("{NAMESPACE}---\n{broken}---\n{}", NAMESPACE.replace("shop", "other")));
    assert_eq!(keys(&parsed), ["Namespace shop", "Namespace other"]);
    assert_eq!(bad(&parsed), [(Some("Service shop/order".into()), 5)]);
    assert_eq!(parsed.problems.len(), 1);
    assert_eq!((parsed.problems[0].place.line, parsed.problems[0].place.column), (11, 2));
    assert_eq!(parsed.objects[1].place.line, 12 + 1);
}

#[test]
fn documents_are_cut_at_marker_lines_and_nowhere_else() {
    let cut = |text| documents::split(text).iter().map(|d| (d.first_line, d.content_line)).collect::<Vec<_>>();
    assert_eq!(cut(""), []);
    assert_eq!(cut("# only a comment\n---\n\n---\n"), []);
    assert_eq!(cut("a: 1"), [(1, 1)]);
    assert_eq!(cut("---\na: 1\n---\nb: 2\n"), [(1, 2), (3, 4)]);
    assert_eq!(cut("# about a\n---\na: 1\n---  # b\n\nb: 2\n"), [(1, 3), (4, 6)]);
    assert_eq!(cut("%YAML 1.2\n---\na: 1\n"), [(1, 3)]);
    assert_eq!(cut("a: 1\n...\n# comment\nb: 2\n"), [(1, 1), (3, 4)]);
    assert_eq!(cut("a: |\n  ---\n  x\n---b: 1\n"), [(1, 1)]);
    assert_eq!(cut("--- {a: 1}\n--- {b: 2}\n"), [(1, 1), (2, 2)]);
    assert_eq!(cut("a: 1\r\n---\r\nb: 2\r\n"), [(1, 1), (2, 3)]);
}

#[test]
fn block_text_may_hold_what_looks_like_a_marker() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  script: |\n    ---\n    ...\n    end\n";
    assert_eq!(keys(&read("f", text)), ["ConfigMap default/x"]);
}

#[test]
fn byte_order_marks_windows_lines_json_and_lists_are_read() {
    assert_eq!(keys(&read("f", &format!("\u{feff}{NAMESPACE}"))), ["Namespace shop"]);
    assert_eq!(keys(&read("f", &NAMESPACE.replace('\n', "\r\n"))), ["Namespace shop"]);
    let json = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}"#;
    assert_eq!(keys(&read("f", json)), ["Namespace shop"]);
    let list = format!(
        r#"{{"apiVersion": "v1", "kind": "List", "metadata": {{}}, "items": [{json}, {{"kind": 5}}, {}]}}"#,
        json.replace("shop", "b")
    );
    let parsed = read("f", &list);
    assert_eq!(keys(&parsed), ["Namespace shop", "Namespace b"]);
    assert_eq!(
        parsed.problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(),
        ["items[1].apiVersion", "items[1].kind"]
    );
}

#[test]
fn empty_documents_are_nothing() {
    assert_eq!(read("f", ""), Parsed::default());
    assert_eq!(read("f", "---\n---\nnull\n---\n# nothing\n"), Parsed::default());
}

#[test]
fn kinds_are_told_apart_by_group() {
    let object = |version: &str, kind: &str| format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n");
    let found = |version, kind| {
        let parsed = read("f", &object(version, kind));
        (keys(&parsed), problems(&object(version, kind)))
    };
    assert_eq!(found("v1", "ConfigMap"), (vec!["ConfigMap default/x".into()], vec![]));
    assert_eq!(found("rbac.authorization.k8s.io/v1", "ClusterRole"), (vec!["ClusterRole x".into()], vec![]));
    assert_eq!(found("kustomize.config.k8s.io/v1beta1", "Kustomization"), (vec![], vec![]));
    assert_eq!(
        found("networking.istio.io/v1", "Gateway"),
        (
            vec!["Gateway.networking.istio.io default/x".into()],
            vec![
                "1:1 warning: Weft does not act on Gateway yet (write a Gateway of gateway.networking.k8s.io/v1, \
                 or expect traffic to flow without it)"
                    .into()
            ]
        )
    );
    assert_eq!(
        found("security.istio.io/v1", "AuthorizationPolicy").1,
        ["1:1 warning: Weft does not act on AuthorizationPolicy yet (traffic flows as if it were not written)"]
    );
    assert_eq!(
        found("gateway.networking.k8s.io/v1", "HTTPRuote").1,
        ["2:1 kind: unknown kind `HTTPRuote` (did you mean `HTTPRoute`?)"]
    );
    assert_eq!(
        found("gateway.networking.k8s.io/v2", "Gateway").1,
        [
            "1:1 apiVersion: there is no Gateway in gateway.networking.k8s.io/v2 (write gateway.networking.k8s.io/v1)",
            "1:1 spec: is missing (write `spec:`)"
        ]
    );
    assert_eq!(
        found("extensions/v1beta1", "Deployment").1,
        ["1:1 apiVersion: there is no Deployment in extensions/v1beta1 (write apps/v1)"]
    );
    assert_eq!(
        found("gatway.networking.k8s.io/v1", "Whatever").1,
        ["2:1 kind: unknown kind `Whatever` (Weft has no such kind; remove it, or check its apiVersion)"]
    );
    assert_eq!(
        found("cert-manager.io/v1", "Certificate"),
        (
            vec!["Certificate default/x".into()],
            vec![
                "1:1 warning: cert-manager.io/v1 Certificate is not known to Weft and is left alone \
                 (check its spelling if it was meant for Weft)"
                    .into()
            ]
        )
    );
}

#[test]
fn a_document_of_no_kind_still_says_whose_place_it_takes() {
    let keyed = |text: &str| bad(&read("f", text));
    let meta = "metadata: {name: x, namespace: n}\n";
    let route = Some("HTTPRoute n/x".to_owned());
    assert_eq!(keyed(&format!("apiVersion: gateway.networking.k8s.io/v1\nkind: HttpRoutes\n{meta}")), [(route, 1)]);
    assert_eq!(keyed(&format!("kind: Service\n{meta}")), [(Some("Service n/x".into()), 1)]);
    assert_eq!(keyed(&format!("apiVersion: v1\n{meta}")), [(None, 1)]);
    assert_eq!(keyed("just text"), [(None, 1)]);
    let quoted =
        "kind: 'Service' # here\napiVersion: \"v1\"\nmetadata:\n  labels:\n    name: not-this\n  name: x\na: [\n";
    assert_eq!(keyed(quoted), [(Some("Service default/x".into()), 1)]);
    assert_eq!(keyed("kind: Service\napiVersion: v1\nmetadata:\n  labels:\n    name: not-this\na: [\n"), [(None, 1)]);
}

#[test]
fn metadata_is_checked_and_kept() {
    let text = "apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels: {app.kubernetes.io/name: shop}
  annotations: {a: \"1\"}
  creationTimestamp: 2026-01-02T03:04:05Z
  ownerReferences: [{apiVersion: v1, kind: Node, name: node, uid: u, controller: true}]
  managedFields: [{anything: at all}]
status: {phase: Active}
";
    let parsed = read("f", text);
    assert_eq!(parsed.problems, []);
    let meta = &parsed.objects[0].meta;
    assert_eq!(meta.labels["app.kubernetes.io/name"], "shop");
    assert_eq!(meta.annotations["a"], "1");
    assert_eq!(meta.creation_timestamp, Some(1_767_323_045));
    assert_eq!((meta.owner_references[0].kind.as_str(), meta.owner_references[0].controller), ("Node", true));
    assert_eq!(
        problems(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: Sh_op\n  label: {}\n  labels: {a.b/c: 1, d: on}\n"
        ),
        [
            "4:9 metadata.name: \"Sh_op\" is not a name (write 1 to 253 of a-z, 0-9, . and inner -, each part beginning \
             and ending with a letter or digit)",
            "5:3 metadata.label: unknown field `label` (did you mean `labels`?)",
            "6:19 metadata.labels[\"a.b/c\"]: must be text, not the number 1 (put it in quotes: \"1\")",
            "6:25 warning: metadata.labels.d: on without quotes is text here, but a boolean to kubectl \
             (put it in quotes: \"on\")",
        ]
    );
}

#[test]
fn a_namespace_on_a_cluster_scoped_kind_is_a_warning() {
    let parsed = read("f", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}\n");
    assert_eq!(keys(&parsed), ["Namespace a"]);
    assert_eq!(parsed.problems[0].severity, Severity::Warning);
}

#[test]
fn too_large_a_file_is_refused_in_words() {
    let parsed = read("f", &"#".repeat(MAX_FILE_BYTES + 1));
    assert_eq!(parsed.problems.len(), 1);
    assert_eq!(bad(&parsed), [(None, 1)]);
    assert_eq!(read("f", &"#".repeat(MAX_FILE_BYTES)).problems, []);
}

#[test]
fn countless_mistakes_are_counted_not_listed() {
    let fields: String = (0..2000).map(|at| format!("unknown{at}: 1\n")).collect();
    let parsed = read("f", &format!("{NAMESPACE}{fields}"));
    assert_eq!(parsed.problems.len(), report::MAX_PROBLEMS + 1);
    assert!(parsed.problems.iter().any(|problem| problem.message == "and 1500 more problems in this document"));
    assert_eq!(parsed.objects, []);
}

#[test]
fn a_file_lists_so_many_problems_and_counts_the_rest() {
    let fields: String = (0..600).map(|at| format!("unknown{at}: 1\n")).collect();
    let parsed = read("f", &vec![format!("{NAMESPACE}{fields}"); 12].join("---\n"));
    assert_eq!(parsed.problems.len(), report::MAX_FILE_PROBLEMS + 1);
    let expected =
        format!("and {} more problems in this file", 12 * (report::MAX_PROBLEMS + 1) - report::MAX_FILE_PROBLEMS);
    assert_eq!(parsed.problems.last().map(|problem| problem.message.as_str()), Some(expected.as_str()));
    assert_eq!(parsed.bad.len(), 12);
}

#[test]
fn too_many_documents_are_refused_in_words() {
    let parsed = read("f", &"a: 1\n---\n".repeat(MAX_DOCUMENTS + 1));
    assert_eq!(parsed.problems.len(), 1);
    assert_eq!(bad(&parsed), [(None, 1)]);
}

#[test]
fn expressions_are_checked_once_each_and_no_more_than_so_many() {
    let route = |expression: usize| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{expression}}}\n\
             spec: {{rules: [{{matches: [{{path: {{type: RegularExpression, value: a{expression}}}}}]}}]}}\n"
        )
    };
    let repeated: Vec<String> = (0..report::MAX_EXPRESSIONS * 2).map(|at| route(at % 10)).collect();
    assert_eq!(read("f", &repeated.join("---\n")).problems, []);
    let different: Vec<String> = (0..=report::MAX_EXPRESSIONS).map(route).collect();
    let found = read("f", &different.join("---\n")).problems;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].message.contains("more than 1000 regular expressions in one file"), "{found:?}");
}

#[test]
fn a_list_with_a_fault_in_its_text_gives_no_object_but_their_names() {
    let text = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "name": "b"}}]}"#;
    let parsed = read("f", text);
    assert_eq!((parsed.objects.len(), parsed.problems.len()), (0, 1));
    assert!(bad(&parsed).contains(&(Some("Namespace a".into()), 2)), "{parsed:?}");
}

#[test]
fn an_object_that_is_written_twice_keeps_the_first() {
    let one = read("one.yaml", NAMESPACE);
    let two = read("two.yaml", &format!("# again\n{NAMESPACE}"));
    let (world, problems) = merge([("one.yaml", &one), ("two.yaml", &two)].into_iter());
    assert_eq!(&*world.objects[&one.objects[0].key].place.file, "one.yaml");
    assert_eq!(
        problems.iter().map(Problem::to_string).collect::<Vec<_>>(),
        ["two.yaml:2:1 Namespace shop is already defined at one.yaml:1:1 (remove one of the two, or rename it)"]
    );
    assert_eq!(problems[0].object.as_ref(), Some(&one.objects[0].key));
}

#[test]
fn problems_are_json_for_tools() {
    let parsed = read("f.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\nextra: 1\n");
    assert_eq!(
        serde_json::to_value(&parsed.problems[0]).unwrap(),
        serde_json::json!({
            "severity": "error", "file": "f.yaml", "line": 4, "column": 1,
            "object": {"kind": "Namespace", "namespace": "", "name": "x"},
            "path": "extra", "message": "unknown field `extra`",
            "hint": "known here: apiVersion, kind, metadata, status, spec",
        })
    );
}
