//! One kind of a cluster, followed for as long as this runs.

use super::backoff::Patience;
use super::definitions::Changed;
use super::discovery::{self, Found};
use super::wanted::{Part, Wanted};
use super::{Cluster, object};
use crate::sources::Change;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::core::discovery::ApiResource;
use kube::core::response::Status;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What comes of a watch: changes, and failures after which it goes on by itself.
type Events = BoxStream<'static, Result<Event<DynamicObject>, watcher::Error>>;

/// Why a watch is given up.
struct NotServed;

pub(super) struct Kind<'c> {
    cluster: &'c Cluster,
    wanted: &'static Wanted,
    definitions: Changed,
    /// What was told and not taken back, and in which version.
    told: HashMap<Arc<str>, Option<String>>,
    /// While a list is on its way: what it has named.
    listed: Option<HashSet<Arc<str>>>,
}

impl<'c> Kind<'c> {
    pub(super) fn new(cluster: &'c Cluster, wanted: &'static Wanted, definitions: Changed) -> Kind<'c> {
        Kind { cluster, wanted, definitions, told: HashMap::new(), listed: None }
    }

    /// Never ends.
    pub(super) async fn run(mut self) {
        let mut patience = Patience::default();
        let mut pause = || patience.next().unwrap_or(Duration::from_secs(1));
        loop {
            match discovery::find(&self.cluster.client, self.wanted).await {
                Ok(Found::Served(resource)) => {
                    let NotServed = self.watch(&resource).await;
                    tokio::time::sleep(pause()).await;
                }
                Ok(Found::Absent) => {
                    self.forget_all();
                    self.definitions.wait().await;
                }
                Ok(Found::NotYet) => tokio::time::sleep(pause()).await,
                Err(error) => {
                    self.say(&error, status_of(&error));
                    tokio::time::sleep(pause()).await;
                }
            }
        }
    }

    /// Until the server no longer has it in that version.
    async fn watch(&mut self, resource: &ApiResource) -> NotServed {
        let mut events = events(self.cluster.client.clone(), resource, self.wanted.part);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.hear(resource, event),
                Err(error) => {
                    let status = match &error {
                        watcher::Error::WatchError(status) => Some(&**status),
                        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
                            status_of(error)
                        }
                        _ => None,
                    };
                    if status.is_some_and(discovery::is_not_found) {
                        return NotServed;
                    }
                    // A watch that ends begins again; only who cannot ask at all has something to say.
                    match error {
                        watcher::Error::InitialListFailed(_) | watcher::Error::WatchStartFailed(_) => {
                            self.say(&error, status);
                        }
                        _ => tracing::debug!(kind = self.wanted.kind, %error, "a watch ended"),
                    }
                }
            }
        }
        NotServed
    }

    fn hear(&mut self, resource: &ApiResource, event: Event<DynamicObject>) {
        match event {
            Event::Init => self.listed = Some(HashSet::new()),
            Event::InitApply(object) | Event::Apply(object) => self.apply(resource, object),
            Event::Delete(object) => self.forget(&object::name(resource, &object)),
            Event::InitDone => self.list_is_whole(),
        }
        self.cluster.no_trouble(self.wanted.kind);
    }

    fn apply(&mut self, resource: &ApiResource, object: DynamicObject) {
        let name = object::name(resource, &object);
        if object::is_over(resource, &object) {
            return self.forget(&name);
        }
        if let Some(listed) = &mut self.listed {
            listed.insert(name.clone());
        }
        let version = object.metadata.resource_version.clone();
        let told = self.told.insert(name.clone(), version.clone());
        if told.is_some_and(|told| told.is_some() && told == version) {
            return;
        }
        let change = match object::read(&name, resource, self.wanted.part, object) {
            Ok(parsed) => Change::Read(parsed),
            Err(problem) => Change::Unreadable(*problem),
        };
        self.tell(name, change);
    }

    fn list_is_whole(&mut self) {
        let listed = self.listed.take().unwrap_or_default();
        let gone: Vec<Arc<str>> = self.told.keys().filter(|name| !listed.contains(*name)).cloned().collect();
        for name in gone {
            self.forget(&name);
        }
        self.cluster.settle(self.wanted);
    }

    fn forget(&mut self, name: &Arc<str>) {
        if self.told.remove(name).is_some() {
            self.tell(name.clone(), Change::Removed);
        }
    }

    /// Nobody defines the kind (any more), so there is no object of it.
    fn forget_all(&mut self) {
        for name in std::mem::take(&mut self.told).into_keys() {
            self.tell(name, Change::Removed);
        }
        self.cluster.no_trouble(self.wanted.kind);
        self.cluster.settle(self.wanted);
    }

    fn tell(&self, name: Arc<str>, change: Change) {
        self.cluster.inbox.hear_cluster(name, change, Instant::now());
    }

    fn say(&self, error: &(dyn std::error::Error + 'static), status: Option<&Status>) {
        match status {
            Some(status) if status.is_forbidden() => {
                self.cluster.is_denied(self.wanted, &status.message);
                // Others must not wait for what nobody grants.
                self.cluster.settle(self.wanted);
            }
            _ => self.cluster.is_away(error),
        }
    }
}

fn status_of(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

fn events(client: kube::Client, resource: &ApiResource, part: Part) -> Events {
    let config = watcher::Config::default();
    let whole = |client| Api::<DynamicObject>::all_with(client, resource);
    match part {
        Part::Whole => watch(whole(client), config).backoff(Patience::default()).boxed(),
        Part::Where(field) => watch(whole(client), config.fields(field)).backoff(Patience::default()).boxed(),
        Part::Metadata => {
            let api = Api::<PartialObjectMeta<DynamicObject>>::all_with(client, resource);
            let events = watch(api, config).backoff(Patience::default());
            events.map(|event| event.map(with_nothing_else)).boxed()
        }
    }
}

fn with_nothing_else(event: Event<PartialObjectMeta<DynamicObject>>) -> Event<DynamicObject> {
    let object = |part: PartialObjectMeta<DynamicObject>| DynamicObject {
        types: None,
        metadata: part.metadata,
        data: serde_json::Value::Null,
    };
    match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(part) => Event::InitApply(object(part)),
        Event::Apply(part) => Event::Apply(object(part)),
        Event::Delete(part) => Event::Delete(object(part)),
    }
}
