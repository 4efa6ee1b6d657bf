//! What the messages have in common: taking them apart, packing, durations, addresses, metadata.

pub(super) use super::Any;
use super::DecodeError;
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, Metadata, SocketAddress, address,
    config_source::ConfigSourceSpecifier, socket_address::PortSpecifier,
};
use envoy_types::pb::google::protobuf as pb;
use prost::{Message, Name};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use weft_model::Origin;

pub(super) type Decoded<T> = Result<T, DecodeError>;

/// The key of our own metadata.
pub(super) const WEFT: &str = "weft.dev";
/// The key of Istio's metadata.
pub(super) const ISTIO: &str = "istio";
/// The longest duration that protobuf's JSON form allows: some 10,000 years.
pub(super) const LONGEST: Duration = Duration::from_secs(315_576_000_000);

/// Takes a message apart. Every one of its fields is listed: `read`, `ignored` because no request is served
/// otherwise for it (statistics, tuning), or `refused` when it is set.
macro_rules! apart {
    ($message:expr => $type:path { read: $($read:ident),* $(,)?; ignored: $($ignored:ident),* $(,)?; refused: $($refused:ident),* $(,)? }) => {
        #[allow(deprecated, reason = "a deprecated field still arrives from older control planes, and must be refused")]
        let $type { $($read,)* $($ignored: _,)* $($refused,)* } = $message;
        $(if !$crate::wire::parts::Unset::unset(&$refused) {
            return Err($crate::wire::DecodeError::new(stringify!($refused), "is not supported by this proxy"));
        })*
    };
}
pub(super) use apart;

/// Whether a field was left out, or set to what being left out means.
pub(super) trait Unset {
    fn unset(&self) -> bool;
}

impl<T> Unset for Option<T> {
    fn unset(&self) -> bool {
        self.is_none()
    }
}

impl<T> Unset for Vec<T> {
    fn unset(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Unset for HashMap<K, V> {
    fn unset(&self) -> bool {
        self.is_empty()
    }
}

impl Unset for String {
    fn unset(&self) -> bool {
        self.is_empty()
    }
}

impl Unset for bool {
    fn unset(&self) -> bool {
        !self
    }
}

impl Unset for i32 {
    fn unset(&self) -> bool {
        *self == 0
    }
}

impl Unset for i64 {
    fn unset(&self) -> bool {
        *self == 0
    }
}

impl Unset for u32 {
    fn unset(&self) -> bool {
        *self == 0
    }
}

/// Says where an error happened.
pub(super) trait At<T> {
    fn at(self, segment: impl fmt::Display) -> Decoded<T>;
}

impl<T> At<T> for Decoded<T> {
    fn at(self, segment: impl fmt::Display) -> Decoded<T> {
        self.map_err(|error| error.within(segment))
    }
}

pub(super) fn refuse<T>(path: &str, what: impl Into<String>) -> Decoded<T> {
    Err(DecodeError::new(path, what))
}

pub(super) fn required<T>(field: &str, value: Option<T>) -> Decoded<T> {
    value.ok_or_else(|| DecodeError::new(field, "is missing"))
}

/// Decodes each item; an error names the field and the index.
pub(super) fn each<T, U>(field: &str, items: Vec<T>, decode: impl Fn(T) -> Decoded<U>) -> Decoded<Vec<U>> {
    items.into_iter().enumerate().map(|(i, item)| decode(item).at(format_args!("{field}[{i}]"))).collect()
}

pub(super) fn pack<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

pub(super) fn unpack<M: Message + Name + Default>(any: &Any) -> Decoded<M> {
    if any.type_url != M::type_url() {
        return refuse("type_url", format!("`{}` is not supported here", any.type_url));
    }
    M::decode(any.value.as_slice()).map_err(|error| DecodeError::new("", format!("no {}: {error}", M::full_name())))
}

pub(super) fn duration(duration: Duration) -> pb::Duration {
    let duration = duration.min(LONGEST);
    pb::Duration { seconds: duration.as_secs() as i64, nanos: duration.subsec_nanos() as i32 }
}

pub(super) fn read_duration(field: &str, duration: pb::Duration) -> Decoded<Duration> {
    match (u64::try_from(duration.seconds), u32::try_from(duration.nanos)) {
        (Ok(seconds), Ok(nanos)) if seconds <= LONGEST.as_secs() && nanos < 1_000_000_000 => {
            Ok(Duration::new(seconds, nanos))
        }
        _ => refuse(
            field,
            format!("{}s {}ns is no duration between 0 and 315576000000s", duration.seconds, duration.nanos),
        ),
    }
}

/// A time limit that 0 turns off. `default` is what leaving it out means.
pub(super) fn read_limit(
    field: &str,
    limit: Option<pb::Duration>,
    default: Option<Duration>,
) -> Decoded<Option<Duration>> {
    let Some(limit) = limit else { return Ok(default) };
    Ok(Some(read_duration(field, limit)?).filter(|limit| !limit.is_zero()))
}

/// A time limit that 0 turns off.
pub(super) fn limit(limit: Option<Duration>) -> Option<pb::Duration> {
    Some(duration(limit.unwrap_or_default()))
}

pub(super) fn number(value: u32) -> Option<pb::UInt32Value> {
    Some(pb::UInt32Value { value })
}

pub(super) fn yes_or_no(value: bool) -> Option<pb::BoolValue> {
    Some(pb::BoolValue { value })
}

pub(super) fn is_true(value: &Option<pb::BoolValue>) -> bool {
    value.as_ref().is_some_and(|value| value.value)
}

/// "Over the stream on which this was received."
pub(super) fn over_ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    })
}

