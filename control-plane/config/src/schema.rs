//! Our own kinds as a Kubernetes API server knows them: CustomResourceDefinitions, from Rust types.
//!
//! A server that knows the shape of a kind completes it in `kubectl explain`, drops no field in silence and refuses what is no
//! number at the door. The types here say the shape and its limits; what a schema cannot say (one key part out of six,
//! names that are taken) is the reader's to say, by the validating webhook, in words. A test holds the two together.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

/// The CustomResourceDefinitions of every kind of `weft.dev`.
pub fn custom_resource_definitions() -> Vec<Value> {
    vec![definition::<RateLimitPolicySpec>(&Names {
        kind: "RateLimitPolicy",
        plural: "ratelimitpolicies",
        singular: "ratelimitpolicy",
        short: "rlp",
        about: "How many requests of whom are let through",
    })]
}

struct Names {
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: &'static str,
    about: &'static str,
}

fn definition<S: JsonSchema>(names: &Names) -> Value {
    let Names { kind, plural, singular, short, about } = names;
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.weft.dev"),
            "labels": { "app.kubernetes.io/part-of": "weft", "gateway.networking.k8s.io/policy": "Direct" },
        },
        "spec": {
            "group": "weft.dev",
            "names": {
                "kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": singular,
                "shortNames": [short], "categories": ["weft"],
            },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "subresources": { "status": {} },
                "additionalPrinterColumns": [
                    { "name": "Targets", "type": "string", "jsonPath": ".spec.targetRefs[*].name" },
                    { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
                ],
                "schema": { "openAPIV3Schema": {
                    "description": about,
                    "type": "object",
                    "required": ["spec"],
                    "properties": {
                        "apiVersion": { "type": "string" },
                        "kind": { "type": "string" },
                        "metadata": { "type": "object" },
                        "spec": structural::<S>(),
                        "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                    },
                } },
            }],
        },
    })
}

/// As Kubernetes wants schemas: without references, titles and formats of its own.
fn structural<S: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<S>();
    strip(&mut schema);
    schema.to_value()
}

fn strip(schema: &mut Schema) {
    for word in ["title", "format", "nullable"] {
        schema.remove(word);
    }
    // what an absent Option is to Rust; a server refuses it for a field that cannot be null
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    schemars::transform::transform_subschemas(&mut strip, schema);
}

#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "types that are only described")]
struct RateLimitPolicySpec {
    /// What it limits, in the policy's own namespace: Gateways, HTTPRoutes, Services.
    #[schemars(length(min = 1, max = 16))]
    target_refs: Vec<TargetRef>,
    /// Enforce (the default), or Shadow: count and log what would be refused, and let it through.
    #[serde(default)]
    #[schemars(with = "Mode")]
    mode: Option<Mode>,
    /// A request must pass all whose key it has.
    #[schemars(length(min = 1, max = 16))]
    limits: Vec<Limit>,
    /// What a refused request is answered.
    #[serde(default)]
    #[schemars(with = "Answer")]
    answer: Option<Answer>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "types that are only described")]
struct TargetRef {
    /// Empty for Kubernetes' core group.
    #[schemars(length(max = 253))]
    group: String,
    #[schemars(length(min = 1, max = 63))]
    kind: String,
    #[schemars(length(min = 1, max = 253))]
    name: String,
    /// One listener of a Gateway, one named rule of a route.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 253))]
    section_name: Option<String>,
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "types that are only described")]
enum Mode {
    Enforce,
    Shadow,
}

#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "types that are only described")]
struct Limit {
    #[schemars(length(min = 1, max = 63))]
    name: String,
    /// What tells requests apart: a bucket for each distinct value. None: one bucket for all.
    #[serde(default)]
    #[schemars(with = "Vec<KeyPart>", length(max = 8))]
    key: Option<Vec<KeyPart>>,
    /// So many in each `per`.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    requests: u32,
    /// A duration from 1ms to 24h, such as 1s.
    #[schemars(regex(pattern = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    per: String,
    /// So many at once after a rest. By default as many as requests.
    #[serde(default)]
    #[schemars(with = "u32", range(min = 1, max = 1_000_000_000))]
    burst: Option<u32>,
    /// So many keys are counted exactly, 10000 by default; more share a sketch.
    #[serde(default)]
    #[schemars(with = "u32", range(min = 1, max = 1_000_000))]
    max_keys: Option<u32>,
}

