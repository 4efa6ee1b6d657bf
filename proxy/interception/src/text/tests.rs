use crate::{List, Port, Ruleset, Settings, Which};

fn settings() -> Settings {
    Settings {
        proxy_uid: 1337,
        proxy_gid: 1337,
        inbound_port: Port::new(15006).unwrap(),
        outbound_port: Port::new(15001).unwrap(),
        include_inbound_ports: Which::All,
        exclude_inbound_ports: List::default(),
        include_outbound_cidrs: Which::All,
        exclude_outbound_cidrs: List::default(),
        include_outbound_ports: List::default(),
        exclude_outbound_ports: List::default(),
    }
}

/// One chain's rules, without indentation and comments.
fn chain(settings: &Settings, name: &str) -> Vec<String> {
    let text = Ruleset::new(settings).to_string();
    let start = text.find(&format!("chain {name} {{")).expect("the chain is there");
    let lines = text[start..].lines().skip(1).take_while(|line| line.trim() != "}");
    lines.map(|line| line.trim().split(" comment ").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn without_exceptions_all_tcp_goes_to_the_proxy() {
    let text = Ruleset::new(&settings()).to_string();
    assert_eq!(text, include_str!("plain.nft"), "{text}");
}

#[test]
fn excluded_ports_come_before_what_is_included() {
    let mut settings = settings();
    settings.exclude_inbound_ports = "15020,22".parse().unwrap();
    settings.exclude_outbound_ports = "3306".parse().unwrap();
    settings.exclude_outbound_cidrs = "10.96.0.1,fd00::/8".parse().unwrap();
    assert_eq!(
        chain(&settings, "inbound"),
        ["tcp dport 15020 return", "tcp dport 22 return", "meta l4proto tcp counter redirect to :15006"]
    );
    assert_eq!(
        chain(&settings, "outbound"),
        [
            "tcp dport 3306 return",
            "ip daddr 10.96.0.1 return",
            "ip6 daddr fd00::/8 return",
            "meta l4proto tcp counter redirect to :15001"
        ]
    );
}

#[test]
fn listed_ports_and_networks_are_all_that_is_intercepted() {
    let mut settings = settings();
    settings.include_inbound_ports = "80".parse().unwrap();
    settings.include_outbound_cidrs = "10.0.0.0/8".parse().unwrap();
    settings.include_outbound_ports = "5432".parse().unwrap();
    assert_eq!(chain(&settings, "inbound"), ["tcp dport 80 counter redirect to :15006"]);
    assert_eq!(
        chain(&settings, "outbound"),
        [
            "tcp dport 5432 counter redirect to :15001",
            "ip daddr 10.0.0.0/8 meta l4proto tcp counter redirect to :15001"
        ]
    );
}

#[test]
fn nothing_included_is_nothing_intercepted() {
    let mut settings = settings();
    settings.include_inbound_ports = "".parse().unwrap();
    settings.include_outbound_cidrs = "".parse().unwrap();
    assert!(!Ruleset::new(&settings).to_string().contains("redirect"));
}
