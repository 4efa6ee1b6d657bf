//! Reading whatever comes: it ends, it never panics, every place that it names is in the file; and what is written well is
//! read back as it was meant.

use proptest::prelude::*;
use std::fmt::Write as _;
use std::time::Duration;
use weft_config::kinds::{HttpPathMatch, HttpRoute, HttpValueMatch};
use weft_config::{Body, Parsed, read};

/// Documents of every kind that is read, to be broken.
const GOOD: &str = include_str!("reading/good.yaml");

/// What holds of every text.
fn check(text: &str) -> Parsed {
    let parsed = read("f", text);
    let widths: Vec<usize> = line_widths(text);
    let places = parsed.problems.iter().map(|problem| &problem.place);
    for place in places.chain(parsed.bad.iter().map(|bad| &bad.place)).chain(parsed.objects.iter().map(|o| &o.place)) {
        let width = widths.get(place.line as usize - 1);
        // one past the end is where something is missing
        let at_end = place.line as usize == widths.len() + 1 && place.column == 1;
        assert!(width.is_some_and(|width| place.column as usize <= width + 1) || at_end, "{place} in {text:?}");
        assert!(place.column >= 1, "{place}");
    }
    let errors = parsed.problems.iter().any(weft_config::Problem::is_error);
    assert_eq!(errors, !parsed.bad.is_empty(), "an error and a bad document go together: {text:?} {parsed:?}");
    parsed
}

/// Characters of each line; lines end as in YAML.
fn line_widths(text: &str) -> Vec<usize> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.split('\n').map(|line| line.chars().count()).collect()
}

#[test]
fn the_good_documents_are_good() {
    let parsed = check(GOOD);
    assert_eq!(parsed.problems, []);
    assert_eq!(parsed.objects.len(), GOOD.split("\n---\n").count());
}

#[test]
fn every_prefix_of_the_good_documents_is_read() {
    for (end, _) in GOOD.char_indices().step_by(11) {
        check(&GOOD[..end]);
    }
}

/// Pieces that mean something to YAML or to a kind.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("---\n"),
        Just("...\n"),
        Just("\n"),
        Just("\r\n"),
        Just("\r"),
        Just("\t"),
        Just("  "),
        Just("- "),
        Just(": "),
        Just("&a "),
        Just("*a"),
        Just("<<: *a"),
        Just("!!str "),
        Just("!x "),
        Just("| \n"),
        Just("> \n"),
        Just("? "),
        Just("["),
        Just("]"),
        Just("{"),
        Just("}"),
        Just(", "),
        Just("\""),
        Just("'"),
        Just("#"),
        Just("%YAML 1.2\n"),
        Just("null"),
        Just("true"),
        Just("yes"),
        Just("8080"),
        Just("-1"),
        Just("1e999"),
        Just("10s"),
        Just("*"),
        Just("/"),
        Just("kind: HTTPRoute\n"),
        Just("apiVersion: v1\n"),
        Just("metadata: {name: x}\n"),
        Just("spec:\n"),
        Just("rules:\n"),
        Just("\u{feff}"),
        Just("ä"),
        Just("\u{0}"),
        Just("\u{2028}"),
    ]
    .prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn any_pieces_are_read(pieces in prop::collection::vec(piece(), 0..60)) {
        check(&pieces.concat());
    }

    /// A few edits anywhere: characters cut out, pieces put in, a line moved or indented.
    #[test]
    fn broken_documents_are_read(edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..4, 0usize..12, piece()), 1..6)) {
        let mut text: Vec<char> = GOOD.chars().collect();
        for (at, kind, length, piece) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + length).min(text.len());
            match kind {
                0 => drop(text.drain(at..end)),
                1 => drop(text.splice(at..at, piece.chars())),
                2 => drop(text.splice(at..end, piece.chars())),
                _ => {
                    let line: Vec<char> = text[at..].iter().take_while(|c| **c != '\n').copied().collect();
                    let start = text[..at].iter().rposition(|c| *c == '\n').map_or(0, |before| before + 1);
                    drop(text.splice(start..start, line));
                }
            }
        }
        check(&text.into_iter().collect::<String>());
    }

    /// Documents that are not touched by an edit are read as before.
    #[test]
    fn a_broken_document_leaves_its_neighbours(which in any::<prop::sample::Index>(), junk in prop::collection::vec(piece(), 1..20)) {
        let documents: Vec<&str> = GOOD.split("\n---\n").collect();
        let broken = which.index(documents.len());
        let junk = junk.concat().replace("---", "").replace("...", "").replace('\r', "");
        let text: Vec<String> = documents
            .iter()
            .enumerate()
            .map(|(at, document)| if at == broken { format!("{document}\n{junk}") } else { (*document).to_owned() })
            .collect();
        let parsed = check(&text.join("\n---\n"));
        let whole = read("f", GOOD);
        for (at, object) in whole.objects.iter().enumerate().filter(|(at, _)| *at != broken) {
            prop_assert!(parsed.objects.iter().any(|found| found.key == object.key), "document {at} is gone");
        }
    }

    #[test]
    fn a_printed_route_reads_back(route in route()) {
        for text in [route.yaml(), route.json()] {
            let parsed = check(&text);
            prop_assert_eq!(&parsed.problems, &[], "{}", text);
            let Body::HttpRoute(read) = &parsed.objects[0].body else { panic!("{text}") };
            prop_assert_eq!(&Written::of(read), &route, "{}", text);
        }
    }
}

