//! What `experiments/run.sh` makes of siege's report.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::io::Write as _;
use std::process::{Command, Stdio};

/// The line that `siege.awk` makes of `report`, if it finds what it looks for.
fn summary(report: &str) -> Option<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/siege.awk");
    let mut awk = Command::new("awk");
    let mut awk = awk.args(["-f", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    awk.stdin.take().unwrap().write_all(report.as_bytes()).unwrap();
    let output = awk.wait_with_output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn a_table_among_requests_is_read() {
    let report = "** SIEGE 4.0.4\n\
        ** Preparing 10 concurrent users for battle.\n\
        \u{1b}[0;34mHTTP/1.1 200\u{1b}[0m     0.02 secs:     340 bytes ==> GET  /orders\n\
        HTTP/1.1 503     0.00 secs:      81 bytes ==> GET  http://127.77.0.1:8080/orders\n\
        \nLifting the server siege...\n\
        Transactions:\t\t         722 hits\n\
        Availability:\t\t       80.13 %\n\
        Elapsed time:\t\t        9.52 secs\n\
        Successful transactions:         722\n\
        Failed transactions:\t         179\n\
        Longest transaction:\t        0.31\n";
    assert_eq!(summary(report).unwrap(), "901 80.13 179 0.31");
}

#[test]
fn json_is_read() {
    let report = "\n{\t\"transactions\":\t\t\t         722,\n\
        \t\"availability\":\t\t\t       80.13,\n\
        \t\"successful_transactions\":\t\t         722,\n\
        \t\"failed_transactions\":\t\t\t         179,\n\
        \t\"longest_transaction\":\t\t\t        9.20\n}\n";
    assert_eq!(summary(report).unwrap(), "901 80.13 179 9.20");
}

#[test]
fn nothing_at_all_is_not_a_success() {
    assert_eq!(summary("{\"transactions\": 0, \"failed_transactions\": 0}"), None, "no line by line report");
    assert_eq!(summary("\"transactions\": 0,\n\"failed_transactions\": 0,\n").unwrap(), "0 0.00 0 0.00");
    assert_eq!(summary("siege: command line error\n"), None);
    assert_eq!(summary(""), None);
}
