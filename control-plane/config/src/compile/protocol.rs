//! Which protocol a Service's port speaks: by `appProtocol`, else by what its name begins with, as in Istio
//! (`http`, `http-web`, `grpc-api`, `tcp-mysql` …). A port that says neither is found out at run time.

use weft_model::cluster::Protocol;

/// What a Service says of its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortProtocol {
    Http,
    /// HTTP/2 with prior knowledge: `grpc`, `http2`, `kubernetes.io/h2c`.
    Http2,
    /// Opaque bytes.
    Tcp,
    /// Nothing, or a word that we do not know: detected per connection.
    Unknown,
}

impl PortProtocol {
    pub(crate) fn of(app_protocol: Option<&str>, port_name: Option<&str>) -> Self {
        match app_protocol {
            Some(word) => Self::of_word(word),
            None => Self::of_word(port_name.unwrap_or_default().split('-').next().unwrap_or_default()),
        }
    }

    fn of_word(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "http" | "kubernetes.io/ws" => PortProtocol::Http,
            "http2" | "h2c" | "kubernetes.io/h2c" | "grpc" => PortProtocol::Http2,
            "tcp" | "tls" | "https" | "kubernetes.io/wss" | "mysql" | "mongo" | "mongodb" | "redis" | "postgres"
            | "postgresql" | "kafka" | "amqp" | "mqtt" | "zookeeper" | "cassandra" => PortProtocol::Tcp,
            // gRPC-Web is HTTP/1.1 to whoever forwards it
            "grpc-web" => PortProtocol::Http,
            _ => PortProtocol::Unknown,
        }
    }

    /// How the upstream is spoken to by a sidecar, which knows what its caller spoke, or else by a gateway.
    pub(crate) fn upstream(self, sidecar: bool) -> Protocol {
        match self {
            PortProtocol::Http2 => Protocol::Http2,
            // what the caller of a sidecar speaks is what it would have spoken to the service itself;
            // what a browser speaks to a gateway says nothing of the service
            PortProtocol::Unknown if sidecar => Protocol::Downstream,
            _ => Protocol::Http1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_application_protocol_comes_before_the_name_and_the_name_counts_to_its_dash() {
        for (app_protocol, name, expected) in [
            (None, Some("http"), PortProtocol::Http),
            (None, Some("http-web"), PortProtocol::Http),
            (None, Some("httpx"), PortProtocol::Unknown),
            (None, Some("grpc-api"), PortProtocol::Http2),
            (None, Some("mysql"), PortProtocol::Tcp),
            (None, Some("tcp-a"), PortProtocol::Tcp),
            (None, Some("web"), PortProtocol::Unknown),
            (None, None, PortProtocol::Unknown),
            (Some("kubernetes.io/h2c"), Some("http"), PortProtocol::Http2),
            (Some("HTTP"), Some("tcp"), PortProtocol::Http),
            (Some("kubernetes.io/ws"), None, PortProtocol::Http),
            (Some("example.com/own"), Some("http"), PortProtocol::Unknown),
        ] {
            assert_eq!(PortProtocol::of(app_protocol, name), expected, "{app_protocol:?} {name:?}");
        }
    }
}
