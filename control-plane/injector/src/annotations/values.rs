//! The values of annotations, each read strictly, with what to write instead.

use std::collections::BTreeSet;
use std::net::IpAddr;

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{text:?} is neither \"true\" nor \"false\"")),
    }
}

pub(super) fn image(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains(char::is_whitespace) {
        true => Err(format!("{text:?} is not an image; write NAME:TAG")),
        false => Ok(text.to_owned()),
    }
}

/// Envoy's words for what to log, and ours.
pub(super) fn log_level(text: &str) -> Result<String, String> {
    let level = match text {
        "trace" | "debug" | "info" | "warn" | "error" | "off" => text,
        "warning" => "warn",
        "critical" => "error",
        _ => return Err(format!("{text:?} is not a level; write trace, debug, info, warning, error or off")),
    };
    Ok(level.to_owned())
}

/// `80,443`, each once and in order; `*` where that is allowed; nothing for none.
pub(super) fn ports(text: &str, or_all: bool) -> Result<String, String> {
    if or_all && text.trim() == "*" {
        return Ok("*".into());
    }
    let all = if or_all { ", or \"*\" for all" } else { "" };
    let listed = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty());
    let ports: Result<BTreeSet<u16>, String> = listed
        .map(|port| match port.parse() {
            Ok(0) | Err(_) => Err(format!("{port:?} is not a port; write numbers as \"80,443\"{all}")),
            Ok(port) => Ok(port),
        })
        .collect();
    Ok(ports?.iter().map(u16::to_string).collect::<Vec<_>>().join(","))
}

/// `10.0.0.0/8,fd00::/8`; `*` where that is allowed; nothing for none.
pub(super) fn cidrs(text: &str, or_all: bool) -> Result<String, String> {
    if or_all && text.trim() == "*" {
        return Ok("*".into());
    }
    let all = if or_all { ", or \"*\" for all" } else { "" };
    let listed = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty());
    let checked: Result<Vec<&str>, String> = listed
        .map(|cidr| match is_cidr(cidr) {
            true => Ok(cidr),
            false => Err(format!("{cidr:?} is not a range of addresses; write \"10.0.0.0/8,192.168.0.1/32\"{all}")),
        })
        .collect();
    Ok(checked?.join(","))
}

fn is_cidr(text: &str) -> bool {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| {
        bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
    })
}

/// A Kubernetes quantity: `100m`, `1.5`, `128Mi`, `1e3`.
pub(super) fn quantity(text: &str) -> Result<String, String> {
    const SUFFIXES: [&str; 16] = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let wrong = || format!("{text:?} is not a quantity; write \"100m\" of CPU, \"128Mi\" of memory");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|power| power.parse::<i8>().is_ok());
    let is_number = number.parse::<f64>().is_ok_and(f64::is_finite) && number.bytes().any(|b| b.is_ascii_digit());
    match is_number && (exponent || SUFFIXES.contains(&suffix)) {
        true => Ok(text.to_owned()),
        false => Err(wrong()),
    }
}

/// A length of time as Go writes it, in whole seconds, rounded up: `45s`, `1m30s`, `500ms`.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let wrong = || format!("{text:?} is not a length of time; write \"45s\" or \"1m30s\"");
    let mut rest = text;
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..end].parse().map_err(|_| wrong())?;
        let (unit, ms) = UNITS.iter().find(|(unit, _)| rest[end..].starts_with(unit)).ok_or_else(wrong)?;
        total_ms = number.checked_mul(*ms).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(wrong)?;
        rest = &rest[end + unit.len()..];
    }
    match text.is_empty() {
        true => Err(wrong()),
        false => Ok(total_ms.div_ceil(1000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_in_order_and_once() {
        assert_eq!(ports("443, 80,80", false).as_deref(), Ok("80,443"));
        assert_eq!(ports("", true).as_deref(), Ok(""));
        assert_eq!(ports(" * ", true).as_deref(), Ok("*"));
        for wrong in ["*", "0", "65536", "80,,81", "http", "-1"] {
            assert!(ports(wrong, false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_are_addresses_with_as_many_bits_as_they_have() {
        assert_eq!(cidrs("10.0.0.0/8, ::1", false).as_deref(), Ok("10.0.0.0/8,::1"));
        for wrong in ["*", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/+8", "10.0.0.0/"] {
            assert!(cidrs(wrong, false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for right in ["100m", "1", "1.5", "128Mi", "1e3", "1E-2", ".5", "0"] {
            assert_eq!(quantity(right).as_deref(), Ok(right));
        }
        for wrong in ["", "m", "-1", "1 Mi", "1mi", "1ee", "1.2.3", ".", "inf", "NaN"] {
            assert!(quantity(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_of_time_are_those_of_go() {
        assert_eq!(
            [seconds("45s"), seconds("1m30s"), seconds("500ms"), seconds("1h")],
            [Ok(45), Ok(90), Ok(1), Ok(3600)]
        );
        for wrong in ["", "45", "s", "1d", "-1s", "99999999999999999999h", "18446744073709551615h"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
