//! The node stand-in keeps to what a kubelet does: order, probes, grace, addresses.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use tempfile::TempDir;
use weft_testkit::eventually;
use weft_testkit::node::{Images, Objects, ServiceAddress, on_a_node};

fn images() -> Images {
    Images::default().with("sh", &["/bin/sh", "-c"]).with("python", &["python3"])
}

/// A pod in the namespace `shop`, whose containers see `directory` as `/shared`.
fn pod(name: &str, directory: &Path, mut spec: Value) -> Value {
    spec["volumes"] = json!([{ "name": "shared", "hostPath": { "path": directory } }]);
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container["volumeMounts"] = json!([{ "name": "shared", "mountPath": "/shared/in/here" }]);
        }
    }
    json!({ "metadata": { "name": name, "namespace": "shop", "labels": { "app": name } }, "spec": spec })
}

/// Writes its name when it begins and when it is asked to end.
fn lasting(name: &str) -> String {
    format!(
        "cd /shared/in/here; echo {name} begins >> order; trap 'echo {name} ends >> order; exit 0' TERM; touch {name}; \
         sleep 1000 & wait"
    )
}

fn order(directory: &TempDir) -> Vec<String> {
    let text = fs::read_to_string(directory.path().join("order")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn inits_in_order_then_the_sidecar_then_the_app_and_the_sidecar_ends_last() {
    on_a_node(images(), Objects::default(), async |node| {
        let directory = tempfile::tempdir().unwrap();
        let spec = json!({
            "initContainers": [
                { "name": "one", "image": "registry.example:5000/sh:1", "args": ["echo one >> /shared/in/here/order"] },
                { "name": "sidecar", "image": "sh", "args": [lasting("sidecar")], "restartPolicy": "Always",
                  "startupProbe": { "exec": { "command": ["test", "-f", "/shared/in/here/sidecar"] }, "periodSeconds": 1 } },
                { "name": "two", "image": "sh", "args": ["test -f /shared/in/here/sidecar && echo two >> /shared/in/here/order"] },
            ],
            "containers": [{ "name": "app", "image": "sh", "args": [lasting("app")] }],
        });
        let pod = node.run_pod(&pod("web", directory.path(), spec));
        pod.ready().await;
        eventually("the app", async || directory.path().join("app").exists().then_some(())).await;
        assert_eq!(order(&directory), ["one", "sidecar begins", "two", "app begins"]);
        pod.delete();
        pod.gone().await;
        assert_eq!(order(&directory)[4..], ["app ends", "sidecar ends"]);
    });
}

#[test]
fn a_job_ends_and_its_sidecar_with_it() {
    on_a_node(images(), Objects::default(), async |node| {
        let directory = tempfile::tempdir().unwrap();
        let spec = json!({
            "restartPolicy": "Never",
            "initContainers": [
                { "name": "sidecar", "image": "sh", "args": [lasting("sidecar")], "restartPolicy": "Always",
                  "startupProbe": { "exec": { "command": ["test", "-f", "/shared/in/here/sidecar"] }, "periodSeconds": 1 } },
            ],
            "containers": [{ "name": "app", "image": "sh", "args": ["echo done"] }],
        });
        let job = node.run_pod(&pod("job", directory.path(), spec));
        assert_eq!(job.ended().await, "Succeeded");
        assert_eq!(job.log("app"), "done\n");
        assert_eq!(order(&directory), ["sidecar begins", "sidecar ends"]);
        let spec = json!({
            "restartPolicy": "Never",
            "initContainers": [{ "name": "init", "image": "sh", "args": ["exit 3"] }],
            "containers": [{ "name": "app", "image": "sh", "args": ["echo never"] }],
        });
        let job = node.run_pod(&pod("failing", directory.path(), spec));
        assert_eq!(job.ended().await, "Failed");
        assert_eq!(
            (job.log("app").as_str(), &job.status()["message"]),
            ("", &json!("init container init ended with 3"))
        );
    });
}

#[test]
fn probes_make_it_ready_and_not_and_start_it_anew() {
    on_a_node(images(), Objects::default(), async |node| {
        let directory = tempfile::tempdir().unwrap();
        let serve = "cd /shared/in/here; rm -f dead; exec python3 -m http.server --bind :: 8080";
        let spec = json!({ "containers": [{
            "name": "app",
            "image": "sh",
            "args": [serve],
            "ports": [{ "name": "web", "containerPort": 8080 }],
            "startupProbe": { "tcpSocket": { "port": 8080 }, "periodSeconds": 1, "failureThreshold": 30 },
            "readinessProbe": { "httpGet": { "path": "/ready", "port": "web" }, "periodSeconds": 1, "failureThreshold": 1 },
            "livenessProbe":
                { "exec": { "command": ["test", "!", "-f", "/shared/in/here/dead"] }, "periodSeconds": 1, "failureThreshold": 1 },
        }]});
        let pod = node.run_pod(&pod("web", directory.path(), spec));
        let status = || pod.status()["containerStatuses"][0].clone();
        eventually("started", async || (status()["started"] == true).then_some(())).await;
        assert_eq!(status()["ready"], false);
        let ready = directory.path().join("ready");
        fs::write(&ready, "").unwrap();
        pod.ready().await;
        fs::remove_file(&ready).unwrap();
        eventually("not ready", async || (status()["ready"] == false).then_some(())).await;
        assert_eq!(status()["restartCount"], 0, "it runs all the same");
        fs::write(directory.path().join("dead"), "").unwrap();
        fs::write(&ready, "").unwrap();
        eventually("started anew", async || (status()["restartCount"] == 1).then_some(())).await;
        pod.ready().await;
    });
}

#[test]
fn who_does_not_end_is_ended_when_its_grace_is_over() {
    on_a_node(images(), Objects::default(), async |node| {
        let directory = tempfile::tempdir().unwrap();
        let deaf = "cd /shared/in/here; trap 'echo asked >> order' TERM; touch up; while :; do sleep 0.1; done";
        let spec = json!({
            "terminationGracePeriodSeconds": 2,
            "containers": [{
                "name": "app",
                "image": "sh",
                "args": [deaf],
                "lifecycle": { "preStop": { "exec": { "command": ["sh", "-c", "echo preStop >> /shared/in/here/order"] } } },
            }],
        });
        let pod = node.run_pod(&pod("deaf", directory.path(), spec));
        eventually("up", async || directory.path().join("up").exists().then_some(())).await;
        pod.delete();
        assert_eq!(pod.ended().await, "Failed");
        assert_eq!(order(&directory), ["preStop", "asked"]);
        let state = pod.status()["containerStatuses"][0]["state"].clone();
        assert_eq!(state["terminated"]["exitCode"], 137);
    });
}

#[test]
fn a_container_is_told_who_it_is_and_runs_as_whom_it_should() {
    let objects = Objects::default()
        .with_config_map("shop/settings", &[("colour", "blue")])
        .with_secret("shop/key", &[("pass", "word")]);
    on_a_node(images(), objects, async |node| {
        let script =
            "echo $(POD_IP) $LABEL $COLOUR $(cat /etc/key/pass) $(cat /var/run/secrets/tokens/weft) $(id -u):$(id -g)";
        let script = script.replace("$(POD_IP)", "$0");
        let pod = json!({
            "metadata": { "name": "who", "namespace": "shop", "labels": { "app": "who" } },
            "spec": {
                "restartPolicy": "Never",
                "serviceAccountName": "clerk",
                "securityContext": { "runAsUser": 1000, "runAsGroup": 2000 },
                "volumes": [
                    { "name": "key", "secret": { "secretName": "key" } },
                    { "name": "token", "projected": { "sources": [{ "serviceAccountToken": { "path": "weft" } }] } },
                ],
                "containers": [{
                    "name": "app",
                    "image": "sh",
                    "args": [script, "$(POD_IP)"],
                    "env": [
                        { "name": "POD_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                        { "name": "LABEL", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['app']" } } },
                        { "name": "COLOUR", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "colour" } } },
                    ],
                    "volumeMounts": [
                        { "name": "key", "mountPath": "/etc/key" },
                        { "name": "token", "mountPath": "/var/run/secrets/tokens" },
                    ],
                }],
            },
        });
        let pod = node.run_pod(&pod);
        assert_eq!(pod.ended().await, "Succeeded");
        assert_eq!(pod.log("app"), format!("{} who blue word shop/clerk 1000:2000\n", pod.v4()));
    });
}

