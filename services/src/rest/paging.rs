//! `?page=0&size=20`, as Spring Data REST has it.

use super::problem::Problem;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use std::collections::HashMap;

const DEFAULT_SIZE: u64 = 20;
/// Spring Data REST's own limit.
const MAX_SIZE: u64 = 1000;
const MAX_PAGE: u64 = 1 << 40;

/// Which part of a list is wanted. `page` counts from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Paging {
    pub(crate) page: u64,
    pub(crate) size: u64,
}

impl Paging {
    /// How many items come before this page.
    pub(crate) fn skip(self) -> u64 {
        self.page * self.size
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Paging, Problem> {
        Ok(Paging {
            page: number(parts, "page", 0, MAX_PAGE)?.unwrap_or(0),
            size: number(parts, "size", 1, MAX_SIZE)?.unwrap_or(DEFAULT_SIZE),
        })
    }
}

/// A whole number in the query, if it is there.
pub(crate) fn number(parts: &Parts, name: &str, from: u64, to: u64) -> Result<Option<u64>, Problem> {
    let wrong = |given: &str| {
        Problem::bad_request(format!("?{name} must be a whole number from {from} to {to}, not {given:.40?}"))
    };
    let query: Query<HashMap<String, String>> =
        Query::try_from_uri(&parts.uri).map_err(|e| Problem::bad_request(e.body_text()))?;
    let Some(given) = query.0.get(name) else { return Ok(None) };
    given.parse().ok().filter(|n| (from..=to).contains(n)).map(Some).ok_or_else(|| wrong(given))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paging(uri: &str) -> Result<Paging, u16> {
        let (parts, ()) = http::Request::builder().uri(uri).body(()).unwrap().into_parts();
        Ok(Paging {
            page: number(&parts, "page", 0, MAX_PAGE).map_err(|p| p.status)?.unwrap_or(0),
            size: number(&parts, "size", 1, MAX_SIZE).map_err(|p| p.status)?.unwrap_or(DEFAULT_SIZE),
        })
    }

    #[test]
    fn pages_have_defaults_and_limits() {
        assert_eq!(paging("/orders"), Ok(Paging { page: 0, size: 20 }));
        assert_eq!(paging("/orders?size=5&page=3"), Ok(Paging { page: 3, size: 5 }));
        for wrong in ["size=0", "size=1001", "page=-1", "page=x", "page=99999999999999999999", "page="] {
            assert_eq!(paging(&format!("/orders?{wrong}")), Err(400), "{wrong}");
        }
    }

    #[test]
    fn the_farthest_page_does_not_overflow() {
        assert_eq!(Paging { page: MAX_PAGE, size: MAX_SIZE }.skip(), MAX_PAGE * MAX_SIZE);
    }
}
