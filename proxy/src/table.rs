//! A route table that serves: compiled, with each backend bound to its live cluster.
//!
//! Compiling (expressions, header edits) is dear and happens when the table's own text changes;
//! binding is cheap and happens whenever a cluster does.

use crate::live::LiveCluster;
use crate::overflow::Overflows;
use crate::snapshot::Inputs;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use weft_model::RouteTable;
use weft_model::rate_limit::RateLimit;
use weft_model::route::{self, Action, Share, Target, UrlChange};
use weft_policy::balance::{HashPolicies, Session, Split};
use weft_policy::cors;
use weft_policy::deadline::{Limits, Timeouts};
use weft_policy::edits::Edits;
use weft_policy::fault::Fault;
use weft_policy::limit::Limiter;
use weft_policy::redirect::Redirection;
use weft_policy::retry;
use weft_policy::rewrite::UrlRewrite;
use weft_policy::route::Table;
use weft_policy::{CompileError, Dice};

/// The clusters of a snapshot, by name.
pub(crate) type Clusters = HashMap<String, Arc<LiveCluster>>;

/// A route table, compiled.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) table: Table,
    /// One per route of `table`.
    routes: Vec<Arc<CompiledRoute>>,
}

/// A route table, compiled and bound.
#[derive(Debug)]
pub(crate) struct LiveTable {
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) routes: Vec<LiveRoute>,
}

#[derive(Debug)]
pub(crate) struct LiveRoute {
    pub(crate) route: Arc<CompiledRoute>,
    /// One per backend of a forwarding route.
    pub(crate) targets: Vec<LiveTarget>,
    /// One per mirror.
    pub(crate) mirrors: Vec<LiveTarget>,
}

/// What a backend reference means right now.
#[derive(Clone, Debug)]
pub(crate) enum LiveTarget {
    Cluster(Arc<LiveCluster>),
    /// Named, but this proxy has no such cluster.
    Missing(String),
    Invalid(String),
}

/// What of a route does not depend on clusters.
#[derive(Debug)]
pub(crate) struct CompiledRoute {
    pub(crate) model: Arc<route::Route>,
    pub(crate) request_edits: Edits,
    pub(crate) response_edits: Edits,
    pub(crate) cors: Option<cors::Policy>,
    pub(crate) fault: Option<LiveFault>,
    pub(crate) limiters: Vec<Arc<Limiter>>,
    pub(crate) action: CompiledAction,
}

/// A fault, and how many requests are under it.
#[derive(Debug)]
pub(crate) struct LiveFault {
    pub(crate) fault: Fault,
    active: Arc<AtomicU32>,
}

/// A request that is under a fault.
#[derive(Debug)]
pub(crate) struct UnderFault(Arc<AtomicU32>);

impl LiveFault {
    fn compile(fault: &weft_model::fault::Fault) -> Result<LiveFault, CompileError> {
        Ok(LiveFault { fault: Fault::compile(fault)?, active: Arc::default() })
    }

    pub(crate) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(&self) -> UnderFault {
        self.active.fetch_add(1, Ordering::Relaxed);
        UnderFault(self.active.clone())
    }
}

impl Drop for UnderFault {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The rate limiters of one data plane. Equal policies share their tokens, over all routes and every edit of others.
#[derive(Debug)]
pub(crate) struct Limiters {
    known: HashMap<String, Arc<Limiter>>,
    seed: [u64; 2],
    overflows: Overflows,
    now: Instant,
}

impl Limiters {
    /// Those of these tables.
    pub(crate) fn of<'t>(tables: impl Iterator<Item = &'t Arc<Compiled>>, inputs: &Inputs<'_>) -> Limiters {
        let limiters = tables.flat_map(|table| &table.routes).flat_map(|route| &route.limiters);
        let known = limiters.map(|limiter| (limiter.spec().name.clone(), limiter.clone())).collect();
        Limiters { known, seed: inputs.seed, overflows: inputs.overflows.clone(), now: inputs.now }
    }

