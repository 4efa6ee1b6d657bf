//! Reads a [`DestinationRule`], and warns of each part that Weft does not act on yet.

mod load_balancer;
mod pool;

use super::*;
use crate::kinds::selector;
use crate::read::{
    Cursor, Fields, boolean, decimal, go_duration, hostname, label, number, one_of, port, positive_duration, sized,
    text, text_ref, texts,
};
use std::collections::HashMap;

pub(crate) fn read_destination_rule(f: &mut Fields<'_>) -> Option<DestinationRule> {
    f.must("spec", |at| at.fields(spec))?
}

fn spec(f: &mut Fields<'_>) -> Option<DestinationRule> {
    let host = f.must("host", |at| host(at).map(|host| at.at(host)));
    let traffic_policy = f.opt("trafficPolicy", traffic_policy).map(Box::new).unwrap_or_default();
    let subsets = f.opt("subsets", |at| Some(at.items(0..=1000, subset))).unwrap_or_default();
    let export_to = f.list("exportTo", 0..=1000, sized(1, 253));
    if export_to.iter().any(|namespace| namespace != "*") {
        f.not_acted_on("exportTo");
    }
    let workload_selector = f.later("workloadSelector", selector);
    check_subsets(f, &subsets);
    Some(DestinationRule { host: host?, traffic_policy, subsets, export_to, workload_selector })
}

/// A Service's short name, a whole host name, or one with `*` in front.
fn host(at: &Cursor<'_>) -> Option<String> {
    match text_ref(at)? {
        "*" => Some("*".into()),
        _ => hostname(at).map(|name| name.to_string()),
    }
}

fn subset(at: &Cursor<'_>) -> Option<Subset> {
    at.fields(|f| Subset {
        place: f.place(),
        name: f.need("name", label),
        labels: f.opt("labels", texts).unwrap_or_default(),
        traffic_policy: f.opt("trafficPolicy", traffic_policy),
    })
}

fn check_subsets(f: &Fields<'_>, subsets: &[Subset]) {
    let mut seen = HashMap::new();
    for subset in subsets {
        if let Some(first) = seen.insert(&subset.name, subset.place.words()) {
            let message = format!("a subset is already named {} {first}", subset.name);
            f.wrong_at(&subset.place, "subsets", message, "rename it");
        }
    }
}

fn traffic_policy(at: &Cursor<'_>) -> Option<TrafficPolicy> {
    at.fields(|f| {
        let policy = TrafficPolicy {
            settings: settings(f),
            ports: f.list("portLevelSettings", 0..=4096, port_settings),
            tunnel: f.later("tunnel", tunnel),
            proxy_protocol: f.later("proxyProtocol", proxy_protocol),
            retry_budget: f.opt("retryBudget", retry_budget),
        };
        let mut seen = HashMap::new();
        for (number, settings) in &policy.ports {
            let place = settings.place.as_ref().unwrap_or(&f.cursor.place()).clone();
            if let Some(first) = seen.insert(number, place.words()) {
                let message = format!("port {number} already has its settings {first}");
                f.wrong_at(&place, "portLevelSettings", message, "join the two");
            }
        }
        policy
    })
}

/// What a host and a single port can have alike.
fn settings(f: &mut Fields<'_>) -> PortPolicy {
    let policy = PortPolicy {
        place: Some(f.place()),
        load_balancer: f.opt("loadBalancer", load_balancer::read),
        connection_pool: f.opt("connectionPool", pool::read),
        outlier_detection: f.opt("outlierDetection", outlier_detection),
        tls: f.opt("tls", tls),
    };
    if policy.tls.as_ref().is_some_and(|tls| tls.mode != ClientTlsMode::Disable) {
        f.not_acted_on("tls");
    }
    policy
}

fn port_settings(at: &Cursor<'_>) -> Option<(u16, PortPolicy)> {
    at.fields(|f| {
        let number = f.must("port", |at| at.fields(|f| f.must("number", port))?);
        let settings = settings(f);
        number.map(|number| (number, settings))
    })?
}

