//! Listeners: filter chains, and who serves them.
//!
//! Normal form: `max_request_head_bytes` is rounded up to whole KiB between 1 and 8192 of them; a time limit of 0 is `None`;
//! at least one request header is allowed.
//!
//! Read from other control planes: `default_filter_chain` is the last chain, without a match. HTTP filters that
//! are neither ours (router, dynamic forward proxy, those of [`super::route::filters`] without a policy of their own) nor optional are refused.

mod handler;
mod tls;

use super::parts::{self, At, Decoded, apart, each, refuse, required};
use super::{Any, DecodeError};
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::google::protobuf as pb;
use lds::listener_filter::ConfigType;
use prost::{Message, Name};
use std::time::Duration;
use weft_model::Listener;
use weft_model::listener::{ApplicationProtocol, Binding, ChainMatch, Direction, FilterChain};

const YES: pb::BoolValue = pb::BoolValue { value: true };
const NO: pb::BoolValue = pb::BoolValue { value: false };
const TLS: &str = "tls";
const CLEAR: &str = "raw_buffer";
/// What Envoy's HTTP inspector calls what it found.
const HTTP: [&str; 3] = ["http/1.0", "http/1.1", "h2c"];
/// Envoy's `listener_filters_timeout` when it is left out.
const DEFAULT_DETECT_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) fn encode(listener: &Listener) -> lds::Listener {
    let direction = match listener.direction {
        Direction::Inbound => TrafficDirection::Inbound,
        Direction::Outbound => TrafficDirection::Outbound,
        Direction::Edge => TrafficDirection::Unspecified,
    };
    lds::Listener {
        name: listener.name.clone(),
        address: parts::address(listener.address),
        use_original_dst: (listener.binding == Binding::OriginalDestination).then_some(YES),
        bind_to_port: (listener.binding == Binding::Handed).then_some(NO),
        filter_chains: listener.chains.iter().map(|chain| encode_chain(chain, listener.direction)).collect(),
        listener_filters: inspectors(&listener.chains),
        listener_filters_timeout: parts::limit(listener.detect_timeout),
        continue_on_listener_filters_timeout: true,
        traffic_direction: direction as i32,
        ..Default::default()
    }
}

/// What has to look at the first bytes before a chain can be chosen.
fn inspectors(chains: &[FilterChain]) -> Vec<lds::ListenerFilter> {
    let mut filters = Vec::new();
    if chains.iter().any(|chain| !chain.matches.server_names.is_empty() || chain.matches.tls.is_some()) {
        filters.push(inspector("envoy.filters.listener.tls_inspector", &TlsInspector::default()));
    }
    if chains.iter().any(|chain| chain.matches.application.is_some()) {
        filters.push(inspector("envoy.filters.listener.http_inspector", &HttpInspector::default()));
    }
    filters
}

fn inspector<M: Message + Name>(name: &str, config: &M) -> lds::ListenerFilter {
    lds::ListenerFilter {
        name: name.into(),
        config_type: Some(ConfigType::TypedConfig(parts::pack(config))),
        ..Default::default()
    }
}

fn encode_chain(chain: &FilterChain, direction: Direction) -> lds::FilterChain {
    lds::FilterChain {
        name: chain.name.clone(),
        filter_chain_match: encode_match(&chain.matches),
        transport_socket: chain.tls.as_ref().map(tls::encode),
        filters: vec![handler::encode(&chain.handler, direction)],
        ..Default::default()
    }
}

fn encode_match(matches: &ChainMatch) -> Option<lds::FilterChainMatch> {
    if *matches == ChainMatch::default() {
        return None;
    }
    let transport_protocol = match matches.tls {
        Some(true) => TLS,
        Some(false) => CLEAR,
        None => "",
    };
    Some(lds::FilterChainMatch {
        server_names: matches.server_names.clone(),
        transport_protocol: transport_protocol.into(),
        application_protocols: match matches.application {
            Some(ApplicationProtocol::Http) => HTTP.map(String::from).into(),
            None => Vec::new(),
        },
        ..Default::default()
    })
}

