//! Readers of single values: each takes a cursor and gives the parsed value, or says what to write instead.

use super::fields::Cursor;
use super::suggest::{quoted_hint, suggestion};
use crate::kinds::{Hostname, Labels, PortRef, Transport, is_dns_label};
use crate::tree::{Scalar, Value, shorten};
use std::net::IpAddr;
use std::time::Duration;

fn scalar<'a>(at: &Cursor<'a>, wanted: &str) -> Option<&'a Scalar> {
    match &at.node.value {
        Value::Scalar(scalar) if !scalar.is_null() => Some(scalar),
        _ => at.error(format!("must be {wanted}, not {}", at.found()), format!("write {wanted}")),
    }
}

/// Any text. Numbers and booleans are not text: a cluster refuses them too.
pub(crate) fn text(at: &Cursor<'_>) -> Option<String> {
    text_ref(at).map(str::to_owned)
}

pub(crate) fn text_ref<'a>(at: &Cursor<'a>) -> Option<&'a str> {
    let scalar = scalar(at, "text")?;
    if scalar.boolean().is_some() || scalar.is_number() {
        return at.error(
            format!("must be text, not {}", at.found()),
            format!("put it in quotes: \"{}\"", shorten(&scalar.text)),
        );
    }
    let yaml_1_1 = ["yes", "no", "on", "off", "y", "n"];
    if scalar.plain && yaml_1_1.iter().any(|word| scalar.text.eq_ignore_ascii_case(word)) {
        at.warn(
            format!("{} without quotes is text here, but a boolean to kubectl", scalar.text),
            format!("put it in quotes: \"{}\"", scalar.text),
        );
    }
    Some(&scalar.text)
}

/// Text of `least` to `most` characters.
pub(crate) fn sized(least: usize, most: usize) -> impl Fn(&Cursor<'_>) -> Option<String> {
    move |at| {
        let text = text_ref(at)?;
        let length = text.chars().count();
        match length {
            _ if length < least => at.error("must not be empty", "write a value, or leave the field out"),
            _ if length > most => {
                at.error(format!("has {length} characters; at most {most} are allowed"), "shorten it")
            }
            _ => Some(text.to_owned()),
        }
    }
}

pub(crate) fn boolean(at: &Cursor<'_>) -> Option<bool> {
    let scalar = scalar(at, "true or false")?;
    scalar.boolean().or_else(|| {
        let hint = match scalar.text.to_ascii_lowercase().as_str() {
            "yes" | "y" | "on" | "true" | "1" => "write true",
            "no" | "n" | "off" | "false" | "0" => "write false",
            _ => "write true or false",
        };
        at.error(format!("must be true or false, not {}", at.found()), hint)
    })
}

/// A whole number from `least` to `most`.
pub(crate) fn number<T: TryFrom<i64>>(least: i64, most: i64) -> impl Fn(&Cursor<'_>) -> Option<T> {
    move |at| {
        let wanted = format!("a number from {least} to {most}");
        let scalar = scalar(at, &wanted)?;
        match scalar.integer() {
            Some(number) if (least..=most).contains(&number) => T::try_from(number).ok(),
            Some(number) => at.error(format!("{number} is out of range"), format!("write {wanted}")),
            None if !scalar.plain && scalar.text.parse::<i64>().is_ok() => at.error(
                format!("must be a number, not {}", at.found()),
                format!("drop the quotes: {}", shorten(&scalar.text)),
            ),
            None => at.error(format!("must be a number, not {}", at.found()), format!("write {wanted}")),
        }
    }
}

/// A number, perhaps with a fraction.
pub(crate) fn decimal(least: f64, most: f64) -> impl Fn(&Cursor<'_>) -> Option<f64> {
    move |at| {
        let wanted = match most.is_finite() {
            true => format!("a number from {least} to {most}"),
            false => format!("a number of at least {least}"),
        };
        match scalar(at, &wanted)?.float() {
            Some(number) if (least..=most).contains(&number) => Some(number),
            Some(number) => at.error(format!("{number} is out of range"), format!("write {wanted}")),
            None => at.error(format!("must be a number, not {}", at.found()), format!("write {wanted}")),
        }
    }
}

