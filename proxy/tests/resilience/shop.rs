//! What these tests stand on: a gateway whose route `/x` leads to the service `x`.

use serde_json::Value;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpSocket;
use weft_testkit::mesh::{Mesh, Plane};
use weft_testkit::raw::RawReply;
use weft_testkit::{Act, Answer, Gate, RawClient, eventually};

pub(crate) struct Shop {
    pub(crate) mesh: Mesh,
    pub(crate) gateway: Plane,
}

impl Shop {
    /// With these services, each of which has these members.
    pub(crate) async fn of(services: &[(&str, &[SocketAddr])]) -> Shop {
        Shop::with(services, "").await
    }

    /// Its routes say `more` (`timeouts: …`, `retry: …`), each on a line of its own.
    pub(crate) async fn with(services: &[(&str, &[SocketAddr])], more: &str) -> Shop {
        let mut mesh = Mesh::start().await;
        for (name, members) in services {
            mesh.service(name, ("http", 8080), members);
        }
        let names: Vec<&str> = services.iter().map(|(name, _)| *name).collect();
        mesh.route("all", "edge", &rules(&names, more));
        let gateway = mesh.gateway("edge").await;
        Shop { mesh, gateway }
    }

    /// A DestinationRule for a service; `policy` is YAML in one line: `{connectionPool: …}`. Live when this returns.
    pub(crate) async fn treat(&self, service: &str, policy: &str) {
        self.mesh.write(&format!("rule-{service}.yaml"), &destination_rule(service, policy));
        self.mesh.live(&self.gateway).await;
    }

    /// A RateLimitPolicy for the gateway; `spec` is YAML in one line. Live when this returns.
    pub(crate) async fn limit(&self, name: &str, spec: &str) {
        self.mesh.write(&format!("limit-{name}.yaml"), &rate_limit(name, spec));
        self.mesh.live(&self.gateway).await;
    }

    /// Waits until the gateway tells something of an endpoint that has all of `words`.
    pub(crate) async fn told(&self, endpoint: SocketAddr, words: &[&str]) -> String {
        eventually(&format!("{words:?} of {endpoint} in /clusters"), || async {
            let told = self.happenings(endpoint).await;
            told.into_iter().find(|what| words.iter().all(|word| what.contains(word)))
        })
        .await
    }

    /// What the gateway tells of an endpoint.
    pub(crate) async fn happenings(&self, endpoint: SocketAddr) -> Vec<String> {
        let clusters = self.clusters().await;
        let all = clusters.iter().flat_map(|cluster| cluster["happenings"].as_array().expect("a list"));
        let of_endpoint = all.filter(|happening| happening["endpoint"] == endpoint.to_string());
        of_endpoint.map(|happening| happening["what"].as_str().expect("words").to_owned()).collect()
    }

    /// Waits until the gateway measures so much of something, in the group `default` or `counters` of a cluster.
    pub(crate) async fn measures(&self, group: &str, name: &str, value: u64) {
        eventually(&format!("{name} of {value} in /clusters"), || async {
            self.clusters().await.iter().any(|cluster| cluster[group][name] == value).then_some(())
        })
        .await;
    }

    async fn clusters(&self) -> Vec<Value> {
        let page = self.gateway.admin("/clusters?format=json").await.text();
        let mut page: Value = serde_json::from_str(&page).expect("JSON");
        serde_json::from_value(page["clusters"].take()).expect("a list")
    }

    /// Asks once, on a new connection.
    pub(crate) async fn get(&self, path: &str) -> RawReply {
        let mut client = RawClient::connect(self.gateway.at(8080)).await;
        client.send(get(path)).await;
        client.response().await
    }
}

/// The rules of a route in which `/x` leads to the service `x`.
pub(crate) fn rules(services: &[&str], more: &str) -> String {
    let mut rules = String::new();
    for name in services {
        writeln!(
            rules,
            "  - matches: [{{path: {{type: PathPrefix, value: /{name}}}}}]\n    backendRefs: [{{name: {name}, port: 8080}}]"
        )
        .expect("a String takes all");
        for line in more.lines() {
            writeln!(rules, "    {line}").expect("a String takes all");
        }
    }
    rules
}

pub(crate) fn destination_rule(service: &str, policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {service}, namespace: default}}\nspec:\n  host: {service}\n  trafficPolicy: {policy}\n"
    )
}

pub(crate) fn rate_limit(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: edge}}]\n  {spec}\n"
    )
}

/// A `GET` that keeps its connection.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: shop\r\n\r\n")
}

/// A connection that comes from an address of the test's choice.
pub(crate) async fn connect_from(source: SocketAddr, to: SocketAddr) -> RawClient {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(source).expect("a loopback address is ours");
    let stream = socket.connect(to).await.expect("the gateway listens");
    stream.set_nodelay(true).expect("a TCP socket");
    RawClient::from(stream)
}

/// Answers with 200 after so long.
pub(crate) fn after(delay: Duration) -> Act {
    let gate = Gate::closed();
    let answer = Answer::ok("late").behind(&gate);
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        gate.open();
    });
    Act::Answer(answer)
}