/// A route as it is meant, without its places.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    hostnames: Vec<String>,
    rules: Vec<WrittenRule>,
}

#[derive(Clone, Debug, PartialEq)]
struct WrittenRule {
    path: Option<(u8, String)>,
    method: Option<String>,
    headers: Vec<(String, bool, String)>,
    request_millis: Option<u64>,
    backends: Vec<(String, u16, u32)>,
}

fn route() -> impl Strategy<Value = Written> {
    let label = "[a-z][a-z0-9]{0,5}";
    let hostname = prop::collection::vec(label, 1..4).prop_map(|labels| labels.join("."));
    (prop::collection::vec(hostname, 0..3), prop::collection::vec(rule(), 1..5))
        .prop_map(|(hostnames, rules)| Written { hostnames, rules })
}

fn rule() -> impl Strategy<Value = WrittenRule> {
    let path = prop::option::of((0u8..3, "(/[a-z0-9_.~-]{1,5}[a-z]){1,3}"));
    let method = prop::option::of(prop::sample::select(vec!["GET".to_owned(), "DELETE".to_owned()]));
    let headers = prop::collection::btree_map("x-[a-z]{1,6}", (any::<bool>(), "[a-z0-9 :#'\"]{0,8}[a-z]"), 0..3)
        .prop_map(|headers| headers.into_iter().map(|(name, (regex, value))| (name, regex, value)).collect());
    let backends = prop::collection::vec(("[a-z]{1,8}", 1u16.., 0u32..=1_000_000), 0..4);
    (path, method, headers, prop::option::of(0u64..100_000), backends).prop_map(
        |(path, method, headers, request_millis, backends)| WrittenRule {
            path,
            method,
            headers,
            request_millis,
            backends,
        },
    )
}

const PATH_TYPES: [&str; 3] = ["Exact", "PathPrefix", "RegularExpression"];

impl Written {
    fn of(route: &HttpRoute) -> Written {
        let value = |value: &HttpValueMatch| match value {
            HttpValueMatch::Exact(text) => (false, text.clone()),
            HttpValueMatch::Regex(text) => (true, text.clone()),
        };
        let rules = route.rules.iter().map(|rule| WrittenRule {
            path: match &rule.matches[0].path {
                HttpPathMatch::Exact(path) => Some((0, path.clone())),
                HttpPathMatch::Prefix(path) if path == "/" => None,
                HttpPathMatch::Prefix(path) => Some((1, path.clone())),
                HttpPathMatch::Regex(path) => Some((2, path.clone())),
                HttpPathMatch::Method(method) => panic!("an HTTPRoute has no {method:?}"),
            },
            method: rule.matches[0].method.clone(),
            headers: rule.matches[0]
                .headers
                .iter()
                .map(|header| {
                    let (regex, text) = value(&header.value);
                    (header.name.clone(), regex, text)
                })
                .collect(),
            request_millis: rule.timeouts.request.map(|timeout: Duration| timeout.as_millis() as u64),
            backends: rule
                .backend_refs
                .iter()
                .map(|backend| (backend.target.name.clone(), backend.target.port.unwrap_or_default(), backend.weight))
                .collect(),
        });
        Written { hostnames: route.hostnames.iter().map(|name| name.to_string()).collect(), rules: rules.collect() }
    }

