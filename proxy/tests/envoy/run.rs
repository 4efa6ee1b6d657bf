//! One scenario on one proxy, and what came of it, as a line of text that two proxies can be compared by.

use crate::hosts::{self, Hosts, POLL};
use crate::scenario::{Call, Scenario, Step, View};
use crate::side::Side;
use std::fmt::Write;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use weft_testkit::{Client, Reply, client, eventually};

/// Nothing takes longer in any scenario.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looking costs more than sending.
const SENT_PER_LOOK: usize = 24;

/// What the caller got.
struct Answer {
    /// By which the record in the access log is found.
    path: String,
    /// `None`: it was not whole.
    reply: Option<Reply>,
    status: u16,
    host: Option<String>,
}

struct Running<'a> {
    scenario: &'a Scenario,
    id: String,
    side: Arc<Side>,
    hosts: &'a Hosts,
    calls: usize,
    answers: Vec<Answer>,
    started: Vec<JoinHandle<Answer>>,
    begun: Arc<watch::Sender<usize>>,
    answered: Arc<watch::Sender<usize>>,
    /// What was waited for in vain.
    missed: Vec<String>,
}

/// Runs it from the beginning.
pub(crate) async fn run(scenario: &Scenario, id: &str, side: &Arc<Side>, hosts: &Hosts) -> String {
    hosts.begin_again();
    let mut running = Running {
        scenario,
        id: id.to_owned(),
        side: side.clone(),
        hosts,
        calls: 0,
        answers: Vec::new(),
        started: Vec::new(),
        begun: Arc::new(watch::Sender::new(0)),
        answered: Arc::new(watch::Sender::new(0)),
        missed: Vec::new(),
    };
    for step in &scenario.steps {
        running.take(step).await;
    }
    running.finish().await;
    running.outcome().await
}

impl Running<'_> {
    async fn take(&mut self, step: &Step) {
        let hosts = self.hosts;
        match step {
            Step::Send(call) => {
                let answer = ask(self.side.clone(), self.path(call, ""), call.clone(), None).await;
                self.answers.push(answer);
            }
            Step::Start(calls) => calls.iter().for_each(|call| self.start(call)),
            Step::Arrived(requests) => {
                self.in_time(&format!("{requests} arrived"), hosts.has_seen(*requests)).await;
            }
            Step::Begun(answers) => {
                let mut begun = self.begun.subscribe();
                let wait = begun.wait_for(|begun| begun >= answers);
                self.in_time(&format!("{answers} begun"), wait).await;
            }
            Step::Answered(requests) => {
                let mut answered = self.answered.subscribe();
                let wait = answered.wait_for(|answered| answered >= requests);
                self.in_time(&format!("{requests} answered"), wait).await;
            }
            Step::Open => hosts.open(),
            Step::Until(call, wanted) => self.until(call, wanted).await,
            Step::Ejected(count) => self.ejected(*count, None).await,
            Step::UntilEjected(call, count) => self.ejected(*count, Some(call)).await,
        }
    }

    /// What does not come in time is a part of the outcome.
    async fn in_time<T>(&mut self, what: &str, wait: impl Future<Output = T>) -> Option<T> {
        let waited = tokio::time::timeout(PATIENCE, wait).await.ok();
        if waited.is_none() {
            self.missed.push(format!("not {what}"));
        }
        waited
    }

    fn start(&mut self, call: &Call) {
        let answer = ask(self.side.clone(), self.path(call, ""), call.clone(), Some(self.begun.clone()));
        let answered = self.answered.clone();
        self.started.push(tokio::spawn(async move {
            let answer = answer.await;
            answered.send_modify(|answered| *answered += 1);
            answer
        }));
    }

    async fn until(&mut self, call: &Call, wanted: &str) {
        let (side, hosts) = (self.side.clone(), self.hosts);
        let (path, polls) = (self.path(call, "&"), AtomicUsize::new(0));
        let answer = eventually("", || async {
            let path = format!("{path}{}{POLL}", polls.fetch_add(1, Ordering::Relaxed));
            let answer = ask(side.clone(), path, call.clone(), None).await;
            (answer.in_short(hosts) == wanted).then_some(answer)
        });
        let answer = self.in_time(wanted, answer).await;
        self.answers.extend(answer);
    }

    async fn ejected(&mut self, count: usize, call: Option<&Call>) {
        let (side, id) = (self.side.clone(), self.id.clone());
        let (side, id) = (&side, id.as_str());
        let path = call.map(|call| self.path(call, POLL));
        let wait = eventually("", || async {
            if let (Some(call), Some(path)) = (call, &path) {
                for _ in 0..SENT_PER_LOOK {
                    ask(side.clone(), path.clone(), call.clone(), None).await;
                }
            }
            (side.ejected(id).await == count).then_some(())
        });
        self.in_time(&format!("{count} ejected"), wait).await;
    }

    /// Waits for all that was started. Which of them was first is nobody's business.
    async fn finish(&mut self) {
        for started in std::mem::take(&mut self.started) {
            self.answers.push(started.await.expect("no panic"));
        }
    }

    fn path(&mut self, call: &Call, end: &str) -> String {
        self.calls += 1;
        format!("/{}{}?n={}{}{end}", self.id, call.route, self.calls, call.query)
    }

    async fn outcome(&self) -> String {
        let view = &self.scenario.view;
        let mut answers = Vec::new();
        let concurrent = self.scenario.steps.iter().any(|step| matches!(step, Step::Start(_)));
        for answer in &self.answers {
            answers.push(self.describe(answer, view).await);
        }
        if view.unordered || concurrent {
            answers.sort();
        }
        answers.extend(self.missed.iter().cloned());
        let mut outcome = in_runs(&answers);
        let seen: Vec<_> = self.hosts.arrivals().into_iter().filter(|arrival| !arrival.poll).collect();
        let counts = (0..self.hosts.len()).map(|host| seen.iter().filter(|arrival| arrival.host == host).count());
        write!(outcome, "; hosts {}", view.counted(counts.collect())).unwrap();
        if view.connections {
            write!(outcome, "; connections {}", self.hosts.connections()).unwrap();
        }
        for name in &view.sees {
            let values: Vec<String> = seen
                .iter()
                .map(|arrival| {
                    arrival.headers.get(*name).map_or("-".into(), |value| value.to_str().unwrap().to_owned())
                })
                .collect();
            write!(outcome, "; {name} {}", in_runs(&values)).unwrap();
        }
        outcome
    }

    async fn describe(&self, answer: &Answer, view: &View) -> String {
        let record = self.side.record(&answer.path).await;
        let mut text = answer.status_text();
        let field = |name: &str| record[name].as_str().filter(|value| !value.is_empty() && *value != "-");
        if let Some(flags) = field("response_flags") {
            // Envoy writes them in the order in which they were set
            let mut flags: Vec<&str> = flags.split(',').collect();
            flags.sort_unstable();
            write!(text, " {}", flags.join(",")).unwrap();
        }
        if view.details
            && let Some(details) = field("response_code_details")
        {
            write!(text, " {details}").unwrap();
        }
        if let Some(host) = answer.host.as_ref().filter(|_| !view.anonymous && !view.uncounted) {
            write!(text, "@{host}").unwrap();
        }
        let Some(reply) = &answer.reply else { return text + " broken" };
        for name in &view.headers {
            if let Some(value) = reply.header(name) {
                write!(text, " {name}={value}").unwrap();
            }
        }
        if view.body {
            write!(text, " {:?}", reply.text()).unwrap();
        }
        text
    }
}

