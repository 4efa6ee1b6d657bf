//! What should run, read off the manifests: which pods, behind which services, and which gateways.
//! A plan is a plain value; `fleet` compares it with what runs and acts.

mod derive;

pub(crate) use derive::plan;

use super::probe::Probe;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use weft_config::Key;

/// The name of something that lives in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Id {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Id {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Id {
        Id { namespace: namespace.into(), name: name.into() }
    }
}

/// The namespace is said only where it is not `default`.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "default" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) deployments: BTreeMap<Id, Deployment>,
    pub(crate) services: BTreeMap<Id, Service>,
    pub(crate) gateways: BTreeMap<Id, Gateway>,
    pub(crate) routes: Vec<Route>,
    /// What is asked for and cannot be done here, each in a sentence with its place.
    pub(crate) notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deployment {
    pub(crate) replicas: u32,
    pub(crate) template: Template,
}

/// What every pod of a deployment is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) container: String,
    pub(crate) program: Program,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) directory: Option<String>,
    pub(crate) ports: Vec<ContainerPort>,
    pub(crate) startup: Option<Probe>,
    pub(crate) readiness: Option<Probe>,
    pub(crate) liveness: Option<Probe>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerPort {
    pub(crate) name: Option<String>,
    pub(crate) number: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// This very binary, with these arguments.
    Weft(Vec<String>),
    /// Any other.
    Foreign { program: String, args: Vec<String> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) ports: Vec<ServicePort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServicePort {
    pub(crate) name: Option<String>,
    pub(crate) target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Number(u16),
    Name(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gateway {
    pub(crate) listeners: Vec<Listener>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    pub(crate) hostname: Option<String>,
    /// The Gateway or ListenerSet that says so.
    pub(crate) owner: Key,
    /// `file:line` where it was written.
    pub(crate) place: String,
}

/// As much of an HTTPRoute as it takes to suggest a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// A Gateway or a ListenerSet.
    pub(crate) parent: Key,
    pub(crate) section: Option<String>,
    pub(crate) hostnames: Vec<String>,
    /// Of each match: a path that it would take, and how it was written.
    pub(crate) paths: Vec<(String, String)>,
}

impl Service {
    /// An empty selector selects nothing: its endpoints are somebody else's care.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.selector.is_empty() && self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl Template {
    /// The number of the container's port that a service means.
    pub(crate) fn port(&self, target: &Target) -> Option<u16> {
        match target {
            Target::Number(number) => Some(*number),
            Target::Name(name) => self.ports.iter().find(|p| p.name.as_ref() == Some(name)).map(|p| p.number),
        }
    }

    /// The name under which pods keep their data: versions of one app share it, as they would share a database.
    pub(crate) fn app<'a>(&'a self, deployment: &'a Id) -> &'a str {
        self.labels.get("app").map_or(&deployment.name, |app| app)
    }
}
