//! `v1` Pod: one running copy of a workload, and what runs in it.

use super::{PortRef, Transport};
use crate::Place;
use crate::read::{
    Cursor, Fields, header_name, ip, label, number, one_of, port, port_name, port_ref, sized, subdomain, text,
    transport,
};
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
    /// Where a cluster put it.
    pub node_name: Option<String>,
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

pub(crate) fn read_pod(f: &mut Fields<'_>) -> Option<Pod> {
    // only the cluster (or `weft up`) writes a status, and of it only the address matters
    let pod_ip = f.opt("status", |at| {
        at.fields(|f| {
            f.skip_all();
            f.opt("podIP", ip)
        })
    });
    // a Pod that only says its address needs no spec
    let spec = f.opt("spec", pod_spec).unwrap_or_default();
    Some(Pod { spec, pod_ip: pod_ip.flatten() })
}

/// Reads the `spec` of a Pod or of a template.
pub(crate) fn pod_spec(at: &Cursor<'_>) -> Option<PodSpec> {
    at.fields(|f| {
        f.skip(&["activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "dnsConfig", "dnsPolicy"]);
        f.skip(&["enableServiceLinks", "ephemeralContainers", "hostAliases", "hostIPC", "hostNetwork", "hostPID"]);
        f.skip(&["hostUsers", "hostname", "hostnameOverride", "imagePullSecrets", "initContainers"]);
        f.skip(&[
            "nodeSelector",
            "os",
            "overhead",
            "preemptionPolicy",
            "priority",
            "priorityClassName",
            "readinessGates",
        ]);
        f.skip(&[
            "resourceClaims",
            "resources",
            "restartPolicy",
            "runtimeClassName",
            "schedulerName",
            "schedulingGates",
        ]);
        f.skip(&["securityContext", "serviceAccount", "setHostnameAsFQDN", "shareProcessNamespace", "subdomain"]);
        f.skip(&["tolerations", "topologySpreadConstraints", "volumes", "workloadRef"]);
        PodSpec {
            containers: f.list("containers", 1..=1000, container),
            service_account_name: f.opt("serviceAccountName", subdomain),
            termination_grace_period: f.opt("terminationGracePeriodSeconds", seconds(0)),
            node_name: f.opt("nodeName", text),
        }
    })
}

fn container(at: &Cursor<'_>) -> Option<Container> {
    at.fields(|f| {
        f.skip(&["envFrom", "imagePullPolicy", "lifecycle", "resizePolicy", "resources", "restartPolicy"]);
        f.skip(&["restartPolicyRules", "securityContext", "stdin", "stdinOnce", "terminationMessagePath"]);
        f.skip(&["terminationMessagePolicy", "tty", "volumeDevices", "volumeMounts"]);
        Container {
            place: f.place(),
            name: f.need("name", label),
            image: f.opt("image", sized(1, 4096)),
            command: f.list("command", 0..=10_000, text),
            args: f.list("args", 0..=10_000, text),
            env: f.list("env", 0..=10_000, variable),
            working_dir: f.opt("workingDir", text),
            ports: f.list("ports", 0..=1000, container_port),
            readiness_probe: f.opt("readinessProbe", probe),
            liveness_probe: f.opt("livenessProbe", probe),
            startup_probe: f.opt("startupProbe", probe),
        }
    })
}

fn variable(at: &Cursor<'_>) -> Option<EnvVar> {
    at.fields(|f| {
        let from = f.has("valueFrom");
        f.skip(&["valueFrom"]);
        // without either, Kubernetes sets it empty
        let value = f.opt("value", text).or_else(|| (!from).then(String::new));
        if from && f.has("value") {
            f.wrong("valueFrom", "stands beside `value`", "keep one of the two");
        }
        EnvVar { place: f.place(), name: f.need("name", sized(1, 4096)), value }
    })
}

fn container_port(at: &Cursor<'_>) -> Option<ContainerPort> {
    at.fields(|f| {
        f.skip(&["hostPort", "hostIP"]);
        ContainerPort {
            place: f.place(),
            name: f.opt("name", port_name),
            port: f.need("containerPort", port),
            transport: f.opt("protocol", transport).unwrap_or_default(),
        }
    })
}

fn probe(at: &Cursor<'_>) -> Option<Probe> {
    at.fields(|f| {
        f.skip(&["terminationGracePeriodSeconds"]);
        let checks = [
            f.opt("httpGet", http_get),
            f.opt("tcpSocket", |at| {
                at.fields(|f| {
                    f.skip(&["host"]);
                    f.must("port", port_ref).map(|port| ProbeCheck::TcpSocket { port })
                })?
            }),
            f.opt("grpc", |at| {
                at.fields(|f| ProbeCheck::Grpc {
                    port: f.need("port", port),
                    service: f.opt("service", text).unwrap_or_default(),
                })
            }),
            f.opt("exec", |at| at.fields(|f| ProbeCheck::Exec { command: f.list("command", 1..=10_000, text) })),
        ];
        let written = ["httpGet", "tcpSocket", "grpc", "exec"].iter().filter(|name| f.has(name)).count();
        if written != 1 {
            f.cursor.error::<()>("needs exactly one way of checking", "write one of httpGet, tcpSocket, grpc and exec");
        }
        let probe = Probe {
            place: f.place(),
            initial_delay: f.opt("initialDelaySeconds", seconds(0)).unwrap_or_default(),
            period: f.opt("periodSeconds", seconds(1)).unwrap_or(Duration::from_secs(10)),
            timeout: f.opt("timeoutSeconds", seconds(1)).unwrap_or(Duration::from_secs(1)),
            success_threshold: f.opt("successThreshold", number(1, i32::MAX.into())).unwrap_or(1),
            failure_threshold: f.opt("failureThreshold", number(1, i32::MAX.into())).unwrap_or(3),
            check: checks.into_iter().flatten().next()?,
        };
        Some(probe)
    })
    .flatten()
}

fn http_get(at: &Cursor<'_>) -> Option<ProbeCheck> {
    at.fields(|f| {
        f.skip(&["host"]);
        let header = |at: &Cursor<'_>| at.fields(|f| (f.need("name", header_name), f.need("value", text)));
        let path = f.opt("path", text).unwrap_or_else(|| "/".into());
        let https = f.opt("scheme", one_of(&[("HTTP", false), ("HTTPS", true)])).unwrap_or_default();
        let headers = f.list("httpHeaders", 0..=64, header);
        f.must("port", port_ref).map(|port| ProbeCheck::HttpGet { path, port, https, headers })
    })?
}

/// A whole number of seconds, as Kubernetes writes times here.
fn seconds(least: i64) -> impl Fn(&Cursor<'_>) -> Option<Duration> {
    move |at| number::<u64>(least, i32::MAX.into())(at).map(Duration::from_secs)
}
