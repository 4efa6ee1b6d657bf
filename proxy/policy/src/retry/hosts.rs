//! Another host for another try: whoever failed a moment ago is likely to fail again (Envoy's `previous_hosts`).

use super::Policy;
use smallvec::SmallVec;

/// So many hosts are remembered, the latest.
const REMEMBERED: usize = 16;

/// At most so many picks are passed over for one try, whatever the policy says.
const MAX_REPICKS: u32 = 64;

/// The hosts that a request has met.
#[derive(Clone, Debug)]
pub struct Tried<H>(SmallVec<[H; 4]>);

impl<H> Default for Tried<H> {
    fn default() -> Self {
        Tried(SmallVec::new())
    }
}

impl<H: PartialEq + Clone> Tried<H> {
    /// The host of the next try. One that was met before is passed over up to `host_selection_attempts` times; the
    /// last pick is taken as it is.
    pub fn pick(&mut self, policy: &Policy, mut pick: impl FnMut() -> Option<H>) -> Option<H> {
        let mut host = pick()?;
        if policy.avoid_previous_hosts {
            for _ in 0..policy.host_selection_attempts.min(MAX_REPICKS) {
                if !self.0.contains(&host) {
                    break;
                }
                host = pick()?;
            }
            self.remember(host.clone());
        }
        Some(host)
    }

    fn remember(&mut self, host: H) {
        if self.0.contains(&host) {
            return;
        }
        if self.0.len() == REMEMBERED {
            self.0.remove(0);
        }
        self.0.push(host);
    }
}
