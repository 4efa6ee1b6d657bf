//! Weft: a service mesh and API gateway. One binary: everything that runs in a mesh, and the
//! commands for those who run it.

mod check;
mod crds;
mod endpoints;
mod fetch;
mod files;
mod init;
mod inject;
mod install;
mod look;
mod run;
mod scale;
mod status;
mod up;

use clap::{Parser, Subcommand};
use look::{BAD, paint};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

/// Many small allocations on many threads; the system's allocator costs a gateway a fifth of its speed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A service mesh and API gateway
///
/// Services talk to each other through small proxies beside them, the sidecars; the outside comes in
/// by gateways, which are the same proxy at the door. A control plane compiles YAML (Gateway API, Istio)
/// and pushes it to them over xDS, live.
#[derive(Parser, Debug)]
#[command(
    name = "weft",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "Start here:
  weft up                  # in a directory that has manifests/; it says what to try
  weft check manifests     # what is wrong in the YAML
  weft status              # while `weft up` runs
  weft endpoints order     # who answers for order, who is ejected and why

Exit codes: 0 fine, 1 problems found or failed, 2 wrong usage. RUST_LOG sets what parts log to
stderr (info, weft_proxy=debug); NO_COLOR=1 takes colours away."
)]
struct Cli {
    /// The end of stdin is as a SIGTERM: for who starts us and must not be outlived.
    #[arg(long, global = true, hide = true)]
    exit_with_parent: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Up(up::UpArgs),
    Scale(scale::ScaleArgs),
    Status(status::StatusArgs),
    Endpoints(endpoints::EndpointsArgs),
    Check(check::CheckArgs),
    Crds(crds::CrdsArgs),
    Install(install::InstallArgs),
    Uninstall(install::UninstallArgs),
    Inject(inject::InjectArgs),
    ControlPlane(run::control_plane::ControlPlaneArgs),
    Gateway(run::data_plane::GatewayArgs),
    Proxy(run::data_plane::ProxyArgs),
    Service(run::service::ServiceArgs),
    Init(init::InitArgs),
    /// Run a program so that it does not outlive us
    #[command(hide = true)]
    RunApp(run::app::RunAppArgs),
    #[command(hide = true)]
    WaitReady(run::sidecar::WaitReadyArgs),
    #[command(hide = true)]
    WaitDrained(run::sidecar::WaitDrainedArgs),
}

/// How long a part may take to end once its parent is gone; all drain sooner unless they hang.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The shop's services log in their own way.
    if !matches!(cli.command, Command::Service(_)) {
        log_to_stderr();
    }
    if cli.exit_with_parent {
        run::parent::exit_with_parent(ORPHAN_GRACE);
    }
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("nobody was before us to install another");
    dispatch(cli.command).unwrap_or_else(|error| {
        anstream::eprintln!("{} {error:#}", paint(BAD, "error:"));
        ExitCode::FAILURE
    })
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => up::run(args),
        Command::Scale(args) => scale::run(args),
        Command::Status(args) => status::run(args),
        Command::Endpoints(args) => endpoints::run(args),
        Command::Check(args) => check::run(args),
        Command::Crds(args) => crds::run(args),
        Command::Install(args) => install::install(args),
        Command::Uninstall(args) => install::uninstall(args),
        Command::Inject(args) => inject::run(args),
        Command::ControlPlane(args) => run::control_plane::run(args),
        Command::Gateway(args) => run::data_plane::gateway(args),
        Command::Proxy(args) => run::data_plane::proxy(args),
        Command::Service(args) => run::service::run(args),
        Command::Init(args) => init::run(args),
        Command::RunApp(args) => run::app::run(args),
        Command::WaitReady(args) => run::sidecar::wait_ready(args),
        Command::WaitDrained(args) => run::sidecar::wait_drained(args),
    }
}

/// What went wrong is on the screen; the rest is for logs.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound_and_every_command_has_examples() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} says what it does");
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.contains(&format!("weft {name}")), "{name} has examples");
            for argument in command.get_arguments().filter(|a| !a.is_hide_set()) {
                let told = argument.get_help().is_some()
                    || ["namespace", "output", "name"].contains(&argument.get_id().as_str());
                assert!(told, "{name} --{} has help", argument.get_id());
            }
        }
    }

    #[test]
    fn what_up_starts_is_understood() {
        for line in [
            "weft --exit-with-parent proxy --pod order-0 --workload order --address 127.0.1.1 --label app=order --label version=v1",
            "weft --exit-with-parent gateway shop --namespace default --address 127.0.0.1 --drain 5",
            "weft --exit-with-parent control-plane --dir a --dir b --xds 127.0.0.1:15010 --monitoring 127.0.0.1:15014",
            "weft --exit-with-parent service order",
            "weft run-app --grace 5 -- python3 -m http.server",
            "weft wait-ready",
            "weft wait-drained --at-least=5s --at-most=25s",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }
}
