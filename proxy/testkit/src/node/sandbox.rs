//! Where a pod's containers run: its network, its volumes, and over the machine's files a layer of each container's own.

use super::Shared;
use super::objects::Data;
use crate::netns::{Joined, NODE_V4};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, KeyToPath, ObjectFieldSelector, Pod, PodSpec, SecurityContext, Volume, VolumeProjection,
};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

/// Makes the layer, mounts what belongs over it (pairs of source and target, up to `--`), then becomes the program. Targets
/// are found from inside: a link such as `/var/run` would lead out.
const ENTER: &str = r#"set -e
root=$1; shift
mount -t tmpfs tmpfs "$root"
mkdir "$root/upper" "$root/work" "$root/merged"
mount -t overlay overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$root/merged"
for directory in /proc /sys /dev; do mount --rbind $directory "$root/merged$directory"; done
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then make='mkdir -p "$0"'; else make='mkdir -p "${0%/*}"; [ -e "$0" ] || : > "$0"'; fi
  target=$(chroot "$root/merged" sh -ec "$make"'; readlink -f "$0"' "$2")
  mount --bind "$1" "$root/merged$target"
  shift 2
done
shift
directory=$1; shift
exec chroot "$root/merged" sh -ec 'mkdir -p "$0"; cd "$0"; exec "$@"' "$directory" "$@"
"#;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) struct Sandbox {
    shared: Arc<Shared>,
    pub(super) pod: Pod,
    joined: Joined,
    pub(super) v4: Ipv4Addr,
    pub(super) v6: Ipv6Addr,
    directory: PathBuf,
}

/// A program of a container.
pub(super) struct Process {
    child: Child,
    beside: Beside,
}

/// What it takes to run something beside a program, as the same user.
#[derive(Clone)]
pub(super) struct Beside {
    pid: Pid,
    user: Vec<String>,
    env: BTreeMap<String, String>,
}

impl Sandbox {
    pub(super) fn new(shared: Arc<Shared>, pod: Pod) -> Sandbox {
        let joined = shared.network.join();
        let (v4, v6) = (joined.v4, joined.v6);
        let uid = pod.metadata.uid.clone();
        let uid = uid.unwrap_or_else(|| format!("{}-{}", name(&pod), joined.namespace.name()));
        let directory = shared.pod_directory(&uid);
        fs::create_dir_all(directory.join("volumes")).expect("the node's directory is ours");
        let hosts = directory.join("hosts");
        shared.services.add_hosts(&hosts, namespace(&pod), name(&pod), v4, v6);
        Sandbox { shared, pod, joined, v4, v6, directory }
    }

    pub(super) fn spec(&self) -> &PodSpec {
        self.pod.spec.as_ref().expect("a pod has a spec")
    }

    pub(super) fn network_namespace(&self) -> &crate::netns::Namespace {
        &self.joined.namespace
    }

    pub(super) fn log(&self, container: &str) -> PathBuf {
        self.directory.join(format!("{container}.log"))
    }

    /// Fills the volumes. Once, before the first container.
    pub(super) async fn prepare(&self) -> Result<(), String> {
        for volume in self.spec().volumes.as_deref().unwrap_or_default() {
            let told = |error| format!("volume {}: {error}", volume.name);
            let directory = self.source(volume);
            if volume.host_path.is_some() {
                continue;
            }
            open_directory(&directory).map_err(|error| told(error.to_string()))?;
            for (path, bytes) in self.files(volume).await.map_err(told)? {
                let file = directory.join(path);
                let parent = file.parent().expect("it is in the volume");
                fs::create_dir_all(parent)
                    .and_then(|()| fs::write(&file, bytes))
                    .map_err(|error| told(error.to_string()))?;
            }
        }
        Ok(())
    }

    /// Where a volume is on the machine.
    fn source(&self, volume: &Volume) -> PathBuf {
        if let Some(host) = &volume.host_path {
            PathBuf::from(&host.path)
        } else if let Some(claim) = &volume.persistent_volume_claim {
            self.shared.claim_directory(namespace(&self.pod), &claim.claim_name)
        } else {
            self.directory.join("volumes").join(&volume.name)
        }
    }

