//! The rules that bring a pod's traffic to its sidecar, whether the app knows of it or not.
//!
//! They are made once, before the app starts, by a container that may change the pod's network and then ends; the
//! sidecar itself needs no privilege. A mistake here is a pod that nobody reaches, a connection that runs in a circle,
//! or a hole in the policy, so what the rules say is a plain value ([`Ruleset`]) made from [`Settings`], shown as the
//! text that people read and `nft` takes, and sent as the messages that the kernel takes: the image holds no `nft`.
//!
//! - All is in one table, `inet weft`, for IPv4 and IPv6 alike. It is replaced in one transaction: there is no moment
//!   with half of it, and twice is once.
//! - Only TCP is touched, and only a connection's first packet meets a rule.
//! - What the proxy itself sends is never sent to it again, except a call to its own pod: that one comes in as from
//!   anybody else, so that it meets what is asked of callers.

mod kernel;
mod message;
mod program;
mod rules;
mod settings;
mod text;

pub use kernel::{Error, clean_up, install};
pub use rules::{Action, Chain, Hook, Match, Rule, Ruleset, TABLE};
pub use settings::{Cidr, Invalid, List, Port, Settings, Which};
