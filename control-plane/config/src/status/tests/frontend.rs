//! What is said of asking callers for certificates.

use super::*;
use crate::compile::authority::tests::{PEM, config_map, grant};

fn secret() -> String {
    let pem = |kind: &str| format!("    -----BEGIN {kind}-----\n    AAAA\n    -----END {kind}-----\n");
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: cert, namespace: infra}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}---\n",
        pem("CERTIFICATE"),
        pem("PRIVATE KEY")
    )
}

/// A Gateway with these settings of `spec.tls.frontend`, a plain listener and two for HTTPS; beside it ConfigMap `clients`.
fn under(frontend: &str, more: &str) -> GatewayStatus {
    let https =
        |port| format!("{{name: p{port}, port: {port}, protocol: HTTPS, tls: {{certificateRefs: [{{name: cert}}]}}}}");
    let listeners = format!("{HTTP}, {}, {}", https(443), https(8443));
    let gateway = gateway(&listeners, &format!("tls: {{frontend: {{{frontend}}}}}, "));
    gateway_status(&format!("{gateway}{}{}{more}", secret(), config_map("infra/clients", PEM)), &live())
}

fn validation(references: &str) -> String {
    format!("validation: {{caCertificateRefs: [{references}]}}")
}

const CLIENTS: &str = "{group: \"\", kind: ConfigMap, name: clients}";

/// Accepted, ResolvedRefs and Programmed.
fn of(status: &GatewayStatus, listener: &str) -> [(bool, String); 3] {
    let listener = status.listeners.iter().find(|one| one.name == listener).unwrap();
    ["Accepted", "ResolvedRefs", "Programmed"].map(|kind| {
        let (status, reason) = find(&listener.conditions, kind);
        (status, reason.to_owned())
    })
}

#[track_caller]
fn assert_well(status: &GatewayStatus, listener: &str) {
    let words = ["Accepted", "ResolvedRefs", "Programmed"];
    assert_eq!(of(status, listener), words.map(|word| (true, word.to_owned())), "{listener}");
}

#[track_caller]
fn assert_closed(status: &GatewayStatus, listener: &str, reason: &str) {
    let expected = [(false, "NoValidCACertificate"), (false, reason), (false, "Invalid")];
    assert_eq!(of(status, listener), expected.map(|(is, word)| (is, word.to_owned())), "{listener}");
}

#[test]
fn gateway_invalid_frontend_client_certificate_validation() {
    let map = config_map("vault/clients", PEM);
    for (reference, reason) in [
        ("{group: \"\", kind: ConfigMap, name: nobody}", "InvalidCACertificateRef"),
        ("{group: \"\", kind: ConfigMap, name: garbage}", "InvalidCACertificateRef"),
        ("{group: \"\", kind: Service, name: order}", "InvalidCACertificateKind"),
        ("{group: \"\", kind: ConfigMap, name: clients, namespace: vault}", "RefNotPermitted"),
    ] {
        let more = format!("{map}{}", config_map("infra/garbage", "no PEM"));
        let per_port = format!("perPort: [{{port: 8443, tls: {{{}}}}}]", validation(reference));
        let status = under(&format!("default: {{{}}}, {per_port}", validation(CLIENTS)), &more);
        assert_well(&status, "http");
        assert_well(&status, "p443");
        assert_closed(&status, "p8443", reason);
        assert_eq!(find(&status.conditions, "Accepted"), (true, "ListenersNotValid"));
        assert_eq!(find(&status.conditions, "Programmed"), (true, "Programmed"));
        let message = |listener: &ListenerStatus| listener.conditions[2].message.clone();
        assert!(!message(&status.listeners[2]).is_empty(), "it says which, and why");
    }
    let granted = validation("{group: \"\", kind: ConfigMap, name: clients, namespace: vault}");
    let status = under(&format!("default: {{{granted}}}"), &format!("{map}{}", grant("kind: ConfigMap")));
    assert_well(&status, "p443");
}

#[test]
fn gateway_frontend_invalid_default_client_certificate_validation() {
    let nobody = validation("{group: \"\", kind: ConfigMap, name: nobody}");
    let status = under(&format!("default: {{{nobody}}}"), "");
    assert_well(&status, "http");
    assert_closed(&status, "p443", "InvalidCACertificateRef");
    assert_closed(&status, "p8443", "InvalidCACertificateRef");
    let status = under(&format!("default: {{{nobody}}}, perPort: [{{port: 443, tls: {{}}}}]"), "");
    assert_well(&status, "p443");
    assert_closed(&status, "p8443", "InvalidCACertificateRef");
}

#[test]
fn one_authority_of_two_is_enough_and_the_other_is_said() {
    let two = validation(&format!("{CLIENTS}, {{group: \"\", kind: ConfigMap, name: nobody}}"));
    let status = under(&format!("default: {{{two}}}"), "");
    let [accepted, resolved, programmed] = of(&status, "p443");
    assert_eq!((accepted.0, programmed.0), (true, true));
    assert_eq!(resolved, (false, "InvalidCACertificateRef".into()));
    let [.., resolved, _] = status.listeners[1].conditions.as_slice() else { panic!("{status:?}") };
    assert_eq!(resolved.message, "there is no ConfigMap infra/nobody");
}

#[test]
fn gateway_frontend_client_certificate_validation_insecure_fallback() {
    let said = |frontend: &str| {
        let status = under(frontend, "");
        let found = status.conditions.iter().find(|one| one.kind == "InsecureFrontendValidationMode");
        found.map(|condition| (condition.status, condition.reason))
    };
    let mode = |mode: &str| format!("validation: {{caCertificateRefs: [{CLIENTS}], mode: {mode}}}");
    let insecure = Some((true, "ConfigurationChanged"));
    assert_eq!(said(&format!("default: {{{}}}", mode("AllowInsecureFallback"))), insecure);
    assert_eq!(
        said(&format!("default: {{}}, perPort: [{{port: 8443, tls: {{{}}}}}]", mode("AllowInsecureFallback"))),
        insecure
    );
    assert_eq!(said(&format!("default: {{{}}}", mode("AllowValidOnly"))), None);
    assert_eq!(said(&format!("default: {{{}}}", validation(CLIENTS))), None);
}
