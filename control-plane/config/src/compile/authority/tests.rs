use super::*;
use crate::{KindName, merge, read};

/// A certificate that can be read.
pub(crate) const PEM: &str = include_str!("tests.crt");

/// ConfigMap `namespace/name` with this `ca.crt`.
pub(crate) fn config_map(name: &str, pem: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    let lines: String = pem.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:\n  ca.crt: |\n{lines}---\n"
    )
}

/// ReferenceGrant of `vault`: Gateways of `infra` may refer to this.
pub(crate) fn grant(to: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: vault}}\n\
         spec: {{from: [{{group: gateway.networking.k8s.io, kind: Gateway, namespace: infra}}], to: [{{group: \"\", {to}}}]}}\n---\n"
    )
}

/// What Gateway `infra/edge` is told of an authority.
fn said(kind: &str, namespace: Option<&str>, yaml: &str) -> String {
    let index = Index::new(&merge([("x.yaml", &read("x.yaml", yaml))].into_iter()).0);
    let place = crate::Place { file: "x.yaml".into(), line: 1, column: 1 };
    let (group, namespace) = (String::new(), namespace.map(str::to_owned));
    let reference = AuthorityRef { place, group, kind: kind.into(), namespace, name: "ca".into() };
    match resolve(&index, &Key::new(KindName::Gateway, "infra", "edge"), &reference) {
        Ok(pem) => pem.trim_end().to_owned(),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn an_authority_is_a_config_map_or_a_secret_with_a_certificate() {
    let of_map = |pem: &str| said("ConfigMap", None, &config_map("infra/ca", pem));
    assert_eq!(of_map(PEM), PEM.trim_end());
    let garbage = "what ConfigMap infra/ca has under the key ca.crt is no certificate in PEM";
    assert_eq!(of_map("nothing"), garbage);
    assert_eq!(
        of_map("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
        garbage,
        "PEM of something else"
    );
    let old_and_new = format!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{PEM}");
    assert_eq!(of_map(&old_and_new), old_and_new.trim_end(), "one that can be read is enough");
    let secret = config_map("infra/ca", PEM).replace("ConfigMap", "Secret").replace("\ndata:", "\nstringData:");
    assert_eq!(said("Secret", None, &secret), PEM.trim_end());
    assert_eq!(said("ConfigMap", None, &secret), "there is no ConfigMap infra/ca");
    let empty = config_map("infra/ca", PEM).replace("ca.crt", "other");
    assert_eq!(said("ConfigMap", None, &empty), "ConfigMap infra/ca has no certificate under the key ca.crt");
    assert_eq!(said("Service", None, ""), "authorities of kind Service are not known; write a ConfigMap or a Secret");
}

#[test]
fn an_authority_of_another_namespace_needs_a_grant() {
    let map = config_map("vault/ca", PEM);
    let with = |grant: &str| said("ConfigMap", Some("vault"), &format!("{map}{grant}"));
    let refused = "namespace vault does not grant Gateways of infra its ConfigMap ca (no ReferenceGrant)";
    assert_eq!(with(""), refused);
    assert_eq!(with(&grant("kind: Secret")), refused);
    assert_eq!(with(&grant("kind: ConfigMap, name: other")), refused);
    assert_eq!(with(&grant("kind: ConfigMap, name: ca")), PEM.trim_end());
}
