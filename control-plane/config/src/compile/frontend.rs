//! Which callers of an HTTPS listener must prove who they are (GEP-91).
//!
//! A connection is made once and carries requests for every listener of its port, so what callers must prove is said for ports and
//! not for listeners. Where they must, and no authority is to be had to judge them by, nobody is let in.

use super::authority::{self, Refusal};
use super::index::Index;
use crate::Key;
use crate::kinds::{FrontendMode, FrontendValidation, Gateway, GatewayListener, ListenerProtocol};
use weft_model::listener::ClientValidation;

/// What a listener's callers are asked for. Those of TLS listeners are not asked: the API says it of HTTPS alone.
pub(crate) fn of_listener<'g>(gateway: &'g Gateway, listener: &GatewayListener) -> Option<&'g FrontendValidation> {
    gateway.frontend.of_port(listener.port).filter(|_| listener.protocol == ListenerProtocol::Https)
}

/// What the callers of a port's HTTPS listeners are asked for; `Err` when no authority is to be had.
pub(super) fn clients(
    index: &Index,
    (key, gateway): (&Key, &Gateway),
    port: u16,
) -> Result<Option<ClientValidation>, Vec<Refusal>> {
    let Some(validation) = gateway.frontend.of_port(port) else { return Ok(None) };
    let authorities = authority::bundle(index, key, &validation.authorities)?;
    Ok(Some(ClientValidation { authorities, required: validation.mode == FrontendMode::AllowValidOnly }))
}
