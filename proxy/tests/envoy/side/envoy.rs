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
use std::sync::Arc;
use tempfile::TempDir;
use weft_model::{Kind, Resource};
use weft_testkit::envoy::Envoy as Stock;

pub(crate) struct Envoy {
    pub(crate) side: Arc<Side>,
    process: Stock,
    _directory: TempDir,
}

impl Envoy {
    pub(crate) async fn start(control: &Control) -> Envoy {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let (log, listeners) = (file("access.log"), file("listeners.pb"));
        fs::write(&listeners, listeners_file(&log)).unwrap();
        let process = Stock::start(control.address, Some(&listeners)).await;
        control.in_step(Stock::POD).await;
        let address = process.listener(LISTENER).await;
        let side = Arc::new(Side { address, log, admin: process.admin, make: Make::Envoy });
        Envoy { side, process, _directory: directory }
    }

    pub(crate) async fn stop(self) {
        self.process.stop().await;
    }
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
