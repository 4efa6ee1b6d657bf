//! What a service is told when it starts: by flags, or by the environment as pods are.
//!
//! Everything is checked once, here, and all mistakes are reported together; what comes out is
//! trusted by the rest.

use anyhow::bail;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The longest that a time in the settings may be.
const MS_MAX: u64 = 60_000;
/// More connections than this a service does not take at all.
const CAPACITY_MAX: usize = 4096;

/// One of the four deployables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Order,
    Delivery,
    Product,
    Payment,
}

impl Service {
    pub const ALL: [Service; 4] = [Service::Order, Service::Delivery, Service::Product, Service::Payment];

    pub fn name(self) -> &'static str {
        match self {
            Service::Order => "order",
            Service::Delivery => "delivery",
            Service::Product => "product",
            Service::Payment => "payment",
        }
    }

    /// The port on a laptop; pods say 8080 by `PORT`.
    fn default_port(self) -> u16 {
        match self {
            Service::Order => 8081,
            Service::Delivery => 8082,
            Service::Product => 8083,
            Service::Payment => 8084,
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
    /// Port to listen on; 0 picks a free one [default: 8081 order, 8082 delivery, 8083 product, 8084 payment]
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
    /// Where order has orders paid [default: http://payment:8080 through HTTP_PROXY, else http://127.0.0.1:8084]
    #[arg(long, env = "PAYMENT_URL", value_name = "URL")]
    pub payment_url: Option<String>,
    /// How long order waits for payment's answer before it refuses the order, in milliseconds
    #[arg(long, env = "PAYMENT_TIMEOUT_MS", default_value_t = 610, value_name = "MS")]
    pub payment_timeout_ms: u64,
    /// How long payment takes over each payment, as if it had more to do: milliseconds, or a range to draw from
    /// evenly, as in 400..620 [default: no longer than it needs]
    #[arg(long, env = "PAYMENT_DELAY_MS", value_name = "MS[..MS]")]
    pub payment_delay_ms: Option<String>,
    /// How many payments payment makes at once; it refuses more with 503 [default: any number]
    #[arg(long, env = "PAYMENT_CAPACITY", value_name = "N")]
    pub payment_capacity: Option<usize>,
}

/// [`Args`], checked.
#[derive(Clone, Debug)]
pub struct Settings {
    pub service: Service,
    pub listen: SocketAddr,
    /// This service's own folder.
    pub data: PathBuf,
    pub event_log: PathBuf,
    pub http_proxy: Option<String>,
    /// Order asks it for stock.
    pub product: Peer,
    /// Order has orders paid there.
    pub payment: Peer,
    /// Payment draws from it how many milliseconds a payment takes at least.
    pub payment_delay_ms: Option<RangeInclusive<u64>>,
    pub payment_capacity: Option<usize>,
}

/// A service that another one calls.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Without a slash at its end.
    pub url: String,
    /// An answer that takes longer is not waited for.
    pub timeout: Duration,
}

impl Settings {
    /// Fails with every mistake at once.
    pub fn new(service: Service, args: Args) -> anyhow::Result<Settings> {
        let mut mistakes = Vec::new();
        let http_proxy = args.http_proxy.or_else(|| std::env::var("http_proxy").ok()).filter(|p| !p.is_empty());
        if let Some(Err(wrong)) = http_proxy.as_deref().map(check_url) {
            mistakes.push(format!("HTTP_PROXY: {wrong}"));
        }
        let mut peer = |service: Service, url: Option<String>, url_name, timeout_ms, timeout_name| {
            let (name, port) = (service.name(), service.default_port());
            let by_name = || format!("http://{name}:8080");
            let here = || format!("http://127.0.0.1:{port}");
            let url = url.unwrap_or_else(|| if http_proxy.is_some() { by_name() } else { here() });
            let url = url.trim_end_matches('/').to_owned();
            mistakes.extend(check_url(&url).err().map(|wrong| format!("{url_name}: {wrong}")));
            mistakes.extend(check_ms(timeout_ms, 1).err().map(|wrong| format!("{timeout_name}: {wrong}")));
            Peer { url, timeout: Duration::from_millis(timeout_ms) }
        };
        let stock_ms = args.stock_check_timeout_ms;
        let product = peer(Service::Product, args.product_url, "PRODUCT_URL", stock_ms, "STOCK_CHECK_TIMEOUT_MS");
        let payment_ms = args.payment_timeout_ms;
        let payment = peer(Service::Payment, args.payment_url, "PAYMENT_URL", payment_ms, "PAYMENT_TIMEOUT_MS");
        let delay = args.payment_delay_ms.filter(|text| !text.is_empty()).map(|text| delay(&text)).transpose();
        let payment_delay_ms =
            delay.map_err(|wrong| mistakes.push(format!("PAYMENT_DELAY_MS: {wrong}"))).unwrap_or_default();
        if args.payment_capacity.is_some_and(|n| !(1..=CAPACITY_MAX).contains(&n)) {
            mistakes.push(format!("PAYMENT_CAPACITY: it is a number from 1 to {CAPACITY_MAX}"));
        }
        if !mistakes.is_empty() {
            bail!("{service} cannot start: {}", mistakes.join("; "));
        }
        Ok(Settings {
            service,
            listen: SocketAddr::new(args.host, args.port.unwrap_or(service.default_port())),
            data: args.data_dir.join(service.name()),
            event_log: args.event_log.unwrap_or_else(|| args.data_dir.join("events")),
            http_proxy,
            product,
            payment,
            payment_delay_ms,
            payment_capacity: args.payment_capacity,
        })
    }
}

fn check_ms(given: u64, least: u64) -> Result<u64, String> {
    let well = (least..=MS_MAX).contains(&given);
    well.then_some(given).ok_or_else(|| format!("{given} is not between {least} and {MS_MAX} milliseconds"))
}

/// `500`, or `400..620`: both ends may be drawn.
fn delay(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let ms = |text: &str| match text.trim().parse() {
        Ok(ms) => check_ms(ms, 0),
        Err(_) => Err(format!("{text:.40?} is not a number of milliseconds; write 500, or 400..620")),
    };
    let (from, to) = (ms(from)?, ms(to)?);
    if from > to {
        return Err(format!("{from}..{to} ends before it begins"));
    }
    Ok(from..=to)
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
mod tests;
