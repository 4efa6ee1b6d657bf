//! Gateways, HTTPRoutes and requests by chance, of so few different names, paths and values that they meet each other.

use crate::reference::{Gateway, Listener, Match, Parent, Path, Request, Route, Rule, Value};
use weft_policy::Dice;

const PORTS: [u16; 2] = [8080, 8081];
const HOSTNAMES: [&str; 7] =
    ["example", "a.example", "b.example", "x.a.example", "*.example", "*.a.example", "*.x.a.example"];
const HOSTS: [&str; 8] =
    ["example", "a.example", "b.example", "x.a.example", "y.a.example", "z.x.a.example", "c.example", "other"];
const PATHS: [&str; 9] = ["/", "/a", "/a/", "/a/b", "/a/b/", "/ab", "/a/b/c", "/b", "/a/bc"];
const EXPRESSIONS: [&str; 5] = ["/a/.*", "/[ab]+", "/.*", "/a|/b", "/a/b(/c)?"];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
const NAMES: [&str; 3] = ["x-one", "x-two", "x-three"];
const VALUES: [&str; 3] = ["1", "2", "12"];
const VALUE_EXPRESSIONS: [&str; 3] = ["1.*", "[12]", ".*"];

pub(crate) struct Generator(pub(crate) Dice);

impl Generator {
    fn below(&mut self, n: usize) -> usize {
        self.0.below(n as u32) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.below(texts.len())]
    }

    pub(crate) fn gateway(&mut self) -> Gateway {
        let mut listeners: Vec<Listener> = Vec::new();
        for index in 0..1 + self.below(4) {
            let port = PORTS[self.below(2)];
            let hostname = self.chance(60).then(|| self.of(&HOSTNAMES).to_owned());
            if !listeners.iter().any(|other| other.port == port && other.hostname == hostname) {
                listeners.push(Listener { name: format!("l{index}"), port, hostname, all_namespaces: self.chance(70) });
            }
        }
        let routes = (0..1 + self.below(5)).map(|index| self.route(index, &listeners)).collect();
        Gateway { namespace: "infra".into(), listeners, routes }
    }

    fn route(&mut self, index: usize, listeners: &[Listener]) -> Route {
        let parents = (0..1 + self.below(2)).map(|_| {
            let listener = &listeners[self.below(listeners.len())];
            Parent {
                section: self.chance(30).then(|| listener.name.clone()),
                port: self.chance(30).then_some(listener.port),
            }
        });
        let parents = parents.collect();
        let hostnames = if self.chance(40) { 0 } else { 1 + self.below(3) };
        Route {
            namespace: self.of(&["infra", "infra-x", "team"]).into(),
            name: format!("{}{index}", self.of(&["r", "q"])),
            created: self.chance(60).then(|| 1 + self.below(3) as u8),
            parents,
            hostnames: (0..hostnames).map(|_| self.of(&HOSTNAMES).to_owned()).collect(),
            rules: (0..1 + self.below(3)).map(|rule| self.rule(format!("rule-{index}-{rule}"))).collect(),
        }
    }

    fn rule(&mut self, name: String) -> Rule {
        let matches = if self.chance(15) { 0 } else { 1 + self.below(3) };
        Rule { name, matches: (0..matches).map(|_| self.matches()).collect() }
    }

    fn matches(&mut self) -> Match {
        let path = match self.below(10) {
            0 | 1 => None,
            2..4 => Some(Path::Exact(self.of(&PATHS).into())),
            4..8 => Some(Path::Prefix(self.of(&PATHS).into())),
            _ => Some(Path::Regex(self.of(&EXPRESSIONS).into())),
        };
        Match {
            path,
            method: self.chance(30).then(|| self.of(&METHODS).to_owned()),
            headers: self.values(true),
            query: self.values(false),
        }
    }

    /// Of different names: the same one twice is refused where YAML is read.
    fn values(&mut self, ignore_case: bool) -> Vec<(String, Value)> {
        let count = if self.chance(60) { 0 } else { 1 + self.below(3) };
        let first = self.below(NAMES.len());
        let one = |at: usize| {
            let name = NAMES[(first + at) % NAMES.len()];
            let name = if ignore_case && self.chance(20) { name.to_uppercase() } else { name.to_owned() };
            let value = match self.chance(70) {
                true => Value::Exact(self.of(&VALUES).into()),
                false => Value::Regex(self.of(&VALUE_EXPRESSIONS).into()),
            };
            (name, value)
        };
        (0..count).map(one).collect()
    }

    pub(crate) fn request(&mut self) -> Request {
        let mut pairs = || -> Vec<(String, String)> {
            (0..self.below(5)).map(|_| (self.of(&NAMES).to_owned(), self.of(&VALUES).to_owned())).collect()
        };
        let headers = pairs();
        let mut query: Vec<(String, String)> = Vec::new();
        for (name, value) in pairs() {
            // of a repeated parameter the text leaves the behaviour open
            if !query.iter().any(|(other, _)| *other == name) {
                query.push((name, value));
            }
        }
        Request {
            port: PORTS[self.below(2)],
            host: self.of(&HOSTS).into(),
            path: self.of(&PATHS).into(),
            method: self.of(&METHODS).into(),
            headers,
            query,
        }
    }
}
