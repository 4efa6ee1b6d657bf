//! What order's calls to other services have in common: the client that goes through the mesh, bodies that are
//! not read without end, and failures in words.

use reqwest::{Client, NoProxy, Proxy, Response};
use std::error::Error as _;

/// Whatever another service says to order is some hundred bytes.
const BODY_LIMIT_BYTES: usize = 64 << 10;

/// A client for all peers; connections are kept for the next call.
pub(super) fn client(http_proxy: Option<&str>) -> reqwest::Result<Client> {
    let mut client = Client::builder().no_proxy().user_agent("weft-shop order");
    if let Some(proxy) = http_proxy {
        client = client.proxy(Proxy::http(proxy)?.no_proxy(NoProxy::from_env()));
    }
    client.build()
}

/// The body, unless it is too long.
pub(super) async fn body(response: &mut Response) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > BODY_LIMIT_BYTES {
            return Ok(None);
        }
    }
    Ok(Some(body))
}

/// Why `peer` did not answer, with the cause at the root, which is what an operator can act on: "connection
/// refused", not "error sending request".
pub(super) fn reason(peer: &str, error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = None;
    while let Some(error) = cause {
        text = Some(error.to_string());
        cause = error.source();
    }
    let what = if error.is_connect() { "cannot be reached" } else { "did not answer" };
    format!("{peer} {what} ({})", text.unwrap_or_else(|| error.to_string()))
}
