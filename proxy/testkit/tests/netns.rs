//! Namespaces are there for as long as their test, and what a killed one left is not there for long.

use std::path::Path;
use std::process::Command;
use weft_testkit::netns::Namespace;

#[test]
fn what_a_killed_test_left_is_removed_by_the_next() {
    let Some(first) = Namespace::new() else { return };
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let left = format!("weft-{}-0", gone.id());
    let made = Command::new("ip").args(["netns", "add", &left]).status().unwrap();
    assert!(made.success());
    let mut program = Command::new("ip").args(["netns", "exec", &left, "sleep", "1000"]).spawn().unwrap();
    let inside = || Command::new("ip").args(["netns", "pids", &left]).output().unwrap().stdout;
    while inside().is_empty() {
        std::thread::yield_now();
    }
    let second = Namespace::new().expect("the first could be made");
    assert!(!Path::new("/run/netns").join(&left).exists());
    assert!(!program.wait().unwrap().success(), "what ran in it was ended");
    let names = [first.name().to_owned(), second.name().to_owned()];
    for name in &names {
        assert!(Path::new("/run/netns").join(name).exists(), "{name} is in use");
    }
    drop((first, second));
    for name in &names {
        assert!(!Path::new("/run/netns").join(name).exists(), "{name} is given back");
    }
}
