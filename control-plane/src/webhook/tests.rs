//! The webhooks as the API server meets them: over TLS, by a client that trusts the bundle alone.

use super::authority::Authority;
use super::server::Server;
use super::serving::Serving;
use super::{Webhook, bundle, has_native_sidecars, secret};
use crate::pipeline::Live;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::{CancellationToken, DropGuard};
use weft_config::merge;

const NAME: &str = "weft-control-plane.weft-system.svc";

struct Running {
    address: SocketAddr,
    authority: Authority,
    shutdown: DropGuard,
    task: JoinHandle<()>,
}

impl Running {
    async fn start() -> Running {
        let authority = Authority::create(SystemTime::now(), None).unwrap();
        let serving = Serving::new(&authority, vec![NAME.into()]).unwrap();
        let tls = TlsAcceptor::from(Arc::new(serving.tls().unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let live = Arc::new(Live::default());
        let parsed = weft_config::read("world.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n");
        live.set(Arc::new(merge([("world.yaml", &parsed)].into_iter()).0));
        let server = Server { tls, injection: weft_injector::Settings::default(), live };
        let task = tokio::spawn(server.run(listener, shutdown.clone()));
        Running { address, authority, shutdown: shutdown.drop_guard(), task }
    }

    async fn post(&self, path: &str, body: impl Into<Bytes>) -> (StatusCode, String) {
        let tls = trusting(&self.authority.bundle())
            .connect(ServerName::try_from(NAME).unwrap(), TcpStream::connect(self.address).await.unwrap());
        let stream = TokioIo::new(tls.await.expect("the bundle is enough to trust it"));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::post(path).header("host", NAME).body(Full::new(body.into())).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        drop(sender);
        connection.await.unwrap().unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn review(&self, path: &str, kind: &str, object: Value) -> Value {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": { "uid": "u-1", "kind": { "kind": kind }, "namespace": "shop", "operation": "CREATE", "object": object },
        });
        let (status, body) = self.post(path, review.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&answer["kind"], &answer["response"]["uid"]), (&json!("AdmissionReview"), &json!("u-1")));
        answer["response"].clone()
    }

    async fn stop(self) {
        drop(self.shutdown);
        self.task.await.unwrap();
    }
}

fn trusting(bundle: &str) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// What a base64 text of the API holds.
fn decoded(text: &Value) -> Vec<u8> {
    serde_json::from_value::<k8s_openapi::ByteString>(text.clone()).unwrap().0
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "order" },
        "spec": { "containers": [{ "name": "order", "image": "shop/order" }] },
    })
}

#[tokio::test]
async fn a_pod_gets_its_sidecar_by_a_patch() {
    let webhooks = Running::start().await;
    let answer = webhooks.review("/inject", "Pod", pod()).await;
    assert_eq!((&answer["allowed"], &answer["patchType"]), (&json!(true), &json!("JSONPatch")), "{answer}");
    let patch: json_patch::Patch = serde_json::from_slice(&decoded(&answer["patch"])).unwrap();
    let mut patched = pod();
    json_patch::patch(&mut patched, &patch).unwrap();
    let names: Vec<&Value> = patched["spec"]["initContainers"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["weft-init", "weft-proxy"]);
    let again = webhooks.review("/inject", "Pod", patched).await;
    assert_eq!((&again["allowed"], again.get("patch")), (&json!(true), None));
    webhooks.stop().await;
}

#[tokio::test]
async fn a_wrong_annotation_refuses_the_pod_in_words() {
    let webhooks = Running::start().await;
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({ "sidecar.istio.io/proxyCPU": "lots" });
    let answer = webhooks.review("/inject", "Pod", pod).await;
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(answer["allowed"] == json!(false) && message.contains("sidecar.istio.io/proxyCPU: \"lots\""), "{answer}");
    webhooks.stop().await;
}

#[tokio::test]
async fn a_wrong_object_is_refused_with_every_problem_at_its_place() {
    let webhooks = Running::start().await;
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "orders", "namespace": "shop" },
        "spec": { "parentRefs": [{ "name": "shop" }], "rules": [{ "timeouts": { "request": "5" }, "matchs": [] }] },
    });
    let answer = webhooks.review("/validate", "HTTPRoute", route).await;
    let message = answer["status"]["message"].as_str().unwrap();
    assert_eq!(answer["allowed"], json!(false), "{answer}");
    assert!(message.contains("shop/httproute/orders spec.rules[0].timeouts.request: "), "{message}");
    assert!(message.lines().count() > 1 || answer["warnings"].is_array(), "all of it: {answer}");
    webhooks.stop().await;
}

