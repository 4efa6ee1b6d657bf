//! What is wrong, said so that its author can mend it without asking.

use crate::{Key, Place};
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object cannot be used; its last good version stays in force.
    Error,
    /// The object is used, but not all that it says is acted on.
    Warning,
}

/// One thing that is wrong. As JSON: `severity`, `file`, `line`, `column`, `object`, `path`, `message`, `hint`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub severity: Severity,
    #[serde(flatten)]
    pub place: Place,
    /// The object that it is in, where that could be told.
    pub object: Option<Key>,
    /// The field, from the document's root: `spec.rules[0].timeouts.request`. Empty: the whole document.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Problem {
    pub fn error(place: Place, path: impl Into<String>, message: impl Into<String>) -> Self {
        Problem {
            severity: Severity::Error,
            place,
            object: None,
            path: path.into(),
            message: message.into(),
            hint: None,
        }
    }

    pub fn warning(place: Place, path: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { severity: Severity::Warning, ..Problem::error(place, path, message) }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn of(mut self, object: &Key) -> Self {
        self.object = Some(object.clone());
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `policies/orders.yaml:42:17 spec.rules[0].timeouts.request: "5" is not a duration (write 5s)`.
/// A warning says so after the place.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.place)?;
        if self.severity == Severity::Warning {
            write!(f, "warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}
