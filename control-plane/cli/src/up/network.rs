//! Which loopback address is whose. Linux answers on all of 127.0.0.0/8 without any set-up, so each
//! pod gets addresses of its own and ports never clash.
//!
//! One /16 holds everything that one `weft up` listens on, so that a second one (a test's) only
//! needs another /16:
//!
//! | address | who |
//! |---|---|
//! | `.0.1` | control plane (15010, 15014) |
//! | `.1.N` | pod N as others see it: its sidecar |
//! | `.2.N` | pod N's own localhost: its app |
//! | `.3.N` | gateway N's admin (15000) and metrics (15090) |

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A /16 of the loopback network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network(u8);

impl Network {
    pub(crate) fn control(self) -> Ipv4Addr {
        self.host(0, 1)
    }

    pub(crate) fn pod(self, number: u8) -> Ipv4Addr {
        self.host(1, number)
    }

    pub(crate) fn app(self, number: u8) -> Ipv4Addr {
        self.host(2, number)
    }

    pub(crate) fn gateway(self, number: u8) -> Ipv4Addr {
        self.host(3, number)
    }

    fn host(self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.0, third, fourth)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "127.{}.0.0/16", self.0)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let parse = || {
            let address: Ipv4Addr = text.strip_suffix("/16")?.parse().ok()?;
            match address.octets() {
                [127, second, 0, 0] => Some(Network(second)),
                _ => None,
            }
        };
        parse().ok_or_else(|| "must be a /16 of the loopback network, such as 127.7.0.0/16".to_owned())
    }
}

/// Numbers from 1 upward, lent by name: the same name gets its number back as long as nobody else
/// was given it meanwhile, also over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbers {
    lent: BTreeMap<String, u8>,
    /// Given back, but still somebody's habit.
    free: BTreeMap<String, u8>,
}

impl Numbers {
    /// The number of `name`; `None` when all 254 are taken.
    pub(crate) fn lend(&mut self, name: &str) -> Option<u8> {
        if let Some(&number) = self.lent.get(name) {
            return Some(number);
        }
        let number = self.free.remove(name).or_else(|| self.unused())?;
        self.free.retain(|_, n| *n != number);
        self.lent.insert(name.to_owned(), number);
        Some(number)
    }

    pub(crate) fn give_back(&mut self, name: &str) {
        if let Some(number) = self.lent.remove(name) {
            self.free.insert(name.to_owned(), number);
        }
    }

    /// After a restart nobody holds a number, but all remember theirs.
    pub(crate) fn give_back_all(&mut self) {
        self.free.append(&mut self.lent);
    }

    /// The lowest that nobody ever had, else the lowest that nobody has.
    fn unused(&self) -> Option<u8> {
        let taken = |n: &u8| self.lent.values().any(|t| t == n);
        let habit = |n: &u8| self.free.values().any(|t| t == n);
        (1..=254).find(|n| !taken(n) && !habit(n)).or_else(|| (1..=254).find(|n| !taken(n)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_16_of_the_loopback() {
        let network: Network = "127.7.0.0/16".parse().unwrap();
        assert_eq!((network.pod(3).to_string(), network.app(3).to_string()), ("127.7.1.3".into(), "127.7.2.3".into()));
        assert_eq!(network.to_string(), "127.7.0.0/16");
        for wrong in ["10.0.0.0/16", "127.7.0.0/8", "127.7.0.0", "127.7.1.0/16", ""] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_keeps_its_number_over_a_restart() {
        let mut numbers = Numbers::default();
        assert_eq!([numbers.lend("a"), numbers.lend("b"), numbers.lend("a")], [Some(1), Some(2), Some(1)]);
        numbers.give_back("a");
        assert_eq!(numbers.lend("c"), Some(3), "another takes a number that nobody had");
        numbers.give_back_all();
        assert_eq!([numbers.lend("c"), numbers.lend("a"), numbers.lend("b")], [Some(3), Some(1), Some(2)]);
    }

    #[test]
    fn numbers_that_were_given_back_are_lent_again_when_all_were_used() {
        let mut numbers = Numbers::default();
        for n in 1..=254 {
            assert_eq!(numbers.lend(&format!("pod-{n}")), Some(n));
        }
        assert_eq!(numbers.lend("late"), None);
        numbers.give_back("pod-7");
        assert_eq!(numbers.lend("late"), Some(7));
        assert_eq!(numbers.lend("pod-7"), None);
    }
}
