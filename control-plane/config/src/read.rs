//! From a file's text, or an API server's object, to objects and problems.
//!
//! Documents are cut apart at their `---` lines before anything is parsed, so that a syntax error ends with
//! its document. Each is read as a whole whatever is wrong in it. An object with an error is left out, and its name is given
//! in [`Parsed::bad`] wherever it can be told, so that whoever has an earlier version of it can keep that.

mod documents;
mod fields;
mod http;
mod known;
mod meta;
mod report;
mod scalars;
mod suggest;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use fields::{Cursor, Fields};
pub(crate) use http::*;
pub(crate) use meta::template_metadata;
pub(crate) use scalars::*;
pub(crate) use suggest::{quoted_hint, suggestion};

use crate::tree::{self, Mark, NOWHERE, Node};
use crate::{Key, Object, Place, Problem};
use documents::Document;
use report::{File, MAX_FILE_PROBLEMS, Report};
use std::rc::Rc;
use std::sync::Arc;

/// Larger files are refused; Kubernetes itself takes objects of about 1.5 MiB.
pub const MAX_FILE_BYTES: usize = 8 * 1024 * 1024;

/// Files of more documents are refused.
pub const MAX_DOCUMENTS: usize = 10_000;

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
    let mut reading = Reading { file: File::new(file.clone()), parsed: Parsed::default(), unlisted: 0 };
    let start = Place { file, line: 1, column: 1 };
    if text.len() > MAX_FILE_BYTES {
        let message = format!("the file has {} bytes; at most {MAX_FILE_BYTES} are read", text.len());
        return reading.refuse(start, message);
    }
    let documents = documents::split(text);
    if documents.len() > MAX_DOCUMENTS {
        let message = format!("the file has {} documents; at most {MAX_DOCUMENTS} are read", documents.len());
        return reading.refuse(start, message);
    }
    for document in documents {
        reading.document(&document);
    }
    reading.finish()
}

/// Reads one object of an API server. `name` stands for a file's: `shop/httproute/orders`. What is wrong has no lines.
///
/// A cluster may be newer than Weft: of Kubernetes' own kinds, and in `metadata`, fields that nobody here knows are passed over.
pub fn read_object(name: &str, object: &serde_json::Value) -> Parsed {
    let file = File::live(name.into(), known::is_plain(object["apiVersion"].as_str().unwrap_or_default()));
    let mut reading = Reading { file, parsed: Parsed::default(), unlisted: 0 };
    let report = Report::new(&reading.file);
    let mut allowance = reading.file.allowance.get();
    let place = report.place(NOWHERE);
    match tree::from_json(object, &mut allowance) {
        Ok(root) => {
            let outcome = known::object(&Cursor::root(&report, &root));
            reading.settle(report, place, outcome);
        }
        Err(fault) => {
            report.push(Problem { hint: fault.hint, ..Problem::error(place.clone(), fault.path, fault.message) });
            let text = |pointer| object.pointer(pointer).and_then(serde_json::Value::as_str);
            let key = text("/apiVersion").zip(text("/kind")).zip(text("/metadata/name"));
            let key =
                key.and_then(|((version, kind), name)| known::key(version, kind, text("/metadata/namespace"), name));
            reading.settle(report, place, Outcome::Bad(key));
        }
    }
    reading.finish()
}

/// One file on its way.
struct Reading {
    file: Rc<File>,
    parsed: Parsed,
    unlisted: usize,
}

impl Reading {
    fn document(&mut self, document: &Document<'_>) {
        let mut allowance = self.file.allowance.get();
        let (roots, faults) = tree::parse(document.text, document.first_line, &mut allowance);
        self.file.allowance.set(allowance);
        let report = Report::new(&self.file);
        for fault in faults {
            let problem = Problem::error(report.place(fault.mark), fault.path, fault.message);
            report.push(Problem { hint: fault.hint, ..problem });
        }
        // a second root takes a `...` line, and those are cut at
        match roots.first() {
            Some(root) => self.root(report, root),
            None => {
                let place = report.place(Mark { line: document.content_line, column: 1 });
                let key = if report.has_errors() { documents::guess_key(document.text) } else { None };
                self.settle(report, place, Outcome::Bad(key));
            }
        }
    }

    /// One document's tree: an object, or a `List` of them.
    fn root(&mut self, report: Report, root: &Node) {
        let cursor = Cursor::root(&report, root);
        let place = cursor.place();
        // what is wrong with the text may be in any of the items
        let broken = report.has_errors();
        let Some(items) = known::list_items(&cursor) else {
            let outcome = known::object(&cursor);
            return self.settle(report, place, outcome);
        };
        for item in items {
            let report = Report::new(&self.file);
            let cursor = item.on(&report);
            let (place, outcome) = (cursor.place(), known::object(&cursor));
            let outcome = if broken { outcome.spoilt() } else { outcome };
            if let (true, Outcome::Bad(key)) = (broken && !report.has_errors(), &outcome) {
                self.parsed.bad.push(BadDocument { key: key.clone(), place: place.clone() });
            }
            self.settle(report, place, outcome);
        }
        self.settle(report, place, Outcome::Nothing);
    }

    /// Keeps what came of a document: its problems under its name, and the object if there is no error.
    fn settle(&mut self, report: Report, place: Place, outcome: Outcome) {
        let (key, object) = match outcome {
            Outcome::Nothing => (None, None),
            Outcome::Bad(key) => (key, None),
            Outcome::Whole(object) => (Some(object.key.clone()), Some(object)),
        };
        match object {
            _ if report.has_errors() => self.parsed.bad.push(BadDocument { key: key.clone(), place }),
            Some(object) => self.parsed.objects.push(Arc::new(*object)),
            None => {}
        }
        for problem in report.finish() {
            if self.parsed.problems.len() < MAX_FILE_PROBLEMS {
                self.parsed.problems.push(Problem { object: key.clone(), ..problem });
            } else {
                self.unlisted += 1;
            }
        }
    }

    fn refuse(mut self, place: Place, message: String) -> Parsed {
        let problem = Problem::error(place.clone(), "", message).hint("split it into several files");
        self.parsed.problems.push(problem);
        self.parsed.bad.push(BadDocument { key: None, place });
        self.finish()
    }

    fn finish(mut self) -> Parsed {
        self.parsed.problems.sort_by(|one, other| one.place.cmp(&other.place));
        if let (more @ 1.., Some(last)) = (self.unlisted, self.parsed.problems.last()) {
            let more = Problem::error(last.place.clone(), "", format!("and {more} more problems in this file"));
            self.parsed.problems.push(more);
        }
        self.parsed
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

impl Outcome {
    /// The same, without its object.
    fn spoilt(self) -> Outcome {
        match self {
            Outcome::Whole(object) => Outcome::Bad(Some(object.key)),
            other => other,
        }
    }
}
