//! Connections: which HTTP is spoken over them, and how long they live.
//!
//! Normal form: a limit of 0 is `None`, and so is more streams than Envoy's 2,147,483,647; times of TCP keep-alive are whole seconds; only clusters that may
//! speak HTTP/2 limit streams and ping.

use super::super::numbers::read_time;
use super::super::parts::{self, At, Decoded, apart, refuse};
use super::super::{Any, numbers};
use super::{cds, outlier};
use envoy_types::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonOptions, KeepaliveSettings, TcpKeepalive,
    UpstreamHttpProtocolOptions,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as http;
use http::http_protocol_options::{self, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig};
use std::collections::HashMap;
use std::time::Duration;
use weft_model::Cluster;
use weft_model::cluster::{Discovery, Http2Keepalive, Keepalive, Pool, Protocol};

pub(super) const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// What leaving it out means to Envoy.
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const DEFAULT_STREAMS: u32 = 1024;
/// The most that HTTP/2 can say, and Envoy's word for unlimited.
const MOST_STREAMS: u32 = i32::MAX as u32;

/// What a cluster's HTTP options say.
pub(super) struct Http {
    pub(super) protocol: Protocol,
    /// Without the TCP keep-alive.
    pub(super) pool: Pool,
    pub(super) error_codes: Vec<u16>,
}

pub(super) fn encode(cluster: &Cluster) -> http::HttpProtocolOptions {
    let explicit = |config| {
        UpstreamProtocolOptions::ExplicitHttpConfig(http_protocol_options::ExplicitHttpConfig {
            protocol_config: Some(config),
        })
    };
    let protocol = match cluster.protocol {
        Protocol::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())),
        Protocol::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(http2(&cluster.pool))),
        Protocol::Downstream => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(http_protocol_options::UseDownstreamHttpConfig {
                http_protocol_options: Some(Http1ProtocolOptions::default()),
                http2_protocol_options: Some(http2(&cluster.pool)),
                ..Default::default()
            })
        }
    };
    let error_codes = cluster.outlier.as_ref().map_or(&[][..], |outlier| &outlier.error_codes);
    http::HttpProtocolOptions {
        common_http_protocol_options: Some(CommonOptions {
            idle_timeout: parts::limit(cluster.pool.idle_timeout),
            max_requests_per_connection: cluster.pool.max_requests_per_connection.and_then(parts::number),
            max_connection_duration: cluster.pool.max_connection_duration.map(parts::duration),
            ..Default::default()
        }),
        // Envoy refuses a forward proxy cluster without them, even one that speaks no TLS
        upstream_http_protocol_options: (cluster.discovery == Discovery::Forward)
            .then(|| UpstreamHttpProtocolOptions { auto_sni: true, auto_san_validation: true, ..Default::default() }),
        outlier_detection: outlier::encode_error_codes(error_codes),
        upstream_protocol_options: Some(protocol),
        ..Default::default()
    }
}

