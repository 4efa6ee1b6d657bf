//! Where a redirect sends the caller: the Gateway API's rules for what is left out.
//!
//! The port is the part that surprises: a redirect that names a scheme means that scheme's
//! well-known port, one that names none means the listener's own, and a `Location` never spells the port that its scheme implies.

use crate::CompileError;
use crate::rewrite::Rewrite;
use crate::route::split_port;
use http::StatusCode;
use weft_model::route::{PathMatch, Redirect};

/// A compiled [`Redirect`].
#[derive(Clone, Debug)]
pub struct Redirection {
    scheme: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<Rewrite>,
    status: StatusCode,
}

/// What the redirected request was.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `http` or `https`: how it came to the listener.
    pub scheme: &'a str,
    /// The authority as given.
    pub host: &'a str,
    /// The port of the listener that took it.
    pub listener_port: u16,
    pub path: &'a str,
    pub query: Option<&'a str>,
}

impl Redirection {
    /// `matched` is the match of the same route. Fails on a status that is none of 301, 302, 303, 307, 308.
    pub fn compile(redirect: &Redirect, matched: &PathMatch) -> Result<Redirection, CompileError> {
        let status = StatusCode::from_u16(redirect.status)
            .ok()
            .filter(|status| matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308))
            .ok_or_else(|| CompileError::new(format!("{} is no status of a redirect", redirect.status)))?;
        let path = redirect.path.as_ref().map(|path| Rewrite::compile(path, matched)).transpose()?;
        let Redirect { scheme, host, port, .. } = redirect.clone();
        Ok(Redirection { scheme, host, port, path, status })
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The value of the `Location` header.
    pub fn location(&self, request: &Request<'_>) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(request.scheme);
        let host = self.host.as_deref().unwrap_or_else(|| split_port(request.host).0);
        let port = self.port.unwrap_or_else(|| match &self.scheme {
            Some(scheme) => well_known(scheme).unwrap_or(request.listener_port),
            None => request.listener_port,
        });
        let path = match (&self.path, request.query) {
            (Some(rewrite), query) => rewrite.path_and_query(request.path, query),
            (None, Some(query)) => format!("{}?{query}", request.path),
            (None, None) => request.path.to_owned(),
        };
        match well_known(scheme) == Some(port) {
            true => format!("{scheme}://{host}{path}"),
            false => format!("{scheme}://{host}:{port}{path}"),
        }
    }
}

fn well_known(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}
