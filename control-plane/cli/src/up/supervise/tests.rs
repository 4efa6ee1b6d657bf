use super::*;
use std::path::Path;

fn shell(directory: &Path, script: &str) -> Launch {
    Launch {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("GREETING".into(), "hello".into())],
        directory: Some(directory.to_owned()),
        log: directory.join("log"),
    }
}

fn stopping() -> Stopping {
    Stopping { grace: Duration::from_secs(60), now: CancellationToken::new() }
}

fn start(launch: Launch, stopping: Stopping) -> (Process, mpsc::UnboundedReceiver<Event>) {
    let (tell, events) = mpsc::unbounded_channel();
    (Process::start(launch, stopping, move |event| drop(tell.send(event))), events)
}

fn alive(pid: u32) -> bool {
    // A zombie is as dead as one can be without being waited for.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn started(events: &mut mpsc::UnboundedReceiver<Event>) -> u32 {
    match events.recv().await {
        Some(Event::Started { pid, .. }) => pid,
        other => panic!("not started: {other:?}"),
    }
}

/// The pid that a script wrote; the pipe named `ready` makes the wait a rendezvous.
async fn told_by(directory: &Path) -> String {
    let path = directory.join("ready");
    tokio::task::spawn_blocking(move || std::fs::read_to_string(path).unwrap()).await.unwrap().trim().to_owned()
}

fn pipe(directory: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(directory.join("ready")).status().unwrap().success());
}

#[test]
fn backoff_doubles_to_ten_seconds_and_forgets_after_ten_of_health() {
    let mut backoff = Backoff::default();
    let waits: Vec<u128> = (0..8).map(|_| backoff.after(Duration::from_secs(1)).as_millis()).collect();
    assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    assert_eq!(backoff.after(Duration::from_secs(10)).as_millis(), 200);
    assert_eq!(backoff.after(Duration::ZERO).as_millis(), 400);
}

#[tokio::test]
async fn one_that_ends_is_started_again_and_how_it_ended_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let (_process, mut events) = start(shell(directory.path(), "echo $GREETING; exit 3"), stopping());
    started(&mut events).await;
    let ended = events.recv().await.unwrap();
    let wanted = Event::Ended { generation: 1, how: "exited with code 3".into(), again_in: Duration::from_millis(200) };
    assert_eq!(ended, wanted);
    assert!(matches!(events.recv().await, Some(Event::Started { generation: 2, .. })));
    assert_eq!(last_words(&directory.path().join("log"), 1), ["hello"]);
}

#[tokio::test]
async fn one_that_cannot_start_says_why_and_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut launch = shell(directory.path(), "");
    launch.program = "/nowhere/at-all".into();
    let (_process, mut events) = start(launch, stopping());
    for generation in 1..=2 {
        let event = events.recv().await.unwrap();
        let Event::Ended { generation: g, how, .. } = event else { panic!("{event:?}") };
        assert_eq!(g, generation);
        assert!(how.starts_with("cannot start /nowhere/at-all: "), "{how}");
    }
}

#[tokio::test]
async fn stop_asks_first_and_waits_for_the_answer() {
    let directory = tempfile::tempdir().unwrap();
    pipe(directory.path());
    let script = "trap 'echo bye; exit 0' TERM; echo $$ >ready; while :; do sleep 1000 & wait; done";
    let (process, mut events) = start(shell(directory.path(), script), stopping());
    let pid = started(&mut events).await;
    assert_eq!(told_by(directory.path()).await, pid.to_string());
    process.stop().await;
    assert!(!alive(pid));
    assert_eq!(last_words(&directory.path().join("log"), 1), ["bye"]);
}

#[tokio::test]
async fn one_that_does_not_listen_is_killed_when_patience_ends() {
    let directory = tempfile::tempdir().unwrap();
    pipe(directory.path());
    let stopping = stopping();
    let script = "trap '' TERM; echo $$ >ready; exec sleep 1000";
    let (process, mut events) = start(shell(directory.path(), script), stopping.clone());
    let pid = started(&mut events).await;
    told_by(directory.path()).await;
    stopping.now.cancel();
    process.stop().await;
    assert!(!alive(pid));
}

#[tokio::test]
async fn what_a_killed_program_leaves_behind_goes_with_its_group() {
    let directory = tempfile::tempdir().unwrap();
    pipe(directory.path());
    let (_process, mut events) = start(shell(directory.path(), "sleep 1000 & echo $! >ready; wait"), stopping());
    let pid = started(&mut events).await;
    let left: u32 = told_by(directory.path()).await.parse().unwrap();
    let only = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(only, Signal::KILL).unwrap();
    let event = events.recv().await.unwrap();
    assert!(matches!(&event, Event::Ended { how, .. } if how == "was killed (signal 9)"), "{event:?}");
    while alive(left) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_restart_is_told_as_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let (process, mut events) = start(shell(directory.path(), "exec sleep 1000"), stopping());
    started(&mut events).await;
    process.restart("its liveness probe failed");
    let event = events.recv().await.unwrap();
    assert!(matches!(&event, Event::Ended { how, .. } if how == "its liveness probe failed"), "{event:?}");
    assert!(matches!(events.recv().await, Some(Event::Started { generation: 2, .. })));
}
