//! What the kernel makes of the rules: the messages and the text are the same to it, and twice is once.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use std::net::IpAddr;
use weft_interception::{Cidr, List, Port, Ruleset, Settings, Which, clean_up, install};
use weft_testkit::netns::Namespace;

fn port() -> impl Strategy<Value = Port> {
    (1..=u16::MAX).prop_map(|port| Port::new(port).expect("not 0"))
}

fn cidr() -> impl Strategy<Value = Cidr> {
    let v4 = (any::<[u8; 4]>(), 0..=32u8).prop_map(|(octets, prefix)| Cidr::new(IpAddr::from(octets), prefix));
    let v6 = (any::<[u8; 16]>(), 0..=128u8).prop_map(|(octets, prefix)| Cidr::new(IpAddr::from(octets), prefix));
    prop_oneof![v4, v6].prop_map(|network| network.expect("a prefix that fits"))
}

fn list<T: std::fmt::Debug>(item: impl Strategy<Value = T>) -> impl Strategy<Value = List<T>> {
    prop::collection::vec(item, 0..6).prop_map(List)
}

fn which<T: std::fmt::Debug + Clone>(item: impl Strategy<Value = T>) -> impl Strategy<Value = Which<T>> {
    prop_oneof![Just(Which::All), list(item).prop_map(Which::Only)]
}

fn settings() -> impl Strategy<Value = Settings> {
    let inbound = (which(port()), list(port()));
    let outbound = (which(cidr()), list(cidr()), list(port()), list(port()));
    (any::<u32>(), any::<u32>(), port(), port(), inbound, outbound).prop_map(
        |(proxy_uid, proxy_gid, inbound_port, outbound_port, inbound, outbound)| Settings {
            proxy_uid,
            proxy_gid,
            inbound_port,
            outbound_port,
            include_inbound_ports: inbound.0,
            exclude_inbound_ports: inbound.1,
            include_outbound_cidrs: outbound.0,
            exclude_outbound_cidrs: outbound.1,
            include_outbound_ports: outbound.2,
            exclude_outbound_ports: outbound.3,
        },
    )
}

/// What the kernel holds, without the numbers that it gives: once as meaning, once as programs.
fn held(namespace: &Namespace) -> (Value, String) {
    let mut rules: Value = serde_json::from_str(&namespace.nft(&["-j", "list", "ruleset"], "")).expect("JSON");
    for item in rules["nftables"].as_array_mut().expect("a list") {
        for object in item.as_object_mut().expect("an object").values_mut() {
            object.as_object_mut().expect("an object").remove("handle");
        }
    }
    let programs = namespace.nft(&["--debug=netlink", "list", "ruleset"], "");
    let numbered = |line: &&str| !line.starts_with("inet weft ");
    (rules, programs.lines().filter(numbered).collect::<Vec<_>>().join("\n"))
}

#[test]
fn the_text_and_the_messages_are_the_same_to_the_kernel() {
    let Some(namespace) = Namespace::new() else { return };
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let same = runner.run(&settings(), |settings| {
        let rules = Ruleset::new(&settings);
        namespace.nft(&["-f", "-"], &rules.to_string());
        let by_text = held(&namespace);
        namespace.run(|| install(&rules)).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let by_messages = held(&namespace);
        prop_assert_eq!(&by_text.0, &by_messages.0);
        prop_assert_eq!(&by_text.1, &by_messages.1);
        Ok(())
    });
    same.unwrap_or_else(|error| panic!("{error}"));
}

fn wide() -> Settings {
    let port = |port| Port::new(port).expect("not 0");
    Settings {
        proxy_uid: 1337,
        proxy_gid: 1337,
        inbound_port: port(15006),
        outbound_port: port(15001),
        include_inbound_ports: Which::All,
        exclude_inbound_ports: List::default(),
        include_outbound_cidrs: Which::All,
        exclude_outbound_cidrs: List::default(),
        include_outbound_ports: List::default(),
        exclude_outbound_ports: List::default(),
    }
}

fn simple() -> Ruleset {
    Ruleset::new(&wide())
}

#[test]
fn twice_is_once_and_cleaning_up_leaves_nothing_however_often() {
    let Some(namespace) = Namespace::new() else { return };
    let foreign = "table ip other {\n  chain one {\n    counter drop\n  }\n}\n";
    namespace.nft(&["-f", "-"], foreign);
    let before = held(&namespace);
    let addresses = || namespace.ip(&["address", "show", "dev", "lo"]);
    let addresses_before = addresses();
    namespace.run(|| install(&simple())).expect("installed");
    let once = held(&namespace);
    assert_ne!(before, once);
    assert!(addresses().contains("inet6 ::6/128"), "{}", addresses());
    namespace.run(|| install(&simple())).expect("installed again");
    assert_eq!(once, held(&namespace));
    for _ in 0..2 {
        namespace.run(clean_up).expect("cleaned up");
        assert_eq!(before, held(&namespace), "what is not ours stays");
        assert_eq!(addresses_before, addresses());
    }
}

#[test]
fn many_exceptions_fit_one_transaction() {
    let Some(namespace) = Namespace::new() else { return };
    let mut settings = Settings { exclude_inbound_ports: List((1..3000).filter_map(Port::new).collect()), ..wide() };
    settings.exclude_outbound_ports = settings.exclude_inbound_ports.clone();
    namespace.run(|| install(&Ruleset::new(&settings))).expect("installed");
    let listed = namespace.nft(&["list", "ruleset"], "");
    assert_eq!(listed.matches("tcp dport").count(), 2 * 2999);
}

#[test]
fn without_ipv6_the_rules_are_there_all_the_same() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.set("ipv6/conf/all/disable_ipv6", "1");
    namespace.run(|| install(&simple())).expect("installed");
    assert!(namespace.nft(&["list", "ruleset"], "").contains("redirect to :15006"));
}

#[test]
fn who_may_not_change_rules_is_told_what_is_needed() {
    use rustix::thread::{Uid, set_thread_res_uid};
    let Some(namespace) = Namespace::new() else { return };
    let refused = namespace.run(|| {
        let nobody = Uid::from_raw(65534);
        set_thread_res_uid(nobody, nobody, nobody).expect("root may become anybody");
        install(&simple())
    });
    let told = refused.expect_err("nobody may not").to_string();
    assert!(told.contains("NET_ADMIN"), "{told}");
}
