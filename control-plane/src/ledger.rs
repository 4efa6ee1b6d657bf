//! Which problems there are, so that each is said once when it appears and once when it is mended.
//!
//! A mesh with one mistake in it may be compiled a thousand times a day; a log that repeats the mistake each
//! time is a log that nobody reads. A problem is the same one for as long as its file, field and words are: its line may move.

use std::collections::BTreeMap;
use weft_config::Problem;

/// The problems of the moment.
#[derive(Default)]
pub(crate) struct Ledger {
    current: BTreeMap<Identity, Problem>,
}

/// What makes a problem the same one.
type Identity = (String, String, String, String);

/// What an update brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) appeared: Vec<Problem>,
    pub(crate) mended: Vec<Problem>,
}

impl Ledger {
    /// `problems` are all there are now.
    pub(crate) fn update(&mut self, problems: Vec<Problem>) -> News {
        let mut before = std::mem::take(&mut self.current);
        let mut appeared = Vec::new();
        for problem in problems {
            let identity = identity(&problem);
            if before.remove(&identity).is_none() && !self.current.contains_key(&identity) {
                appeared.push(problem.clone());
            }
            self.current.entry(identity).or_insert(problem);
        }
        News { appeared, mended: before.into_values().collect() }
    }

    /// By file, then as they were found.
    pub(crate) fn current(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.current.values().cloned().collect();
        problems.sort_by(|one, other| one.place.cmp(&other.place));
        problems
    }
}

impl News {
    /// Says everything in the log, an error as an error.
    pub(crate) fn log(&self) {
        for problem in &self.appeared {
            if problem.is_error() {
                tracing::error!(object = object(problem), "{problem}");
            } else {
                tracing::warn!(object = object(problem), "{problem}");
            }
        }
        for problem in &self.mended {
            tracing::info!(object = object(problem), "mended: {problem}");
        }
    }
}

fn object(problem: &Problem) -> Option<String> {
    problem.object.as_ref().map(ToString::to_string)
}

fn identity(problem: &Problem) -> Identity {
    let object = object(problem).unwrap_or_default();
    (problem.place.file.to_string(), object, problem.path.clone(), problem.message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_config::Place;

    fn problem(line: u32, message: &str) -> Problem {
        Problem::error(Place::new("a.yaml", line, 1), "spec", message)
    }

    #[test]
    fn a_problem_appears_once_and_is_mended_once() {
        let mut ledger = Ledger::default();
        let news = ledger.update(vec![problem(1, "one"), problem(2, "two")]);
        assert_eq!(news, News { appeared: vec![problem(1, "one"), problem(2, "two")], mended: vec![] });
        assert_eq!(ledger.update(vec![problem(1, "one"), problem(2, "two")]), News::default());
        let news = ledger.update(vec![problem(2, "two")]);
        assert_eq!(news, News { appeared: vec![], mended: vec![problem(1, "one")] });
        assert_eq!(ledger.update(vec![]).mended, [problem(2, "two")]);
        assert_eq!(ledger.update(vec![problem(1, "one")]).appeared.len(), 1, "again is news again");
    }

    #[test]
    fn a_problem_that_moves_to_another_line_is_the_same_and_the_place_follows() {
        let mut ledger = Ledger::default();
        ledger.update(vec![problem(1, "one")]);
        assert_eq!(ledger.update(vec![problem(7, "one")]), News::default());
        assert_eq!(ledger.current(), [problem(7, "one")]);
    }

    #[test]
    fn the_same_words_twice_in_an_object_are_one_problem() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.update(vec![problem(1, "one"), problem(2, "one")]).appeared.len(), 1);
        assert_eq!(ledger.update(vec![problem(2, "one")]), News::default());
    }
}