    fn json(&self) -> String {
        let rules: Vec<serde_json::Value> = self
            .rules
            .iter()
            .map(|rule| {
                let mut matches = serde_json::json!({
                    "method": rule.method,
                    "headers": rule.headers.iter().map(|(name, regex, value)| serde_json::json!({
                        "name": name, "type": if *regex { "RegularExpression" } else { "Exact" }, "value": value,
                    })).collect::<Vec<_>>(),
                });
                if let Some((kind, path)) = &rule.path {
                    matches["path"] = serde_json::json!({"type": PATH_TYPES[usize::from(*kind)], "value": path});
                }
                serde_json::json!({
                    "matches": [matches],
                    "timeouts": rule.request_millis.map(|millis| serde_json::json!({"request": duration(millis)})),
                    "backendRefs": rule.backends.iter().map(|(name, port, weight)| serde_json::json!({
                        "name": name, "port": port, "weight": weight,
                    })).collect::<Vec<_>>(),
                })
            })
            .collect();
        let route = serde_json::json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"},
            "spec": {"hostnames": self.hostnames, "rules": rules},
        });
        serde_json::to_string_pretty(&route).expect("plain values")
    }

    /// In blocks, as people write it.
    fn yaml(&self) -> String {
        let mut text = String::from(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: r\nspec:\n  hostnames:\n",
        );
        for hostname in &self.hostnames {
            writeln!(text, "  - \"{hostname}\"").expect("a String takes all");
        }
        text.push_str("  rules:\n");
        for rule in &self.rules {
            rule.yaml(&mut text).expect("a String takes all");
        }
        text
    }
}

impl WrittenRule {
    fn yaml(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "  - matches:\n    - headers:")?;
        for (name, regex, value) in &self.headers {
            writeln!(text, "      - name: {name}")?;
            writeln!(text, "        type: {}", if *regex { "RegularExpression" } else { "Exact" })?;
            writeln!(text, "        value: '{}'", value.replace('\'', "''"))?;
        }
        if let Some((kind, path)) = &self.path {
            writeln!(text, "      path:\n        type: {}\n        value: {path}", PATH_TYPES[usize::from(*kind)])?;
        }
        if let Some(method) = &self.method {
            writeln!(text, "      method: {method}")?;
        }
        if let Some(millis) = self.request_millis {
            writeln!(text, "    timeouts:\n      request: {}", duration(millis))?;
        }
        writeln!(text, "    backendRefs:")?;
        for (name, port, weight) in &self.backends {
            writeln!(text, "    - name: \"{name}\"\n      port: {port}\n      weight: {weight}")?;
        }
        Ok(())
    }
}

fn duration(millis: u64) -> String {
    format!("{}m{}s{}ms", millis / 60_000, millis / 1000 % 60, millis % 1000)
}

/// What an API server holds is read by the same readers; only places have no lines.
#[test]
fn an_object_of_an_api_server_is_said_by_its_name() {
    let route = serde_json::json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "orders", "namespace": "shop", "uid": "1", "aFieldOfTomorrow": 1 },
        "spec": { "parentRefs": [{ "name": "edge" }, { "name": "edge" }], "rules": [{ "timeouts": { "request": "5" }, "tymeouts": {} }] },
    });
    let parsed = weft_config::read_object("shop/httproute/orders", &route);
    let said: Vec<String> = parsed.problems.iter().map(ToString::to_string).collect();
    let about =
        |what: &str| said.iter().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {said:#?}"));
    assert!(about("spec.rules[0].timeouts.request").starts_with("shop/httproute/orders spec.rules[0]"), "{said:#?}");
    assert!(about("tymeouts").contains("unknown field"), "{said:#?}");
    assert!(about("already a parent").contains("above"), "{said:#?}");
    assert!(!said.iter().any(|line| line.contains("aFieldOfTomorrow")), "{said:#?}");
    let json = serde_json::to_value(&parsed.problems[0]).unwrap();
    assert_eq!((json.get("line"), &json["file"]), (None, &"shop/httproute/orders".into()));
    assert_eq!(parsed.bad[0].key.as_ref().map(ToString::to_string).as_deref(), Some("HTTPRoute shop/orders"));
}

#[test]
fn of_kubernetes_own_kinds_a_newer_server_may_say_more() {
    let with = |field: &str| {
        let mut service = serde_json::json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "order", "namespace": "shop" },
            "spec": { "ports": [{ "port": 8080 }] },
        });
        service["spec"][field] = "x".into();
        weft_config::read_object("shop/service/order", &service)
    };
    assert_eq!((with("aFieldOfTomorrow").objects.len(), with("aFieldOfTomorrow").problems), (1, vec![]));
    assert_eq!(with("type").objects.len(), 0);
}

#[test]
fn an_object_that_is_too_deep_keeps_its_name() {
    let mut deep = serde_json::json!(1);
    for _ in 0..100 {
        deep = serde_json::json!([deep]);
    }
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "order", "namespace": "shop" }, "spec": deep,
    });
    let parsed = weft_config::read_object("shop/service/order", &object);
    assert_eq!(parsed.bad[0].key.as_ref().map(ToString::to_string).as_deref(), Some("Service shop/order"));
    assert!(parsed.problems[0].message.contains("nesting"), "{:?}", parsed.problems);
}