fn http2(pool: &Pool) -> Http2ProtocolOptions {
    Http2ProtocolOptions {
        max_concurrent_streams: parts::number(pool.max_concurrent_streams.unwrap_or(MOST_STREAMS).min(MOST_STREAMS)),
        connection_keepalive: pool.http2_keepalive.map(|keepalive| KeepaliveSettings {
            interval: Some(parts::duration(keepalive.interval)),
            timeout: Some(parts::duration(keepalive.timeout)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// `None` without TCP keep-alive.
pub(super) fn connection_options(pool: &Pool) -> Option<cds::UpstreamConnectionOptions> {
    let seconds = |time: Duration| parts::number(u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
    pool.keepalive.map(|keepalive| cds::UpstreamConnectionOptions {
        tcp_keepalive: Some(TcpKeepalive {
            keepalive_probes: keepalive.probes.and_then(parts::number),
            keepalive_time: keepalive.time.and_then(seconds),
            keepalive_interval: keepalive.interval.and_then(seconds),
        }),
        ..Default::default()
    })
}

pub(super) fn decode(mut extensions: HashMap<String, Any>) -> Decoded<Http> {
    let options = extensions.remove(OPTIONS);
    if let Some(other) = extensions.keys().min() {
        return refuse("typed_extension_protocol_options", format!("`{other}` is not supported by this proxy"));
    }
    let options = options.map_or(Ok(http::HttpProtocolOptions::default()), |options| parts::unpack(&options));
    options.and_then(read_options).at(format_args!("typed_extension_protocol_options[\"{OPTIONS}\"]"))
}

fn read_options(options: http::HttpProtocolOptions) -> Decoded<Http> {
    apart!(options => http::HttpProtocolOptions {
        read: common_http_protocol_options, upstream_protocol_options, outlier_detection;
        ignored: upstream_http_protocol_options, header_validation_config;
        refused: http_filters, request_mirror_policies, hash_policy, retry_policy
    });
    let pool =
        common_http_protocol_options.map_or(Ok(Pool::default()), read_pool).at("common_http_protocol_options")?;
    let (protocol, http2) = match upstream_protocol_options {
        None => (Protocol::Http1, None),
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => {
            (Protocol::Downstream, Some(config.http2_protocol_options.unwrap_or_default()))
        }
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) => match config.protocol_config {
            Some(ProtocolConfig::Http2ProtocolOptions(http2)) => (Protocol::Http2, Some(http2)),
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                return refuse("explicit_http_config.http3_protocol_options", "is not supported by this proxy");
            }
            Some(ProtocolConfig::HttpProtocolOptions(_)) | None => (Protocol::Http1, None),
        },
        Some(UpstreamProtocolOptions::AutoConfig(_)) => {
            return refuse("auto_config", "is not supported by this proxy");
        }
    };
    Ok(Http {
        protocol,
        pool: match http2 {
            Some(http2) => with_http2(pool, http2).at("http2_protocol_options")?,
            None => pool,
        },
        error_codes: outlier_detection.map_or(Ok(Vec::new()), outlier::decode_error_codes).at("outlier_detection")?,
    })
}

fn read_pool(options: CommonOptions) -> Decoded<Pool> {
    apart!(options => CommonOptions {
        read: idle_timeout, max_requests_per_connection, max_connection_duration;
        ignored: max_headers_count, max_response_headers_kb, headers_with_underscores_action, max_connection_duration_jitter;
        refused: max_stream_duration
    });
    Ok(Pool {
        max_requests_per_connection: max_requests_per_connection.map(|most| most.value).filter(|most| *most > 0),
        idle_timeout: parts::read_limit("idle_timeout", idle_timeout, Some(DEFAULT_IDLE_TIMEOUT))?,
        max_connection_duration: parts::read_limit("max_connection_duration", max_connection_duration, None)?,
        ..Pool::default()
    })
}

fn with_http2(pool: Pool, options: Http2ProtocolOptions) -> Decoded<Pool> {
    let streams = numbers::count(options.max_concurrent_streams, DEFAULT_STREAMS);
    if streams == 0 {
        return refuse("max_concurrent_streams", "is 0");
    }
    let http2_keepalive =
        options.connection_keepalive.map_or(Ok(None), read_http2_keepalive).at("connection_keepalive")?;
    Ok(Pool { max_concurrent_streams: (streams < MOST_STREAMS).then_some(streams), http2_keepalive, ..pool })
}

/// Without an interval nobody is asked.
fn read_http2_keepalive(settings: KeepaliveSettings) -> Decoded<Option<Http2Keepalive>> {
    apart!(settings => KeepaliveSettings {
        read: interval, timeout;
        ignored: interval_jitter, connection_idle_interval;
        refused:
    });
    let Some(interval) = parts::read_limit("interval", interval, None)? else { return Ok(None) };
    Ok(Some(Http2Keepalive { interval, timeout: read_time("timeout", timeout, Duration::ZERO)? }))
}

pub(super) fn with_keepalive(pool: Pool, options: Option<cds::UpstreamConnectionOptions>) -> Decoded<Pool> {
    apart!(options.unwrap_or_default() => cds::UpstreamConnectionOptions {
        read: tcp_keepalive;
        ignored: set_local_interface_name_on_upstream_connections, happy_eyeballs_config;
        refused:
    });
    let keepalive = tcp_keepalive.map(|keepalive| Keepalive {
        probes: keepalive.keepalive_probes.map(|probes| probes.value),
        time: keepalive.keepalive_time.map(|seconds| Duration::from_secs(seconds.value.into())),
        interval: keepalive.keepalive_interval.map(|seconds| Duration::from_secs(seconds.value.into())),
    });
    Ok(Pool { keepalive, ..pool })
}
