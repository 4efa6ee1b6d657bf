//! Where connections to a cluster come from: for each address family the first address that is listed.

use crate::wire::parts::{At, Decoded, apart, each, refuse, required};
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{BindConfig, ExtraSourceAddress, SocketAddress};
use std::net::IpAddr;

pub(super) fn encode(sources: &[IpAddr]) -> Option<BindConfig> {
    let (first, extra) = sources.split_first()?;
    let extra = extra.iter().map(|source| ExtraSourceAddress { address: Some(address(*source)), socket_options: None });
    Some(BindConfig {
        source_address: Some(address(*first)),
        extra_source_addresses: extra.collect(),
        ..Default::default()
    })
}

fn address(source: IpAddr) -> SocketAddress {
    SocketAddress {
        address: source.to_string(),
        port_specifier: Some(PortSpecifier::PortValue(0)),
        ..Default::default()
    }
}

pub(super) fn decode(config: BindConfig) -> Decoded<Vec<IpAddr>> {
    apart!(config => BindConfig {
        read: source_address, freebind, extra_source_addresses;
        ignored: ;
        refused: socket_options, additional_source_addresses, local_address_selector, validate_network_namespaces
    });
    if freebind.is_some_and(|freebind| freebind.value) {
        return refuse("freebind", "is not supported by this proxy");
    }
    let mut sources = vec![read(required("source_address", source_address)?).at("source_address")?];
    sources.extend(each("extra_source_addresses", extra_source_addresses, |extra| {
        apart!(extra => ExtraSourceAddress { read: address; ignored: ; refused: socket_options });
        read(required("address", address)?).at("address")
    })?);
    Ok(sources)
}

fn read(source: SocketAddress) -> Decoded<IpAddr> {
    apart!(source => SocketAddress {
        read: address, port_specifier;
        ignored: ipv4_compat;
        refused: protocol, resolver_name, network_namespace_filepath
    });
    if !matches!(port_specifier, None | Some(PortSpecifier::PortValue(0))) {
        return refuse("port_value", "a source has no port of its own: write 0");
    }
    address.parse().or_else(|_| refuse("address", format!("`{address}` is no IP address")))
}
