//! What containers are told: variables, and the files of volumes that are made of objects and of the pod itself.

use super::super::NODE;
use super::super::objects::Data;
use super::{Sandbox, name, namespace};
use crate::kubernetes::SERVICE_IP;
use crate::netns::NODE_V4;
use k8s_openapi::api::core::v1::{Container, EnvVar, KeyToPath, ObjectFieldSelector, Volume, VolumeProjection};
use std::collections::BTreeMap;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Sandbox {
    /// What a volume holds from the start, by path.
    pub(super) async fn files(&self, volume: &Volume) -> Result<Data, String> {
        if let Some(source) = &volume.config_map {
            return self.config_map(&source.name, source.items.as_deref(), source.optional).await;
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            return self.secret(name, source.items.as_deref(), source.optional).await;
        }
        if let Some(source) = &volume.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            return Ok(items.iter().map(|i| (i.path.clone(), self.field(i.field_ref.as_ref()).into_bytes())).collect());
        }
        let sources = volume.projected.as_ref().and_then(|projected| projected.sources.as_deref());
        let mut all = Data::new();
        for source in sources.unwrap_or_default() {
            all.extend(self.projection(source).await?);
        }
        Ok(all)
    }

    async fn projection(&self, source: &VolumeProjection) -> Result<Data, String> {
        if let Some(source) = &source.config_map {
            self.config_map(&source.name, source.items.as_deref(), source.optional).await
        } else if let Some(source) = &source.secret {
            self.secret(&source.name, source.items.as_deref(), source.optional).await
        } else if let Some(source) = &source.service_account_token {
            let account = self.spec().service_account_name.as_deref().unwrap_or("default");
            let (audience, seconds) = (source.audience.clone(), source.expiration_seconds);
            let token = self.shared.objects.token(namespace(&self.pod), account, audience, seconds).await?;
            Ok(Data::from([(source.path.clone(), token)]))
        } else {
            let items = source.downward_api.as_ref().and_then(|source| source.items.as_deref()).unwrap_or_default();
            Ok(items.iter().map(|i| (i.path.clone(), self.field(i.field_ref.as_ref()).into_bytes())).collect())
        }
    }

    async fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<Data, String> {
        let found = self.shared.objects.config_map(namespace(&self.pod), name).await?;
        chosen(found, items, optional, &format!("ConfigMap {name}"))
    }

    async fn secret(&self, name: &str, items: Option<&[KeyToPath]>, optional: Option<bool>) -> Result<Data, String> {
        let found = self.shared.objects.secret(namespace(&self.pod), name).await?;
        chosen(found, items, optional, &format!("Secret {name}"))
    }

    pub(super) async fn env(&self, container: &Container) -> Result<BTreeMap<String, String>, String> {
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), PATH.to_owned()),
            ("HOME".to_owned(), "/".to_owned()),
            ("HOSTNAME".to_owned(), name(&self.pod).to_owned()),
        ]);
        if self.shared.objects.is_a_clusters() {
            env.insert("KUBERNETES_SERVICE_HOST".to_owned(), SERVICE_IP.to_owned());
            env.insert("KUBERNETES_SERVICE_PORT".to_owned(), "443".to_owned());
        }
        for source in container.env_from.as_deref().unwrap_or_default() {
            let data = match (&source.config_map_ref, &source.secret_ref) {
                (Some(from), _) => self.config_map(&from.name, None, from.optional).await?,
                (None, Some(from)) => self.secret(&from.name, None, from.optional).await?,
                (None, None) => Data::new(),
            };
            let prefix = source.prefix.as_deref().unwrap_or_default();
            env.extend(data.into_iter().map(|(key, value)| (format!("{prefix}{key}"), lossy(&value))));
        }
        for variable in container.env.as_deref().unwrap_or_default() {
            if let Some(value) = self.variable(variable, &env).await? {
                env.insert(variable.name.clone(), value);
            }
        }
        Ok(env)
    }

    async fn variable(&self, variable: &EnvVar, before: &BTreeMap<String, String>) -> Result<Option<String>, String> {
        let Some(from) = &variable.value_from else {
            return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), before)));
        };
        if let Some(from) = &from.config_map_key_ref {
            let data = self.config_map(&from.name, None, from.optional).await?;
            keyed(&data, &from.key, from.optional, &format!("ConfigMap {}", from.name))
        } else if let Some(from) = &from.secret_key_ref {
            let data = self.secret(&from.name, None, from.optional).await?;
            keyed(&data, &from.key, from.optional, &format!("Secret {}", from.name))
        } else {
            Ok(from.field_ref.as_ref().map(|field| self.field(Some(field))))
        }
    }

    /// What the downward API tells.
    fn field(&self, selector: Option<&ObjectFieldSelector>) -> String {
        let path = selector.map(|selector| selector.field_path.as_str()).unwrap_or_default();
        let meta = &self.pod.metadata;
        let all = |map: &Option<BTreeMap<String, String>>| {
            map.iter().flatten().map(|(key, value)| format!("{key}={value:?}\n")).collect::<String>()
        };
        let one = |map: &Option<BTreeMap<String, String>>, rest: &str| {
            let key = rest.trim_end_matches("']");
            map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
        };
        match path {
            "metadata.name" => name(&self.pod).to_owned(),
            "metadata.namespace" => namespace(&self.pod).to_owned(),
            "metadata.uid" => meta.uid.clone().unwrap_or_default(),
            "metadata.labels" => all(&meta.labels),
            "metadata.annotations" => all(&meta.annotations),
            "spec.nodeName" => self.spec().node_name.clone().unwrap_or_else(|| NODE.to_owned()),
            "spec.serviceAccountName" => {
                self.spec().service_account_name.clone().unwrap_or_else(|| "default".to_owned())
            }
            "status.podIP" => self.v4.to_string(),
            "status.podIPs" => format!("{},{}", self.v4, self.v6),
            "status.hostIP" => NODE_V4.to_string(),
            _ => match (path.strip_prefix("metadata.labels['"), path.strip_prefix("metadata.annotations['")) {
                (Some(rest), _) => one(&meta.labels, rest),
                (None, Some(rest)) => one(&meta.annotations, rest),
                (None, None) => String::new(),
            },
        }
    }
}

