//! Whether the server has a kind, and in which version.

use super::wanted::Wanted;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::discovery::ApiResource;
use kube::core::response::Status;
use kube::{Api, Client, Error};

pub(super) enum Found {
    /// In the best version that both sides know.
    Served(ApiResource),
    /// Nobody has defined it.
    Absent,
    /// It is defined and not served: just now, or in no version that is read here.
    NotYet,
}

/// Errors: the server does not answer, or does not let us ask.
pub(super) async fn find(client: &Client, wanted: &Wanted) -> Result<Found, Error> {
    for version in wanted.versions {
        if let Some(resource) = served(client, wanted, version).await? {
            return Ok(Found::Served(resource));
        }
    }
    if !wanted.is_custom() {
        return Ok(Found::NotYet);
    }
    // A server that has just started may serve custom kinds late. Its definitions it knows at once.
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    match definitions.get_metadata_opt(&wanted.full_plural()).await {
        Ok(Some(_)) => Ok(Found::NotYet),
        Ok(None) => Ok(Found::Absent),
        Err(Error::Api(status)) if status.is_forbidden() => Ok(Found::Absent),
        Err(error) => Err(error),
    }
}

async fn served(client: &Client, wanted: &Wanted, version: &str) -> Result<Option<ApiResource>, Error> {
    let api_version = if wanted.group.is_empty() { version.to_owned() } else { format!("{}/{version}", wanted.group) };
    let list = match wanted.group {
        "" => client.list_core_api_resources(version).await,
        _ => client.list_api_group_resources(&api_version).await,
    };
    let list = match list {
        Ok(list) => list,
        Err(Error::Api(status)) if is_not_found(&status) => return Ok(None),
        Err(error) => return Err(error),
    };
    let found =
        list.resources.into_iter().find(|resource| resource.kind == wanted.kind && !resource.name.contains('/'));
    Ok(found.map(|resource| ApiResource {
        group: wanted.group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: wanted.kind.to_owned(),
        plural: resource.name,
    }))
}

/// By the code as well: for a group that it does not have a server answers 404 in plain text, which
/// `Status::is_not_found` of kube 5.0 does not count.
pub(super) fn is_not_found(status: &Status) -> bool {
    status.is_not_found() || status.code == 404
}
