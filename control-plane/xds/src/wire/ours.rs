//! What only Weft knows: policies that Envoy has no field for.
//!
//! They travel in the filter metadata of their cluster or route under [`WEFT`], which Envoy carries and does not
//! read, in the form in which the model serialises. Metadata is open to everyone, but this key is ours alone: what our
//! proxy would not understand there to the last field is refused, because it is a policy like any other.

use super::parts::{Decoded, WEFT, refuse};
use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::google::protobuf::{self as pb, value::Kind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

/// The largest number up to which every whole one is a double.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// A field of our metadata.
pub(super) type Field = (&'static str, pb::Value);

/// `value` under this key.
pub(super) fn field<T: Serialize>(key: &'static str, value: &T) -> Field {
    (key, write(value))
}

fn write<T: Serialize>(value: &T) -> pb::Value {
    from_json(serde_json::to_value(value).expect("the model's types serialise: their keys are texts"))
}

/// `None` when the key is absent.
pub(super) fn read<T: Serialize + DeserializeOwned>(metadata: Option<&Metadata>, key: &str) -> Decoded<Option<T>> {
    let ours = metadata.and_then(|metadata| metadata.filter_metadata.get(WEFT));
    let Some(value) = ours.and_then(|ours| ours.fields.get(key)) else { return Ok(None) };
    match to_json(value).map(serde_json::from_value::<T>) {
        Some(Ok(read)) if write(&read) == *value => Ok(Some(read)),
        Some(Err(error)) => refuse(&path(key), error.to_string()),
        _ => refuse(&path(key), "says more than this proxy understands"),
    }
}

/// Where in a resource a field of our metadata is.
pub(super) fn path(key: &str) -> String {
    format!("metadata.filter_metadata[\"{WEFT}\"].{key}")
}

fn from_json(value: Value) -> pb::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().expect("every JSON number is a double, or near one")),
        Value::String(value) => Kind::StringValue(value),
        Value::Array(values) => Kind::ListValue(pb::ListValue { values: values.into_iter().map(from_json).collect() }),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(key, value)| (key, from_json(value))).collect();
            Kind::StructValue(pb::Struct { fields })
        }
    };
    pb::Value { kind: Some(kind) }
}

/// `None` for a number that is not finite, and for a value that is none.
fn to_json(value: &pb::Value) -> Option<Value> {
    Some(match value.kind.as_ref()? {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(value) => Value::Bool(*value),
        Kind::NumberValue(value) => Value::Number(number(*value)?),
        Kind::StringValue(value) => Value::String(value.clone()),
        Kind::ListValue(list) => Value::Array(list.values.iter().map(to_json).collect::<Option<_>>()?),
        Kind::StructValue(inner) => {
            let fields = inner.fields.iter().map(|(key, value)| Some((key.clone(), to_json(value)?)));
            Value::Object(fields.collect::<Option<Map<_, _>>>()?)
        }
    })
}

/// Whole numbers have to be whole again, or no integer could be read.
fn number(value: f64) -> Option<Number> {
    let whole = value.fract() == 0.0 && (0.0..=LARGEST_EXACT).contains(&value);
    if whole { Some(Number::from(value as u64)) } else { Number::from_f64(value) }
}