pub(super) fn check_over_ads(field: &str, source: Option<ConfigSource>) -> Decoded<()> {
    match source.and_then(|source| source.config_source_specifier) {
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => Ok(()),
        _ => refuse(field, "only `ads` (or `self`) is supported as a source"),
    }
}

pub(super) fn address(address: SocketAddr) -> Option<Address> {
    host_port(address.ip().to_string(), address.port())
}

pub(super) fn host_port(host: String, port: u16) -> Option<Address> {
    Some(Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host,
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    })
}

pub(super) fn read_address(field: &str, address: Option<Address>) -> Decoded<SocketAddr> {
    let (host, port) = read_host_port(field, address)?;
    match host.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, port)),
        Err(_) => refuse(field, format!("`{host}` is no IP address")),
    }
}

pub(super) fn read_host_port(field: &str, address: Option<Address>) -> Decoded<(String, u16)> {
    let Some(Address { address: Some(address::Address::SocketAddress(socket)) }) = address else {
        return refuse(field, "only a socket_address is supported");
    };
    parse_host_port(socket).at(format_args!("{field}.socket_address"))
}

fn parse_host_port(socket: SocketAddress) -> Decoded<(String, u16)> {
    apart!(socket => SocketAddress {
        read: address, port_specifier;
        ignored: ipv4_compat;
        refused: protocol, resolver_name, network_namespace_filepath
    });
    let Some(PortSpecifier::PortValue(port)) = port_specifier else {
        return refuse("port_specifier", "only a port_value is supported");
    };
    let Ok(port) = u16::try_from(port) else { return refuse("port_value", format!("{port} is no port")) };
    Ok((address, port))
}

/// Metadata with these entries under these keys; `None` when every one of them is empty.
pub(super) fn metadata<const N: usize>(entries: [(&str, Vec<(&str, pb::Value)>); N]) -> Option<Metadata> {
    let filter_metadata: HashMap<_, _> = entries
        .into_iter()
        .filter(|(_, fields)| !fields.is_empty())
        .map(|(key, fields)| (key.to_string(), structure(fields)))
        .collect();
    (!filter_metadata.is_empty()).then(|| Metadata { filter_metadata, ..Default::default() })
}

pub(super) fn structure(fields: Vec<(&str, pb::Value)>) -> pb::Struct {
    pb::Struct { fields: fields.into_iter().map(|(key, value)| (key.to_string(), value)).collect() }
}

pub(super) fn string(text: impl Into<String>) -> pb::Value {
    pb::Value { kind: Some(pb::value::Kind::StringValue(text.into())) }
}

pub(super) fn object(fields: Vec<(&str, pb::Value)>) -> pb::Value {
    pb::Value { kind: Some(pb::value::Kind::StructValue(structure(fields))) }
}

pub(super) fn array(values: Vec<pb::Value>) -> pb::Value {
    pb::Value { kind: Some(pb::value::Kind::ListValue(pb::ListValue { values })) }
}

/// Metadata is open to everyone, so what is not as we write it is not there.
pub(super) fn text_at<'a>(fields: Option<&'a pb::Struct>, key: &str) -> &'a str {
    match fields.and_then(|fields| fields.fields.get(key)?.kind.as_ref()) {
        Some(pb::value::Kind::StringValue(text)) => text,
        _ => "",
    }
}

pub(super) fn struct_at<'a>(fields: Option<&'a pb::Struct>, key: &str) -> Option<&'a pb::Struct> {
    match fields?.fields.get(key)?.kind.as_ref()? {
        pb::value::Kind::StructValue(inner) => Some(inner),
        _ => None,
    }
}

pub(super) fn origin(origin: &Origin) -> Vec<(&'static str, pb::Value)> {
    if *origin == Origin::default() {
        return Vec::new();
    }
    vec![("origin", object(vec![("place", string(&origin.place)), ("object", string(&origin.object))]))]
}

pub(super) fn read_origin(metadata: Option<&Metadata>) -> Origin {
    let ours = metadata.and_then(|metadata| metadata.filter_metadata.get(WEFT));
    let fields = struct_at(ours, "origin");
    Origin { place: text_at(fields, "place").into(), object: text_at(fields, "object").into() }
}
