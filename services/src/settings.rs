//! What a service is told when it starts: by flags, or by the environment as pods are.
//!
//! Everything is checked once, here, and all mistakes are reported together; what comes out is
//! trusted by the rest.

use anyhow::bail;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// One of the three deployables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Order,
    Delivery,
    Product,
}

impl Service {
    pub const ALL: [Service; 3] = [Service::Order, Service::Delivery, Service::Product];

    pub fn name(self) -> &'static str {
        match self {
            Service::Order => "order",
            Service::Delivery => "delivery",
            Service::Product => "product",
        }
    }

    /// The port on a laptop; pods say 8080 by `PORT`.
    fn default_port(self) -> u16 {
        match self {
            Service::Order => 8081,
            Service::Delivery => 8082,
            Service::Product => 8083,
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(name: &str) -> Result<Service, String> {
        let known = || Service::ALL.map(Service::name).join(", ");
        Service::ALL
            .into_iter()
            .find(|s| s.name() == name)
            .ok_or_else(|| format!("no service {name:?}: one of {}", known()))
    }
}

/// The flags of `weft service NAME`; each can be an environment variable too.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Address to listen on
    #[arg(long, env = "HOST", default_value = "127.0.0.1", value_name = "IP")]
    pub host: IpAddr,
    /// Port to listen on; 0 picks a free one [default: 8081 order, 8082 delivery, 8083 product]
    #[arg(long, env = "PORT", value_name = "PORT")]
    pub port: Option<u16>,
    /// Folder of the shop's data; each service keeps its own below it, and its replicas share that
    #[arg(long, env = "DATA_DIR", default_value = ".weft/data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Folder of the event log that all services share [default: DATA_DIR/events]
    #[arg(long, env = "EVENT_LOG", value_name = "DIR")]
    pub event_log: Option<PathBuf>,
    /// Where order asks for stock [default: http://product:8080 through HTTP_PROXY, else http://127.0.0.1:8083]
    #[arg(long, env = "PRODUCT_URL", value_name = "URL")]
    pub product_url: Option<String>,
    /// Proxy that calls to other services go through, as a sidecar is; http_proxy and NO_PROXY are heeded too
    #[arg(long, env = "HTTP_PROXY", value_name = "URL")]
    pub http_proxy: Option<String>,
    /// How long order waits for product's answer about stock before it goes on without, in milliseconds
    #[arg(long, env = "STOCK_CHECK_TIMEOUT_MS", default_value_t = 500, value_name = "MS")]
    pub stock_check_timeout_ms: u64,
}

/// [`Args`], checked.
#[derive(Clone, Debug)]
pub struct Settings {
    pub service: Service,
    pub listen: SocketAddr,
    /// This service's own folder.
    pub data: PathBuf,
    pub event_log: PathBuf,
    /// Without a slash at its end.
    pub product_url: String,
    pub http_proxy: Option<String>,
    pub stock_check_timeout: Duration,
}

impl Settings {
    /// Fails with every mistake at once.
    pub fn new(service: Service, args: Args) -> anyhow::Result<Settings> {
        let mut mistakes = Vec::new();
        let http_proxy = args.http_proxy.or_else(|| std::env::var("http_proxy").ok()).filter(|p| !p.is_empty());
        let default_url = if http_proxy.is_some() { "http://product:8080" } else { "http://127.0.0.1:8083" };
        let product_url = args.product_url.unwrap_or_else(|| default_url.into()).trim_end_matches('/').to_owned();
        for (name, url) in [("PRODUCT_URL", Some(&product_url)), ("HTTP_PROXY", http_proxy.as_ref())] {
            if let Some(Err(wrong)) = url.map(|u| check_url(u)) {
                mistakes.push(format!("{name}: {wrong}"));
            }
        }
        if !(1..=60_000).contains(&args.stock_check_timeout_ms) {
            let given = args.stock_check_timeout_ms;
            mistakes.push(format!("STOCK_CHECK_TIMEOUT_MS: {given} is not between 1 and 60000 milliseconds"));
        }
        if !mistakes.is_empty() {
            bail!("{service} cannot start: {}", mistakes.join("; "));
        }
        Ok(Settings {
            service,
            listen: SocketAddr::new(args.host, args.port.unwrap_or(service.default_port())),
            data: args.data_dir.join(service.name()),
            event_log: args.event_log.unwrap_or_else(|| args.data_dir.join("events")),
            product_url,
            http_proxy,
            stock_check_timeout: Duration::from_millis(args.stock_check_timeout_ms),
        })
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let uri: http::Uri = url.parse().map_err(|e| format!("{url:?} is not a URL ({e})"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(_)) => Ok(()),
        (Some(other), Some(_)) => {
            Err(format!("{url:?} speaks {other}; the services speak plain http, TLS is the mesh's"))
        }
        _ => Err(format!("{url:?} is not an absolute URL such as http://127.0.0.1:8083")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(product_url: Option<&str>, http_proxy: Option<&str>, timeout: u64) -> Args {
        Args {
            host: IpAddr::from([127, 0, 0, 1]),
            port: None,
            data_dir: "data".into(),
            event_log: None,
            product_url: product_url.map(Into::into),
            http_proxy: http_proxy.map(Into::into),
            stock_check_timeout_ms: timeout,
        }
    }

    #[test]
    fn behind_a_proxy_product_is_asked_by_its_name() {
        let settings = Settings::new(Service::Order, args(None, Some("http://127.0.1.1:15001"), 500)).unwrap();
        assert_eq!(settings.product_url, "http://product:8080");
        assert_eq!(settings.listen.port(), 8081);
        assert_eq!(settings.data, PathBuf::from("data/order"));
        assert_eq!(settings.event_log, PathBuf::from("data/events"));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let error = Settings::new(Service::Order, args(Some("product"), Some("https://x"), 0)).unwrap_err().to_string();
        for part in ["PRODUCT_URL", "HTTP_PROXY", "STOCK_CHECK_TIMEOUT_MS"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_unknown_service_is_told_the_known_ones() {
        assert_eq!("delivery".parse(), Ok(Service::Delivery));
        assert!("payment".parse::<Service>().unwrap_err().contains("order, delivery, product"));
    }
}
