//! Our own kinds as a Kubernetes API server knows them: CustomResourceDefinitions, from Rust types.
//!
//! A server that knows the shape of a kind completes it in `kubectl explain`, drops no field in silence and refuses what is no
//! number at the door. The types of `shapes` say the shape and its limits; what a schema cannot say (one key part out of six,
//! names that are taken) is the reader's to say, by the validating webhook, in words. A test holds the two together.

mod shapes;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};
use shapes::RateLimitPolicySpec;

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
