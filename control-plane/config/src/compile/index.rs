//! The world, arranged by what compiling and checking ask for: a Service by name, its EndpointSlices, what a
//! namespace is labelled, which references are granted.

use super::attach::Attaching;
use super::listener_sets;
use super::traffic::Rules;
use crate::kinds::{
    BackendTarget, BackendTlsPolicy, BackendTrafficPolicy, ConfigMap, DestinationRule, EndpointSlice, Gateway,
    GatewayClass, HttpRoute, Labels, Layer4Route, ListenerSet, RateLimitPolicy, Secret, Service, VirtualService,
};
use crate::{Body, Key, KindName, Object, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The suffix of every Service's full name.
pub(crate) const CLUSTER_DOMAIN: &str = "svc.cluster.local";

/// The GatewayClass that is there without being written.
pub(crate) const BUILT_IN_CLASS: &str = "weft";

/// What a GatewayClass's `controllerName` begins with when it is ours.
pub(crate) const CONTROLLER_PREFIX: &str = "weft.dev/";

#[derive(Debug)]
pub(crate) struct Index {
    world: World,
    /// By namespace and name of the Service.
    slices: BTreeMap<(String, String), Vec<Arc<Object>>>,
    grants: Vec<Arc<Object>>,
    pub(crate) rules: Rules,
    /// The Gateways that have listeners of ListenerSets, with these.
    joined: BTreeMap<Key, Gateway>,
}

/// What is referred to, and by whom, across namespaces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference<'a> {
    pub(crate) from_kind: &'a str,
    pub(crate) from_namespace: &'a str,
    /// The group of a Service and of a Secret is empty.
    pub(crate) to_kind: &'a str,
    pub(crate) to_namespace: &'a str,
    pub(crate) to_name: &'a str,
}

impl Index {
    pub(crate) fn new(world: &World) -> Self {
        let mut index = Index {
            world: world.clone(),
            slices: BTreeMap::new(),
            grants: Vec::new(),
            rules: Rules::new(world.objects.values()),
            joined: BTreeMap::new(),
        };
        for object in world.objects.values() {
            match &object.body {
                Body::EndpointSlice(_) => {
                    if let Some(service) = EndpointSlice::service(&object.meta) {
                        let name = (object.key.namespace.clone(), service.to_owned());
                        index.slices.entry(name).or_default().push(object.clone());
                    }
                }
                Body::ReferenceGrant(_) => index.grants.push(object.clone()),
                _ => {}
            }
        }
        index.joined = listener_sets::joined(&index);
        index
    }

    pub(crate) fn object(&self, key: &Key) -> Option<&Object> {
        self.world.objects.get(key).map(|object| &**object)
    }

    fn get(&self, kind: KindName, namespace: &str, name: &str) -> Option<&Object> {
        self.world.objects.get(&Key::new(kind, namespace, name)).map(|object| &**object)
    }

