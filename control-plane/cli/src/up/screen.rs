//! What people see of `weft up`: progress while it starts, one screen of what runs where and what to
//! try, then a line for each thing that happens. Lines, not a drawn screen, so that it reads the
//! same in a terminal, in a log and to a screen reader.

use super::advice;
use super::fleet::{Fleet, Part};
use super::launch::Site;
use super::manifests::Manifests;
use super::member::Change;
use super::plan::{Id, Plan};
use super::supervise::last_words;
use super::view::View;
use crate::look::{BAD, BOLD, DIM, GOOD, LINK, WARN, paint};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Instant;

pub(crate) struct Screen {
    began: Instant,
    state: PathBuf,
    manifests: PathBuf,
    /// What was said already, so that a problem is said once.
    problems: BTreeSet<(bool, String)>,
    notes: BTreeSet<String>,
    /// Whether the table on the screen is what runs.
    shown: bool,
    advised: bool,
}

impl Screen {
    pub(crate) fn new(site: &Site, manifests: &Manifests) -> Screen {
        anstream::println!(
            "{} {}",
            paint(BOLD, "weft up"),
            paint(DIM, format!("{} · state in {}", manifests.directory().display(), site.state.display()))
        );
        Screen {
            began: Instant::now(),
            state: site.state.clone(),
            manifests: site.manifests.clone(),
            problems: BTreeSet::new(),
            notes: BTreeSet::new(),
            shown: false,
            advised: false,
        }
    }

    /// Says each problem of the manifests once, and when one is mended.
    pub(crate) fn problems(&mut self, now: &BTreeSet<(bool, String)>) {
        for (error, problem) in now.difference(&self.problems) {
            let mark = if *error { paint(BAD, "✗") } else { paint(WARN, "!") };
            anstream::println!("  {mark} {problem}");
        }
        for (_, mended) in self.problems.difference(now) {
            anstream::println!("  {} mended: {}", paint(GOOD, "✓"), paint(DIM, mended));
        }
        if now.difference(&self.problems).any(|(error, _)| *error) {
            let command = format!("weft check {}", self.manifests.display());
            anstream::println!(
                "    what is wrong keeps its last good version; {} shows the lines",
                paint(BOLD, command)
            );
        }
        self.problems.clone_from(now);
    }

    /// Says once what is asked for and cannot be done here.
    pub(crate) fn notes(&mut self, plan: &Plan) {
        let notes: BTreeSet<String> = plan.notes.iter().cloned().collect();
        for note in notes.difference(&self.notes) {
            anstream::println!("  {} {note}", paint(WARN, "!"));
        }
        self.notes = notes;
    }

    /// What another plan changes.
    pub(crate) fn plan(&mut self, old: &Plan, new: &Plan) {
        let deployments = changes(&old.deployments, &new.deployments);
        let gateways = changes(&old.gateways, &new.gateways);
        for (what, id) in deployments.into_iter().map(|(w, id)| (w, format!("Deployment {id}"))) {
            self.say(&format!("{what}: {id}"));
        }
        for (what, id) in gateways.into_iter().filter(|(w, _)| *w != "changed") {
            self.say(&format!("{what}: Gateway {id}"));
        }
        if old.deployments != new.deployments || !old.gateways.keys().eq(new.gateways.keys()) {
            self.shown = false;
        }
    }

    pub(crate) fn scaled(&mut self, deployment: &Id, replicas: u32) {
        self.say(&format!("{deployment}: {replicas} pods asked for"));
        self.shown = false;
    }

    pub(crate) fn change(&mut self, part: &Part, change: &Change, fleet: &Fleet) {
        match change {
            Change::Ready => {
                let since = paint(DIM, format!("{:.1} s", self.began.elapsed().as_secs_f32()));
                anstream::println!("  {} {part} is ready {since}", paint(GOOD, "✓"));
            }
            Change::Unready(why) => self.say(&format!("{part} is not ready: {why}")),
            Change::Crashed { how, again_in } => {
                anstream::println!("  {} {part} {how}; again in {:.1} s", paint(BAD, "✗"), again_in.as_secs_f32());
                let Some(log) = fleet.log(part) else { return };
                // One that was killed did not know, and has said nothing of it.
                let words = if how.starts_with("was killed") { Vec::new() } else { last_words(log, 3) };
                for line in words {
                    anstream::println!("      {}", paint(DIM, line.chars().take(200).collect::<String>()));
                }
                anstream::println!("      {}", paint(DIM, format!("from {}", log.display())));
            }
        }
    }

    pub(crate) fn trouble(&mut self, what: &str) {
        anstream::println!("  {} {what}", paint(WARN, "!"));
    }

    pub(crate) fn still_waiting(&mut self, view: &View) {
        self.say("not everything is ready yet:");
        anstream::println!("\n{}", view.table());
    }

    /// Whether the table is to be shown once all is up.
    pub(crate) fn expects_table(&self) -> bool {
        !self.shown
    }

    /// All is up: the table, once for each change; what to try, once.
    pub(crate) fn complete(&mut self, view: &View, plan: &Plan, bind: IpAddr) {
        self.shown = true;
        anstream::println!("\n{}", view.table());
        if self.advised {
            return;
        }
        self.advised = true;
        let lines = advice::what_to_try(plan, bind);
        if !lines.is_empty() {
            anstream::println!("{}", paint(BOLD, "Try, in another terminal:"));
        }
        for line in lines {
            let style = if line.starts_with('#') { DIM } else { LINK };
            anstream::println!("  {}", paint(style, line));
        }
        let state = if self.state.as_os_str() == ".weft" {
            String::new()
        } else {
            format!(" --state {}", self.state.display())
        };
        anstream::println!(
            "\nEdit {} and save: the next request obeys it. {}, {}; logs in {}; Ctrl-C stops all.\n",
            paint(BOLD, self.manifests.display()),
            paint(BOLD, format!("weft status{state}")),
            paint(BOLD, format!("weft scale NAME N{state}")),
            paint(BOLD, self.state.join("logs").display()),
        );
    }

    pub(crate) fn stopping(&mut self) {
        anstream::println!("\nDraining: gateways, sidecars, apps, control plane (Ctrl-C again does not wait)");
    }

    pub(crate) fn stopped(&mut self, patient: bool) {
        anstream::println!("{}", if patient { "Stopped; nothing is left behind." } else { "Killed." });
    }

    fn say(&self, what: &str) {
        anstream::println!("  {} {what}", paint(DIM, "·"));
    }
}

/// What was added, removed or changed, by name.
fn changes<'a, T: PartialEq>(
    old: &'a std::collections::BTreeMap<Id, T>,
    new: &'a std::collections::BTreeMap<Id, T>,
) -> Vec<(&'static str, &'a Id)> {
    let gone = old.keys().filter(|id| !new.contains_key(id)).map(|id| ("removed", id));
    let here = new.iter().filter_map(|(id, value)| match old.get(id) {
        None => Some(("added", id)),
        Some(before) => (before != value).then_some(("changed", id)),
    });
    gone.chain(here).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_name_what_came_went_and_differs() {
        let map = |pairs: &[(&str, u8)]| pairs.iter().map(|(name, v)| (Id::new("default", *name), *v)).collect();
        let (old, new) = (map(&[("a", 1), ("b", 1), ("c", 1)]), map(&[("b", 2), ("c", 1), ("d", 1)]));
        let said: Vec<String> = changes(&old, &new).into_iter().map(|(what, id)| format!("{what} {id}")).collect();
        assert_eq!(said, ["removed a", "changed b", "added d"]);
    }
}
