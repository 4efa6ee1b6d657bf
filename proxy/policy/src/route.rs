//! Which route a request takes.
//!
//! Asked once per request by every proxy, so a [`Table`] is compiled when configuration changes
//! and [`Table::find`] neither allocates nor parses on the common path: the host is copied only
//! when it has upper-case letters, header names are parsed already, and a table whose only domain is
//! `*` looks no host up at all.
//!
//! Precedence is the list's: virtual host by host, then the first route whose matches all fit.

mod hosts;
mod matches;
#[cfg(test)]
mod tests;

use crate::CompileError;
use hosts::Hosts;
pub(crate) use hosts::split_port;
use http::{HeaderMap, Method};
use matches::Matcher;
use std::sync::Arc;
use weft_model::RouteTable;
use weft_model::route::Route;

/// What a request is routed by.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The authority as given, `Shop.Example:8080`; empty when there is none.
    pub host: &'a str,
    /// Without the query.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
}

/// Why no route was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// No virtual host has a domain that fits the host.
    NoHost,
    /// The virtual host was found, but none of its routes fits.
    NoRoute,
}

/// A compiled [`RouteTable`].
#[derive(Debug)]
pub struct Table {
    hosts: Hosts,
    routes: Vec<Arc<Route>>,
    /// One per route.
    matchers: Vec<Matcher>,
}

impl Table {
    /// Fails on a domain that is in two virtual hosts, and on what is no method, header name or regular expression.
    pub fn compile(table: &RouteTable) -> Result<Table, CompileError> {
        let mut compiled = Table { hosts: Hosts::default(), routes: Vec::new(), matchers: Vec::new() };
        for host in &table.virtual_hosts {
            let within_host = |error: CompileError| error.within(format!("virtual host \"{}\"", host.name));
            let first = compiled.routes.len();
            for route in &host.routes {
                let matcher = Matcher::compile(&route.matches)
                    .map_err(|error| within_host(error.within(format!("route \"{}\"", route.name))))?;
                compiled.matchers.push(matcher);
                compiled.routes.push(Arc::new(route.clone()));
            }
            for domain in &host.domains {
                compiled.hosts.insert(domain, first..compiled.routes.len()).map_err(within_host)?;
            }
        }
        Ok(compiled)
    }

    /// The place in [`Table::routes`] of the route that serves the request.
    pub fn find(&self, head: &Head<'_>) -> Result<usize, NotFound> {
        let routes = self.hosts.find(head.host).ok_or(NotFound::NoHost)?;
        let first = routes.start;
        self.matchers[routes]
            .iter()
            .position(|matcher| matcher.fits(head))
            .map(|offset| first + offset)
            .ok_or(NotFound::NoRoute)
    }

    /// The routes of all virtual hosts, in list order.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }
}
