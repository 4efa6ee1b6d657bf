//! The last good state on disk.
//!
//! It is written whole to a file beside it and renamed, so that a crash leaves the old or the new one; a digest
//! tells a torn file from a good one; and a node never takes what was meant for another. It holds private keys, so only
//! its owner may read it.

use super::replica::{Saved, Stored};
use crate::per_kind::PerKind;
use crate::wire;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use weft_model::{Kind, Node};

const MAGIC: &[u8] = b"weft-xds 1\n";
const DIGEST_BYTES: usize = 32;
const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;
/// A burst of pushes is written once.
const DEBOUNCE: Duration = Duration::from_millis(200);

pub(super) struct Disk {
    path: PathBuf,
    node: String,
}

impl Disk {
    pub(super) fn new(path: PathBuf, node: &Node) -> Self {
        Disk { path, node: node.id() }
    }

    /// `None` when there is nothing, and with a warning when it cannot be used.
    pub(super) fn load(&self) -> Option<Saved> {
        match self.read() {
            Ok(saved) => Some(saved),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!("{}: {error}; starting without a last good configuration", self.path.display());
                None
            }
        }
    }

    /// Writes each state that comes, off the path of who sends it, until the sender is gone.
    pub(super) async fn write_each(self, mut states: watch::Receiver<Option<Saved>>) {
        let disk = Arc::new(self);
        while states.changed().await.is_ok() {
            tokio::time::sleep(DEBOUNCE).await;
            let Some(state) = states.borrow_and_update().clone() else { continue };
            let writer = Arc::clone(&disk);
            let written = tokio::task::spawn_blocking(move || writer.write(&state)).await;
            if let Err(error) = written.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
                tracing::warn!("{}: the last good configuration cannot be saved: {error}", disk.path.display());
            }
        }
    }

    fn read(&self) -> io::Result<Saved> {
        if fs::metadata(&self.path)?.len() > MAX_FILE_BYTES {
            return Err(invalid("is too large"));
        }
        let bytes = fs::read(&self.path)?;
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| invalid("is no state file of this version"))?;
        let (digest, payload) = rest.split_at_checked(DIGEST_BYTES).ok_or_else(|| invalid("is cut short"))?;
        if Sha256::digest(payload).as_slice() != digest {
            return Err(invalid("is damaged"));
        }
        self.parse(payload)
    }

    fn parse(&self, mut payload: &[u8]) -> io::Result<Saved> {
        let mut saved: Saved = PerKind::default();
        while !payload.is_empty() {
            let part = DeltaDiscoveryResponse::decode_length_delimited(&mut payload).map_err(invalid)?;
            if part.system_version_info != self.node {
                return Err(invalid(format!("belongs to the node {}", part.system_version_info)));
            }
            let Some(kind) = wire::kind(&part.type_url) else { continue };
            let resources = part.resources.into_iter().filter_map(|resource| {
                let any = Arc::new(resource.resource?);
                Some((resource.name, Stored { version: resource.version, any }))
            });
            saved[kind] = Arc::new(resources.collect::<BTreeMap<_, _>>());
        }
        Ok(saved)
    }

    fn write(&self, state: &Saved) -> io::Result<()> {
        let payload: Vec<u8> =
            state.iter().flat_map(|(kind, stored)| self.part(kind, stored).encode_length_delimited_to_vec()).collect();
        let beside = beside(&self.path);
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(&payload))?;
        file.write_all(&payload)?;
        file.sync_data()?;
        fs::rename(&beside, &self.path)
    }

    fn part(&self, kind: Kind, stored: &BTreeMap<String, Stored>) -> DeltaDiscoveryResponse {
        let resources = stored.iter().map(|(name, stored)| Resource {
            name: name.clone(),
            version: stored.version.clone(),
            resource: Some((*stored.any).clone()),
            ..Default::default()
        });
        DeltaDiscoveryResponse {
            system_version_info: self.node.clone(),
            type_url: wire::type_url(kind).into(),
            resources: resources.collect(),
            ..Default::default()
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    path.with_file_name(name)
}

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
