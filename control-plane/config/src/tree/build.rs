//! Makes the tree of the parser's events.

use super::{Entry, Fault, MAX_DEPTH, MAX_NODES, Mark, Node, Scalar, Value, push_field, push_index, shorten};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// More faults of one text are not listed.
const MAX_FAULTS: usize = 500;

/// Reads the documents of `text`, whose first line is line `first_line` of its file; usually one. Faults that leave a tree
/// (a key that is written twice) are in the second part beside it. `allowance` is taken from.
pub(crate) fn parse(text: &str, first_line: u32, allowance: &mut usize) -> (Vec<Node>, Vec<Fault>) {
    let mut builder = Builder { first_line, allowance, faults: Vec::new(), anchors: HashMap::new(), open: Vec::new() };
    let documents = builder.documents(text);
    (documents, builder.faults)
}

struct Builder<'a> {
    first_line: u32,
    allowance: &'a mut usize,
    faults: Vec<Fault>,
    anchors: HashMap<usize, Part>,
    /// From the root to where the parser is.
    open: Vec<Open>,
}

/// A list or mapping that is still open.
struct Open {
    mark: Mark,
    anchor: usize,
    content: Content,
    size: usize,
    height: usize,
}

enum Content {
    List(Vec<Node>),
    Map(Fields),
}

#[derive(Default)]
struct Fields {
    entries: Vec<Entry>,
    /// The line of each name.
    seen: HashMap<Rc<str>, u32>,
    /// The name whose value comes next.
    name: Option<(Rc<str>, Mark)>,
    /// What `<<` brings in.
    merged: Vec<Entry>,
}

/// A whole node, how many nodes it is, and how deep.
struct Part {
    node: Node,
    size: usize,
    height: usize,
}

/// Why the rest of a text is not read; it was said.
struct Stop;

impl Builder<'_> {
    /// Goes through the events; ends at the first syntax error with the documents that were whole before it.
    fn documents(&mut self, text: &str) -> Vec<Node> {
        let mut parser = Parser::new_from_str(text);
        let mut documents = Vec::new();
        while let Some(event) = parser.next_event() {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let (message, hint) = explain(error.info(), text, error.marker());
                    self.fault(self.mark(error.marker()), message, hint);
                    break;
                }
            };
            match self.event(event, &span) {
                Ok(document) => documents.extend(document),
                Err(Stop) => break,
            }
        }
        documents
    }

    /// One event; a document's root when it is whole.
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<Option<Node>, Stop> {
        let mark = self.mark(&span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tag(tag.as_deref(), mark);
                let plain = style == ScalarStyle::Plain && !is_text(tag.as_deref());
                self.spend(1, mark)?;
                let node = Node { mark, value: Value::Scalar(Scalar { text: text.as_ref().into(), plain }) };
                self.put(Part { node, size: 1, height: 0 }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(Part { node, size, height }) = self.anchors.get(&anchor) else {
                    return self.stop(mark, "an alias cannot stand inside what it names", "write the value out");
                };
                let (node, size, height) = (Node { mark, value: node.value.clone() }, *size, *height);
                self.spend(size, mark)?;
                self.put(Part { node, size, height }, 0)
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), mark);
                self.begin(mark, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), mark);
                self.begin(mark, anchor, Content::Map(Fields::default()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => Ok(None),
        }
    }

    fn begin(&mut self, mark: Mark, anchor: usize, content: Content) -> Result<Option<Node>, Stop> {
        self.spend(1, mark)?;
        if self.open.len() >= MAX_DEPTH {
            return self.stop(mark, format!("more than {MAX_DEPTH} levels of nesting"), "flatten it");
        }
        self.open.push(Open { mark, anchor, content, size: 1, height: 1 });
        Ok(None)
    }

    fn end(&mut self) -> Result<Option<Node>, Stop> {
        let Some(closed) = self.open.pop() else { return Ok(None) };
        let value = match closed.content {
            Content::List(items) => Value::List(items.into()),
            Content::Map(fields) => Value::Map(fields.whole()),
        };
        let part = Part { node: Node { mark: closed.mark, value }, size: closed.size, height: closed.height };
        self.put(part, closed.anchor)
    }

    /// Puts a whole node where it belongs.
    fn put(&mut self, Part { node, size, height }: Part, anchor: usize) -> Result<Option<Node>, Stop> {
        if self.open.len() + height > MAX_DEPTH {
            return self.stop(node.mark, format!("more than {MAX_DEPTH} levels of nesting"), "flatten it");
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Part { node: node.clone(), size, height });
        }
        let Some(parent) = self.open.last_mut() else { return Ok(Some(node)) };
        parent.size = parent.size.saturating_add(size);
        parent.height = parent.height.max(height + 1);
        match &mut parent.content {
            Content::List(items) => items.push(node),
            Content::Map(fields) => {
                if let Err((mark, message, hint)) = fields.put(node) {
                    self.fault(mark, message, hint);
                }
            }
        }
        Ok(None)
    }

    fn spend(&mut self, nodes: usize, mark: Mark) -> Result<(), Stop> {
        match self.allowance.checked_sub(nodes) {
            Some(left) => {
                *self.allowance = left;
                Ok(())
            }
            None => self.stop(
                mark,
                format!("the file has more than {MAX_NODES} values, aliases written out"),
                "use fewer aliases, or split the file",
            ),
        }
    }

    fn stop<T>(&mut self, mark: Mark, message: impl Into<String>, hint: &'static str) -> Result<T, Stop> {
        self.fault(mark, message, hint);
        Err(Stop)
    }

    fn fault(&mut self, mark: Mark, message: impl Into<String>, hint: impl Into<Option<&'static str>>) {
        if self.faults.len() < MAX_FAULTS {
            let hint = hint.into().map(str::to_owned);
            self.faults.push(Fault { mark, path: self.path(), message: message.into(), hint });
        }
    }

    /// Where the parser is.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.content {
                Content::List(items) => push_index(&mut path, items.len()),
                Content::Map(Fields { name: Some((name, _)), .. }) => push_field(&mut path, name),
                Content::Map(_) => {}
            }
        }
        path
    }

    fn mark(&self, marker: &Marker) -> Mark {
        let line = u32::try_from(marker.line()).unwrap_or(u32::MAX).max(1) - 1;
        Mark {
            line: line.saturating_add(self.first_line),
            column: u32::try_from(marker.col()).unwrap_or(u32::MAX).saturating_add(1),
        }
    }

    /// Core tags say what plain YAML says too; others have no meaning here.
    fn check_tag(&mut self, tag: Option<&Tag>, mark: Mark) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema() && !is_bare(tag)) {
            self.fault(mark, format!("the tag {} has no meaning here", shorten(&tag.to_string())), "remove the tag");
        }
    }
}