/// Fetches each URL of its arguments.
const FETCH: &str = r#"
import sys, urllib.request, urllib.error
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for url in sys.argv[1:]:
    try:
        print(url, direct.open(url, timeout=10).read().decode().strip())
    except urllib.error.URLError as error:
        print(url, type(error.reason).__name__)
"#;

#[test]
fn pods_reach_each_other_by_address_and_by_a_service() {
    on_a_node(images(), Objects::default(), async |node| {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("who"), "web").unwrap();
        let spec = json!({ "containers": [{
            "name": "app",
            "image": "python",
            "args": ["-m", "http.server", "--bind", "::", "--directory", "/shared/in/here", "8080"],
            "readinessProbe": { "tcpSocket": { "port": 8080 }, "periodSeconds": 1, "failureThreshold": 30 },
        }]});
        let web = node.run_pod(&pod("web", directory.path(), spec));
        web.ready().await;
        let endpoints = vec![SocketAddr::new(web.v4().into(), 8080), SocketAddr::new(web.v6().into(), 8080)];
        node.serve(vec![ServiceAddress {
            namespace: "shop".to_owned(),
            name: "shop-web".to_owned(),
            addresses: vec!["10.96.0.10".parse().unwrap(), "fd96::10".parse().unwrap()],
            ports: BTreeMap::from([(80, endpoints), (81, vec![])]),
        }]);
        let urls = [
            format!("http://{}:8080/who", web.v4()),
            format!("http://[{}]:8080/who", web.v6()),
            "http://10.96.0.10/who".to_owned(),
            "http://[fd96::10]/who".to_owned(),
            "http://shop-web/who".to_owned(),
            "http://shop-web.shop.svc.cluster.local/who".to_owned(),
            "http://10.96.0.10:81/who".to_owned(),
        ];
        let words = ["web", "web", "web", "web", "web", "web", "ConnectionRefusedError"];
        let expected: String = urls.iter().zip(words).map(|(url, word)| format!("{url} {word}\n")).collect();
        let args: Vec<&str> = ["-c", FETCH].into_iter().chain(urls.iter().map(String::as_str)).collect();
        let spec =
            json!({ "restartPolicy": "Never", "containers": [{ "name": "app", "image": "python", "args": args }] });
        let caller = node.run_pod(&pod("caller", directory.path(), spec));
        assert_eq!(caller.ended().await, "Succeeded");
        assert_eq!(caller.log("app"), expected);
        let itself = web.namespace().command("python3").args(["-c", FETCH, &urls[2], &urls[3]]).output().unwrap();
        let expected: String = urls[2..4].iter().map(|url| format!("{url} web\n")).collect();
        assert_eq!(String::from_utf8_lossy(&itself.stdout), expected, "by its own Service");
    });
}
