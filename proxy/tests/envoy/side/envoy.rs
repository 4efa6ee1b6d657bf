//! A stock Envoy.
//!
//! Clusters, endpoints and routes come to it from our server. The listener comes as a file, because it has two things more than our
//! words for a listener can say: an access log, and who is inside. The rest of it is what our server would say.

use super::{Control, LISTENER, Make, Side, admin, listener};
use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, access_log};
use envoy_types::pb::envoy::config::core::v3::{CidrRange, SubstitutionFormatString, substitution_format_string};
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::InternalAddressConfig,
};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::google::protobuf::{Any, Struct, UInt32Value, Value, value};
use lds::filter::ConfigType;
use prost::{Message, Name};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use weft_model::{Kind, Resource};
use weft_testkit::{eventually, peers};

const POD: &str = "envoy-0";

pub(crate) struct Envoy {
    pub(crate) side: Arc<Side>,
    process: Child,
    _directory: TempDir,
}

impl Envoy {
    pub(crate) async fn start(control: &Control) -> Envoy {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let (log, listeners, told) = (file("access.log"), file("listeners.pb"), file("admin"));
        fs::write(&listeners, listeners_file(&log)).unwrap();
        let binary = tokio::task::spawn_blocking(peers::envoy).await.unwrap();
        // one worker, so that limits which each worker counts for itself are the process's
        let process = Command::new(binary)
            .args(["--use-dynamic-base-id", "--concurrency", "1", "-l", "critical"])
            .args(["--file-flush-interval-msec", "10", "--config-yaml"])
            .arg(bootstrap(control.address, &listeners))
            .arg("--admin-address-path")
            .arg(&told)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let admin = eventually("Envoy's admin address", async || fs::read_to_string(&told).ok()?.parse().ok()).await;
        control.in_step(POD).await;
        let address = eventually("Envoy's listener", async || listens_at(admin).await).await;
        Envoy { side: Arc::new(Side { address, log, admin, make: Make::Envoy }), process, _directory: directory }
    }

    pub(crate) async fn stop(mut self) {
        self.process.kill().await.unwrap();
    }
}

async fn listens_at(address: SocketAddr) -> Option<SocketAddr> {
    let all: serde_json::Value = serde_json::from_str(&admin(address, "/listeners?format=json").await).ok()?;
    let found = all["listener_statuses"].as_array()?.iter().find(|listener| listener["name"] == LISTENER)?;
    let socket = &found["local_address"]["socket_address"];
    let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
    Some(SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port))
}

pub(super) async fn ejected(address: SocketAddr, cluster: &str) -> usize {
    let name = format!("cluster.{cluster}.outlier_detection.ejections_active");
    let stats = admin(address, &format!("/stats?filter=^{}$", name.replace('.', "\\."))).await;
    let value = stats.trim().strip_prefix(&name).and_then(|rest| rest.trim_start_matches(':').trim().parse().ok());
    value.unwrap_or_else(|| panic!("Envoy does not tell {name}: {stats:?}"))
}

/// The one listener, with a log, as the file that `path_config_source` reads.
fn listeners_file(log: &Path) -> Vec<u8> {
    let encoded = weft_xds::wire::encode(&Resource::Listener(listener("127.0.0.1:0".parse().unwrap())));
    let mut listener = lds::Listener::decode(&encoded.value[..]).unwrap();
    let ConfigType::TypedConfig(manager) =
        listener.filter_chains[0].filters[0].config_type.as_mut().expect("the filter is configured")
    else {
        panic!("the filter comes with its configuration")
    };
    let mut http = HttpConnectionManager::decode(&manager.value[..]).unwrap();
    http.access_log.push(access_log_in(log));
    http.internal_address_config = Some(InternalAddressConfig {
        cidr_ranges: vec![CidrRange { address_prefix: "127.0.0.0".into(), prefix_len: Some(UInt32Value { value: 8 }) }],
        ..Default::default()
    });
    manager.value = http.encode_to_vec();
    let resource = Any { type_url: encoded.type_url, value: listener.encode_to_vec() };
    let response = DiscoveryResponse {
        version_info: "1".into(),
        resources: vec![resource],
        type_url: weft_xds::wire::type_url(Kind::Listener).into(),
        ..Default::default()
    };
    response.encode_to_vec()
}

fn access_log_in(path: &Path) -> AccessLog {
    let fields = [
        ("path", "%REQ(:PATH)%"),
        ("response_code", "%RESPONSE_CODE%"),
        ("response_flags", "%RESPONSE_FLAGS%"),
        ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ];
    let text = |text: &str| Value { kind: Some(value::Kind::StringValue(text.into())) };
    let format = Struct { fields: fields.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect() };
    let file = FileAccessLog {
        path: path.display().to_string(),
        access_log_format: Some(file_access_log::AccessLogFormat::LogFormat(SubstitutionFormatString {
            format: Some(substitution_format_string::Format::JsonFormat(format)),
            ..Default::default()
        })),
    };
    let packed = Any { type_url: FileAccessLog::type_url(), value: file.encode_to_vec() };
    AccessLog {
        name: "envoy.access_loggers.file".into(),
        config_type: Some(access_log::ConfigType::TypedConfig(packed)),
        ..Default::default()
    }
}

fn bootstrap(control_plane: SocketAddr, listeners: &Path) -> String {
    format!(
        r#"
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
node: {{id: "sidecar~127.0.0.1~{POD}.default~default.svc.cluster.local", cluster: envoy}}
dynamic_resources:
  ads_config: {{api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{{envoy_grpc: {{cluster_name: xds}}}}]}}
  cds_config: {{ads: {{}}, resource_api_version: V3}}
  lds_config: {{path_config_source: {{path: "{}"}}, resource_api_version: V3}}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: xds
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}
"#,
        listeners.display(),
        control_plane.ip(),
        control_plane.port()
    )
}
