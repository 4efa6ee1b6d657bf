//! `gateway/examples/fun-shop` as a newcomer would run it, checked by curl and by what browsers send.

use crate::mesh::{Mesh, alive};
use crate::shop::knob;
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The example in a directory of its own, beside it the certificate that its script makes.
fn fun_shop(network: u8) -> Mesh {
    let example = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../gateway/examples/fun-shop"));
    Mesh::start(network, |manifests| {
        let directory = manifests.parent().unwrap();
        for entry in fs::read_dir(example.join("manifests")).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), manifests.join(entry.file_name())).unwrap();
        }
        fs::copy(example.join("shop.py"), directory.join("shop.py")).unwrap();
        let script = Command::new("sh").arg(example.join("certificate.sh")).current_dir(directory).status().unwrap();
        assert!(script.success(), "certificate.sh");
    })
}

fn directory(mesh: &Mesh) -> PathBuf {
    mesh.state().parent().unwrap().to_owned()
}

/// What curl says: status and body.
fn curl(mesh: &Mesh, args: &[&str]) -> (u16, String) {
    let gateway = mesh.gateway(8443).ip();
    let resolve = format!("fun.shop:8443:{gateway}");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--noproxy", "*", "--resolve", &resolve, "-w", "\n%{http_code} %{http_version}"]);
    let output = curl.arg("--cacert").arg(directory(mesh).join("tls.crt")).args(args).output().unwrap();
    assert!(output.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, end) = text.rsplit_once('\n').unwrap();
    (end.split(' ').next().unwrap().parse().unwrap(), format!("{body} over {}", end.split(' ').nth(1).unwrap()))
}

/// The header of an answer, by its name in lower case.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// What Chrome sends before a script's `fetch(url, { method, headers, credentials: "include" })`.
fn preflight(mesh: &Mesh, path: &str, origin: &str, method: &str, headers: &str) -> Vec<(String, String)> {
    let asked = [
        ("accept", "*/*"),
        ("access-control-request-method", method),
        ("access-control-request-headers", headers),
        ("origin", origin),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-dest", "empty"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-US,en;q=0.9"),
    ];
    let asked =
        asked.into_iter().filter(|(name, value)| *name != "access-control-request-headers" || !value.is_empty());
    let answer = mesh.ask("OPTIONS", path, &asked.collect::<Vec<_>>(), "");
    assert!((200..300).contains(&answer.status), "a preflight must be answered with success: {}", answer.head);
    assert_eq!(answer.body, "");
    let lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect()
}

/// Whether a browser would now send the request itself (the fetch standard's CORS-preflight fetch, with credentials).
fn allows(answer: &[(String, String)], origin: &str, method: &str, headers: &str) -> bool {
    let value = |name: &str| {
        let mut values = answer.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str());
        values.next().filter(|_| values.next().is_none())
    };
    let lists = |name: &str, wanted: &str| {
        value(name).is_some_and(|list| list.split(',').any(|item| item.trim().eq_ignore_ascii_case(wanted)))
    };
    // With credentials a star is only a star.
    value("access-control-allow-origin") == Some(origin)
        && value("access-control-allow-credentials") == Some("true")
        && (["GET", "HEAD", "POST"].contains(&method) || lists("access-control-allow-methods", method))
        && headers.split(',').filter(|h| !h.is_empty()).all(|h| lists("access-control-allow-headers", h))
}

#[test]
fn the_fun_shop_works_for_curl_and_for_browsers() {
    let mut mesh = fun_shop(43);

    // Who answers which path; the wildcard is in the middle, and only there.
    let routes = [
        ("/orders", "order"),
        ("/orders/7", "order"),
        ("/mypages", "order"),
        ("/paymentLists/3?x=%20y", "payment"),
        ("/carts/7/cancellations", "cart"),
        ("/carts/7/cancellations/1/lines/2", "cart"),
    ];
    for (path, service) in routes {
        let answer = mesh.get(path).json();
        assert_eq!((&answer["service"], &answer["path"]), (&service.into(), &path.into()));
    }
    for path in
        ["/", "/carts/7", "/carts/cancellations", "/carts/7/8/cancellations", "/carts/7/cancellationsx", "/ordersx"]
    {
        assert_eq!(mesh.get(path).status, 404, "{path}");
    }

    // HTTPS with the certificate of the Secret: HTTP/2 and HTTP/1.1.
    for (version, flag) in [("2", "--http2"), ("1.1", "--http1.1")] {
        let (status, body) = curl(&mesh, &[flag, "-d", "{}", "https://fun.shop:8443/carts/1/cancellations/2"]);
        assert_eq!(status, 200, "{body}");
        assert!(body.contains("\"cart\"") && body.ends_with(&format!(" over {version}")), "{body}");
    }
    let stranger = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--resolve", &format!("fun.shop:8443:{}", mesh.gateway(8443).ip())])
        .arg("https://fun.shop:8443/orders")
        .output()
        .unwrap();
    assert_eq!(stranger.status.code(), Some(60), "who does not trust it is not served: {stranger:?}");

    // Preflights, then the requests themselves, of pages anywhere.
    for origin in ["http://localhost:3000", "https://app.fun.shop", "null"] {
        for (method, headers) in
            [("PUT", "content-type,x-token"), ("DELETE", "authorization"), ("PATCH", ""), ("POST", "content-type")]
        {
            for (path, _) in routes {
                let answer = preflight(&mesh, path, origin, method, headers);
                assert!(allows(&answer, origin, method, headers), "{origin} {method} {headers}: {answer:?}");
            }
        }
        let answer = mesh.ask("PUT", "/orders/1", &[("origin", origin), ("cookie", "session=1")], "{}");
        assert_eq!((answer.status, answer.json()["method"].as_str()), (200, Some("PUT")));
        assert_eq!(header(&answer.head, "access-control-allow-origin"), Some(origin));
        assert_eq!(header(&answer.head, "access-control-allow-credentials"), Some("true"));
        assert!(header(&answer.head, "vary").is_some_and(|vary| vary.to_ascii_lowercase().contains("origin")));
    }
    let plain = mesh.ask("OPTIONS", "/orders", &[], "");
    assert_eq!((plain.status, plain.json()["method"].as_str()), (200, Some("OPTIONS")), "no preflight: the app's own");

    idle_sidecars_are_small(&mesh);
    let pids = mesh.pids();
    mesh.signal(Signal::INT);
    assert!(mesh.wait().success());
    assert_eq!(pids.into_iter().filter(|pid| alive(*pid)).collect::<Vec<_>>(), [0; 0], "nothing is left behind");
}

fn idle_sidecars_are_small(mesh: &Mesh) {
    let limit = knob("WEFT_LIVE_RSS_KIB", 65536);
    for pod in ["order-0", "payment-0", "cart-0"] {
        let status = fs::read_to_string(format!("/proc/{}/status", mesh.pid(pod, "sidecar"))).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")).unwrap();
        println!("{pod}'s sidecar: {resident} KiB resident");
        assert!(resident.parse::<u64>().unwrap() <= limit, "{pod}'s sidecar: {resident} KiB");
    }
}
