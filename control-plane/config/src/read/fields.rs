//! How a kind is read: a cursor on the tree that knows its path, and a mapping's fields asked for by name.
//!
//! A reader asks for every field that it knows and gets a value or nothing; what is wrong is
//! reported on the way and never stops the reading of the rest. What nobody asked for is an unknown field.
//! Where a required value cannot be had, its type's empty value stands in: an object with a single error is thrown away, so
//! stand-ins are never seen.

use super::report::Report;
use super::suggest::{quoted_hint, suggestion};
use crate::tree::{Entry, Node, Value, push_field, push_index, shorten};
use crate::{At, Place, Problem};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::rc::Rc;

/// From the document's root to a node; cheap to extend, written out only in problems.
#[derive(Clone, Default)]
pub(crate) struct Path(Option<Rc<(Path, Step)>>);

#[derive(Clone)]
enum Step {
    Field(&'static str),
    Key(Rc<str>),
    Index(usize),
}

impl Path {
    fn join(&self, step: Step) -> Path {
        Path(Some(Rc::new((self.clone(), step))))
    }

    /// `spec.rules[0].matches[1].path`, `metadata.labels["app.kubernetes.io/name"]`.
    fn render(&self) -> String {
        let mut steps = Vec::new();
        let mut at = self;
        while let Path(Some(step)) = at {
            steps.push(&step.1);
            at = &step.0;
        }
        let mut text = String::new();
        for step in steps.into_iter().rev() {
            match step {
                Step::Index(index) => push_index(&mut text, *index),
                Step::Field(name) => push_field(&mut text, name),
                Step::Key(name) => push_field(&mut text, name),
            }
        }
        text
    }
}

/// A node, where it is, and whom to tell what is wrong with it.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    pub(crate) report: &'a Report,
    pub(crate) node: &'a Node,
    path: Path,
}

impl<'a> Cursor<'a> {
    pub(crate) fn root(report: &'a Report, node: &'a Node) -> Self {
        Cursor { report, node, path: Path::default() }
    }

