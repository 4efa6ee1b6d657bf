//! Numbers: percentages, shares and factors, each with what leaving it out means.
//!
//! A number that is out of its range is refused, not clamped: somebody meant it.

use super::DecodeError;
use super::parts::{Decoded, read_duration, refuse};
use envoy_types::pb::envoy::config::core::v3::{RuntimeDouble, RuntimeFractionalPercent};
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Percent, fractional_percent::DenominatorType};
use envoy_types::pb::google::protobuf as pb;
use std::ops::RangeInclusive;
use std::time::Duration;
use weft_model::route::Share;

/// HTTP statuses that a configuration may name.
pub(super) const STATUSES: RangeInclusive<u16> = 100..=599;

pub(super) fn count(value: Option<pb::UInt32Value>, default: u32) -> u32 {
    value.map_or(default, |value| value.value)
}

pub(super) fn large(value: u64) -> Option<pb::UInt64Value> {
    Some(pb::UInt64Value { value })
}

pub(super) fn read_large(value: Option<pb::UInt64Value>, default: u64) -> u64 {
    value.map_or(default, |value| value.value)
}

/// A whole number of hundredths.
pub(super) fn read_hundredths(field: &str, value: Option<pb::UInt32Value>, default: u32) -> Decoded<u32> {
    match count(value, default) {
        percent if percent <= 100 => Ok(percent),
        percent => refuse(field, format!("{percent} is more than 100 %")),
    }
}

pub(super) fn percent(value: f64) -> Option<Percent> {
    Some(Percent { value })
}

pub(super) fn read_percent(field: &str, percent: Option<Percent>, default: f64) -> Decoded<f64> {
    let value = percent.map_or(default, |percent| percent.value);
    if !(0.0..=100.0).contains(&value) {
        return refuse(field, format!("{value} is not between 0 and 100"));
    }
    Ok(value)
}

/// Envoy lets its runtime override a factor, and insists on a name for that.
pub(super) fn factor(runtime_key: &str, value: f64) -> Option<RuntimeDouble> {
    Some(RuntimeDouble { default_value: value, runtime_key: runtime_key.into() })
}

/// Not negative.
pub(super) fn read_factor(field: &str, factor: Option<RuntimeDouble>, default: f64) -> Decoded<f64> {
    let value = factor.map_or(default, |factor| factor.default_value);
    if !(value.is_finite() && value >= 0.0) {
        return refuse(field, format!("{value} is no factor"));
    }
    Ok(value)
}

pub(super) fn fraction(share: Share) -> FractionalPercent {
    FractionalPercent { numerator: share.millionths(), denominator: DenominatorType::Million as i32 }
}

pub(super) fn runtime_fraction(share: Share) -> Option<RuntimeFractionalPercent> {
    Some(RuntimeFractionalPercent { default_value: Some(fraction(share)), ..Default::default() })
}

/// Left out, it is nothing.
pub(super) fn read_fraction(field: &str, fraction: Option<FractionalPercent>) -> Decoded<Share> {
    let fraction = fraction.unwrap_or_default();
    let share = match DenominatorType::try_from(fraction.denominator) {
        Ok(DenominatorType::Hundred) => Share::ratio(fraction.numerator, 100),
        Ok(DenominatorType::TenThousand) => Share::ratio(fraction.numerator, 10_000),
        Ok(DenominatorType::Million) => Share::ratio(fraction.numerator, 1_000_000),
        Err(_) => return refuse(field, format!("{} is no denominator", fraction.denominator)),
    };
    share.ok_or_else(|| DecodeError::new(field, "is more than everything"))
}

/// The runtime key is not looked at: a proxy of ours has no runtime.
pub(super) fn read_runtime_fraction(field: &str, fraction: Option<RuntimeFractionalPercent>) -> Decoded<Share> {
    read_fraction(field, fraction.and_then(|fraction| fraction.default_value))
}

/// A time that 0 makes no sense of. `default` is what leaving it out means.
pub(super) fn read_time(field: &str, time: Option<pb::Duration>, default: Duration) -> Decoded<Duration> {
    match time.map_or(Ok(default), |time| read_duration(field, time))? {
        Duration::ZERO => refuse(field, "is 0"),
        time => Ok(time),
    }
}

pub(super) fn read_status(field: &str, status: impl TryInto<u16> + Copy + std::fmt::Display) -> Decoded<u16> {
    match status.try_into() {
        Ok(known) if STATUSES.contains(&known) => Ok(known),
        _ => refuse(field, format!("{status} is no HTTP status")),
    }
}