    async fn files(&self, volume: &Volume) -> Result<Data, String> {
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

    /// Starts a container's program.
    pub(super) async fn start(&self, container: &Container) -> Result<Process, String> {
        let image = container.image.as_deref().unwrap_or_default();
        let args = container.args.as_deref().unwrap_or_default();
        let words = self.shared.images.command(image, container.command.as_deref(), args)?;
        let env = self.env(container).await?;
        let words: Vec<String> = words.iter().map(|word| expand(word, &env)).collect();
        let user = self.user(container.security_context.as_ref());
        let root = self.directory.join("roots").join(&container.name);
        fs::create_dir_all(&root).map_err(|error| format!("{}: {error}", root.display()))?;
        let log = File::options().create(true).append(true).open(self.log(&container.name));
        let log = log.map_err(|error| format!("its log: {error}"))?;
        let net = format!("--net=/run/netns/{}", self.joined.namespace.name());
        let mut command = Command::new("nsenter");
        command.args([&net, "unshare", "--mount", "sh", "-c", ENTER, "sh"]).arg(&root);
        for (source, target) in self.mounts(container, &words) {
            command.arg(source).arg(target);
        }
        command.arg("--").arg(container.working_dir.as_deref().unwrap_or("/")).args(&user).args(&words);
        command.env_clear().envs(&env).process_group(0);
        command.stdin(Stdio::null()).stderr(log.try_clone().map_err(|error| error.to_string())?).stdout(log);
        let child = command.spawn().map_err(|error| format!("nsenter: {error}"))?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs");
        Ok(Process { child, beside: Beside { pid, user, env } })
    }

    /// Runs a command beside a container's program.
    pub(super) async fn exec(&self, beside: &Beside, words: &[String]) -> Result<(), String> {
        let Some(first) = words.first() else { return Err("exec without a command".to_owned()) };
        let target = beside.pid.as_raw_pid().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &target, "--mount", "--net", "--root", "--wd"]).args(&beside.user);
        command.arg(first).args(&words[1..]).env_clear().envs(&beside.env).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(|error| format!("nsenter: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(format!("{first}: {} {said}", output.status)) }
    }

    /// Source and target of each mount: the pod's names, the volumes, and the program itself where it is on a disk of its
    /// own, which the layer does not show.
    fn mounts(&self, container: &Container, words: &[String]) -> Vec<(PathBuf, PathBuf)> {
        let mut mounts = vec![(self.directory.join("hosts"), PathBuf::from("/etc/hosts"))];
        if let Some(program) = words.first().map(Path::new).filter(|path| path.is_absolute() && path.is_file()) {
            mounts.push((program.to_owned(), program.to_owned()));
        }
        let volumes = self.spec().volumes.as_deref().unwrap_or_default();
        for mount in container.volume_mounts.as_deref().unwrap_or_default() {
            if let Some(volume) = volumes.iter().find(|volume| volume.name == mount.name) {
                let source = self.source(volume);
                let source = mount.sub_path.as_ref().map(|path| source.join(path)).unwrap_or(source);
                mounts.push((source, PathBuf::from(&mount.mount_path)));
            }
        }
        mounts
    }

    /// `setpriv`, with the container's user, group and capabilities; and so that nothing outlives the test.
    fn user(&self, own: Option<&SecurityContext>) -> Vec<String> {
        let pods = self.spec().security_context.as_ref();
        let user = own.and_then(|own| own.run_as_user).or(pods.and_then(|pods| pods.run_as_user));
        let group = own.and_then(|own| own.run_as_group).or(pods.and_then(|pods| pods.run_as_group));
        let mut words = vec!["setpriv".to_owned(), "--pdeathsig=KILL".to_owned()];
        if let Some(capabilities) = own.and_then(|own| own.capabilities.as_ref()) {
            let dropped = capabilities.drop.as_deref().unwrap_or_default();
            if dropped.iter().any(|name| name == "ALL") {
                let added = capabilities.add.as_deref().unwrap_or_default().iter();
                let added: String = added.map(|name| format!(",+{}", name.to_lowercase())).collect();
                words.push(format!("--bounding-set=-all{added}"));
            }
        }
        if user.or(group).is_some() {
            words.push(format!("--reuid={}", user.unwrap_or(0)));
            words.push(format!("--regid={}", group.unwrap_or(0)));
            words.push("--clear-groups".to_owned());
        }
        words.push("--".to_owned());
        words
    }

    async fn env(&self, container: &Container) -> Result<BTreeMap<String, String>, String> {
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), PATH.to_owned()),
            ("HOME".to_owned(), "/".to_owned()),
            ("HOSTNAME".to_owned(), name(&self.pod).to_owned()),
        ]);
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
            "spec.nodeName" => self.spec().node_name.clone().unwrap_or_else(|| super::NODE.to_owned()),
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

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.shared.services.remove_hosts(&self.directory.join("hosts"));
    }
}

impl Process {
    pub(super) fn beside(&self) -> Beside {
        self.beside.clone()
    }

    /// The code that it ended with; a signal's number above 128, as shells tell it.
    pub(super) async fn wait(&mut self) -> i32 {
        code(self.child.wait().await)
    }

    /// Asks it to end, and ends it at the deadline.
    pub(super) async fn end(&mut self, deadline: Instant) -> i32 {
        // It may have ended already.
        let _ = kill_process(self.beside.pid, Signal::TERM);
        if let Ok(ended) = timeout_at(deadline, self.child.wait()).await {
            return code(ended);
        }
        let _ = kill_process_group(self.beside.pid, Signal::KILL);
        code(self.child.wait().await)
    }
}

/// What a container started ends with it.
impl Drop for Process {
    fn drop(&mut self) {
        let _ = kill_process_group(self.beside.pid, Signal::KILL);
    }
}

fn code(ended: std::io::Result<ExitStatus>) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    let ended = ended.expect("it is our child");
    ended.code().or(ended.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

pub(super) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(super) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// A directory that every user may write to, as an `emptyDir` is.
fn open_directory(path: &Path) -> std::io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))
}

/// `$(NAME)` becomes its value where there is one; `$$` is a dollar.
fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
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
