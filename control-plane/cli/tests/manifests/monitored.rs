//! By Prometheus: its configuration, its rules, and whether what they and the dashboards ask for is there to be had.

use crate::{directory, fed, read, said};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use weft_testkit::mesh::{Mesh, Plane};
use weft_testkit::{Answer, Client, Upstream, in_time, peers};

const DASHBOARDS: [&str; 2] = ["mesh.dashboard", "control-plane.dashboard"];

fn promtool() -> PathBuf {
    peers::debian("prometheus", "promtool")
}

#[test]
fn prometheus_takes_its_configuration_and_rules() {
    let files = tempfile::tempdir().unwrap();
    let rules = files.path().join("weft.rules.yml");
    let config = files.path().join("prometheus.yml");
    std::fs::copy(directory("monitoring/weft.rules"), &rules).unwrap();
    std::fs::write(&config, read("monitoring/prometheus.scrape")).unwrap();
    let check = |what: &str, file: &Path| Command::new(promtool()).args(["check", what]).arg(file).output().unwrap();
    let of_rules = check("rules", &rules);
    assert!(of_rules.status.success(), "promtool check rules: {}", said(&of_rules));
    let mut of_config = check("config", &config);
    if said(&of_config).contains("field kubernetes_sd_configs not found") {
        println!("this promtool was built without Kubernetes, as Debian's is: all but the discovery is checked");
        std::fs::write(&config, without_discovery()).unwrap();
        of_config = check("config", &config);
    }
    assert!(of_config.status.success(), "promtool check config: {}", said(&of_config));
}

/// JSON is YAML.
fn without_discovery() -> String {
    let mut config: Value = serde_saphyr::from_str(&read("monitoring/prometheus.scrape")).unwrap();
    for job in config["scrape_configs"].as_array_mut().unwrap() {
        let discovery = job.as_object_mut().unwrap().remove("kubernetes_sd_configs").unwrap();
        let role = discovery[0]["role"].as_str().unwrap();
        assert!(["pod", "endpoints"].contains(&role), "a role of Kubernetes' discovery: {role}");
    }
    config.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_shown_and_alerted_on_is_exposed() {
    let scraped = Scraped::of_a_mesh_with_traffic().await;
    for (whose, text) in [("a data plane's", &scraped.data_plane), ("the control plane's", &scraped.control_plane)] {
        prometheus_reads(whose, text);
    }
    let rules: Value = serde_saphyr::from_str(&read("monitoring/weft.rules")).unwrap();
    let recorded: BTreeSet<String> = strings(&rules, "record").map(str::to_owned).collect();
    // what Prometheus makes itself of each target
    let own = ["up".to_owned()];
    let known: BTreeSet<String> = scraped.names().chain(recorded).chain(own).collect();
    let mut asked = 0;
    for (file, expression) in expressions(&rules) {
        for name in metrics(&expression) {
            asked += 1;
            assert!(known.contains(name), "{file} asks for {name}, which nobody exposes: {expression}");
        }
    }
    assert!(asked > 20, "{asked} metrics were looked for");
}

/// What a page says besides names that are Istio's and Envoy's, whose units are their own.
fn prometheus_reads(whose: &str, page: &str) {
    let output = fed(Command::new(promtool()).args(["check", "metrics"]), page);
    let notes = said(&output);
    let theirs = |line: &&str| ["istio_", "envoy_"].iter().any(|prefix| line.starts_with(prefix));
    let ours: Vec<&str> = notes.lines().filter(|line| !theirs(line)).collect();
    assert!(ours.is_empty(), "promtool check metrics of {whose} page: {ours:#?}");
}

/// Every expression, with the file that it is in.
fn expressions(rules: &Value) -> Vec<(&'static str, String)> {
    let mut all: Vec<(&str, String)> =
        strings(rules, "expr").map(|expression| ("weft.rules", expression.to_owned())).collect();
    for file in DASHBOARDS {
        let text = read(&format!("monitoring/{file}"));
        let dashboard: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let before = all.len();
        all.extend(strings(&dashboard, "expr").map(|expression| (file, expression.to_owned())));
        assert!(all.len() > before, "{file} shows nothing");
        let variables = strings(&dashboard, "query").filter_map(|query| query.strip_prefix("label_values("));
        all.extend(variables.filter_map(|query| Some((file, query.split_once(',')?.0.to_owned()))));
    }
    all
}

/// All texts of that name, however deep.
fn strings<'v>(value: &'v Value, name: &'v str) -> Box<dyn Iterator<Item = &'v str> + 'v> {
    match value {
        Value::Object(fields) => {
            let own = fields.get(name).and_then(Value::as_str);
            Box::new(own.into_iter().chain(fields.values().flat_map(move |field| strings(field, name))))
        }
        Value::Array(items) => Box::new(items.iter().flat_map(move |item| strings(item, name))),
        _ => Box::new(std::iter::empty()),
    }
}

