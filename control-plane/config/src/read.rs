//! From a file's text to its objects and its problems.
//!
//! Documents are cut apart at their `---` lines before anything is parsed, so that a syntax error ends with
//! its document. Each is read as a whole whatever is wrong in it. An object with an error is left out, and its name is given
//! in [`Parsed::bad`] wherever it can be told, so that whoever has an earlier version of it can keep that.

mod documents;
mod fields;
mod http;
mod known;
mod meta;
mod scalars;
mod suggest;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use fields::{Cursor, Fields};
pub(crate) use http::*;
pub(crate) use meta::template_metadata;
pub(crate) use scalars::*;

use crate::tree::{self, MAX_NODES, Mark, Node};
use crate::{Key, Object, Place, Problem};
use documents::Document;
use fields::Report;
use std::sync::Arc;

/// Larger files are refused; Kubernetes itself takes objects of about 1.5 MiB.
pub const MAX_FILE_BYTES: usize = 8 * 1024 * 1024;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The well-formed objects, in the file's order.
    pub objects: Vec<Arc<Object>>,
    /// Everything that is wrong, in the file's order.
    pub problems: Vec<Problem>,
    /// The documents that gave no object because of an error.
    pub bad: Vec<BadDocument>,
}

/// A document that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadDocument {
    /// Which object it was to be, where that could be told.
    pub key: Option<Key>,
    pub place: Place,
}

/// Reads one file. `file` is its name for people. Never fails as a whole: see [`Parsed`].
pub fn read(file: &str, text: &str) -> Parsed {
    let file: Arc<str> = file.into();
    let mut parsed = Parsed::default();
    if text.len() > MAX_FILE_BYTES {
        let place = Place { file, line: 1, column: 1 };
        let message = format!("the file has {} bytes; at most {MAX_FILE_BYTES} are read", text.len());
        parsed.problems.push(Problem::error(place.clone(), "", message).hint("split it into several files"));
        parsed.bad.push(BadDocument { key: None, place });
        return parsed;
    }
    let mut allowance = MAX_NODES;
    for document in documents::split(text) {
        parsed.document(&file, &document, &mut allowance);
    }
    parsed.problems.sort_by(|one, other| one.place.cmp(&other.place));
    parsed
}

impl Parsed {
    fn document(&mut self, file: &Arc<str>, document: &Document<'_>, allowance: &mut usize) {
        let (roots, faults) = tree::parse(document.text, document.first_line, allowance);
        let report = Report::new(file.clone());
        for fault in faults {
            let problem = Problem::error(report.place(fault.mark), fault.path, fault.message);
            report.push(Problem { hint: fault.hint, ..problem });
        }
        if roots.is_empty() && report.has_errors() {
            let place = report.place(Mark { line: document.content_line, column: 1 });
            self.settle(report, place, Outcome::Bad(documents::guess_key(document.text)));
            return;
        }
        // a second root takes a `...` line, and those are cut at
        if let Some(root) = roots.first() {
            self.root(report, root);
        }
    }

    /// One document's tree: an object, or a `List` of them.
    fn root(&mut self, report: Report, root: &Node) {
        let cursor = Cursor::root(&report, root);
        let outcome = match known::list_items(&cursor) {
            None => known::object(&cursor),
            Some(items) => {
                for item in items {
                    let report = Report::new(report.file());
                    let cursor = item.on(&report);
                    let (place, outcome) = (cursor.place(), known::object(&cursor));
                    self.settle(report, place, outcome);
                }
                Outcome::Nothing
            }
        };
        let place = cursor.place();
        self.settle(report, place, outcome);
    }

    /// Keeps what came of a document: its problems under its name, and the object if there is no error.
    fn settle(&mut self, report: Report, place: Place, outcome: Outcome) {
        let (key, object) = match outcome {
            Outcome::Nothing => (None, None),
            Outcome::Bad(key) => (key, None),
            Outcome::Whole(object) => (Some(object.key.clone()), Some(object)),
        };
        match object {
            _ if report.has_errors() => self.bad.push(BadDocument { key: key.clone(), place }),
            Some(object) => self.objects.push(Arc::new(*object)),
            None => {}
        }
        self.problems.extend(report.finish().into_iter().map(|problem| Problem { object: key.clone(), ..problem }));
    }
}

/// What a document came to. It counts only if nothing was wrong in it.
enum Outcome {
    /// Nothing that Weft keeps: an empty document, a Kustomization.
    Nothing,
    /// No object, but perhaps its name.
    Bad(Option<Key>),
    Whole(Box<Object>),
}
