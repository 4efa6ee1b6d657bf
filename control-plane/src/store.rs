//! What is in force: of each object its last good version.
//!
//! A mesh must not lose a route because somebody's editor saved half a line. So an object leaves only when its author
//! takes it out: the document is gone from a file that can be read, or the file is removed. A document that is
//! there and cannot be understood keeps the version before it; when it cannot even be said *which* object it was meant
//! to be, everything that its file said before is kept.
//!
//! Kept objects are weaker than written ones: as soon as any file says the object again, that is what counts.

use crate::sources::Change;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use weft_config::{Key, Object, Parsed, Place, Problem, World};

/// The files, and what each has in force.
#[derive(Default)]
pub(crate) struct Store {
    files: BTreeMap<Arc<str>, File>,
}

struct File {
    parsed: Parsed,
    /// Last good versions of what `parsed` should say and does not.
    kept: Vec<Arc<Object>>,
    /// Why the file as a whole cannot be used.
    trouble: Option<Problem>,
}

impl Store {
    /// Returns whether anything may have changed by it.
    pub(crate) fn apply(&mut self, name: &Arc<str>, change: Change) -> bool {
        let before = self.files.remove(name);
        let file = match change {
            Change::Text(text) => File::read(name, &text, before),
            Change::Read(parsed) => match before {
                // a cluster touches objects all the time in ways that mean nothing here
                Some(before) if before.says(&parsed) => {
                    self.files.insert(name.clone(), before);
                    return false;
                }
                before => File::of(parsed, before),
            },
            Change::Unreadable(problem) => File::keep_all(before, problem),
            Change::Vanished => File::weaken(before),
            Change::Removed => return before.is_some(),
        };
        self.files.insert(name.clone(), file);
        true
    }

    /// What is in force, and everything that is wrong with the files, in themselves and with each other.
    pub(crate) fn world(&self) -> (World, Vec<Problem>) {
        let files = self.files.iter().map(|(name, file)| (&**name, &file.parsed));
        let (mut world, twice) = weft_config::merge(files);
        for object in self.files.values().flat_map(|file| &file.kept) {
            world.objects.entry(object.key.clone()).or_insert_with(|| object.clone());
        }
        let own = self.files.values().flat_map(|file| file.trouble.iter().chain(&file.parsed.problems));
        let problems = own.cloned().chain(twice).collect();
        (world, problems)
    }
}

impl File {
    fn read(name: &str, text: &str, before: Option<File>) -> File {
        match catch_unwind(AssertUnwindSafe(|| weft_config::read(name, text))) {
            Ok(parsed) => File::of(parsed, before),
            // A bug of ours must not take the others' configuration down.
            Err(_) => {
                let problem = Problem::error(Place::new(name, 1, 1), "", "reading this file failed inside Weft")
                    .hint("please report it with the file; what the file said before stays in force");
                File::keep_all(before, problem)
            }
        }
    }

    fn of(parsed: Parsed, before: Option<File>) -> File {
        let kept = before.map_or_else(Vec::new, |before| before.kept_beside(&parsed));
        File { parsed, kept, trouble: None }
    }

    /// Whether it says just this already.
    fn says(&self, parsed: &Parsed) -> bool {
        self.trouble.is_none() && self.parsed == *parsed
    }

    fn keep_all(before: Option<File>, trouble: Problem) -> File {
        let kept = before.map_or_else(Vec::new, File::in_force);
        File { parsed: Parsed::default(), kept, trouble: Some(trouble) }
    }

    /// What is wrong with it is not mended by its being away.
    fn weaken(before: Option<File>) -> File {
        let Some(mut before) = before else {
            return File { parsed: Parsed::default(), kept: Vec::new(), trouble: None };
        };
        let (problems, trouble) = (std::mem::take(&mut before.parsed.problems), before.trouble.take());
        File { parsed: Parsed { problems, ..Parsed::default() }, kept: before.in_force(), trouble }
    }

    fn in_force(self) -> Vec<Arc<Object>> {
        self.parsed.objects.into_iter().chain(self.kept).collect()
    }

    /// Of what was in force, that which the new text should say and does not.
    fn kept_beside(self, new: &Parsed) -> Vec<Arc<Object>> {
        if new.bad.is_empty() {
            return Vec::new();
        }
        let said: BTreeSet<&Key> = new.objects.iter().map(|object| &object.key).collect();
        let bad: BTreeSet<&Key> = new.bad.iter().filter_map(|bad| bad.key.as_ref()).collect();
        let somebody = new.bad.iter().any(|bad| bad.key.is_none());
        let in_force = self.in_force().into_iter();
        in_force.filter(|o| !said.contains(&o.key) && (somebody || bad.contains(&o.key))).collect()
    }
}

#[cfg(test)]
mod tests;