/// The metrics that a PromQL expression names: its words, less labels, durations, functions and texts.
fn metrics(expression: &str) -> Vec<&str> {
    const OF_THE_LANGUAGE: [&str; 8] = ["sum", "max", "by", "rate", "increase", "absent", "histogram_quantile", "bool"];
    let mut names = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '{' | '[')) {
        rest = &rest[start..];
        if let Some(close) = [('{', '}'), ('[', ']')].iter().find(|(open, _)| rest.starts_with(*open)) {
            rest = rest.split_once(close.1).unwrap_or_else(|| panic!("{expression} is not closed")).1;
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | ':')).unwrap_or(rest.len());
        let word = &rest[..end];
        rest = &rest[end..];
        match word {
            "by" => rest = rest.split_once(')').unwrap_or_else(|| panic!("{expression}: by what?")).1,
            word if OF_THE_LANGUAGE.contains(&word) => {}
            metric => names.push(metric),
        }
    }
    names
}

struct Scraped {
    data_plane: String,
    control_plane: String,
}

impl Scraped {
    /// Requests that were answered, and a connection of which nothing is known but its bytes.
    async fn of_a_mesh_with_traffic() -> Scraped {
        let upstream = Upstream::answering(Answer::ok("here")).await;
        let echo = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut mesh = Mesh::start().await;
        mesh.service("web", ("http", 80), &[upstream.address()]);
        mesh.service("echo", ("tcp", 7000), &[echo.local_addr().unwrap()]);
        mesh.route("web", "edge", "    - backendRefs: [{name: web, port: 80}]\n");
        mesh.write(
            "echo-route.yaml",
            "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {name: echo, namespace: default}\n\
             spec:\n  parentRefs: [{name: edge, sectionName: tcp}]\n  rules: [{backendRefs: [{name: echo, port: 7000}]}]\n",
        );
        let listeners = "  - {name: http, protocol: HTTP, port: 8080}\n  - {name: tcp, protocol: TCP, port: 9000}\n";
        let gateway = mesh.gateway_with("edge", listeners).await;
        let mut client = Client::http1(gateway.at(8080)).await;
        for _ in 0..3 {
            assert_eq!(client.get("shop.example", "/").await.status, 200);
        }
        in_time("an echo", through(gateway.at(9000), &echo)).await;
        let data_plane = until_both_are_counted(&gateway).await;
        let monitoring = SocketAddr::new(mesh.control_plane().ip(), 15014);
        let control_plane = Client::http1(monitoring).await.get("localhost", "/metrics").await.text();
        Scraped { data_plane, control_plane }
    }

    /// Of every sample.
    fn names(&self) -> impl Iterator<Item = String> {
        let lines = self.data_plane.lines().chain(self.control_plane.lines());
        let samples = lines.filter(|line| !line.starts_with('#'));
        samples.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned)
    }
}

async fn through(address: SocketAddr, echo: &TcpListener) {
    let echoed = async {
        let (mut stream, _) = echo.accept().await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        stream.write_all(&word).await.unwrap();
    };
    let asked = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"word").await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"word");
    };
    tokio::join!(echoed, asked);
}

/// Bytes of a connection are counted when it ends, on another thread.
async fn until_both_are_counted(plane: &Plane) -> String {
    weft_testkit::eventually("both are counted", || async {
        let page = plane.metrics().await;
        let counted = ["istio_requests_total{", "istio_tcp_sent_bytes_total{"].iter().all(|name| page.contains(name));
        counted.then_some(page)
    })
    .await
}
