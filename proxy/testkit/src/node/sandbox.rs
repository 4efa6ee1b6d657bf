//! Where a pod's containers run: its network, its volumes, and over the machine's files a layer of each container's own.

mod told;

use super::Shared;
use crate::netns::Joined;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, SecurityContext, Volume};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};
use told::expand;

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

    /// Starts a container's program.
    pub(super) async fn start(&self, container: &Container) -> Result<Process, String> {
        let image = container.image.as_deref().unwrap_or_default();
        let args = container.args.as_deref().unwrap_or_default();
        let words = self.shared.images.command(image, container.command.as_deref(), args)?;
        let mut env = self.env(container).await?;
        let words: Vec<String> = words.iter().map(|word| expand(word, &env)).collect();
        // an image's program is found by its name in there
        if let Some(directory) = words.first().map(Path::new).filter(|path| path.is_absolute()).and_then(Path::parent) {
            env.entry("PATH".to_owned()).and_modify(|path| *path = format!("{}:{path}", directory.display()));
        }
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
        let mut child = command.spawn().map_err(|error| format!("nsenter: {error}"))?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs");
        entered(&mut child, pid).await;
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

/// Until it is where it belongs, or has ended. What is run beside it before would run on the machine itself.
async fn entered(child: &mut Child, pid: Pid) {
    let root = format!("/proc/{}/root", pid.as_raw_pid());
    while fs::read_link(&root).is_ok_and(|root| root == Path::new("/")) && matches!(child.try_wait(), Ok(None)) {
        tokio::time::sleep(Duration::from_millis(2)).await;
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
