use super::*;
use crate::up::plan::{ContainerPort, Program, Target};

fn template(port_name: &str, number: u16) -> Template {
    Template {
        labels: BTreeMap::from([("app".into(), "order".into()), ("version".into(), "v1".into())]),
        container: "order".into(),
        program: Program::Weft(vec!["service".into(), "order".into()]),
        env: Vec::new(),
        directory: None,
        ports: vec![ContainerPort { name: Some(port_name.into()), number }],
        startup: None,
        readiness: None,
        liveness: None,
    }
}

fn service(target: Target) -> BTreeMap<Id, Service> {
    let selector = BTreeMap::from([("app".into(), "order".into())]);
    let ports = vec![ServicePort { name: Some("http".into()), target }];
    BTreeMap::from([(Id::new("shop", "order"), Service { selector, ports })])
}

fn pod<'a>(id: &'a Id, deployment: &'a Id, template: &'a Template, last: u8, condition: Condition) -> PodView<'a> {
    PodView { id, deployment, template, address: Ipv4Addr::new(127, 0, 1, last), condition }
}

#[test]
fn a_slice_says_who_answers_where_and_whether_it_may_be_asked() {
    let template = template("web", 8080);
    let deployment = Id::new("shop", "order");
    let ids = ["order-0", "order-1", "order-2"].map(|name| Id::new("shop", name));
    let pods = [
        pod(&ids[0], &deployment, &template, 1, Condition::Ready),
        pod(&ids[1], &deployment, &template, 2, Condition::NotReady),
        pod(&ids[2], &deployment, &template, 3, Condition::Leaving),
    ];
    let files = files(&service(Target::Name("web".into())), &pods);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["endpoints.shop.order.0.yaml", "pod.shop.order-0.yaml", "pod.shop.order-1.yaml", "pod.shop.order-2.yaml"]
    );
    let slice = &files["endpoints.shop.order.0.yaml"];
    let endpoint = |last: u8, ready: bool, serving: bool, terminating: bool| {
        format!(
            "  - addresses:\n      - \"127.0.1.{last}\"\n    conditions:\n      ready: {ready}\n      serving: {serving}\n      \
             terminating: {terminating}\n    targetRef:\n      kind: \"Pod\"\n      name: \"order-{}\"\n",
            last - 1
        )
    };
    assert!(slice.contains(&endpoint(1, true, true, false)), "{slice}");
    assert!(slice.contains(&endpoint(2, false, false, false)), "{slice}");
    assert!(slice.contains(&endpoint(3, false, true, true)), "{slice}");
    assert!(slice.contains("ports:\n  - name: \"http\"\n    port: 8080\n"), "{slice}");
}

#[test]
fn pods_whose_named_port_differs_go_into_slices_of_their_own() {
    let (old, new) = (template("web", 8080), template("web", 9090));
    let deployment = Id::new("shop", "order");
    let ids = ["order-0", "order-1"].map(|name| Id::new("shop", name));
    let pods =
        [pod(&ids[0], &deployment, &old, 1, Condition::Ready), pod(&ids[1], &deployment, &new, 2, Condition::Ready)];
    let files = files(&service(Target::Name("web".into())), &pods);
    assert!(files["endpoints.shop.order.0.yaml"].contains("port: 8080"));
    assert!(files["endpoints.shop.order.1.yaml"].contains("port: 9090"));
}

#[test]
fn pods_of_another_namespace_or_app_are_not_meant() {
    let template = template("web", 8080);
    let deployment = Id::new("elsewhere", "order");
    let id = Id::new("elsewhere", "order-0");
    let pods = [pod(&id, &deployment, &template, 1, Condition::Ready)];
    let files = files(&service(Target::Number(8080)), &pods);
    assert!(files["endpoints.shop.order.0.yaml"].contains("endpoints: []"), "{files:?}");
}

#[test]
fn a_service_without_selector_is_left_alone() {
    let services =
        BTreeMap::from([(Id::new("shop", "legacy"), Service { selector: BTreeMap::new(), ports: Vec::new() })]);
    assert!(files(&services, &[]).is_empty());
}

#[test]
fn a_mirror_touches_only_what_differs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("left-over.yaml"), "old").unwrap();
    let mut mirror = Mirror::new(path.clone()).unwrap();
    let set = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
    mirror.set(set(&[("a.yaml", "1"), ("b.yaml", "1")])).unwrap();
    // What is equal is not written again: this survives.
    fs::write(path.join("a.yaml"), "touched").unwrap();
    mirror.set(set(&[("a.yaml", "1"), ("c.yaml", "2")])).unwrap();
    let read = |name: &str| fs::read_to_string(path.join(name)).ok();
    assert_eq!([read("a.yaml"), read("b.yaml"), read("c.yaml")], [Some("touched".into()), None, Some("2".into())]);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 2, "nothing else is left behind");
}
