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

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::route::PathRewrite;

    fn location(redirect: Redirect, scheme: &str, host: &str, listener_port: u16) -> String {
        let redirect = Redirect { status: 302, ..redirect };
        let request = Request { scheme, host, listener_port, path: "/foo/bar", query: Some("q=1") };
        Redirection::compile(&redirect, &PathMatch::PathPrefix("/foo".into())).unwrap().location(&request)
    }

    fn scheme(scheme: &str) -> Redirect {
        Redirect { scheme: Some(scheme.into()), ..Redirect::default() }
    }

    fn port(port: u16) -> Redirect {
        Redirect { port: Some(port), ..Redirect::default() }
    }

    #[test]
    fn ports_are_those_of_the_scheme_or_of_the_listener() {
        for (redirect, request, expected) in [
            // nothing said: the listener's port
            (Redirect::default(), ("http", "a.example", 80), "http://a.example"),
            (Redirect::default(), ("http", "a.example:8080", 8080), "http://a.example:8080"),
            (Redirect::default(), ("https", "a.example", 443), "https://a.example"),
            (Redirect::default(), ("https", "a.example:9", 8443), "https://a.example:8443"),
            // a scheme: its well-known port
            (scheme("https"), ("http", "a.example:8080", 8080), "https://a.example"),
            (scheme("http"), ("https", "a.example", 8443), "http://a.example"),
            (scheme("https"), ("https", "a.example", 8443), "https://a.example"),
            // a port: that, unless the scheme implies it
            (port(8081), ("http", "a.example", 80), "http://a.example:8081"),
            (port(80), ("http", "a.example", 8080), "http://a.example"),
            (port(443), ("http", "a.example", 80), "http://a.example:443"),
            (port(443), ("https", "a.example", 8443), "https://a.example"),
            (Redirect { port: Some(443), ..scheme("https") }, ("http", "a.example", 80), "https://a.example"),
            (Redirect { port: Some(8443), ..scheme("https") }, ("http", "a.example", 80), "https://a.example:8443"),
            // a host
            (
                Redirect { host: Some("b.example".into()), ..Redirect::default() },
                ("http", "a.example:8080", 8080),
                "http://b.example:8080",
            ),
            (Redirect::default(), ("http", "[::1]:8080", 80), "http://[::1]"),
        ] {
            let (from, host, listener_port) = request;
            let text = location(redirect.clone(), from, host, listener_port);
            assert_eq!(text, format!("{expected}/foo/bar?q=1"), "{redirect:?} {request:?}");
        }
    }

    #[test]
    fn paths_are_rewritten_and_keep_the_query() {
        let path = |path| Redirect { path: Some(path), ..Redirect::default() };
        let full = location(path(PathRewrite::Full("/new".into())), "http", "a", 80);
        assert_eq!(full, "http://a/new?q=1");
        let prefix = location(path(PathRewrite::Prefix("/new".into())), "http", "a", 80);
        assert_eq!(prefix, "http://a/new/bar?q=1");
    }

    #[test]
    fn only_a_status_of_redirects_is_taken() {
        for status in [301, 302, 303, 307, 308] {
            let redirect = Redirect { status, ..Redirect::default() };
            assert_eq!(Redirection::compile(&redirect, &PathMatch::Any).unwrap().status().as_u16(), status);
        }
        for status in [0, 200, 300, 304, 404] {
            let redirect = Redirect { status, ..Redirect::default() };
            let error = Redirection::compile(&redirect, &PathMatch::Any).unwrap_err().to_string();
            assert_eq!(error, format!("{status} is no status of a redirect"));
        }
    }
}
