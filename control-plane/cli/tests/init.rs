//! `weft init` as a pod's init container runs it: with one capability, on files of its own, in the pod's network.

use serde_json::{Value, json};
use std::process::{Command, Output};
use weft_testkit::netns::Namespace;
use weft_testkit::node::{Images, Objects, on_a_node};

const WEFT: &str = env!("CARGO_BIN_EXE_weft");

fn weft(args: &[&str]) -> Output {
    Command::new(WEFT).arg("init").args(args).output().expect("weft runs")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_dry_run_prints_what_nft_takes_and_needs_no_leave() {
    let text = stdout(&weft(&["--dry-run", "--exclude-inbound-ports", "15020,15021", "--proxy-uid", "7"]));
    assert!(text.contains("tcp dport 15021 return") && text.contains("meta skuid 7 goto proxy"), "{text}");
    let Some(namespace) = Namespace::new() else { return };
    namespace.nft(&["--check", "--file", "-"], &text);
    assert!(namespace.nft(&["list", "ruleset"], "").is_empty(), "nothing was changed");
}

#[test]
fn what_cannot_be_meant_is_wrong_usage_with_what_to_write() {
    for (args, told) in [
        (["--exclude-inbound-ports", "http"], "\"http\" is no port: write a number from 1 to 65535"),
        (["--include-outbound-cidrs", "10.0.0.0/40"], "\"10.0.0.0/40\" is no network: write an address"),
    ] {
        let output = weft(&args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(told), "{stderr}");
    }
}

/// A pod whose init container runs `weft init` with these arguments and capabilities.
fn pod(args: &[&str], capabilities: &Value) -> Value {
    let args: Vec<&str> = ["init"].iter().chain(args).copied().collect();
    json!({
        "metadata": { "name": "shop", "namespace": "default" },
        "spec": {
            "restartPolicy": "Never",
            "initContainers": [{
                "name": "weft-init",
                "image": "registry.example/weft:1",
                "args": args,
                "securityContext": { "runAsUser": 0, "runAsGroup": 0, "capabilities": capabilities },
            }],
            "containers": [{ "name": "app", "image": "sleep", "args": ["1000"] }],
        },
    })
}

#[test]
fn an_init_container_with_net_admin_sets_the_rules_of_its_pod_and_only_of_it() {
    let images = Images::default().with("weft", &[WEFT]).with("sleep", &["sleep"]);
    on_a_node(images, Objects::default(), async |node| {
        let capabilities = json!({ "drop": ["ALL"], "add": ["NET_ADMIN"] });
        let meshed = node.run_pod(&pod(&["--exclude-outbound-ports", "3306"], &capabilities));
        meshed.ready().await;
        let rules = meshed.namespace().nft(&["list", "ruleset"], "");
        assert!(rules.contains("redirect to :15006") && rules.contains("tcp dport 3306 return"), "{rules}");
        assert!(!node.network().node().nft(&["list", "ruleset"], "").contains("15006"));

        let refused = node.run_pod(&pod(&[], &json!({ "drop": ["ALL"] })));
        assert_eq!(refused.ended().await, "Failed");
        let told = refused.log("weft-init");
        assert!(told.contains("error: ") && told.contains("needs the capability NET_ADMIN"), "{told}");
        assert!(refused.namespace().nft(&["list", "ruleset"], "").is_empty());
    });
}