    fn all(&self) -> impl Iterator<Item = &Object> {
        self.world.objects.values().map(|object| &**object)
    }

    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<(&Object, &Service)> {
        let object = self.get(KindName::Service, namespace, name)?;
        if let Body::Service(service) = &object.body { Some((object, service)) } else { None }
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = (&Object, &Service)> {
        self.all().filter_map(|object| match &object.body {
            Body::Service(service) => Some((object, service)),
            _ => None,
        })
    }

    /// Every slice, with the namespace and the name of its Service.
    pub(crate) fn services_by_slice(&self) -> impl Iterator<Item = (&(String, String), &EndpointSlice)> {
        let all = self.slices.iter().flat_map(|(of, slices)| slices.iter().map(move |slice| (of, slice)));
        all.filter_map(|(of, object)| match &object.body {
            Body::EndpointSlice(slice) => Some((of, slice)),
            _ => None,
        })
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    pub(crate) fn slices(&self, service: &Key) -> impl Iterator<Item = &EndpointSlice> {
        let slices = self.slices.get(&(service.namespace.clone(), service.name.clone()));
        slices.into_iter().flatten().filter_map(|object| match &object.body {
            Body::EndpointSlice(slice) => Some(slice),
            _ => None,
        })
    }

    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&Object> {
        self.get(KindName::Pod, namespace, name)
    }

    /// The labels of a cluster's machine. The kind is not read, but its metadata is.
    pub(crate) fn machine_labels(&self, name: &str) -> Option<&Labels> {
        self.get(KindName::Other("Node".into()), "", name).map(|object| &object.meta.labels)
    }

    /// The number that a Pod gives a port's name.
    pub(crate) fn pod_port(&self, namespace: &str, pod: &str, port: &str) -> Option<u16> {
        match &self.pod(namespace, pod)?.body {
            Body::Pod(pod) => pod.spec.port(port),
            _ => None,
        }
    }

    /// Every namespace in which something is, or that is written down itself.
    pub(crate) fn namespaces(&self) -> BTreeSet<&str> {
        let namespaces = self.all().map(|object| match object.key.kind {
            KindName::Namespace => object.key.name.as_str(),
            _ => object.key.namespace.as_str(),
        });
        namespaces.filter(|namespace| !namespace.is_empty()).collect()
    }

    pub(crate) fn secret(&self, namespace: &str, name: &str) -> Option<&Secret> {
        let object = self.get(KindName::Secret, namespace, name)?;
        if let Body::Secret(secret) = &object.body { Some(secret) } else { None }
    }

    pub(crate) fn secret_names(&self, namespace: &str) -> impl Iterator<Item = &str> {
        let of_kind = move |object: &&Object| object.key.kind == KindName::Secret && object.key.namespace == namespace;
        self.all().filter(of_kind).map(|object| object.key.name.as_str())
    }

    pub(crate) fn class_names(&self) -> Vec<&str> {
        let classes = self.all().filter(|object| object.key.kind == KindName::GatewayClass);
        classes.map(|object| object.key.name.as_str()).collect()
    }

    pub(crate) fn gateway(&self, namespace: &str, name: &str) -> Option<(&Object, &Gateway)> {
        self.whole(self.get(KindName::Gateway, namespace, name)?)
    }

    pub(crate) fn gateways(&self) -> impl Iterator<Item = (&Object, &Gateway)> {
        self.of_kind(KindName::Gateway).filter_map(|object| self.whole(object))
    }

    /// A Gateway with all of its listeners.
    fn whole<'i>(&'i self, object: &'i Object) -> Option<(&'i Object, &'i Gateway)> {
        match &object.body {
            Body::Gateway(gateway) => Some((object, self.joined.get(&object.key).unwrap_or(gateway))),
            _ => None,
        }
    }

    pub(crate) fn listener_set(&self, namespace: &str, name: &str) -> Option<(&Object, &ListenerSet)> {
        let object = self.get(KindName::ListenerSet, namespace, name)?;
        if let Body::ListenerSet(set) = &object.body { Some((object, set)) } else { None }
    }

    pub(crate) fn listener_sets(&self) -> impl Iterator<Item = (&Object, &ListenerSet)> {
        self.of_kind(KindName::ListenerSet).filter_map(|object| match &object.body {
            Body::ListenerSet(set) => Some((object, set)),
            _ => None,
        })
    }

    /// HTTPRoutes and GRPCRoutes.
    pub(crate) fn routes(&self) -> impl Iterator<Item = (&Object, &HttpRoute)> {
        let routes = self.of_kind(KindName::HttpRoute).chain(self.of_kind(KindName::GrpcRoute));
        routes.filter_map(|object| match &object.body {
            Body::HttpRoute(route) | Body::GrpcRoute(route) => Some((object, route)),
            _ => None,
        })
    }

    /// An HTTPRoute or a GRPCRoute.
    pub(crate) fn layer7_route(&self, key: &Key) -> Option<(&Object, &HttpRoute)> {
        let object = self.object(key)?;
        match &object.body {
            Body::HttpRoute(route) | Body::GrpcRoute(route) => Some((object, route)),
            _ => None,
        }
    }

    /// TLSRoutes and TCPRoutes.
    pub(crate) fn layer4_routes(&self) -> impl Iterator<Item = (&Object, &Layer4Route)> {
        let routes = self.of_kind(KindName::TlsRoute).chain(self.of_kind(KindName::TcpRoute));
        routes.filter_map(|object| match &object.body {
            Body::TlsRoute(route) | Body::TcpRoute(route) => Some((object, route)),
            _ => None,
        })
    }

    /// Routes of every kind.
    pub(crate) fn attaching(&self) -> impl Iterator<Item = Attaching<'_>> {
        let layer7 = self.routes().map(|(object, route)| Attaching::layer7(object, route));
        layer7.chain(self.layer4_routes().map(|(object, route)| Attaching::layer4(object, route)))
    }

    pub(crate) fn destination_rules(&self) -> impl Iterator<Item = (&Object, &DestinationRule)> {
        self.all().filter_map(|object| match &object.body {
            Body::DestinationRule(rule) => {
                let rule: &DestinationRule = rule;
                Some((object, rule))
            }
            _ => None,
        })
    }

    pub(crate) fn virtual_service(&self, namespace: &str, name: &str) -> Option<(&Object, &VirtualService)> {
        let object = self.get(KindName::VirtualService, namespace, name)?;
        if let Body::VirtualService(service) = &object.body { Some((object, service)) } else { None }
    }

    pub(crate) fn virtual_services(&self) -> impl Iterator<Item = (&Object, &VirtualService)> {
        self.of_kind(KindName::VirtualService).filter_map(|object| match &object.body {
            Body::VirtualService(service) => Some((object, service)),
            _ => None,
        })
    }

    pub(crate) fn backend_tls_policies(&self) -> impl Iterator<Item = (&Object, &BackendTlsPolicy)> {
        self.of_kind(KindName::BackendTlsPolicy).filter_map(|object| match &object.body {
            Body::BackendTlsPolicy(policy) => Some((object, policy)),
            _ => None,
        })
    }