pub(super) fn decode(listener: lds::Listener) -> Decoded<Listener> {
    apart!(listener => lds::Listener {
        read: name, address, filter_chains, default_filter_chain, listener_filters, listener_filters_timeout, traffic_direction,
            bind_to_port, transparent, use_original_dst;
        ignored: stat_prefix, stats_matcher, per_connection_buffer_limit_bytes, per_connection_buffer_high_watermark_timeout,
            metadata, drain_type, continue_on_listener_filters_timeout, freebind, tcp_fast_open_queue_length,
            connection_balance_config, reuse_port, enable_reuse_port, access_log, tcp_backlog_size,
            max_connections_to_accept_per_socket_event, ignore_global_conn_limit, bypass_overload_manager, tcp_keepalive;
        refused: additional_addresses, fcds_config, filter_chain_matcher, deprecated_v1, socket_options, udp_listener_config, api_listener, enable_mptcp, listener_specifier
    });
    if name.is_empty() {
        return refuse("name", "is empty");
    }
    if parts::is_true(&transparent) {
        return refuse("transparent", "is not supported by this proxy");
    }
    each("listener_filters", listener_filters, check_inspector)?;
    let mut chains = each("filter_chains", filter_chains, decode_chain)?;
    if let Some(chain) = default_filter_chain {
        chains.push(decode_chain(chain).at("default_filter_chain")?);
    }
    Ok(Listener {
        name,
        address: parts::read_address("address", Some(required("address", address)?))?,
        binding: read_binding(bind_to_port.is_none_or(|bind| bind.value), parts::is_true(&use_original_dst))?,
        direction: read_direction(traffic_direction)?,
        chains,
        detect_timeout: parts::read_limit(
            "listener_filters_timeout",
            listener_filters_timeout,
            Some(DEFAULT_DETECT_TIMEOUT),
        )?,
    })
}

fn read_binding(binds: bool, redirected: bool) -> Decoded<Binding> {
    match (binds, redirected) {
        (true, false) => Ok(Binding::Socket),
        (true, true) => Ok(Binding::OriginalDestination),
        (false, false) => Ok(Binding::Handed),
        (false, true) => refuse("use_original_dst", "goes only with a listener that binds to its port"),
    }
}

fn read_direction(direction: i32) -> Decoded<Direction> {
    match TrafficDirection::try_from(direction) {
        Ok(TrafficDirection::Inbound) => Ok(Direction::Inbound),
        Ok(TrafficDirection::Outbound) => Ok(Direction::Outbound),
        Ok(TrafficDirection::Unspecified) => Ok(Direction::Edge),
        Err(_) => refuse("traffic_direction", format!("{direction} is no direction")),
    }
}

/// This proxy inspects whenever a chain needs it, and always knows a connection's original destination, so the filters
/// themselves say nothing new.
fn check_inspector(filter: lds::ListenerFilter) -> Decoded<()> {
    let known = [TlsInspector::type_url(), HttpInspector::type_url(), OriginalDst::type_url()];
    match filter.config_type {
        Some(ConfigType::TypedConfig(config)) if known.contains(&config.type_url) => Ok(()),
        _ => refuse("", format!("the listener filter `{}` is not supported by this proxy", filter.name)),
    }
}

fn decode_chain(chain: lds::FilterChain) -> Decoded<FilterChain> {
    apart!(chain => lds::FilterChain {
        read: name, filter_chain_match, filters, transport_socket;
        ignored: metadata, transport_socket_connect_timeout;
        refused: use_proxy_proto
    });
    let filter = match <[lds::Filter; 1]>::try_from(filters) {
        Ok([filter]) => filter,
        Err(filters) => {
            return refuse(
                "filters",
                format!("one is supported (http_connection_manager or tcp_proxy), here are {}", filters.len()),
            );
        }
    };
    Ok(FilterChain {
        name,
        matches: filter_chain_match.map_or(Ok(ChainMatch::default()), decode_match).at("filter_chain_match")?,
        tls: transport_socket.map(tls::decode).transpose().at("transport_socket")?.flatten(),
        handler: handler::decode(filter).at("filters[0]")?,
    })
}

fn decode_match(matches: lds::FilterChainMatch) -> Decoded<ChainMatch> {
    apart!(matches => lds::FilterChainMatch {
        read: server_names, transport_protocol, application_protocols;
        ignored: ;
        refused: destination_port, prefix_ranges, address_suffix, suffix_len, direct_source_prefix_ranges, source_type, source_prefix_ranges, source_ports
    });
    let tls = match transport_protocol.as_str() {
        "" => None,
        TLS => Some(true),
        CLEAR => Some(false),
        other => return refuse("transport_protocol", format!("`{other}` is not supported: use `tls` or `raw_buffer`")),
    };
    if let Some(other) = application_protocols.iter().find(|protocol| !HTTP.contains(&protocol.as_str())) {
        return refuse("application_protocols", format!("`{other}` is not supported: use http/1.0, http/1.1 and h2c"));
    }
    let application = (!application_protocols.is_empty()).then_some(ApplicationProtocol::Http);
    Ok(ChainMatch { server_names, tls, application })
}

/// The configuration of a network filter.
fn typed_config(filter: lds::Filter) -> Decoded<Any> {
    match filter.config_type {
        Some(lds::filter::ConfigType::TypedConfig(config)) => Ok(config),
        _ => Err(DecodeError::new("typed_config", format!("is missing in the filter `{}`", filter.name))),
    }
}
