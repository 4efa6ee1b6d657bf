//! "Did you mean": the known name nearest to one that is not.

use strsim::{damerau_levenshtein, jaro_winkler};

/// The nearest of `known`, if it is near: a slip of one or two letters, other capitals, a plural, a word left out.
pub(crate) fn suggestion<'k>(written: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    const LONGEST: usize = 64;
    if written.is_empty() || written.len() > LONGEST {
        return None;
    }
    let lower = written.to_ascii_lowercase();
    let scored = known.map(|name| (distance(&lower, &name.to_ascii_lowercase()), name));
    let near = scored.filter(|(distance, name)| *distance <= 1 + written.len().max(name.len()) / 5);
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

fn distance(one: &str, other: &str) -> usize {
    let letters = damerau_levenshtein(one, other);
    // `backend` for `backendRefs`, `timeout` for `timeouts`
    let shorter = one.len().min(other.len());
    if shorter >= 4 && (one.starts_with(other) || other.starts_with(one)) && jaro_winkler(one, other) > 0.9 {
        return letters.min(2);
    }
    letters
}

pub(crate) fn quoted_hint(name: &str) -> String {
    format!("did you mean `{name}`?")
}