/// Exactly one of these.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "types that are only described")]
struct KeyPart {
    /// The client's address.
    #[serde(default, rename = "clientIP")]
    #[schemars(with = "Nothing")]
    client_ip: Option<Nothing>,
    /// A header's value, or only those requests whose header has this value.
    #[serde(default)]
    #[schemars(with = "Header")]
    header: Option<Header>,
    /// The path without its query.
    #[serde(default)]
    #[schemars(with = "Nothing")]
    path: Option<Nothing>,
    /// Only requests under this path.
    #[serde(default)]
    #[schemars(with = "String", length(min = 2, max = 1024))]
    path_prefix: Option<String>,
    #[serde(default)]
    #[schemars(with = "Nothing")]
    method: Option<Nothing>,
    /// The workload that calls, by its identity.
    #[serde(default)]
    #[schemars(with = "Nothing")]
    caller: Option<Nothing>,
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "types that are only described")]
struct Nothing {}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "types that are only described")]
struct Header {
    #[schemars(length(min = 1, max = 256))]
    name: String,
    #[serde(default)]
    #[schemars(with = "String", length(max = 4096))]
    value: Option<String>,
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "types that are only described")]
struct Answer {
    /// 429 by default.
    #[serde(default)]
    #[schemars(with = "u16", range(min = 400, max = 599))]
    status: Option<u16>,
    /// By default the reason in words.
    #[serde(default)]
    #[schemars(with = "String", length(max = 4096))]
    body: Option<String>,
    /// Whether RateLimit-Limit, -Remaining and -Reset are on every answer; they are by default.
    #[serde(default)]
    #[schemars(with = "bool")]
    headers: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each field that the schema has, said in full, is a field that the reader takes.
    #[test]
    fn what_the_schema_offers_the_reader_reads() {
        let parts = [
            "clientIP: {}",
            "header: {name: x, value: free}",
            "path: {}",
            "pathPrefix: /a",
            "method: {}",
            "caller: {}",
        ];
        let keys: Vec<String> = parts.iter().map(|part| format!("        - {part}\n")).collect();
        let yaml = format!(
            "apiVersion: weft.dev/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: all}}\nspec:\n  targetRefs:\n    - {{group: gateway.networking.k8s.io, kind: Gateway, name: a, sectionName: b}}\n  mode: Shadow\n  limits:\n    - name: one\n      key:\n{}      requests: 1\n      per: 1s\n      burst: 2\n      maxKeys: 3\n  answer: {{status: 400, body: x, headers: false}}\n",
            keys.concat()
        );
        let parsed = crate::read("all.yaml", &yaml);
        assert_eq!(parsed.problems, [], "{yaml}");
        let mut names = Vec::new();
        let definitions = custom_resource_definitions();
        fields(&definitions[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], &mut names);
        assert!(names.len() > 20, "{names:?}");
        for name in names {
            assert!(yaml.contains(&format!("{name}:")), "the schema's field {name} is not among what was read");
        }
    }

    fn fields(schema: &Value, names: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            names.push(name.clone());
            fields(field, names);
        }
        if schema["items"].is_object() {
            fields(&schema["items"], names);
        }
    }

    #[test]
    fn a_schema_is_structural() {
        let text = serde_json::to_string(&custom_resource_definitions()).unwrap();
        for foreign in [
            "$ref",
            "$schema",
            "\"title\"",
            "\"default\":null",
            "nullable",
            "\"null\"",
            "anyOf",
            "oneOf",
            "additionalProperties",
        ] {
            assert!(!text.contains(foreign), "{foreign} in {text}");
        }
    }
}