#[tokio::test]
async fn a_route_before_its_service_gets_in_with_a_warning() {
    let webhooks = Running::start().await;
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "orders", "namespace": "shop" },
        "spec": { "parentRefs": [{ "name": "shop" }], "rules": [{ "backendRefs": [{ "name": "order", "port": 8080 }] }] },
    });
    let answer = webhooks.review("/validate", "HTTPRoute", route).await;
    let warnings = answer["warnings"].to_string();
    assert_eq!(answer["allowed"], json!(true), "{answer}");
    assert!(warnings.contains("shop/httproute/orders spec.rules[0].backendRefs[0]"), "{answer}");
    let deleted = webhooks.review("/validate", "HTTPRoute", Value::Null).await;
    assert_eq!(deleted["allowed"], json!(true));
    webhooks.stop().await;
}

#[tokio::test]
async fn a_wrong_object_that_stays_as_it_is_and_a_kind_of_others_get_in() {
    let webhooks = Running::start().await;
    let route = |finalizers: Value| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {
                "name": "orders", "namespace": "shop", "finalizers": finalizers, "generation": 2, "uid": "6f2a",
                "resourceVersion": "7", "creationTimestamp": "2024-02-01T00:00:00Z",
                "managedFields": [{ "manager": "kubectl", "operation": "Update", "fieldsV1": { "f:spec": {} } }],
            },
            "spec": { "parentRefs": [{ "name": "shop" }], "rules": [{ "timeouts": { "request": "5" } }] },
        })
    };
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "kind": { "kind": "HTTPRoute" }, "namespace": "shop", "operation": "UPDATE",
            "object": route(json!([])), "oldObject": route(json!(["example.com/hold"])),
        },
    });
    let answer: Value = serde_json::from_str(&webhooks.post("/validate", review.to_string()).await.1).unwrap();
    assert_eq!(answer["response"]["allowed"], json!(true), "{answer}");
    assert_eq!(answer["response"]["warnings"].as_array().unwrap().len(), 1, "its time alone: {answer}");

    let filter = json!({
        "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
        "metadata": { "name": "lua", "namespace": "shop" }, "spec": { "configPatches": [] },
    });
    let answer = webhooks.review("/validate", "EnvoyFilter", filter).await;
    assert_eq!(answer["allowed"], json!(true), "{answer}");
    assert!(answer["warnings"][0].as_str().unwrap().contains("EnvoyFilter"), "{answer}");
    webhooks.stop().await;
}

