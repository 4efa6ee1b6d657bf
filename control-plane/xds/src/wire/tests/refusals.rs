//! What is outside the subset is refused by its path.

mod policies;

use crate::wire::{Any, decode, encode};
use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::BoolValue;
use prost::{Message, Name};
use weft_model::listener::{
    Binding, ChainMatch, ClientValidation, Direction, FilterChain, Handler, HttpHandler, TlsTermination,
};
use weft_model::route::{Action, Forward, Route, VirtualHost};
use weft_model::{Cluster, Listener, Resource, RouteTable};

/// The resource's message, changed, and what decoding it says.
fn refusal<M: Message + Name + Default>(resource: Resource, change: impl FnOnce(&mut M)) -> String {
    let mut message = M::decode(encode(&resource).value.as_slice()).unwrap();
    change(&mut message);
    decode(&Any { type_url: M::type_url(), value: message.encode_to_vec() }).unwrap_err().to_string()
}

fn listener() -> Resource {
    let handler = Handler::Http(HttpHandler::new("routes"));
    let chain = FilterChain { name: "c".into(), matches: ChainMatch::default(), tls: None, handler };
    Resource::Listener(Listener {
        name: "l".into(),
        address: "127.0.0.1:80".parse().unwrap(),
        binding: Binding::Socket,
        direction: Direction::Edge,
        chains: vec![chain],
        detect_timeout: None,
    })
}

fn table() -> Resource {
    table_of(Route::all("", Action::Forward(Forward::default())))
}

fn table_of(route: Route) -> Resource {
    let host = VirtualHost { name: "h".into(), domains: vec!["*".into()], routes: vec![route] };
    Resource::RouteTable(RouteTable { name: "t".into(), virtual_hosts: vec![host] })
}

/// The connection manager of a listener's first chain.
fn with_manager(listener: &mut lds::Listener, change: impl FnOnce(&mut hcm::HttpConnectionManager)) {
    let config = listener.filter_chains[0].filters[0].config_type.as_mut().unwrap();
    let lds::filter::ConfigType::TypedConfig(any) = config else { panic!("a typed config was written") };
    let mut manager = hcm::HttpConnectionManager::decode(any.value.as_slice()).unwrap();
    change(&mut manager);
    any.value = manager.encode_to_vec();
}

#[test]
fn a_foreign_type_is_named() {
    let error = decode(&Any { type_url: "type.googleapis.com/envoy.config.core.v3.Node".into(), value: vec![] });
    assert!(error.unwrap_err().what.contains("envoy.config.core.v3.Node"));
}

#[test]
fn inline_routes_are_refused_where_they_are() {
    let said = refusal(listener(), |listener: &mut lds::Listener| {
        with_manager(listener, |manager| {
            manager.route_specifier =
                Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(Default::default()));
        });
    });
    assert_eq!(said, "filter_chains[0].filters[0].typed_config.route_config: is not supported by this proxy: use rds");
}

#[test]
fn an_unknown_http_filter_is_refused_unless_it_is_optional() {
    let foreign = || hcm::HttpFilter { name: "envoy.filters.http.lua".into(), ..Default::default() };
    let said = refusal(listener(), |listener: &mut lds::Listener| {
        with_manager(listener, |manager| manager.http_filters.insert(0, foreign()));
    });
    assert_eq!(
        said,
        "filter_chains[0].filters[0].typed_config.http_filters[0]: \
         the HTTP filter `envoy.filters.http.lua` is not supported by this proxy"
    );
    let mut message = lds::Listener::decode(encode(&listener()).value.as_slice()).unwrap();
    with_manager(&mut message, |manager| {
        manager.http_filters.insert(0, hcm::HttpFilter { is_optional: true, ..foreign() });
    });
    let any = Any { type_url: lds::Listener::type_url(), value: message.encode_to_vec() };
    assert_eq!(decode(&any), Ok(listener()));
}

#[test]
fn a_field_outside_the_subset_is_refused_by_its_path() {
    let said = refusal(table(), |table: &mut rds::RouteConfiguration| {
        table.virtual_hosts[0].routes[0].r#match.as_mut().unwrap().grpc = Some(Default::default());
    });
    assert_eq!(said, "virtual_hosts[0].routes[0].match.grpc: is not supported by this proxy");
    let said = refusal(Resource::Cluster(Cluster::new("c")), |cluster: &mut cds::Cluster| {
        cluster.lb_subset_config = Some(Default::default());
    });
    assert_eq!(said, "lb_subset_config: is not supported by this proxy");
}

