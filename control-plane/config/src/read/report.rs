//! What was found wrong in a document, and what the documents of one file share: its name and its bounds.

use crate::tree::{MAX_NODES, Mark};
use crate::{Place, Problem};
use regex::bytes::RegexBuilder;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// More problems in one document are counted, not listed.
pub(crate) const MAX_PROBLEMS: usize = 500;

/// More problems in one file are counted, not listed.
pub(crate) const MAX_FILE_PROBLEMS: usize = 5_000;

/// Different regular expressions of one file; each is compiled to check it, which takes up to milliseconds.
pub(crate) const MAX_EXPRESSIONS: usize = 1_000;

/// The largest compiled expression; the data plane has the same limit.
const EXPRESSION_LIMIT_BYTES: usize = 1 << 20;

/// Shared by the documents of a file.
pub(crate) struct File {
    name: Arc<str>,
    /// An API server holds it, and has made it whole.
    pub(crate) is_live: bool,
    /// Fields that nobody knows are passed over.
    pub(crate) is_lenient: bool,
    /// How many more values its trees may have.
    pub(crate) allowance: Cell<usize>,
    /// What is wrong with the expressions that it has: what, and what to do.
    expressions: RefCell<HashMap<String, Option<Fault>>>,
}

/// What is wrong, and what to do.
pub(crate) type Fault = (String, &'static str);

impl File {
    pub(crate) fn new(name: Arc<str>) -> Rc<Self> {
        Rc::new(File::with(name, false, false))
    }

    /// Of an API server.
    pub(crate) fn live(name: Arc<str>, is_lenient: bool) -> Rc<Self> {
        Rc::new(File::with(name, true, is_lenient))
    }

    fn with(name: Arc<str>, is_live: bool, is_lenient: bool) -> Self {
        File { name, is_live, is_lenient, allowance: Cell::new(MAX_NODES), expressions: RefCell::default() }
    }

    fn expression(&self, written: &str) -> Option<Fault> {
        let mut known = self.expressions.borrow_mut();
        if let Some(fault) = known.get(written) {
            return fault.clone();
        }
        if known.len() >= MAX_EXPRESSIONS {
            let message = format!("is one of more than {MAX_EXPRESSIONS} regular expressions in one file");
            return Some((message, "split the file"));
        }
        let fault = compile(written);
        known.insert(written.to_owned(), fault.clone());
        fault
    }
}

fn compile(written: &str) -> Option<Fault> {
    match RegexBuilder::new(written).size_limit(EXPRESSION_LIMIT_BYTES).build() {
        Ok(_) => None,
        Err(regex::Error::CompiledTooBig(limit)) => {
            Some((format!("needs more than {limit} bytes when compiled"), "repeat less: {1,20} rather than {1,2000}"))
        }
        Err(error) => {
            // the last line of the crate's drawing says what is wrong
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Some((
                format!("is not a regular expression: {reason}"),
                "write it in RE2's syntax; it has no look-around and no back-references",
            ))
        }
    }
}

/// What was found wrong in one document.
pub(crate) struct Report {
    pub(crate) file: Rc<File>,
    problems: RefCell<Vec<Problem>>,
    errors: Cell<usize>,
    unlisted: Cell<usize>,
}

impl Report {
    pub(crate) fn new(file: &Rc<File>) -> Self {
        Report { file: file.clone(), problems: RefCell::default(), errors: Cell::new(0), unlisted: Cell::new(0) }
    }

    pub(crate) fn place(&self, mark: Mark) -> Place {
        Place { file: self.file.name.clone(), line: mark.line, column: mark.column }
    }

    pub(crate) fn push(&self, problem: Problem) {
        self.errors.set(self.errors.get() + usize::from(problem.is_error()));
        if self.is_full() {
            self.unlisted.set(self.unlisted.get() + 1);
        } else {
            self.problems.borrow_mut().push(problem);
        }
    }

    /// Whether what comes now is only counted, so that nobody need word it well.
    pub(crate) fn is_full(&self) -> bool {
        self.problems.borrow().len() >= MAX_PROBLEMS
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors.get() > 0
    }

    /// What is wrong with a regular expression.
    pub(crate) fn expression(&self, written: &str) -> Option<Fault> {
        self.file.expression(written)
    }

    /// All of them; if there were too many to list, the last one says how many more.
    pub(crate) fn finish(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        if let (more @ 1.., Some(last)) = (self.unlisted.get(), problems.last()) {
            let more = Problem::error(last.place.clone(), "", format!("and {more} more problems in this document"));
            problems.push(more);
        }
        problems
    }
}