fn outlier_detection(at: &Cursor<'_>) -> Option<OutlierDetection> {
    let count = || number::<u32>(0, u32::MAX.into());
    let percent = || number::<u32>(0, 100);
    at.fields(|f| {
        let consecutive = f.opt("consecutive5xxErrors", count());
        let old_name = f.opt("consecutiveErrors", count());
        if consecutive.is_some() && f.has("consecutiveErrors") {
            f.wrong(
                "consecutiveErrors",
                "is the old name of `consecutive5xxErrors`, which is written too",
                "remove it",
            );
        }
        OutlierDetection {
            place: Some(f.place()),
            split_external_local_origin_errors: f.opt("splitExternalLocalOriginErrors", boolean).unwrap_or_default(),
            consecutive_local_origin_failures: f.opt("consecutiveLocalOriginFailures", count()),
            consecutive_gateway_errors: f.opt("consecutiveGatewayErrors", count()),
            consecutive_5xx_errors: consecutive.or(old_name),
            interval: f.opt("interval", positive_duration),
            base_ejection_time: f.opt("baseEjectionTime", positive_duration),
            max_ejection_percent: f.opt("maxEjectionPercent", percent()),
            min_health_percent: f.opt("minHealthPercent", percent()),
            http_error_codes: f.list("outlierDetectionHttpErrorCodes", 0..=500, number(100, 599)),
        }
    })
}

fn tls(at: &Cursor<'_>) -> Option<ClientTls> {
    at.fields(|f| {
        let mode = f.opt(
            "mode",
            one_of(&[
                ("DISABLE", ClientTlsMode::Disable),
                ("SIMPLE", ClientTlsMode::Simple),
                ("MUTUAL", ClientTlsMode::Mutual),
                ("ISTIO_MUTUAL", ClientTlsMode::IstioMutual),
            ]),
        );
        let tls = ClientTls {
            place: f.place(),
            mode: mode.unwrap_or(ClientTlsMode::Disable),
            sni: f.opt("sni", text),
            subject_alt_names: f.list("subjectAltNames", 0..=1000, text),
            credential_name: f.opt("credentialName", text),
            client_certificate: f.opt("clientCertificate", text),
            private_key: f.opt("privateKey", text),
            ca_certificates: f.opt("caCertificates", text),
            ca_crl: f.opt("caCrl", text),
            insecure_skip_verify: f.opt("insecureSkipVerify", boolean),
        };
        if tls.mode == ClientTlsMode::Mutual && tls.credential_name.is_none() {
            for name in ["clientCertificate", "privateKey"].into_iter().filter(|name| !f.has(name)) {
                f.missing::<()>(name, "mode MUTUAL needs it, or credentialName");
            }
        }
        tls
    })
}

fn tunnel(at: &Cursor<'_>) -> Option<Tunnel> {
    at.fields(|f| Tunnel {
        protocol: f
            .opt("protocol", one_of(&["CONNECT", "POST"].map(|word| (word, word.to_owned()))))
            .unwrap_or_else(|| "CONNECT".into()),
        target_host: f.need("targetHost", sized(1, 253)),
        target_port: f.need("targetPort", port),
    })
}

fn proxy_protocol(at: &Cursor<'_>) -> Option<ProxyProtocol> {
    let versions = [("V1", ProxyProtocol::V1), ("V2", ProxyProtocol::V2)];
    at.fields(|f| f.opt("version", one_of(&versions)).unwrap_or(ProxyProtocol::V1))
}

fn retry_budget(at: &Cursor<'_>) -> Option<RetryBudget> {
    at.fields(|f| RetryBudget {
        percent: f.opt("percent", decimal(0.0, 100.0)).unwrap_or(20.0),
        min_retry_concurrency: f.opt("minRetryConcurrency", number(0, u32::MAX.into())).unwrap_or(3),
        interval: f.opt("budgetInterval", go_duration),
    })
}
