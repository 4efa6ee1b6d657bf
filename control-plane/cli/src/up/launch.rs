//! How each part is started: its command line, its environment, its log.
//!
//! What a part is told here is all that it knows of `weft up`; anybody could start it by hand the
//! same way.

use super::network::Network;
use super::plan::{Id, Program, Template};
use super::supervise::Launch;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) executable: PathBuf,
    pub(crate) manifests: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) network: Network,
    /// Where gateways listen.
    pub(crate) bind: IpAddr,
    pub(crate) workers: usize,
    /// How long a part may finish what is in flight.
    pub(crate) drain_seconds: u64,
}

pub(crate) const XDS_PORT: u16 = 15010;
pub(crate) const MONITORING_PORT: u16 = 15014;
pub(crate) const ADMIN_PORT: u16 = 15000;
pub(crate) const OUTBOUND_PORT: u16 = 15001;
pub(crate) const METRICS_PORT: u16 = 15090;

impl Site {
    /// The control plane's status, `http://` left out.
    pub(crate) fn monitoring(&self) -> String {
        format!("{}:{MONITORING_PORT}", self.network.control())
    }

    pub(crate) fn xds(&self) -> String {
        format!("{}:{XDS_PORT}", self.network.control())
    }

    /// Objects that `up` itself writes for the control plane.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.state.join("run")
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.state.join("logs").join(format!("{name}.log"))
    }

    pub(crate) fn control_plane(&self) -> Launch {
        let mut args = words(["--exit-with-parent", "control-plane"]);
        for directory in [&self.manifests, &self.runtime()] {
            args.extend(["--dir".into(), directory.into()]);
        }
        args.extend(words(["--xds", &self.xds(), "--monitoring", &self.monitoring()]));
        self.own(args, "control-plane")
    }

    pub(crate) fn gateway(&self, id: &Id, number: u8) -> Launch {
        let name = format!("gateway-{}", file_name(id));
        let mut args = words(["--exit-with-parent", "gateway", &id.name, "--namespace", &id.namespace]);
        args.extend(words(["--address", &self.bind.to_string()]));
        args.extend(["--upgrade-socket".into(), self.upgrade_socket(&name).into()]);
        args.extend(self.proxy_settings(&name, self.network.gateway(number)));
        self.own(args, &name)
    }

    pub(crate) fn sidecar(&self, pod: &Id, deployment: &Id, template: &Template, number: u8) -> Launch {
        let name = format!("{}.sidecar", file_name(pod));
        let mut args = words(["--exit-with-parent", "proxy", "--pod", &pod.name, "--namespace", &pod.namespace]);
        args.extend(words(["--workload", &deployment.name, "--address", &self.network.pod(number).to_string()]));
        args.extend(words(["--app-address", &self.network.app(number).to_string()]));
        for (key, value) in &template.labels {
            args.extend(words(["--label", &format!("{key}={value}")]));
        }
        args.extend(self.proxy_settings(&name, self.network.pod(number)));
        self.own(args, &name)
    }

    pub(crate) fn app(&self, pod: &Id, deployment: &Id, template: &Template, number: u8) -> Launch {
        let env = self.app_environment(pod, deployment, template, number);
        let known: BTreeMap<&str, &str> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expanded = |words: &[String]| words.iter().map(|w| expand(w, &known).into()).collect::<Vec<OsString>>();
        let args = match &template.program {
            Program::Weft(args) => [words(["--exit-with-parent"]), expanded(args)].concat(),
            Program::Foreign { program, args } => {
                let grace = self.drain_seconds.to_string();
                let wrapper = words(["run-app", "--grace", &grace, "--", &expand(program, &known)]);
                [wrapper, expanded(args)].concat()
            }
        };
        let directory = template.directory.as_ref().map(PathBuf::from);
        Launch { env, directory, ..self.own(args, &file_name(pod)) }
    }

    /// What an app is told: where to listen, how to reach others, where its data is. A container's own `env` goes before.
    fn app_environment(&self, pod: &Id, deployment: &Id, template: &Template, number: u8) -> Vec<(String, String)> {
        let (address, own) = (self.network.pod(number), self.network.app(number));
        let proxy = format!("http://{address}:{OUTBOUND_PORT}");
        let direct = format!("localhost,{own},{},127.0.0.0/8", Ipv4Addr::LOCALHOST);
        let data = absolute(&self.state.join("data"));
        let mut given: Vec<(&str, String)> = vec![
            ("HOST", own.to_string()),
            ("HTTP_PROXY", proxy.clone()),
            ("http_proxy", proxy),
            ("NO_PROXY", direct.clone()),
            ("no_proxy", direct),
            ("POD_NAME", pod.name.clone()),
            ("POD_NAMESPACE", pod.namespace.clone()),
            ("POD_IP", address.to_string()),
            ("DATA_DIR", data.join(template.app(deployment)).display().to_string()),
            ("EVENT_LOG", data.join("events").display().to_string()),
        ];
        given.extend(template.ports.first().map(|port| ("PORT", port.number.to_string())));
        given.retain(|(key, _)| template.env.iter().all(|(own, _)| own != key));
        let mut env: Vec<(String, String)> = given.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        for (key, value) in &template.env {
            let known = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let value = expand(value, &known);
            env.push((key.clone(), value));
        }
        env
    }

    /// Where a new gateway process would meet the one that runs. A socket's path is short, so where the state directory's
    /// is long it is elsewhere; the network's number tells it from another `weft up`'s.
    fn upgrade_socket(&self, name: &str) -> PathBuf {
        const LONGEST: usize = 100;
        let near = absolute(&self.state.join(format!("{name}.sock")));
        if near.as_os_str().len() <= LONGEST {
            return near;
        }
        let user = rustix::process::geteuid().as_raw();
        let network = self.network.control().octets()[1];
        std::env::temp_dir().join(format!("weft-{user}")).join(format!("{network}.{name}.sock"))
    }

    fn proxy_settings(&self, name: &str, address: Ipv4Addr) -> Vec<OsString> {
        let mut args = words(["--control-plane", &self.xds()]);
        args.extend(words(["--admin", &format!("{address}:{ADMIN_PORT}")]));
        args.extend(words(["--metrics", &format!("{address}:{METRICS_PORT}")]));
        args.extend(words(["--workers", &self.workers.to_string(), "--drain", &self.drain_seconds.to_string()]));
        args.extend(["--access-log".into(), self.log(&format!("{name}.access")).into()]);
        args.extend(["--state-file".into(), self.state.join("proxies").join(format!("{name}.json")).into()]);
        args
    }

    fn own(&self, args: Vec<OsString>, log: &str) -> Launch {
        let program = self.executable.clone();
        Launch { program, args, env: Vec::new(), directory: None, log: absolute(&self.log(log)) }
    }
}