#[test]
fn who_binds_to_no_port_has_nothing_to_hand_on() {
    let said = refusal(listener(), |listener: &mut lds::Listener| {
        listener.bind_to_port = Some(BoolValue { value: false });
        listener.use_original_dst = Some(BoolValue { value: true });
    });
    assert_eq!(said, "use_original_dst: goes only with a listener that binds to its port");
}

#[test]
fn a_source_with_a_port_is_refused() {
    let mut cluster = Cluster::new("c");
    cluster.bind_source = vec!["127.0.0.6".parse().unwrap()];
    let said = refusal(Resource::Cluster(cluster), |cluster: &mut cds::Cluster| {
        let config = cluster.upstream_bind_config.as_mut().unwrap();
        config.source_address.as_mut().unwrap().port_specifier = Some(PortSpecifier::PortValue(99));
    });
    assert_eq!(said, "upstream_bind_config.source_address.port_value: a source has no port of its own: write 0");
}

#[test]
fn a_formatter_command_in_a_header_is_refused_and_not_sent_literally() {
    let said = refusal(table(), |table: &mut rds::RouteConfiguration| {
        let header = HeaderValue { key: "x".into(), value: "%REQ(:path)%".into(), ..Default::default() };
        let option = HeaderValueOption { header: Some(header), ..Default::default() };
        table.virtual_hosts[0].routes[0].request_headers_to_add = vec![option];
    });
    assert!(said.starts_with("virtual_hosts[0].routes[0].request_headers_to_add[0].header.value: `%REQ(:path)%`"));
}

#[test]
fn callers_are_asked_for_certificates_in_two_ways_and_no_other() {
    use envoy_types::pb::envoy::config::core::v3::transport_socket;
    use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
    let said = |required: bool, change: fn(&mut tls::DownstreamTlsContext)| {
        let Resource::Listener(mut asking) = listener() else { panic!("a listener") };
        let clients = Some(ClientValidation { authorities: "PEM".into(), required });
        asking.chains[0].tls = Some(TlsTermination { secrets: vec!["s".into()], alpn: vec![], clients });
        refusal(Resource::Listener(asking), |listener: &mut lds::Listener| {
            let socket = listener.filter_chains[0].transport_socket.as_mut().unwrap();
            let Some(transport_socket::ConfigType::TypedConfig(any)) = &mut socket.config_type else {
                panic!("a typed config was written")
            };
            let mut context = tls::DownstreamTlsContext::decode(any.value.as_slice()).unwrap();
            change(&mut context);
            any.value = context.encode_to_vec();
        })
    };
    let at = "filter_chains[0].transport_socket.typed_config";
    let flag = format!("{at}.require_client_certificate");
    let both = format!("{flag}: goes with VERIFY_TRUST_CHAIN, and only with that");
    let may_be_missing = |context: &mut tls::DownstreamTlsContext| context.require_client_certificate = None;
    assert_eq!(said(true, may_be_missing), both);
    let may_be_anybodys = |context: &mut tls::DownstreamTlsContext| {
        context.require_client_certificate = Some(BoolValue { value: true });
    };
    assert_eq!(said(false, may_be_anybodys), both);
    let by_nobody = |context: &mut tls::DownstreamTlsContext| {
        context.common_tls_context.as_mut().unwrap().validation_context_type = None;
    };
    assert_eq!(said(true, by_nobody), format!("{flag}: needs authorities (trusted_ca)"));
    let by_names = |context: &mut tls::DownstreamTlsContext| {
        use tls::common_tls_context::ValidationContextType::ValidationContext;
        let common = context.common_tls_context.as_mut().unwrap();
        let Some(ValidationContext(validation)) = &mut common.validation_context_type else {
            panic!("a validation was written")
        };
        validation.match_typed_subject_alt_names = vec![tls::SubjectAltNameMatcher::default()];
    };
    let path = format!("{at}.common_tls_context.validation_context.match_typed_subject_alt_names");
    assert_eq!(said(true, by_names), format!("{path}: is not supported by this proxy"));
}

#[test]
fn a_private_key_is_never_quoted() {
    use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
    let secret = weft_model::Secret { name: "s".into(), certificate_chain: "c".into(), private_key: "hush".into() };
    let said = refusal(Resource::Secret(secret), |secret: &mut tls::Secret| {
        let Some(tls::secret::Type::TlsCertificate(certificate)) = &mut secret.r#type else {
            panic!("a certificate was written")
        };
        certificate.password = certificate.private_key.clone();
    });
    assert!(!said.contains("hush"), "{said}");
}
