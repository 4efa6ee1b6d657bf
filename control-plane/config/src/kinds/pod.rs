//! `v1` Pod: one running copy of a workload, and what runs in it.

use super::{PortRef, Transport};
use crate::Place;
use std::net::IpAddr;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub spec: PodSpec,
    /// `status.podIP`.
    pub pod_ip: Option<IpAddr>,
}

/// Shared by Pod and Deployment; of the many fields only those that somebody here acts on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSpec {
    pub containers: Vec<Container>,
    pub service_account_name: Option<String>,
    /// Default 30 s.
    pub termination_grace_period: Option<Duration>,
}

impl PodSpec {
    /// The number of a named container port.
    pub fn port(&self, name: &str) -> Option<u16> {
        let mut ports = self.containers.iter().flat_map(|container| &container.ports);
        ports.find(|port| port.name.as_deref() == Some(name)).map(|port| port.port)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub place: Place,
    pub name: String,
    pub image: Option<String>,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<EnvVar>,
    pub working_dir: Option<String>,
    pub ports: Vec<ContainerPort>,
    pub readiness_probe: Option<Probe>,
    pub liveness_probe: Option<Probe>,
    pub startup_probe: Option<Probe>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    pub place: Place,
    pub name: String,
    /// `None`: its value comes from the cluster (`valueFrom`), which a local run cannot know.
    pub value: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    pub place: Place,
    pub name: Option<String>,
    pub port: u16,
    pub transport: Transport,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub place: Place,
    pub check: ProbeCheck,
    /// Default 0.
    pub initial_delay: Duration,
    /// Default 10 s.
    pub period: Duration,
    /// Default 1 s.
    pub timeout: Duration,
    /// Default 1.
    pub success_threshold: u32,
    /// Default 3.
    pub failure_threshold: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeCheck {
    HttpGet {
        /// Default `/`.
        path: String,
        port: PortRef,
        https: bool,
        headers: Vec<(String, String)>,
    },
    TcpSocket {
        port: PortRef,
    },
    Grpc {
        port: u16,
        service: String,
    },
    Exec {
        command: Vec<String>,
    },
}
