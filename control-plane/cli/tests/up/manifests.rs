//! Manifests that tests write.

use std::path::Path;

/// A route of the shop's gateway from a path to product's inventories.
pub(crate) fn route(name: &str, path: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: {name} }}
spec:
  parentRefs: [{{ name: shop }}]
  rules:
    - matches: [{{ path: {{ type: PathPrefix, value: {path} }} }}]
      filters:
        - type: URLRewrite
          urlRewrite: {{ path: {{ type: ReplacePrefixMatch, replacePrefixMatch: /inventories }} }}
      backendRefs: [{{ name: product, port: 8080 }}]
"
    )
}

/// A door and nothing behind it: enough for what is about processes.
pub(crate) fn only_a_gateway(manifests: &Path) {
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: { name: door }\nspec:\n  gatewayClassName: \
                   weft\n  listeners: [{ name: http, protocol: HTTP, port: 8080 }]\n";
    std::fs::write(manifests.join("door.yaml"), gateway).unwrap();
}

/// A program that knows nothing of Weft, with a child of its own.
pub(crate) fn a_foreign_app(manifests: &Path) {
    only_a_gateway(manifests);
    let app = "\
apiVersion: apps/v1
kind: Deployment
metadata: { name: foreign }
spec:
  replicas: 1
  selector: { matchLabels: { app: foreign } }
  template:
    metadata: { labels: { app: foreign } }
    spec:
      containers:
        - name: foreign
          image: busybox
          command: [/bin/sh, -c, 'sleep 1000 & echo child $!; wait']
";
    std::fs::write(manifests.join("app.yaml"), app).unwrap();
}