pub(crate) fn port(at: &Cursor<'_>) -> Option<u16> {
    number(1, 65_535)(at)
}

/// A port's number, or the name that a container gives it (RFC 6335: at most 15 of a-z, 0-9 and inner `-`, one letter at least).
pub(crate) fn port_ref(at: &Cursor<'_>) -> Option<PortRef> {
    let scalar = scalar(at, "a port's number or name")?;
    match scalar.integer() {
        Some(_) => port(at).map(PortRef::Number),
        None if scalar.text.parse::<i64>().is_ok() => {
            at.error(format!("must be a number, not {}", at.found()), format!("drop the quotes: {}", scalar.text))
        }
        None => port_name(at).map(PortRef::Name),
    }
}

pub(crate) fn port_name(at: &Cursor<'_>) -> Option<String> {
    let name = text_ref(at)?;
    let letters = name.bytes().any(|b| b.is_ascii_lowercase());
    if name.len() <= 15 && letters && is_dns_label(name) && !name.contains("--") {
        return Some(name.to_owned());
    }
    at.error(
        format!("\"{}\" is not a port's name", shorten(name)),
        "write at most 15 of a-z, 0-9 and inner -, with a letter among them",
    )
}

pub(crate) fn transport(at: &Cursor<'_>) -> Option<Transport> {
    one_of(&[("TCP", Transport::Tcp), ("UDP", Transport::Udp), ("SCTP", Transport::Sctp)])(at)
}