    fn get(&mut self, spec: &RateLimit) -> Result<Arc<Limiter>, CompileError> {
        if let Some(known) = self.known.get(&spec.name).filter(|known| known.spec() == spec) {
            return Ok(known.clone());
        }
        let now = self.now;
        let limiter = Limiter::with_overflow(spec, self.seed, now, |_, rate| self.overflows.make(rate, now))?;
        let limiter = Arc::new(limiter);
        self.known.insert(spec.name.clone(), limiter.clone());
        Ok(limiter)
    }
}

#[derive(Debug)]
pub(crate) enum CompiledAction {
    Forward(Box<CompiledForward>),
    Redirect(Redirection),
    Respond(route::Respond),
}

#[derive(Debug)]
pub(crate) struct CompiledForward {
    pub(crate) model: route::Forward,
    split: Split,
    pub(crate) backends: Vec<CompiledBackend>,
    /// What mirrors get, and backends without a rewrite of their own.
    pub(crate) rewrite: UrlRewrite,
    /// Without a policy: what a request itself may ask for.
    pub(crate) retry: retry::Policy,
    pub(crate) limits: Limits,
    /// What holds for a request that says nothing of timeouts.
    pub(crate) timeouts: Timeouts,
    pub(crate) hash: HashPolicies,
    pub(crate) session: Option<Session>,
}

/// What of a backend does not depend on its cluster.
#[derive(Debug)]
pub(crate) struct CompiledBackend {
    pub(crate) request_edits: Edits,
    pub(crate) response_edits: Edits,
    /// `None`: as the route says.
    url: Option<Box<CompiledUrl>>,
}

#[derive(Debug)]
enum CompiledUrl {
    Rewrite(UrlRewrite),
    Redirect(Redirection),
}

impl Compiled {
    pub(crate) fn compile(model: &RouteTable, limiters: &mut Limiters) -> Result<Compiled, CompileError> {
        let table = Table::compile(model)?;
        let routes = table
            .routes()
            .iter()
            .map(|route| {
                CompiledRoute::compile(route, limiters)
                    .map(Arc::new)
                    .map_err(|error| error.within(format!("route \"{}\"", route.name)))
            })
            .collect::<Result<_, _>>()?;
        Ok(Compiled { table, routes })
    }
}

impl CompiledRoute {
    fn compile(model: &Arc<route::Route>, limiters: &mut Limiters) -> Result<CompiledRoute, CompileError> {
        let action = match &model.action {
            Action::Forward(forward) => CompiledAction::Forward(Box::new(CompiledForward::compile(model, forward)?)),
            Action::Redirect(redirect) => {
                CompiledAction::Redirect(Redirection::compile(redirect, &model.matches.path)?)
            }
            Action::Respond(respond) => CompiledAction::Respond(respond.clone()),
        };
        Ok(CompiledRoute {
            model: model.clone(),
            request_edits: Edits::compile(&model.request_headers)?,
            response_edits: Edits::compile(&model.response_headers)?,
            cors: model.cors.as_ref().map(cors::Policy::compile).transpose()?,
            fault: model.fault.as_ref().map(LiveFault::compile).transpose()?,
            limiters: model.rate_limits.iter().map(|spec| limiters.get(spec)).collect::<Result<_, _>>()?,
            action,
        })
    }
}

impl CompiledForward {
    fn compile(route: &route::Route, forward: &route::Forward) -> Result<CompiledForward, CompileError> {
        let path = &route.matches.path;
        let rewrite = UrlRewrite::compile(&forward.rewrite, path)?;
        let backends = forward.backends.iter().map(|backend| CompiledBackend::compile(backend, path, &rewrite));
        let limits = Limits::of(forward);
        Ok(CompiledForward {
            split: Split::new(forward.backends.iter().map(|backend| backend.weight)),
            backends: backends.collect::<Result<_, _>>()?,
            rewrite,
            retry: forward.retry.as_ref().map(retry::Policy::compile).transpose()?.unwrap_or_default(),
            timeouts: limits.resolve(&http::HeaderMap::new(), false),
            limits,
            hash: HashPolicies::compile(&forward.hash)?,
            session: forward.persistence.as_ref().map(Session::compile).transpose()?,
            model: forward.clone(),
        })
    }

