//! The node stand-in as a member of a real API server's cluster: a Deployment's pods run, are told of, are reached by
//! their Service, and end with it.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use weft_testkit::eventually;
use weft_testkit::kubernetes::ApiServer;
use weft_testkit::node::{Images, Objects, on_a_node};

const SHOP: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: pages }
data: { who: web }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 1
      volumes: [{ name: pages, configMap: { name: pages } }]
      containers:
        - name: app
          image: python:3
          args: [-m, http.server, --directory, /pages, "8080"]
          ports: [{ name: http, containerPort: 8080 }]
          readinessProbe: { httpGet: { path: /who, port: http }, periodSeconds: 1, failureThreshold: 30 }
          volumeMounts: [{ name: pages, mountPath: /pages }]
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  selector: { app: web }
  ports: [{ port: 80, targetPort: http }]
"#;

const CALLER: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: { name: caller }
spec:
  template:
    spec:
      restartPolicy: OnFailure
      containers:
        - name: app
          image: python
          args: [-c, "import urllib.request as r; print(r.urlopen('http://web/who', timeout=5).read()); r.urlopen('http://web.default.svc.cluster.local/who', timeout=5)"]
"#;

#[test]
fn a_deployment_runs_is_called_by_its_service_and_ends() {
    let images = Images::default().with("python", &["python3"]);
    on_a_node(images, Objects::default(), async |node| {
        let server = ApiServer::start_with_controllers().await;
        let client = server.client();
        let member = tokio::spawn({
            let (node, client) = (node.clone(), client.clone());
            async move { node.join(client).await }
        });
        server.apply(SHOP).await;
        let pods = Api::<Pod>::namespaced(client.clone(), "default");
        let ready = async || {
            let web = pods.list(&ListParams::default().labels("app=web")).await.ok()?.items;
            let is_ready = |pod: &Pod| {
                let conditions =
                    pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
                conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
            };
            (web.len() == 2 && web.iter().all(is_ready)).then_some(web)
        };
        let web = eventually("two ready pods", ready).await;
        assert!(web.iter().all(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some("node"))));
        server.apply(CALLER).await;
        let caller = ListParams::default().labels("job-name=caller");
        let phase = async || {
            let pod = pods.list(&caller).await.ok()?.items.pop()?;
            pod.status?.phase.filter(|phase| phase == "Succeeded")
        };
        eventually("the caller's success", phase).await;
        let kubectl = server.kubectl().args(["delete", "deployment", "web", "--wait=false"]).output();
        assert!(kubectl.is_ok_and(|output| output.status.success()));
        let gone = async || {
            let left = pods.list(&ListParams::default().labels("app=web")).await.ok()?.items;
            left.is_empty().then_some(())
        };
        eventually("no pod", gone).await;
        member.abort();
    });
}