    /// The same, with what is wrong told to another.
    pub(crate) fn on<'b>(&self, report: &'b Report) -> Cursor<'b>
    where
        'a: 'b,
    {
        Cursor { report, node: self.node, path: self.path.clone() }
    }

    pub(crate) fn place(&self) -> Place {
        self.report.place(self.node.mark)
    }

    /// Always `None`, so that a reader can end with it.
    pub(crate) fn error<T>(&self, message: impl Into<String>, hint: impl Into<String>) -> Option<T> {
        self.report.push(Problem::error(self.place(), self.path.render(), message).hint(hint));
        None
    }

    pub(crate) fn warn(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.report.push(Problem::warning(self.place(), self.path.render(), message).hint(hint));
    }

    pub(crate) fn at<T>(&self, value: T) -> At<T> {
        At { place: self.place(), value }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// What stands here, in words: `the number 8080`, `a list`.
    pub(crate) fn found(&self) -> String {
        match &self.node.value {
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
            Value::Scalar(scalar) if scalar.is_null() => "nothing".into(),
            Value::Scalar(scalar) if scalar.boolean().is_some() => format!("the boolean {}", scalar.text),
            Value::Scalar(scalar) if scalar.is_number() => format!("the number {}", shorten(&scalar.text)),
            Value::Scalar(scalar) => format!("the text \"{}\"", shorten(&scalar.text)),
        }
    }

    /// A mapping's fields. Those that `read` does not ask for are reported.
    pub(crate) fn fields<T>(&self, read: impl FnOnce(&mut Fields<'a>) -> T) -> Option<T> {
        let Value::Map(entries) = &self.node.value else {
            return self
                .error(format!("must be a mapping, not {}", self.found()), "write `name: value` lines below it");
        };
        let mut fields = Fields { cursor: self.clone(), entries, asked: Vec::new(), all_known: false };
        let value = read(&mut fields);
        fields.report_unknown();
        Some(value)
    }

    /// A list's items; items that cannot be read are left out (and reported).
    pub(crate) fn items<T>(&self, limits: RangeInclusive<usize>, read: impl Fn(&Cursor<'a>) -> Option<T>) -> Vec<T> {
        let Value::List(items) = &self.node.value else {
            let hint = "begin each item with `- `";
            self.error::<()>(format!("must be a list, not {}", self.found()), hint);
            return Vec::new();
        };
        let (least, most) = (*limits.start(), *limits.end());
        if items.len() < least {
            self.error::<()>("must not be empty", format!("write at least {least}, or leave the field out"));
        } else if items.len() > most {
            self.error::<()>(format!("has {} items; at most {most} are allowed", items.len()), "split it");
        }
        let cursors = items.iter().enumerate().take(most).map(|(index, node)| Cursor {
            report: self.report,
            node,
            path: self.path.join(Step::Index(index)),
        });
        cursors.filter_map(|item| read(&item)).collect()
    }

    /// A mapping of names that its author chose, such as labels.
    pub(crate) fn entries<T>(&self, read: impl Fn(&Rc<str>, &Cursor<'a>) -> Option<T>) -> BTreeMap<String, T> {
        let Value::Map(entries) = &self.node.value else {
            let hint = "write `name: value` lines below it";
            self.error::<()>(format!("must be a mapping, not {}", self.found()), hint);
            return BTreeMap::new();
        };
        let cursors = entries.iter().map(|entry| {
            let path = self.path.join(Step::Key(entry.key.clone()));
            (&entry.key, Cursor { report: self.report, node: &entry.value, path })
        });
        cursors.filter_map(|(key, value)| Some((key.to_string(), read(key, &value)?))).collect()
    }
}

/// A mapping whose fields are known.
pub(crate) struct Fields<'a> {
    pub(crate) cursor: Cursor<'a>,
    entries: &'a [Entry],
    asked: Vec<&'static str>,
    all_known: bool,
}

impl<'a> Fields<'a> {
    pub(crate) fn place(&self) -> Place {
        self.cursor.place()
    }

    fn entry(&mut self, name: &'static str) -> Option<&'a Entry> {
        self.asked.push(name);
        self.entries.iter().find(|entry| &*entry.key == name)
    }

    /// A field that is written. `null` is the same as leaving it out, as in Kubernetes.
    pub(crate) fn get(&mut self, name: &'static str) -> Option<Cursor<'a>> {
        let entry = self.entry(name)?;
        let report = self.cursor.report;
        let cursor = Cursor { report, node: &entry.value, path: self.cursor.path.join(Step::Field(name)) };
        (!cursor.is_null()).then_some(cursor)
    }

    /// A field that may be left out.
    pub(crate) fn opt<T>(&mut self, name: &'static str, read: impl FnOnce(&Cursor<'a>) -> Option<T>) -> Option<T> {
        read(&self.get(name)?)
    }

    /// A field that must be there, or nothing when it is missing or wrong.
    pub(crate) fn must<T>(&mut self, name: &'static str, read: impl FnOnce(&Cursor<'a>) -> Option<T>) -> Option<T> {
        match self.get(name) {
            Some(cursor) => read(&cursor),
            None => self.missing(name, format!("write `{name}:`")),
        }
    }

    /// A field that must be there, or its empty value when it is missing or wrong.
    pub(crate) fn need<T: Default>(&mut self, name: &'static str, read: impl FnOnce(&Cursor<'a>) -> Option<T>) -> T {
        self.must(name, read).unwrap_or_default()
    }

    /// A list; none when it is left out, which is an error if it needs at least one.
    pub(crate) fn list<T>(
        &mut self,
        name: &'static str,
        limits: RangeInclusive<usize>,
        read: impl Fn(&Cursor<'a>) -> Option<T>,
    ) -> Vec<T> {
        match self.get(name) {
            Some(cursor) => cursor.items(limits, read),
            None => {
                if *limits.start() > 0 {
                    self.missing::<()>(name, format!("write `{name}:` with at least {}", limits.start()));
                }
                Vec::new()
            }
        }
    }

    /// Fields that are well known and mean nothing here.
    pub(crate) fn skip(&mut self, names: &[&'static str]) {
        self.asked.extend_from_slice(names);
    }

    /// Whatever else is written here is none of ours.
    pub(crate) fn skip_all(&mut self) {
        self.all_known = true;
    }

    /// A field whose meaning is known and not acted on: read for its mistakes, and the author is warned.
    pub(crate) fn later<T>(&mut self, name: &'static str, read: impl FnOnce(&Cursor<'a>) -> Option<T>) -> Option<T> {
        let cursor = self.get(name)?;
        self.not_acted_on(name);
        read(&cursor)
    }

    pub(crate) fn not_acted_on(&mut self, name: &'static str) {
        if let Some(entry) = self.entry(name) {
            let path = self.cursor.path.join(Step::Field(name)).render();
            let message = format!("Weft does not act on `{name}` yet");
            let problem = Problem::warning(self.cursor.report.place(entry.key_mark), path, message);
            self.cursor.report.push(problem.hint("traffic flows as if it were not written"));
        }
    }

    pub(crate) fn missing<T>(&self, name: &'static str, hint: impl Into<String>) -> Option<T> {
        let path = self.cursor.path.join(Step::Field(name)).render();
        self.cursor.report.push(Problem::error(self.place(), path, "is missing").hint(hint));
        None
    }

    /// An error at a field (at its name), or at the mapping when the field is not written.
    pub(crate) fn wrong(&mut self, name: &'static str, message: impl Into<String>, hint: impl Into<String>) {
        let mark = self.entry(name).map_or(self.cursor.node.mark, |entry| entry.key_mark);
        let path = self.cursor.path.join(Step::Field(name)).render();
        self.cursor.report.push(Problem::error(self.cursor.report.place(mark), path, message).hint(hint));
    }

    /// Whether a field is written, and not `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        let entry = self.entries.iter().find(|entry| *entry.key == *name);
        entry.is_some_and(|entry| !matches!(&entry.value.value, Value::Scalar(scalar) if scalar.is_null()))
    }

    /// An error inside a field.
    pub(crate) fn wrong_at(
        &self,
        place: &Place,
        name: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let path = self.cursor.path.join(Step::Field(name)).render();
        self.cursor.report.push(Problem::error(place.clone(), path, message).hint(hint));
    }

    /// A warning about something inside a field.
    pub(crate) fn warn_at(
        &self,
        place: &Place,
        name: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let path = self.cursor.path.join(Step::Field(name)).render();
        self.cursor.report.push(Problem::warning(place.clone(), path, message).hint(hint));
    }

    fn report_unknown(&self) {
        if self.all_known || self.cursor.report.file.is_lenient {
            return;
        }
        for entry in self.entries.iter().filter(|entry| !self.asked.iter().any(|name| **name == *entry.key)) {
            let report = self.cursor.report;
            let name = shorten(&entry.key);
            let path = self.cursor.path.join(Step::Key(entry.key.clone()));
            if report.is_full() {
                report.push(Problem::error(report.place(entry.key_mark), "", ""));
                continue;
            }
            let hint = match suggestion(&entry.key, self.asked.iter().copied()) {
                Some(nearest) => quoted_hint(nearest),
                None if self.asked.len() <= 8 => format!("known here: {}", self.asked.join(", ")),
                None => "remove it".into(),
            };
            let place = report.place(entry.key_mark);
            report.push(Problem::error(place, path.render(), format!("unknown field `{name}`")).hint(hint));
        }
    }
}
