//! The manifests directory: read, checked, and looked at again and again for edits.
//!
//! The control plane watches it too, for routes and policies; here it is about what runs. Two things
//! would stop pods for no reason, and must not: a file that an editor is just writing (so a change
//! counts only once two looks in a row agree), and a document that is broken (so it keeps its
//! last good version). Looking, rather than waiting for the kernel to tell, costs a `stat` for each
//! file and sees every way of writing files, symlink swaps too.

use super::plan::{self, Plan};
use crate::files::{self, Stamp};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior};
use weft_config::{Key, Object, Parsed, Problem, World};

const LOOK_EVERY: Duration = Duration::from_millis(150);

pub(crate) struct Manifests {
    directory: PathBuf,
    looks: Interval,
    /// What was read, and what it came from.
    stamps: BTreeMap<PathBuf, Stamp>,
    /// What the last look saw, if it was something else.
    candidate: Option<BTreeMap<PathBuf, Stamp>>,
    parsed: BTreeMap<PathBuf, (Stamp, Arc<Parsed>)>,
    /// The last good version of everything.
    world: World,
    problems: Vec<Problem>,
}

impl Manifests {
    /// Must be called inside a runtime. Fails when there is no such directory.
    pub(crate) fn new(directory: PathBuf) -> anyhow::Result<Manifests> {
        if !directory.is_dir() {
            let name = directory.display();
            anyhow::bail!("{name} is not a directory: run `weft up` where the manifests are, or name them with --dir");
        }
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Manifests {
            directory,
            looks,
            stamps: BTreeMap::new(),
            candidate: None,
            parsed: BTreeMap::new(),
            world: World::default(),
            problems: Vec::new(),
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the files say now.
    pub(crate) fn read(&mut self) -> anyhow::Result<Plan> {
        let stamps = files::find(&self.directory)?;
        let mut parsed = BTreeMap::new();
        for (path, stamp) in &stamps {
            let known = self.parsed.get(path).filter(|(before, _)| before == stamp);
            let file = match known {
                Some((_, file)) => file.clone(),
                None => Arc::new(weft_config::read(&path.display().to_string(), &files::text(path)?)),
            };
            parsed.insert(path.clone(), (*stamp, file));
        }
        let named: Vec<(String, &Parsed)> =
            parsed.iter().map(|(p, (_, file))| (p.display().to_string(), &**file)).collect();
        let (mut world, merged) = weft_config::merge(named.iter().map(|(name, file)| (name.as_str(), *file)));
        keep_last_good(&mut world, named.iter().map(|(_, file)| *file), &self.world);
        self.problems = named.iter().flat_map(|(_, file)| file.problems.clone()).chain(merged).collect();
        self.problems.extend(weft_config::validate(&world));
        self.stamps = stamps;
        self.parsed = parsed;
        self.world = world;
        Ok(plan::plan(&self.world))
    }

    /// Waits until the files are others than those that were read, and have come to rest.
    pub(crate) async fn changed(&mut self) {
        loop {
            self.looks.tick().await;
            // A directory that is just being replaced is looked at again.
            let Ok(seen) = files::find(&self.directory) else { continue };
            if seen == self.stamps {
                self.candidate = None;
            } else if self.candidate.as_ref() == Some(&seen) {
                self.candidate = None;
                return;
            } else {
                self.candidate = Some(seen);
            }
        }
    }

    /// What is wrong, in order of place.
    pub(crate) fn problems(&self) -> BTreeSet<(bool, String)> {
        self.problems.iter().map(|problem| (problem.is_error(), problem.to_string())).collect()
    }
}

/// Puts back what broken documents said when they were whole. A broken document that does not even tell its name
/// may be any of those that its file had.
fn keep_last_good<'a>(world: &mut World, files: impl Iterator<Item = &'a Parsed>, before: &World) {
    for bad in files.flat_map(|file| &file.bad) {
        let lost: Vec<(&Key, &Arc<Object>)> = match &bad.key {
            Some(key) => before.objects.get_key_value(key).into_iter().collect(),
            None => before.objects.iter().filter(|(_, object)| object.place.file == bad.place.file).collect(),
        };
        for (key, object) in lost {
            world.objects.entry(key.clone()).or_insert_with(|| object.clone());
        }
    }
}

#[cfg(test)]
mod tests;
