//! The Gateway API's `sessionPersistence` (GEP-1619): a caller comes back to the endpoint that answered it first.

use crate::Place;
use crate::read::{Cursor, Fields, gateway_duration, header_name, one_of, sized};
use http::HeaderName;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPersistence {
    pub place: Place,
    /// Of the cookie or header; `None`: one that is made from the route's or policy's own name.
    pub session_name: Option<String>,
    pub kind: SessionKind,
    /// Always there for a permanent cookie.
    pub absolute_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// The default. `permanent` outlives the browser's session.
    Cookie {
        permanent: bool,
    },
    Header,
}

/// Reads a [`SessionPersistence`].
pub(crate) fn session_persistence(at: &Cursor<'_>) -> Option<SessionPersistence> {
    at.fields(|f| {
        let is_header = f.opt("type", one_of(&[("Cookie", false), ("Header", true)])).unwrap_or_default();
        let lifetimes = [("Session", false), ("Permanent", true)];
        let permanent = f.opt("cookieConfig", |at| at.fields(|f| f.opt("lifetimeType", one_of(&lifetimes))));
        if is_header && f.has("cookieConfig") {
            f.wrong("cookieConfig", "means nothing with type: Header", "remove it, or write type: Cookie");
        }
        let permanent = permanent.flatten().unwrap_or_default();
        let persistence = SessionPersistence {
            place: f.place(),
            session_name: f.opt("sessionName", |at| if is_header { header_name(at) } else { cookie_name(at) }),
            kind: if is_header { SessionKind::Header } else { SessionKind::Cookie { permanent } },
            absolute_timeout: f.opt("absoluteTimeout", gateway_duration),
            idle_timeout: f.opt("idleTimeout", gateway_duration),
        };
        check_times(f, &persistence);
        persistence
    })
}

fn check_times(f: &mut Fields<'_>, persistence: &SessionPersistence) {
    if persistence.kind == (SessionKind::Cookie { permanent: true }) && !f.has("absoluteTimeout") {
        f.missing::<()>("absoluteTimeout", "write how long the cookie of lifetimeType: Permanent is kept");
    }
}

/// A cookie's name is a token, as a header's is, but its case counts.
fn cookie_name(at: &Cursor<'_>) -> Option<String> {
    let written = sized(1, 128)(at)?;
    match HeaderName::from_bytes(written.as_bytes()) {
        Ok(_) => Some(written),
        Err(_) => at.error(format!("\"{written}\" is not a cookie's name"), "write letters, digits, - and _"),
    }
}
