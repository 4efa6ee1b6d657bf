//! Words that several kinds share.

use crate::read::{Cursor, one_of, text, texts};
use std::collections::BTreeMap;
use std::fmt;

pub type Labels = BTreeMap<String, String>;

/// A DNS name, lower case, perhaps with `*` as its whole first label: `shop.example`, `*.example`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(String);

impl Hostname {
    /// Lower-cases nothing and guesses nothing: what is not a host name by RFC 1123 (at most 253 characters, labels
    /// of at most 63) is refused with the reason.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix("*.").unwrap_or(text);
        if text.is_empty() || text.len() > 253 {
            return Err("a host name has 1 to 253 characters");
        }
        if text == "*" {
            return Err("leave it out to mean every host");
        }
        if rest.contains('*') {
            return Err("`*` may only stand for the whole first label: *.example.com");
        }
        if rest.contains(':') {
            return Err("a host name has no port and no scheme");
        }
        if rest.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err("host names are written in lower case");
        }
        if rest.parse::<std::net::IpAddr>().is_ok() {
            return Err("an IP address is not a host name");
        }
        if rest.split('.').all(is_dns_label) {
            Ok(Hostname(text.to_owned()))
        } else {
            Err("a host name is labels of a-z, 0-9 and inner `-`, joined by dots: shop.example.com")
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One label of a DNS name by RFC 1123: at most 63 of `a-z`, `0-9` and inner `-`.
pub(crate) fn is_dns_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A port by number or by the name that a pod gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PortRef {
    Number(u16),
    Name(String),
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortRef::Number(number) => write!(f, "{number}"),
            PortRef::Name(name) => f.write_str(name),
        }
    }
}

/// Which transport a port carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

/// Kubernetes' label selector: all of it must fit. Empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    pub match_labels: Labels,
    pub match_expressions: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Empty with `Exists` and `DoesNotExist`.
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Selector {
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    /// `NotIn` also fits where the label is absent, as in Kubernetes.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => listed,
            Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// Reads a [`Selector`].
pub(crate) fn selector(at: &Cursor<'_>) -> Option<Selector> {
    at.fields(|f| Selector {
        match_labels: f.opt("matchLabels", texts).unwrap_or_default(),
        match_expressions: f.list("matchExpressions", 0..=64, requirement),
    })
}

fn requirement(at: &Cursor<'_>) -> Option<Requirement> {
    at.fields(|f| {
        let key = f.need("key", text);
        let operator = f.must(
            "operator",
            one_of(&[
                ("In", Operator::In),
                ("NotIn", Operator::NotIn),
                ("Exists", Operator::Exists),
                ("DoesNotExist", Operator::DoesNotExist),
            ]),
        );
        let values = f.list("values", 0..=256, text);
        match operator? {
            Operator::In | Operator::NotIn if values.is_empty() => {
                f.wrong("values", "must not be empty with In and NotIn", "write the values, or use Exists");
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                f.wrong("values", "means nothing with Exists and DoesNotExist", "remove it, or use In");
            }
            _ => {}
        }
        Some(Requirement { key, operator: operator?, values })
    })
    .flatten()
}
