//! A reader of Prometheus' text format, written from its description, strict.

use std::collections::{BTreeMap, BTreeSet};

/// Samples by name and labels.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    pub(crate) samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
    pub(crate) types: BTreeMap<String, String>,
}

impl Exposition {
    /// Panics at what breaks the format: no family without HELP and TYPE in front, no sample twice.
    pub(crate) fn parse(text: &str) -> Exposition {
        assert!(text.ends_with('\n'), "the last line must end too");
        let mut all = Exposition::default();
        let mut helped = BTreeSet::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help text");
                assert!(helped.insert(name.to_owned()), "{name} has two families");
                assert!(!help.is_empty());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
                assert!(helped.contains(name), "{name} has no help");
                family = name.to_owned();
                all.types.insert(name.to_owned(), kind.to_owned());
            } else {
                all.sample(line, &family);
            }
        }
        all.check_histograms();
        all
    }

    fn sample(&mut self, line: &str, family: &str) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, parse_labels(labels.strip_suffix('}').expect("a closing brace"))),
            None => (series, BTreeMap::new()),
        };
        assert!(is_name(name), "{name}");
        let kind = &self.types[family];
        let fits = match kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"].iter().any(|end| name == format!("{family}{end}")),
            _ => name == family,
        };
        assert!(fits, "{name} under {family}");
        let before = self.samples.insert((name.to_owned(), labels), value);
        assert!(before.is_none(), "twice: {line}");
    }

    /// Buckets never fall, and the last is the count.
    fn check_histograms(&self) {
        let mut buckets: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), count) in &self.samples {
            let Some(family) = name.strip_suffix("_bucket") else { continue };
            let mut labels = labels.clone();
            let bound = labels.remove("le").expect("a bound").parse().expect("a number");
            buckets.entry((format!("{family}_count"), labels)).or_default().push((bound, *count));
        }
        for (series, buckets) in &mut buckets {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, self.samples[series])), "{series:?}");
        }
        let counts = self.samples.keys().filter(|(name, _)| name.ends_with("_count"));
        assert_eq!(counts.count(), buckets.len());
    }

    pub(crate) fn named<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = (&'a (String, BTreeMap<String, String>), &'a f64)> {
        self.samples.iter().filter(move |((sample, _), _)| sample == name)
    }

    /// The sum of all samples of that name whose labels include these.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |all: &BTreeMap<String, String>| {
            labels.iter().all(|(key, value)| all.get(*key).is_some_and(|v| v == value))
        };
        self.named(name).filter(|((_, all), _)| fits(all)).map(|(_, value)| value).sum()
    }
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn parse_labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").expect("a label");
        assert!(is_name(name), "{name}");
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().expect("a closing quote") {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, other @ ('\\' | '"'))) => other,
                    other => panic!("no such escape: {other:?}"),
                }),
                (_, '\n') => panic!("a line feed must be escaped"),
                (_, other) => value.push(other),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "label {name} twice");
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    labels
}