#[tokio::test]
async fn what_is_no_review_is_told_so() {
    let webhooks = Running::start().await;
    let cases = [
        ("{", StatusCode::BAD_REQUEST, "not JSON"),
        ("{}", StatusCode::BAD_REQUEST, "not an AdmissionReview of admission.k8s.io/v1"),
        (r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#, StatusCode::BAD_REQUEST, "no request.uid"),
    ];
    for (body, status, words) in cases {
        let answer = webhooks.post("/inject", body).await;
        assert!(answer.0 == status && answer.1.contains(words), "{body}: {answer:?}");
    }
    assert_eq!(webhooks.post("/else", "{}").await.0, StatusCode::NOT_FOUND);
    webhooks.stop().await;
}

#[tokio::test]
async fn outside_a_cluster_the_authority_is_this_processs_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let injection = weft_injector::Settings::default();
    let webhook = Webhook { address, names: vec![NAME.into()], injection, cluster: None };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(super::run(webhook, listener, Arc::new(Live::default()), shutdown.clone()));
    let stranger = Authority::create(SystemTime::now(), None).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let refused = trusting(&stranger.bundle()).connect(ServerName::try_from(NAME).unwrap(), stream).await;
    assert!(refused.unwrap_err().to_string().contains("certificate"), "it serves one that a stranger did not issue");
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_certificate_is_renewed_and_a_new_authority_is_known_before_it_is_used() {
    let first = Authority::create(SystemTime::now(), None).unwrap();
    let serving = Arc::new(Serving::new(&first, vec![NAME.into()]).unwrap());
    let (sender, authorities) = watch::channel(Arc::new(first.clone()));
    let leaf = serving.leaf();
    let keeping = tokio::spawn({
        let serving = serving.clone();
        async move { serving.keep(authorities).await }
    });
    settle().await;
    tokio::time::advance(Duration::from_secs(3 * 24 * 3600)).await;
    settle().await;
    assert_eq!(serving.leaf(), leaf, "not yet");
    tokio::time::advance(Duration::from_secs(2 * 24 * 3600)).await;
    settle().await;
    let renewed = serving.leaf();
    assert_ne!(renewed, leaf);

    let second = Authority::create(SystemTime::now(), Some(first.certificate_pem.clone())).unwrap();
    assert!(second.bundle().contains(&first.certificate_pem), "what was issued before is still trusted");
    sender.send_replace(Arc::new(second));
    settle().await;
    tokio::time::advance(Duration::from_secs(59)).await;
    settle().await;
    assert_eq!(serving.leaf(), renewed, "the API server has a minute to hear of it");
    tokio::time::advance(Duration::from_secs(2)).await;
    settle().await;
    assert_ne!(serving.leaf(), renewed);
    drop(sender);
    keeping.await.unwrap();
}

/// Lets other tasks do what they can do now.
async fn settle() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn native_sidecars_are_there_since_1_29() {
    for (minor, expected) in [("20", false), ("28", false), ("29", true), ("29+", true), ("33", true), ("", false)] {
        assert_eq!(has_native_sidecars("1", minor), expected, "1.{minor}");
    }
}

#[test]
fn an_authority_survives_its_secret() {
    let authority = Authority::create(SystemTime::now(), Some("before".into())).unwrap();
    let held = Secret { data: Some(secret::data(&authority)), ..Secret::default() };
    let read = secret::read(&held).unwrap();
    assert_eq!(
        (&read.certificate_pem, &read.key_pem, &read.previous_pem),
        (&authority.certificate_pem, &authority.key_pem, &authority.previous_pem)
    );
    assert!(!read.is_due(SystemTime::now()));
    assert!(read.is_due(SystemTime::now() + Duration::from_secs(3000 * 24 * 3600)));
    let mut broken = secret::data(&authority);
    broken.insert("ca.key".into(), k8s_openapi::ByteString(b"no key".to_vec()));
    assert!(secret::read(&Secret { data: Some(broken), ..Secret::default() }).is_none());
    assert!(secret::read(&Secret::default()).is_none());
}

#[test]
fn every_webhook_trusts_the_authority_and_a_list_that_changed_is_left_alone() {
    let authority = Authority::create(SystemTime::now(), None).unwrap();
    let mut configuration = json!({ "webhooks": [
        { "name": "one", "clientConfig": { "service": { "name": "weft" } } },
        { "name": "two", "clientConfig": { "caBundle": "b2xk" } },
    ] });
    let patch = bundle::patch(&configuration, &authority).unwrap();
    let mut moved = json!({ "webhooks": [configuration["webhooks"][1].clone(), configuration["webhooks"][0].clone()] });
    assert!(json_patch::patch(&mut moved, &patch).is_err());
    json_patch::patch(&mut configuration, &patch).unwrap();
    for webhook in configuration["webhooks"].as_array().unwrap() {
        assert_eq!(decoded(&webhook["clientConfig"]["caBundle"]), authority.bundle().as_bytes());
    }
    assert_eq!(bundle::patch(&configuration, &authority), None);
}

/// They once did, many times a second, until the slower one had read the Secret.
#[test]
fn replicas_do_not_write_the_bundle_in_turns() {
    let old = Authority::create(SystemTime::now(), None).unwrap();
    let new = Authority::create(SystemTime::now(), Some(old.certificate_pem.clone())).unwrap();
    let mut configuration = json!({ "webhooks": [{ "name": "one", "clientConfig": {} }] });
    for authority in [&old, &new] {
        let patch = bundle::patch(&configuration, authority).unwrap();
        json_patch::patch(&mut configuration, &patch).unwrap();
    }
    assert_eq!(bundle::patch(&configuration, &new), None);
    assert_eq!(bundle::patch(&configuration, &old), None, "who has not heard of the new one is content");
}
