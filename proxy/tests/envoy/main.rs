//! Whether one policy means the same to us as to Envoy: both are given it by the same server, the same requests go through
//! both to the same hosts, and what comes of it is compared.
//!
//! Prose about Envoy goes stale and leaves things out; a real Envoy does neither. So what our semantics promise is a table of
//! [`scenario::Scenario`]s here. Each says what Envoy does, as it was seen, so that a scenario which tests nothing stands out, and
//! what ours does instead where that is on purpose, with the reason. The table of a run is printed.
//!
//! One process of each make serves all scenarios, each of which has a path and a cluster of its own. `SCENARIO=text` runs those
//! whose name has this text in it.

#![allow(clippy::unwrap_used, reason = "a helper of tests may fail as a test does")]

mod hosts;
mod run;
mod scenario;
mod scenarios;
mod side;

use futures_util::{StreamExt, stream};
use hosts::Hosts;
use scenario::{OWN, Scenario};
use side::{Control, Envoy, Ours, ROUTE_TABLE, Side};
use std::sync::Arc;
use weft_model::route::{Action, PathMatch, RouteTable, Target, VirtualHost};
use weft_model::{Cluster, Resource};

/// Scenarios under way at once. They mostly wait, but more would have them wait for the processor.
const AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_policy_means_the_same_to_envoy_and_to_us() {
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let scenarios: Vec<Scenario> =
        scenarios::all().into_iter().filter(|scenario| scenario.name.contains(&wanted)).collect();
    let mut staged = Vec::new();
    for (number, scenario) in scenarios.iter().enumerate() {
        staged.push((format!("s{number}"), scenario, Hosts::start(scenario).await));
    }
    let control = Control::start(resources(&staged)).await;
    let envoy = Envoy::start(&control).await;
    let ours = Ours::start(&control).await;

    let (alone, together): (Vec<_>, Vec<_>) = staged.iter().partition(|(_, scenario, _)| scenario.alone);
    let run = |(id, scenario, hosts)| compare(id, scenario, hosts, [&envoy.side, &ours.side]);
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (staged, at_once) in [(together, AT_ONCE), (alone, 1)] {
        let runs = staged.into_iter().map(|(id, scenario, hosts)| run((id, *scenario, hosts)));
        rows.extend(stream::iter(runs).buffered(at_once).collect::<Vec<_>>().await);
    }
    envoy.stop().await;
    ours.stop().await;
    control.stop().await;

    let mut wrong = 0;
    for row in &rows {
        print!("{row}");
        wrong += usize::from(row.wrong());
    }
    println!("{} scenarios, {wrong} not as expected", rows.len());
    assert_eq!(wrong, 0, "see the table above");
}

/// What came of a scenario.
struct Row<'a> {
    scenario: &'a Scenario,
    envoy: String,
    ours: String,
}

async fn compare<'a>(id: &str, scenario: &'a Scenario, hosts: &Hosts, [envoy, ours]: [&Arc<Side>; 2]) -> Row<'a> {
    let envoy = run::run(scenario, id, envoy, hosts).await;
    let ours = run::run(scenario, id, ours, hosts).await;
    Row { scenario, envoy, ours }
}

impl Row<'_> {
    fn envoy_is_wrong(&self) -> bool {
        self.scenario.expected.is_some_and(|expected| expected != self.envoy)
    }

    fn ours_is_wrong(&self) -> bool {
        match &self.scenario.differs {
            Some(difference) => difference.ours != self.ours,
            None => self.ours != self.envoy,
        }
    }

    fn wrong(&self) -> bool {
        self.envoy_is_wrong() || self.ours_is_wrong()
    }
}

impl std::fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Row { scenario, envoy, ours } = self;
        writeln!(f, "{}\n    Envoy: {envoy}", scenario.name)?;
        if self.envoy_is_wrong() {
            writeln!(f, "    which was expected to be: {}", scenario.expected.unwrap_or_default())?;
        }
        match &scenario.differs {
            Some(difference) if difference.ours == ours => {
                writeln!(f, "    ours:  {ours}\n    because {}", difference.why)
            }
            Some(difference) => writeln!(f, "    ours:  {ours}\n    NOT AS PROMISED: {}", difference.ours),
            None if self.ours_is_wrong() => writeln!(f, "    ours:  {ours}\n    DISAGREES"),
            None => writeln!(f, "    ours agrees"),
        }
    }
}

/// Everything that the scenarios need, in one route table.
fn resources(staged: &[(String, &Scenario, Hosts)]) -> Vec<Resource> {
    let (mut resources, mut routes) = (Vec::new(), Vec::new());
    for (id, scenario, hosts) in staged {
        resources.push(Resource::Cluster(Cluster { name: id.clone(), ..scenario.cluster.clone() }));
        resources.push(Resource::Endpoints(hosts.endpoints(id, &scenario.hosts)));
        for (path, route) in &scenario.routes {
            let mut route = route.clone();
            route.name = format!("{id}{path}");
            route.matches.path = PathMatch::PathPrefix(format!("/{id}{path}"));
            if let Action::Forward(forward) = &mut route.action {
                for backend in &mut forward.backends {
                    if backend.target == Target::Cluster(OWN.into()) {
                        backend.target = Target::Cluster(id.clone());
                    }
                }
            }
            routes.push(route);
        }
    }
    let host = VirtualHost { name: "all".into(), domains: vec!["*".into()], routes };
    resources.push(Resource::RouteTable(RouteTable { name: ROUTE_TABLE.into(), virtual_hosts: vec![host] }));
    resources
}
