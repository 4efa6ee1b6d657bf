//! By an API server, which knows what a schema does not: names, namespaces, ports that must be distinct, patterns of labels.

use crate::{documents, fed, manifests, read, said};
use weft_testkit::kubernetes::{ApiServer, GATEWAY_API, ISTIO};

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_takes_all_of_it_and_refuses_a_policy_of_another_shape() {
    let api = ApiServer::start().await;
    api.define(GATEWAY_API).await;
    api.define(ISTIO).await;
    for name in ["weft", "cluster"] {
        it_takes(&api, name);
    }
    it_knows_our_kinds(&api).await;
}

fn it_takes(api: &ApiServer, name: &str) {
    let all = manifests(name);
    let namespaces: Vec<&str> = documents(&all).filter(|document| document.contains("kind: Namespace\n")).collect();
    // what is tried is not kept, so what others are in has to be
    let made = fed(api.kubectl().args(["apply", "-f", "-"]), &namespaces.join("\n---\n"));
    assert!(made.status.success() && !namespaces.is_empty(), "manifests/{name}: its namespace: {}", said(&made));
    let tried: Vec<String> = documents(&all).filter_map(of_its_age).collect();
    let mut kubectl = api.kubectl();
    kubectl.args(["apply", "--server-side", "--dry-run=server", "-f", "-"]);
    if name == "cluster" {
        kubectl.args(["--namespace", "mall"]);
    }
    let output = fed(&mut kubectl, &tried.join("\n---\n"));
    let taken = String::from_utf8_lossy(&output.stdout).matches("serverside-applied").count();
    assert!(output.status.success() && taken == tried.len(), "manifests/{name}, {}: {}", tried.len(), said(&output));
}

/// In the version that a server of 1.20 has; `None` for what it has in none.
fn of_its_age(document: &str) -> Option<String> {
    if document.contains("ContainerResource") {
        let name = document.lines().find(|line| line.starts_with("  name: ")).unwrap_or_default();
        println!("left out, since this API server scales by no container's use: HorizontalPodAutoscaler{name}");
        return None;
    }
    Some(document.replace("apiVersion: policy/v1\n", "apiVersion: policy/v1beta1\n"))
}

async fn it_knows_our_kinds(api: &ApiServer) {
    api.apply(&read("weft/crds.yaml")).await;
    let policy = |requests: &str| {
        let yaml = format!(
            "apiVersion: weft.dev/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: a, namespace: mall}}\nspec:\n  \
             targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: shop}}]\n  \
             limits: [{{name: all, requests: {requests}, per: 1s, key: [{{clientIP: {{}}}}]}}]\n"
        );
        fed(api.kubectl().args(["apply", "--validate=false", "-f", "-"]), &yaml)
    };
    // a definition is served some time after it is taken
    weft_testkit::eventually("a good RateLimitPolicy is taken", || async {
        let output = policy("5");
        println!("{}", said(&output));
        output.status.success().then_some(())
    })
    .await;
    for (requests, why) in [("many", "must be of type integer"), ("0", "should be greater than or equal to 1")] {
        let refused = policy(requests);
        let words = said(&refused);
        assert!(!refused.status.success(), "requests: {requests} was taken: {words}");
        assert!(words.contains("spec.limits.requests") && words.contains(why), "requests: {requests}: {words}");
    }
}
