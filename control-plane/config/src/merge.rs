//! Many files, one world.

use crate::{Key, Object, Parsed, Problem};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// Every well-formed object, each key once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    pub objects: BTreeMap<Key, Arc<Object>>,
}

/// Joins files. An object that is defined twice keeps its first definition, and the second is an error
/// that names the first's place; so the order of `files` decides, and callers give it sorted.
pub fn merge<'a>(files: impl Iterator<Item = (&'a str, &'a Parsed)>) -> (World, Vec<Problem>) {
    let mut world = World::default();
    let mut problems = Vec::new();
    for (_, parsed) in files {
        for object in &parsed.objects {
            match world.objects.entry(object.key.clone()) {
                Entry::Vacant(free) => {
                    free.insert(object.clone());
                }
                Entry::Occupied(first) => problems.push(
                    Problem::error(
                        object.place.clone(),
                        "",
                        format!("{} is already defined at {}", object.key, first.get().place),
                    )
                    .hint("remove one of the two, or rename it")
                    .of(&object.key),
                ),
            }
        }
    }
    (world, problems)
}
