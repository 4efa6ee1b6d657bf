//! One thing a data plane holds, of one of five kinds, known by its name.

use crate::{Cluster, Endpoints, Listener, RouteTable, Secret};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kinds of resource, in make-before-break order: what is named later in the list is referred
/// to by none that comes earlier, except that a cluster needs its endpoints to be warm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    Cluster,
    Endpoints,
    Secret,
    Listener,
    RouteTable,
}

impl Kind {
    /// All kinds, in the order in which a push sends them.
    pub const ALL: [Kind; 5] = [Kind::Cluster, Kind::Endpoints, Kind::Secret, Kind::Listener, Kind::RouteTable];

    /// The field's short name of the discovery service that carries this kind.
    pub fn discovery(self) -> &'static str {
        match self {
            Kind::Cluster => "CDS",
            Kind::Endpoints => "EDS",
            Kind::Secret => "SDS",
            Kind::Listener => "LDS",
            Kind::RouteTable => "RDS",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.discovery())
    }
}

/// One resource.
#[expect(
    clippy::large_enum_variant,
    reason = "clusters are among the most frequent kinds: a box would cost each of them"
)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Resource {
    Listener(Listener),
    RouteTable(RouteTable),
    Cluster(Cluster),
    Endpoints(Endpoints),
    Secret(Secret),
}

impl Resource {
    pub fn kind(&self) -> Kind {
        match self {
            Resource::Listener(_) => Kind::Listener,
            Resource::RouteTable(_) => Kind::RouteTable,
            Resource::Cluster(_) => Kind::Cluster,
            Resource::Endpoints(_) => Kind::Endpoints,
            Resource::Secret(_) => Kind::Secret,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Resource::Listener(r) => &r.name,
            Resource::RouteTable(r) => &r.name,
            Resource::Cluster(r) => &r.name,
            Resource::Endpoints(r) => &r.cluster,
            Resource::Secret(r) => &r.name,
        }
    }
}