/// `$(NAME)` becomes its value where there is one; `$$` is a dollar.
pub(super) fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out += &rest[..at];
        rest = &rest[at + 1..];
        let reference = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((value, after)) = reference.and_then(|(key, after)| Some((env.get(key)?, after))) {
            out += value;
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

fn chosen(
    found: Option<Data>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    what: &str,
) -> Result<Data, String> {
    let data = match found {
        Some(data) => data,
        None if optional == Some(true) => Data::new(),
        None => return Err(format!("{what} is not there")),
    };
    let Some(items) = items else { return Ok(data) };
    let item = |item: &KeyToPath| match data.get(&item.key) {
        Some(bytes) => Ok(Some((item.path.clone(), bytes.clone()))),
        None if optional == Some(true) => Ok(None),
        None => Err(format!("{what} has no key {:?}", item.key)),
    };
    items.iter().filter_map(|one| item(one).transpose()).collect()
}

fn keyed(data: &Data, key: &str, optional: Option<bool>, what: &str) -> Result<Option<String>, String> {
    match data.get(key) {
        Some(bytes) => Ok(Some(lossy(bytes))),
        None if optional == Some(true) => Ok(None),
        None => Err(format!("{what} has no key {key:?}")),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded_as_kubernetes_does() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, expanded) in
            [("$(A)-$(A)", "1-1"), ("$(B)", "$(B)"), ("$$(A)", "$(A)"), ("$A $", "$A $"), ("$(A", "$(A")]
        {
            assert_eq!(expand(text, &env), expanded, "{text}");
        }
    }
}
