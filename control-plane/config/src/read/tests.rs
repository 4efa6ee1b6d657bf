//! Reading as its users see it.
