//! Reads `loadBalancer`. All of it is acted on, but for `simple: PASSTHROUGH`.

use super::*;
use crate::read::header_name;

pub(super) fn read(at: &Cursor<'_>) -> Option<LoadBalancer> {
    at.fields(|f| {
        let simple = f.opt(
            "simple",
            one_of(&[
                ("ROUND_ROBIN", LbPolicy::RoundRobin),
                ("LEAST_REQUEST", LbPolicy::LeastRequest),
                ("LEAST_CONN", LbPolicy::LeastRequest),
                ("RANDOM", LbPolicy::Random),
                ("PASSTHROUGH", LbPolicy::Passthrough),
                ("UNSPECIFIED", LbPolicy::LeastRequest),
            ]),
        );
        let hash = f.opt("consistentHash", consistent_hash);
        if f.has("simple") && f.has("consistentHash") {
            f.wrong("consistentHash", "stands beside `simple`", "keep one of the two");
        }
        if simple == Some(LbPolicy::Passthrough) {
            f.opt("simple", |at| {
                at.warn("Weft does not act on PASSTHROUGH yet", "requests are spread as by LEAST_REQUEST");
                Some(())
            });
        }
        let policy = simple.or(hash.map(LbPolicy::ConsistentHash));
        let cold = matches!(policy, Some(LbPolicy::Random | LbPolicy::ConsistentHash(_)));
        let check = |at: &Cursor<'_>| {
            if cold {
                let hint = "remove it, or choose one of these two";
                at.warn("`warmup` works with ROUND_ROBIN and LEAST_REQUEST only", hint);
            }
        };
        let old_warmup = f.opt("warmupDurationSecs", |at| {
            check(at);
            positive_duration(at).map(|duration| Warmup { duration, minimum_percent: 10.0, aggression: 1.0 })
        });
        let warmup = f.opt("warmup", |at| {
            check(at);
            warmup(at)
        });
        LoadBalancer { policy, locality: f.opt("localityLbSetting", locality), warmup: warmup.or(old_warmup) }
    })
}

fn warmup(at: &Cursor<'_>) -> Option<Warmup> {
    at.fields(|f| Warmup {
        duration: f.need("duration", positive_duration),
        minimum_percent: f.opt("minimumPercent", decimal(0.0, 100.0)).unwrap_or(10.0),
        aggression: f.opt("aggression", decimal(1.0, f64::INFINITY)).unwrap_or(1.0),
    })
}

fn consistent_hash(at: &Cursor<'_>) -> Option<ConsistentHash> {
    // 0 is what Istio takes for "not written"
    let ring_size = || number::<u64>(0, 8_388_608);
    at.fields(|f| {
        let keys = [
            f.opt("httpHeaderName", header_name).map(HashKey::Header),
            f.opt("httpCookie", cookie),
            f.opt("useSourceIp", boolean).filter(|on| *on).map(|_| HashKey::SourceIp),
            f.opt("httpQueryParameterName", sized(1, 256)).map(HashKey::QueryParameter),
        ];
        let names = ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"];
        if names.iter().filter(|name| f.has(name)).count() != 1 {
            f.cursor.error::<()>("needs exactly one thing to hash", format!("write one of {}", names.join(", ")));
        }
        let old_size = f.opt("minimumRingSize", ring_size()).filter(|size| *size > 0);
        let ring =
            f.opt("ringHash", |at| at.fields(|f| f.opt("minimumRingSize", ring_size()).filter(|size| *size > 0)));
        let maglev = f.opt("maglev", |at| at.fields(|f| f.opt("tableSize", table_size)));
        if f.has("ringHash") && f.has("maglev") {
            f.wrong("maglev", "stands beside `ringHash`", "keep one of the two");
        }
        let algorithm = match maglev {
            Some(table_size) => HashAlgorithm::Maglev { table_size: table_size.unwrap_or(65_537) },
            None => HashAlgorithm::RingHash { minimum_ring_size: ring.flatten().or(old_size).unwrap_or(1024) },
        };
        keys.into_iter().flatten().next().map(|key| ConsistentHash { key, algorithm })
    })?
}

/// Envoy's limits: a prime of at most 5,000,011.
fn table_size(at: &Cursor<'_>) -> Option<u64> {
    let size: u64 = number(0, 5_000_011)(at)?;
    let is_prime =
        size > 1 && (2..).take_while(|divisor| divisor * divisor <= size).all(|divisor| !size.is_multiple_of(divisor));
    match size {
        0 => None,
        _ if is_prime => Some(size),
        _ => at.error(format!("{size} is not a prime"), "write a prime such as 65537"),
    }
}

fn cookie(at: &Cursor<'_>) -> Option<HashKey> {
    at.fields(|f| {
        f.skip(&["attributes"]);
        HashKey::Cookie {
            name: f.need("name", sized(1, 4096)),
            path: f.opt("path", text),
            ttl: f.opt("ttl", go_duration),
        }
    })
}

fn locality(at: &Cursor<'_>) -> Option<LocalityLb> {
    at.fields(|f| {
        let written = ["distribute", "failover", "failoverPriority"]
            .iter()
            .filter(|name| f.has(name))
            .copied()
            .collect::<Vec<_>>();
        if written.contains(&"distribute") && written.len() > 1 {
            f.wrong("distribute", "stands beside failover", "keep one of the two");
        }
        LocalityLb {
            enabled: f.opt("enabled", boolean),
            distribute: f.list("distribute", 0..=1000, distribute),
            failover: f.list("failover", 0..=1000, |at| {
                at.fields(|f| LocalityFailover { from: f.need("from", text), to: f.need("to", text) })
            }),
            failover_priority: f.list("failoverPriority", 0..=1000, text),
        }
    })
}

fn distribute(at: &Cursor<'_>) -> Option<LocalityDistribute> {
    at.fields(|f| {
        let from = f.need("from", text);
        let to = f.need("to", |at| Some(at.entries(|_, share| number::<u32>(0, 100)(share))));
        let sum: u32 = to.values().sum();
        if sum != 100 {
            f.wrong("to", format!("the shares are {sum} together"), "make them 100 together");
        }
        LocalityDistribute { from, to }
    })
}
