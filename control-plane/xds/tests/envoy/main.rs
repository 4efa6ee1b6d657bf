//! Whether what we write means to a stock Envoy what it means to our own proxy: only Envoy can say.

#[cfg(test)]
mod everything;
#[cfg(test)]
mod stock;

use everything::{Backends, everything, table};
use stock::Stock;
use weft_model::Kind;
use weft_model::route::{Action, Respond};
use weft_testkit::tls::Ca;
use weft_testkit::{Answer, Client, Reply, Upstream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_envoy_takes_all_that_we_can_say_and_does_what_it_says() {
    let ca = Ca::new();
    let order = Upstream::answering(Answer::ok("order")).await;
    let certificate = ca.issue(&["shop.example", "*.shop.example"]);
    let backends = Backends { order: order.address(), certificate, authorities: ca.pem() };
    let resources = everything(&backends);
    let all = |kind| resources.iter().filter(|resource| resource.kind() == kind).count();
    let said = [Kind::Cluster, Kind::Listener].map(|kind| (kind, all(kind)));
    let envoy = Stock::start(resources.clone()).await;
    let status = envoy.in_step().await;
    assert_eq!(status.last_nack, None);
    assert_eq!(said.map(|(kind, _)| (kind, status.kinds[kind.discovery()].acked)), said);

    paths_are_rewritten(&envoy, &order).await;
    refusals_and_answers(&envoy).await;
    headers_are_edited(&envoy, &order).await;
    requests_are_matched(&envoy).await;
    browsers_are_answered(&envoy).await;
    policies_are_obeyed(&envoy, &order).await;
    tls_is_terminated(&envoy, &ca).await;
    callers_are_asked_for_certificates(&envoy, &ca).await;
    callers_name_their_destination(&envoy, &order).await;
    envoy.stop().await;
}

async fn ask(client: &mut Client, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let request = client.request(method, "shop.example", path);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    client.send(request.body(weft_testkit::client::body("")).expect("well-formed headers")).await
}

async fn paths_are_rewritten(envoy: &Stock, order: &Upstream) {
    let mut client = Client::http1(envoy.listener("edge").await).await;
    let cases = [
        ("/exact", "/full"),
        ("/orders", "/"),
        ("/orders/1", "/1"),
        ("/ordersx", "/base/ordersx"),
        ("/foo", "/bar"),
        ("/foo/1?q=1", "/bar/1?q=1"),
        ("/chars1", "/c1"),
        ("/r/abc/x", "/abc"),
        ("/other/x", "/base/other/x"),
        ("/", "/base/"),
    ];
    for (path, sent_on) in cases {
        assert_eq!(client.get("shop.example", path).await.status, 200, "{path}");
        assert_eq!(order.last().uri, sent_on, "{path}");
    }
    assert_eq!(client.get("shop.example", "/limits").await.status, 200);
    assert_eq!(order.last().header("host"), Some("elsewhere"));
    assert_eq!(client.get("shop.example", "/own").await.status, 200);
    assert_eq!(order.last().header("host"), Some("own.example"));
}

async fn refusals_and_answers(envoy: &Stock) {
    let mut client = Client::http1(envoy.listener("edge").await).await;
    let cases =
        [("/invalid", 500), ("/nobody", 500), ("/moving", 500), ("/zero", 500), ("/absent", 503), ("/teapot", 418)];
    for (path, status) in cases {
        assert_eq!(client.get("shop.example", path).await.status, status, "{path}");
    }
    assert_eq!(client.get("shop.example", "/teapot").await.body.len(), 5000, "longer than Envoy takes unasked");
    let moved = client.get("old.example", "/old/x?y=1").await;
    assert_eq!((moved.status.as_u16(), moved.header("location")), (308, Some("https://shop.example/new/x?y=1")));
    let other = client.get("shop.example", "/rfull?y=1").await;
    assert_eq!(other.header("location"), Some("http://shop.example:9443/elsewhere?y=1"));
    let mut failed = 0;
    for _ in 0..200 {
        failed += usize::from(client.get("shop.example", "/mix").await.status == 500);
    }
    assert!((1..100).contains(&failed), "{failed} of 200 went to the backend that weighs one in ten and is invalid");
}

async fn headers_are_edited(envoy: &Stock, order: &Upstream) {
    let mut client = Client::http1(envoy.listener("edge").await).await;
    let reply = ask(&mut client, "GET", "/orders", &[("x-gone", "1"), ("x-set", "0")]).await;
    assert_eq!(reply.header("x-route"), Some("by-elements"));
    let seen = order.last();
    assert_eq!(
        (seen.header("x-set"), seen.header("x-empty"), seen.header("x-add")),
        (Some("100%"), Some(""), Some("1"))
    );
    assert_eq!(seen.header("x-gone"), None);
}

async fn requests_are_matched(envoy: &Stock) {
    let mut client = Client::http1(envoy.listener("edge").await).await;
    let fitting = [("GET", vec![("x-yes", "1")]), ("POST", vec![("x-yes", "1"), ("x-no", "other")])];
    for (method, headers) in fitting {
        assert_eq!(ask(&mut client, method, "/fussy?q=12", &headers).await.text(), "fussy", "{method} {headers:?}");
    }
    let others = [
        ("GET", "/fussy?q=12", vec![("x-yes", "1"), ("x-no", "no")]),
        ("GET", "/fussy?q=12", vec![]),
        ("GET", "/fussy?q=ab", vec![("x-yes", "1")]),
        ("PUT", "/fussy?q=12", vec![("x-yes", "1")]),
    ];
    for (method, path, headers) in others {
        assert_eq!(ask(&mut client, method, path, &headers).await.text(), "order", "{method} {path} {headers:?}");
    }
}

async fn browsers_are_answered(envoy: &Stock) {
    let mut client = Client::http1(envoy.listener("edge").await).await;
    let preflight = |origin: &'static str| [("origin", origin), ("access-control-request-method", "PUT")];
    let granted = ask(&mut client, "OPTIONS", "/cors", &preflight("https://a.shop.example")).await;
    assert_eq!(granted.header("access-control-allow-origin"), Some("https://a.shop.example"));
    assert_eq!(granted.header("access-control-allow-methods"), Some("GET, PUT"));
    assert_eq!(granted.header("access-control-max-age"), Some("60"));
    for origin in ["https://partner.example", "https://pr-17.example"] {
        let granted = ask(&mut client, "OPTIONS", "/cors", &preflight(origin)).await;
        assert_eq!(granted.header("access-control-allow-origin"), Some(origin));
    }
    for origin in
        ["https://a.shop-example", "http://partner.example", "https://pr-x.example", "https://pr-1.example.evil"]
    {
        let refused = ask(&mut client, "OPTIONS", "/cors", &preflight(origin)).await;
        assert_eq!(refused.header("access-control-allow-origin"), None, "{origin}");
    }
}

async fn policies_are_obeyed(envoy: &Stock, order: &Upstream) {
    let mut client = Client::http1(envoy.listener("edge").await).await;
    assert_eq!(client.get("shop.example", "/retried").await.status, 200);
    assert_eq!(order.last().uri, "/retried");
    assert_eq!(client.get("shop.example", "/aborted").await.status, 451);
    let mut statuses = Vec::new();
    for path in ["/limited", "/limited", "/limited", "/shadow", "/shadow", "/shadow"] {
        statuses.push(client.get("shop.example", path).await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 503, 200, 200, 200]);
    let reply = client.get("shop.example", "/sticky").await;
    assert!(reply.header("set-cookie").is_some_and(|cookie| cookie.starts_with("sticky=")));
    assert!(client.get("shop.example", "/by-header").await.header("x-sticky").is_some());
}

async fn tls_is_terminated(envoy: &Stock, ca: &Ca) {
    let address = envoy.listener("tls").await;
    for (name, alpn) in [("shop.example", "h2"), ("a.shop.example", "http/1.1")] {
        let mut client = Client::tls(address, name, ca, &[alpn]).await.expect("Envoy has a chain for it");
        assert_eq!(client.get(name, "/orders").await.status, 200, "{name} {alpn}");
    }
    assert!(Client::tls(address, "elsewhere.example", ca, &["h2"]).await.is_err(), "no chain is for that name");
}

async fn callers_are_asked_for_certificates(envoy: &Stock, ca: &Ca) {
    let address = envoy.listener("tls").await;
    let (ours, theirs) = (ca.issue_user("a", &[]), Ca::new().issue_user("b", &[]));
    for (name, shown, served) in [
        ("known.shop.example", Some(&ours), true),
        ("known.shop.example", Some(&theirs), false),
        ("known.shop.example", None, false),
        ("anybody.shop.example", Some(&ours), true),
        ("anybody.shop.example", Some(&theirs), true),
        ("anybody.shop.example", None, true),
    ] {
        let asked = async {
            let mut client = Client::with_tls(address, name, ca.client_config(&["http/1.1"], shown)).await.ok()?;
            let request = client.request("GET", name, "/orders").body(weft_testkit::client::body("")).ok()?;
            client.try_send(request).await.ok()
        };
        let answer = weft_testkit::in_time("an answer, or none", asked).await;
        assert_eq!(answer.map(|reply| reply.status.as_u16()), served.then_some(200), "{name} {shown:?}");
    }
}

async fn callers_name_their_destination(envoy: &Stock, order: &Upstream) {
    let mut client = Client::http1(envoy.listener("out").await).await;
    assert_eq!(client.get("order:8080", "/by-name").await.status, 200);
    assert_eq!(order.last().uri, "/by-name");
    assert_eq!(client.get(&order.address().to_string(), "/by-address").await.status, 200);
    assert_eq!(order.last().uri, "/by-address");
    let mut client = Client::http1(envoy.listener("in").await).await;
    assert_eq!(client.get("shop.example", "/orders").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stock_envoy_rejects_is_reported_and_goes_live_once_it_is_mended() {
    let ca = Ca::new();
    let order = Upstream::answering(Answer::ok("order")).await;
    let certificate = ca.issue(&["shop.example"]);
    let backends = Backends { order: order.address(), certificate, authorities: ca.pem() };
    let envoy = Stock::start(everything(&backends)).await;
    envoy.in_step().await;
    let answer = |body: &str| Action::Respond(Respond { status: 200, body: body.into() });
    let mut next = everything(&backends);
    let replace = |next: &mut Vec<_>, table: weft_model::Resource| {
        next.retain(|resource: &weft_model::Resource| {
            (resource.kind(), resource.name()) != (Kind::RouteTable, table.name())
        });
        next.push(table);
    };
    // a domain twice is what Envoy refuses
    replace(&mut next, table("out", &["*", "*"], answer("bad")));
    replace(&mut next, table("edge", &["*"], answer("changed")));
    envoy.publish(next.clone());
    let nack = envoy.status(|status| status.last_nack.clone()).await;
    assert_eq!(nack.kind, "RDS");
    assert!(nack.names.contains(&"out".to_string()), "{nack:?}");

    replace(&mut next, table("out", &["*"], answer("mended")));
    replace(&mut next, table("edge", &["*"], answer("mended")));
    envoy.publish(next);
    envoy.in_step().await;
    let mut client = Client::http1(envoy.listener("edge").await).await;
    assert_eq!(client.get("shop.example", "/orders").await.text(), "mended");
    envoy.stop().await;
}
