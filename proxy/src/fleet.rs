//! The worker threads of one data plane, and their end.

use crate::shared::Shared;
use crate::worker::{self, Command, Place};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// All workers.
pub(crate) struct Fleet {
    commands: Vec<mpsc::UnboundedSender<Command>>,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
}

impl Fleet {
    /// Starts one thread for each worker.
    pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<Fleet> {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..shared.settings.workers.max(1)).map(|_| mpsc::unbounded_channel()).unzip();
        let mut fleet = Fleet { commands: senders.clone(), threads: Vec::new() };
        for (number, commands) in receivers.into_iter().enumerate() {
            let place =
                Place { number, fleet: senders.iter().map(mpsc::UnboundedSender::downgrade).collect(), commands };
            let shared = shared.clone();
            let seed = fastrand::u64(..);
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || worker::run(shared, seed, place))?;
            fleet.threads.push(thread);
        }
        Ok(fleet)
    }

    pub(crate) fn commands(&self) -> Vec<mpsc::UnboundedSender<Command>> {
        self.commands.clone()
    }

    /// Lets every worker finish what it has; comes back when they have ended.
    pub(crate) async fn drain(self) -> anyhow::Result<()> {
        for worker in &self.commands {
            // A worker that has ended already has nothing left to drain.
            let _ = worker.send(Command::Drain);
        }
        let joined = tokio::task::spawn_blocking(move || {
            self.threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        for result in joined.await? {
            result.map_err(|_| anyhow::anyhow!("a worker thread panicked"))??;
        }
        Ok(())
    }
}