impl Answer {
    /// `200`, `200 grpc 14`
    fn status_text(&self) -> String {
        let grpc = self.reply.as_ref().and_then(|reply| {
            let trailer = reply.trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
            reply.headers.get("grpc-status").or(trailer)
        });
        match (self.status, grpc) {
            (0, _) => "nothing".into(),
            (status, None) => status.to_string(),
            (status, Some(code)) => format!("{status} grpc {}", code.to_str().unwrap()),
        }
    }

    fn in_short(&self, hosts: &Hosts) -> String {
        match &self.host {
            Some(host) if hosts.len() > 1 => format!("{}@{host}", self.status_text()),
            _ => self.status_text(),
        }
    }
}

impl View {
    /// How many requests each host saw: `2+0`, `-` without a host.
    fn counted(&self, mut counts: Vec<usize>) -> String {
        if self.anonymous {
            counts.sort_unstable_by(|one, other| other.cmp(one));
        }
        let count = |count: &usize| match self.uncounted {
            true => if *count > 0 { "some" } else { "none" }.to_owned(),
            false => count.to_string(),
        };
        match counts.is_empty() {
            true => "-".to_owned(),
            false => counts.iter().map(count).collect::<Vec<_>>().join("+"),
        }
    }
}

/// `2x 200@a, 503 UO`
fn in_runs(texts: &[String]) -> String {
    let runs = texts.chunk_by(|one, next| one == next).map(|run| match run.len() {
        1 => run[0].clone(),
        length => format!("{length}x {}", run[0]),
    });
    runs.collect::<Vec<_>>().join(", ")
}

/// Sends a request, tells `begun` when its answer begins, and reads that.
async fn ask(side: Arc<Side>, path: String, call: Call, begun: Option<Arc<watch::Sender<usize>>>) -> Answer {
    let none = Answer { path: path.clone(), reply: None, status: 0, host: None };
    let asking = async {
        let mut client = if call.http2 { Client::http2(side.address).await } else { Client::http1(side.address).await };
        let method = if call.body.is_empty() { "GET" } else { "POST" };
        let request = client.request(method, "side.example", &path);
        let request = call.headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let request = request.body(client::body(call.body)).expect("well-formed headers");
        let Ok(response) = client.start(request).await else { return none };
        if let Some(begun) = begun {
            begun.send_modify(|begun| *begun += 1);
        }
        let status = response.status().as_u16();
        let host = response.headers().get(hosts::HOST).map(|host| host.to_str().unwrap().to_owned());
        Answer { status, host, reply: Reply::read(response).await.ok(), ..none }
    };
    let late = Answer { path: path.clone(), reply: None, status: 0, host: None };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or(late)
}