impl Fields {
    /// A name, or the value of the last one. An error is a place, what is wrong, and what to do.
    fn put(&mut self, node: Node) -> Result<(), (Mark, String, &'static str)> {
        let Some((name, mark)) = self.name.take() else {
            let (text, fault) = match node.value {
                Value::Scalar(scalar) => (scalar.text, Ok(())),
                _ => (Rc::from("?"), Err((node.mark, "a field's name must be text".into(), "write `name: value`"))),
            };
            self.name = Some((text, node.mark));
            return fault;
        };
        if &*name == "<<" {
            let wrong = |mark| (mark, "`<<` takes a mapping, or a list of mappings".into(), "write `<<: *anchor`");
            return self.merge(node).map_err(wrong);
        }
        match self.seen.get(&name) {
            None => {
                self.seen.insert(name.clone(), mark.line);
                self.entries.push(Entry { key: name, key_mark: mark, value: node });
                Ok(())
            }
            Some(first) => {
                Err((mark, format!("`{}` is already written in line {first}", shorten(&name)), "keep one of the two"))
            }
        }
    }

    /// YAML 1.1's merge key, which kubectl obeys.
    fn merge(&mut self, node: Node) -> Result<(), Mark> {
        match node.value {
            Value::Map(entries) => self.merged.extend(entries.iter().cloned()),
            Value::List(items) => {
                for item in items.iter() {
                    let Value::Map(entries) = &item.value else { return Err(item.mark) };
                    self.merged.extend(entries.iter().cloned());
                }
            }
            Value::Scalar(_) => return Err(node.mark),
        }
        Ok(())
    }

    /// What is written here wins over what is merged, and what is merged first over what comes later.
    fn whole(self) -> Rc<[Entry]> {
        let mut taken: HashSet<Rc<str>> = self.seen.into_keys().collect();
        let merged = self.merged.into_iter().filter(|entry| taken.insert(entry.key.clone()));
        self.entries.into_iter().chain(merged).collect()
    }
}

fn is_bare(tag: &Tag) -> bool {
    tag.handle.is_empty() && tag.suffix == "!"
}

/// `!!str` and the bare `!` make text of what would otherwise be a number or a boolean.
fn is_text(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| is_bare(tag) || tag.is_yaml_core_schema() && tag.suffix == "str")
}

/// The parser's words, and what to do about them.
fn explain(info: &str, text: &str, marker: &Marker) -> (String, Option<&'static str>) {
    let line = text.lines().nth(marker.line().saturating_sub(1)).unwrap_or_default();
    let hint = if line.trim_start_matches(' ').starts_with('\t') {
        "indent with spaces; this line begins with a tab"
    } else if info.contains("mapping values are not allowed") {
        "put a value that has `: ` in it in quotes, and check the indentation"
    } else if line.contains("{{") {
        "this looks like a template; render it first"
    } else if info.contains("simple key expect") || info.contains("did not find expected") {
        "check the indentation and that each field is `name: value`"
    } else if info.contains("flow") {
        "check that every [ and { is closed"
    } else if info.contains("quoted scalar") {
        "close the quotes"
    } else if line.contains('\t') {
        "YAML has no tabs; write spaces"
    } else {
        return (format!("not YAML: {info}"), None);
    };
    (format!("not YAML: {info}"), Some(hint))
}
