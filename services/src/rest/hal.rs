//! HAL, as Spring Data REST says it: `_links.self` on every resource, `_embedded` and `page` on every list.

use super::paging::Paging;
use axum::extract::FromRequestParts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts, uri::Authority};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::convert::Infallible;

/// Where the client believes to be: links are made of it. Empty if the request does not say, and
/// then links are relative.
#[derive(Clone, Debug, Default)]
pub(crate) struct Base(String);

impl<S: Sync> FromRequestParts<S> for Base {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Base, Infallible> {
        Ok(Base::of(&parts.headers))
    }
}

impl Base {
    fn of(headers: &HeaderMap) -> Base {
        let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
        let scheme = text("x-forwarded-proto").filter(|s| matches!(*s, "http" | "https")).unwrap_or("http");
        let host = text("host").and_then(|h| h.parse::<Authority>().ok()).filter(|a| !a.as_str().contains('@'));
        Base(host.map(|h| format!("{scheme}://{h}")).unwrap_or_default())
    }

    pub(crate) fn link(&self, path: impl AsRef<str>) -> String {
        format!("{}{}", self.0, path.as_ref())
    }
}

/// `resource` at `path` with its links; `links` are further relations and their paths.
pub(crate) fn resource(base: &Base, path: &str, resource: &impl Serialize, links: &[(&str, String)]) -> Value {
    let mut value = serde_json::to_value(resource).expect("our resources are structs of plain fields");
    let mut all = Map::new();
    all.insert("self".into(), json!({ "href": base.link(path) }));
    all.extend(links.iter().map(|(rel, path)| ((*rel).to_owned(), json!({ "href": base.link(path) }))));
    value["_links"] = Value::Object(all);
    value
}

/// One page of `total` resources at `path`; `query` is what the list was filtered by, as in `&customerId=1`.
pub(crate) fn list(
    base: &Base,
    path: &str,
    rel: &str,
    items: Vec<Value>,
    paging: Paging,
    total: u64,
    query: &str,
) -> Value {
    let last = total.div_ceil(paging.size).saturating_sub(1);
    let at = |page: u64| json!({ "href": base.link(format!("{path}?page={page}&size={}{query}", paging.size)) });
    let mut links = Map::new();
    links.insert("self".into(), at(paging.page));
    links.insert("first".into(), at(0));
    if paging.page > 0 {
        links.insert("prev".into(), at((paging.page - 1).min(last)));
    }
    if paging.page < last {
        links.insert("next".into(), at(paging.page + 1));
    }
    links.insert("last".into(), at(last));
    json!({
        "_embedded": { rel: items },
        "_links": links,
        "page": {
            "size": paging.size,
            "totalElements": total,
            "totalPages": total.div_ceil(paging.size),
            "number": paging.page,
        },
    })
}

/// A HAL document as an answer.
pub(crate) struct Hal(pub Value);

impl IntoResponse for Hal {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/hal+json")], self.0.to_string()).into_response()
    }
}

/// 201, with the new resource and where it is.
pub(crate) fn created(location: String, resource: Value) -> Response {
    (StatusCode::CREATED, [(header::LOCATION, location)], Hal(resource)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(headers: &[(&'static str, &str)]) -> String {
        let headers = headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
        Base::of(&headers).link("/orders/1")
    }

    #[test]
    fn links_lead_where_the_client_came_in() {
        assert_eq!(base(&[("host", "localhost:8080")]), "http://localhost:8080/orders/1");
        assert_eq!(base(&[("host", "shop.example"), ("x-forwarded-proto", "https")]), "https://shop.example/orders/1");
        assert_eq!(base(&[("host", "a b"), ("x-forwarded-proto", "javascript")]), "/orders/1");
        assert_eq!(base(&[]), "/orders/1");
    }

    #[test]
    fn pages_link_to_their_neighbours() {
        let base = Base::default();
        let middle = list(&base, "/orders", "orders", vec![], Paging { page: 1, size: 2 }, 5, "");
        assert_eq!(middle["_links"]["prev"]["href"], "/orders?page=0&size=2");
        assert_eq!(middle["_links"]["next"]["href"], "/orders?page=2&size=2");
        assert_eq!(middle["_links"]["last"]["href"], "/orders?page=2&size=2");
        assert_eq!(middle["page"], json!({ "size": 2, "totalElements": 5, "totalPages": 3, "number": 1 }));
        let empty = list(&base, "/orders", "orders", vec![], Paging { page: 0, size: 20 }, 0, "");
        assert_eq!(empty["page"]["totalPages"], 0);
        assert_eq!((empty["_links"].get("next"), empty["_links"].get("prev")), (None, None));
    }
}