/// A name for files: the namespace only where it is not `default`.
pub(crate) fn file_name(id: &Id) -> String {
    id.to_string().replace('/', ".")
}

fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<OsString> {
    words.into_iter().map(OsString::from).collect()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Kubernetes' `$(NAME)`, with `$$` for a dollar sign; a name that is not known stays as it is written.
fn expand(text: &str, known: &BTreeMap<&str, &str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let name = rest.strip_prefix("$(").and_then(|r| r.split_once(')'));
        match (name, rest.strip_prefix("$$")) {
            (Some((name, after)), _) if known.contains_key(name) => {
                out.push_str(known[name]);
                rest = after;
            }
            (_, Some(after)) => {
                out.push('$');
                rest = after;
            }
            _ => {
                out.push('$');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::plan::ContainerPort;

    fn site() -> Site {
        Site {
            executable: "/bin/weft".into(),
            manifests: "manifests".into(),
            state: "/tmp/state".into(),
            network: "127.7.0.0/16".parse().unwrap(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            workers: 1,
            drain_seconds: 5,
        }
    }

    fn template(program: Program, env: &[(&str, &str)]) -> Template {
        Template {
            labels: BTreeMap::from([("app".into(), "order".into()), ("version".into(), "v2".into())]),
            container: "order".into(),
            program,
            env: env.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            directory: None,
            ports: vec![ContainerPort { name: None, number: 8080 }],
            startup: None,
            readiness: None,
            liveness: None,
        }
    }

    fn app(template: &Template) -> (Vec<String>, BTreeMap<String, String>) {
        let (pod, deployment) = (Id::new("default", "order-v2-0"), Id::new("default", "order-v2"));
        let launch = site().app(&pod, &deployment, template, 4);
        (launch.args.iter().map(|a| a.to_string_lossy().into_owned()).collect(), launch.env.into_iter().collect())
    }

    #[test]
    fn an_app_is_told_where_to_listen_and_how_to_reach_others() {
        let (args, env) = app(&template(Program::Weft(vec!["service".into(), "order".into()]), &[]));
        assert_eq!(args, ["--exit-with-parent", "service", "order"]);
        let wanted = [
            ("HOST", "127.7.2.4"),
            ("PORT", "8080"),
            ("POD_IP", "127.7.1.4"),
            ("POD_NAME", "order-v2-0"),
            ("HTTP_PROXY", "http://127.7.1.4:15001"),
            ("http_proxy", "http://127.7.1.4:15001"),
            ("DATA_DIR", "/tmp/state/data/order"),
            ("EVENT_LOG", "/tmp/state/data/events"),
        ];
        for (key, value) in wanted {
            assert_eq!(env.get(key).map(String::as_str), Some(value), "{key}");
        }
    }

    #[test]
    fn a_containers_own_environment_goes_before_and_may_refer_to_ours() {
        let program =
            Program::Foreign { program: "python3".into(), args: vec!["-m".into(), "x$(PORT)$$(PORT)$(Y)".into()] };
        let (args, env) = app(&template(program, &[("PORT", "9"), ("BASE", "http://$(HOST):$(PORT)/")]));
        assert_eq!(args, ["run-app", "--grace", "5", "--", "python3", "-m", "x9$(PORT)$(Y)"]);
        assert_eq!(env["PORT"], "9");
        assert_eq!(env["BASE"], "http://127.7.2.4:9/");
    }

    #[test]
    fn a_gateways_upgrade_socket_fits_into_a_sockets_path() {
        let mut site = site();
        let socket = site.upgrade_socket("gateway-shop");
        assert_eq!(socket, Path::new("/tmp/state/gateway-shop.sock"));
        site.state = format!("/tmp/{}", "long/".repeat(30)).into();
        let socket = site.upgrade_socket("gateway-shop");
        assert!(socket.as_os_str().len() <= 100 && socket.ends_with("7.gateway-shop.sock"), "{}", socket.display());
    }

    #[test]
    fn a_sidecar_listens_on_the_pods_address_and_knows_its_apps() {
        let launch = site().sidecar(
            &Id::new("shop", "order-0"),
            &Id::new("shop", "order"),
            &template(Program::Weft(Vec::new()), &[]),
            2,
        );
        let args: Vec<_> = launch.args.iter().map(|a| a.to_string_lossy()).collect();
        let args = args.join(" ");
        for wanted in [
            "proxy --pod order-0 --namespace shop --workload order --address 127.7.1.2 --app-address 127.7.2.2",
            "--label app=order --label version=v2",
            "--control-plane 127.7.0.1:15010 --admin 127.7.1.2:15000 --metrics 127.7.1.2:15090",
            "--access-log /tmp/state/logs/shop.order-0.sidecar.access.log",
        ] {
            assert!(args.contains(wanted), "{args}");
        }
        assert_eq!(launch.log, Path::new("/tmp/state/logs/shop.order-0.sidecar.log"));
    }
}