    pub(crate) fn config_map(&self, namespace: &str, name: &str) -> Option<&ConfigMap> {
        let object = self.get(KindName::ConfigMap, namespace, name)?;
        if let Body::ConfigMap(map) = &object.body { Some(map) } else { None }
    }

    pub(crate) fn classes(&self) -> impl Iterator<Item = (&Object, &GatewayClass)> {
        self.of_kind(KindName::GatewayClass).filter_map(|object| match &object.body {
            Body::GatewayClass(class) => Some((object, class)),
            _ => None,
        })
    }

    /// The Gateways of our classes.
    pub(crate) fn our_gateways(&self) -> impl Iterator<Item = (&Object, &Gateway)> {
        self.gateways().filter(|(_, gateway)| self.class(&gateway.class_name) == Class::Ours)
    }

    /// The Service that a route's backendRef names, whether it may or not.
    pub(crate) fn service_of(&self, route: &Key, target: &BackendTarget) -> Option<&Object> {
        let namespace = target.namespace.as_deref().unwrap_or(&route.namespace);
        let is_service = matches!(target.group.as_str(), "" | "core") && target.kind == "Service";
        self.service(namespace, &target.name).filter(|_| is_service).map(|(object, _)| object)
    }

    pub(crate) fn backend_policies(&self) -> impl Iterator<Item = (&Object, &BackendTrafficPolicy)> {
        self.of_kind(KindName::BackendTrafficPolicy).filter_map(|object| match &object.body {
            Body::BackendTrafficPolicy(policy) => Some((object, policy)),
            _ => None,
        })
    }

    pub(crate) fn rate_limit_policies(&self) -> impl Iterator<Item = (&Object, &RateLimitPolicy)> {
        self.of_kind(KindName::RateLimitPolicy).filter_map(|object| match &object.body {
            Body::RateLimitPolicy(policy) => Some((object, policy)),
            _ => None,
        })
    }

    /// Without a look at all others: keys are in order of kind.
    fn of_kind(&self, kind: KindName) -> impl Iterator<Item = &Object> {
        let of_kind = self.world.objects.range(Key::new(kind.clone(), "", "")..);
        of_kind.take_while(move |(key, _)| key.kind == kind).map(|(_, object)| &**object)
    }

    /// The labels of a namespace. Every namespace has the label of its own name, as Kubernetes gives it, written down or not.
    pub(crate) fn namespace_labels(&self, namespace: &str) -> Labels {
        let mut labels = match self.get(KindName::Namespace, "", namespace) {
            Some(object) => object.meta.labels.clone(),
            None => Labels::new(),
        };
        labels.insert("kubernetes.io/metadata.name".into(), namespace.into());
        labels
    }

    /// Whose a Gateway of this class is.
    pub(crate) fn class(&self, name: &str) -> Class<'_> {
        match self.get(KindName::GatewayClass, "", name).map(|object| &object.body) {
            Some(Body::GatewayClass(class)) if class.controller_name.starts_with(CONTROLLER_PREFIX) => Class::Ours,
            Some(Body::GatewayClass(class)) => Class::Theirs(&class.controller_name),
            _ if name == BUILT_IN_CLASS => Class::Ours,
            _ => Class::Unknown,
        }
    }

    /// Whether a reference may be made: within a namespace always, across only by a ReferenceGrant in the namespace referred to.
    pub(crate) fn is_granted(&self, reference: &Reference<'_>) -> bool {
        reference.from_namespace == reference.to_namespace
            || self.grants.iter().filter(|grant| grant.key.namespace == reference.to_namespace).any(|grant| {
                let Body::ReferenceGrant(grant) = &grant.body else { return false };
                let from = grant.from.iter().any(|from| {
                    from.group == "gateway.networking.k8s.io"
                        && from.kind == reference.from_kind
                        && from.namespace == reference.from_namespace
                });
                let to = grant.to.iter().any(|to| {
                    to.group.is_empty()
                        && to.kind == reference.to_kind
                        && to.name.as_ref().is_none_or(|name| name == reference.to_name)
                });
                from && to
            })
    }
}

/// Whose a GatewayClass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class<'a> {
    Ours,
    /// Another controller's, by its name.
    Theirs(&'a str),
    Unknown,
}

/// `order.shop.svc.cluster.local`.
pub(crate) fn full_name(service: &Key) -> String {
    format!("{}.{}.{CLUSTER_DOMAIN}", service.name, service.namespace)
}

/// `outbound|8080||order.shop.svc.cluster.local`, as Istio names it.
pub(crate) fn cluster_name(service: &Key, port: u16) -> String {
    format!("outbound|{port}||{}", full_name(service))
}

/// `outbound|8080|v2|order.shop.svc.cluster.local`: the endpoints of a DestinationRule's subset.
pub(crate) fn subset_cluster_name(service: &Key, port: u16, subset: &str) -> String {
    format!("outbound|{port}|{subset}|{}", full_name(service))
}
