//! What is wrong with configuration that cannot be compiled.

use std::fmt;

/// Configuration that a data plane must refuse, with the place inside it: `virtual host "shop", route "orders": header "x-user": …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// From the outside to the inside.
    places: Vec<String>,
    what: String,
}

impl CompileError {
    pub fn new(what: impl Into<String>) -> Self {
        CompileError { places: Vec::new(), what: what.into() }
    }

    /// The same error, seen from one level further out.
    pub fn within(mut self, place: impl Into<String>) -> Self {
        self.places.insert(0, place.into());
        self
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.places.as_slice() {
            [] => f.write_str(&self.what),
            places => write!(f, "{}: {}", places.join(", "), self.what),
        }
    }
}

impl std::error::Error for CompileError {}