    /// The backend for the next request; `None` when none has weight.
    pub(crate) fn pick(&self, dice: &mut Dice) -> Option<usize> {
        self.split.pick(dice)
    }

    /// What a request for this backend is sent on under.
    pub(crate) fn rewrite_for(&self, backend: usize) -> &UrlRewrite {
        match self.backends[backend].url.as_deref() {
            Some(CompiledUrl::Rewrite(own)) => own,
            Some(CompiledUrl::Redirect(_)) | None => &self.rewrite,
        }
    }

    /// Where whoever would go to this backend is sent instead.
    pub(crate) fn redirect_for(&self, backend: usize) -> Option<&Redirection> {
        match self.backends[backend].url.as_deref() {
            Some(CompiledUrl::Redirect(redirect)) => Some(redirect),
            Some(CompiledUrl::Rewrite(_)) | None => None,
        }
    }

    /// The mirrors that get a copy of the next request.
    pub(crate) fn mirrors<'a>(&'a self, dice: &'a mut Dice) -> impl Iterator<Item = usize> + 'a {
        let shares = self.model.mirrors.iter().map(|mirror| mirror.share).enumerate();
        shares.filter(move |(_, share)| *share == Share::ALL || dice.within(*share)).map(|(index, _)| index)
    }
}

impl CompiledBackend {
    fn compile(
        backend: &route::Backend,
        path: &route::PathMatch,
        of_route: &UrlRewrite,
    ) -> Result<CompiledBackend, CompileError> {
        let url = match backend.url.as_deref() {
            None => None,
            Some(UrlChange::Rewrite(own)) => Some(CompiledUrl::Rewrite(UrlRewrite::compile(own, path)?.or(of_route))),
            Some(UrlChange::Redirect(to)) => Some(CompiledUrl::Redirect(Redirection::compile(to, path)?)),
        };
        Ok(CompiledBackend {
            request_edits: Edits::compile(&backend.request_headers)?,
            response_edits: Edits::compile(&backend.response_headers)?,
            url: url.map(Box::new),
        })
    }
}

impl LiveTable {
    pub(crate) fn bind(compiled: &Arc<Compiled>, clusters: &Clusters) -> LiveTable {
        let routes = compiled.routes.iter().map(|route| LiveRoute::bind(route, clusters)).collect();
        LiveTable { compiled: compiled.clone(), routes }
    }
}

impl LiveRoute {
    fn bind(route: &Arc<CompiledRoute>, clusters: &Clusters) -> LiveRoute {
        let (targets, mirrors) = match &route.action {
            CompiledAction::Forward(forward) => (
                forward.model.backends.iter().map(|backend| LiveTarget::bind(&backend.target, clusters)).collect(),
                forward.model.mirrors.iter().map(|mirror| LiveTarget::bind(&mirror.target, clusters)).collect(),
            ),
            CompiledAction::Redirect(_) | CompiledAction::Respond(_) => (Vec::new(), Vec::new()),
        };
        LiveRoute { route: route.clone(), targets, mirrors }
    }
}

impl LiveTarget {
    pub(crate) fn bind(target: &Target, clusters: &Clusters) -> LiveTarget {
        match target {
            Target::Invalid { reason } => LiveTarget::Invalid(reason.clone()),
            Target::Cluster(name) => match clusters.get(name) {
                Some(cluster) => LiveTarget::Cluster(cluster.clone()),
                None => LiveTarget::Missing(name.clone()),
            },
        }
    }
}