/// One of a few words.
pub(crate) fn one_of<T: Clone>(words: &[(&'static str, T)]) -> impl Fn(&Cursor<'_>) -> Option<T> {
    move |at| {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let written = &*scalar(at, &format!("one of {}", names.join(", ")))?.text;
        if let Some((_, value)) = words.iter().find(|(name, _)| *name == written) {
            return Some(value.clone());
        }
        let hint = suggestion(written, names.iter().copied()).map_or("write one of these".into(), quoted_hint);
        at.error(format!("\"{}\" is not one of {}", shorten(written), names.join(", ")), hint)
    }
}

/// One label of a DNS name.
pub(crate) fn label(at: &Cursor<'_>) -> Option<String> {
    let name = text_ref(at)?;
    match is_dns_label(name) {
        true => Some(name.to_owned()),
        false => at.error(
            format!("\"{}\" is not a name", shorten(name)),
            "write 1 to 63 of a-z, 0-9 and inner -, beginning and ending with a letter or digit",
        ),
    }
}

/// A DNS name: labels joined by dots.
pub(crate) fn subdomain(at: &Cursor<'_>) -> Option<String> {
    let name = text_ref(at)?;
    match name.len() <= 253 && name.split('.').all(is_dns_label) {
        true => Some(name.to_owned()),
        false => at.error(
            format!("\"{}\" is not a name", shorten(name)),
            "write 1 to 253 of a-z, 0-9, . and inner -, each part beginning and ending with a letter or digit",
        ),
    }
}

/// The name of an object of any kind.
pub(crate) fn object_name(at: &Cursor<'_>) -> Option<String> {
    sized(1, 253)(at)
}

/// An API group; empty is the core group.
pub(crate) fn group(at: &Cursor<'_>) -> Option<String> {
    match text_ref(at)? {
        "" => Some(String::new()),
        _ => subdomain(at),
    }
}

pub(crate) fn kind(at: &Cursor<'_>) -> Option<String> {
    let name = text_ref(at)?;
    let word = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 63
        && !name.ends_with('-')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match word {
        true => Some(name.to_owned()),
        false => at.error(format!("\"{}\" is not a kind", shorten(name)), "write a kind such as Service"),
    }
}

pub(crate) fn hostname(at: &Cursor<'_>) -> Option<Hostname> {
    let written = text_ref(at)?;
    Hostname::parse(written)
        .map_or_else(|reason| at.error(format!("\"{}\" is not a host name", shorten(written)), reason), Some)
}

/// A host name without a wildcard.
pub(crate) fn precise_hostname(at: &Cursor<'_>) -> Option<Hostname> {
    let name = hostname(at)?;
    match name.is_wildcard() {
        true => at.error(format!("\"{name}\" has a wildcard"), "write one whole host name"),
        false => Some(name),
    }
}

pub(crate) fn ip(at: &Cursor<'_>) -> Option<IpAddr> {
    let written = text_ref(at)?;
    match written.parse() {
        Ok(address) => Some(address),
        Err(_) => at.error(format!("\"{}\" is not an IP address", shorten(written)), "write one such as 10.0.0.7"),
    }
}

/// Label values and the like, by name.
pub(crate) fn texts(at: &Cursor<'_>) -> Option<Labels> {
    Some(at.entries(|_, value| text(value)))
}

const DURATION_HINT: &str = "write a duration such as 500ms, 10s or 1m30s";

/// Gateway API (GEP-2257): one to four of a whole number with `h`, `m`, `s` or `ms`.
pub(crate) fn gateway_duration(at: &Cursor<'_>) -> Option<Duration> {
    let written = duration_text(at)?;
    let parts = parts(written, &["h", "ms", "m", "s"]).filter(|parts| parts.len() <= 4);
    let whole = |(digits, unit): &(&str, &str)| {
        let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 5)?;
        Some(Duration::from_millis(number * unit_micros(unit) / 1000))
    };
    let sum = parts.and_then(|parts| parts.iter().map(whole).sum::<Option<Duration>>());
    sum.or_else(|| at.error(format!("\"{}\" is not a duration", shorten(written)), DURATION_HINT))
}

/// Go's, as Istio takes it: numbers, perhaps with fractions, with `h`, `m`, `s`, `ms`, `us` or `ns`; not negative.
pub(crate) fn go_duration(at: &Cursor<'_>) -> Option<Duration> {
    let written = duration_text(at)?;
    match parse_go_duration(written) {
        Some(duration) => Some(duration),
        None => at.error(format!("\"{}\" is not a duration", shorten(written)), DURATION_HINT),
    }
}

/// The same of a text by itself, such as an annotation.
pub(crate) fn parse_go_duration(written: &str) -> Option<Duration> {
    let parse = |(digits, unit): &(&str, &str)| {
        let number: f64 = digits.parse().ok().filter(|_| digits.len() <= 12)?;
        let seconds = if *unit == "ns" { number / 1e9 } else { number * unit_micros(unit) as f64 / 1e6 };
        Duration::try_from_secs_f64(seconds).ok()
    };
    let parts = parts(written, &["h", "ms", "m", "s", "us", "µs", "ns"])?;
    parts.iter().map(parse).try_fold(Duration::ZERO, |sum, part| sum.checked_add(part?))
}

/// A [`go_duration`] that is more than nothing; Istio's least is 1 ms.
pub(crate) fn positive_duration(at: &Cursor<'_>) -> Option<Duration> {
    match go_duration(at)? {
        short if short < Duration::from_millis(1) => at.error("must be at least 1ms", DURATION_HINT),
        duration => Some(duration),
    }
}

/// A bare number lacks its unit.
fn duration_text<'a>(at: &Cursor<'a>) -> Option<&'a str> {
    let scalar = scalar(at, "a duration such as 500ms, 10s or 1m30s")?;
    match scalar.text.parse::<f64>() {
        Ok(_) if scalar.text.as_ref() != "0" => at.error(
            format!("\"{}\" has no unit", shorten(&scalar.text)),
            format!("write {0}s for seconds or {0}ms for milliseconds", shorten(&scalar.text)),
        ),
        Ok(_) => at.error("\"0\" has no unit", "write 0s"),
        Err(_) => Some(&scalar.text),
    }
}

/// `1m30s` → `[("1", "m"), ("30", "s")]`; nothing if it is not made of these `units`.
fn parts<'t>(mut rest: &'t str, units: &[&'static str]) -> Option<Vec<(&'t str, &'t str)>> {
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let after = &rest[digits..];
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        units.contains(&&after[..unit]).then_some(())?;
        parts.push((&rest[..digits], &after[..unit]));
        rest = &after[unit..];
    }
    (!parts.is_empty()).then_some(parts)
}

fn unit_micros(unit: &str) -> u64 {
    match unit {
        "h" => 3_600_000_000,
        "m" => 60_000_000,
        "s" => 1_000_000,
        "ms" => 1_000,
        _ => 1,
    }
}
