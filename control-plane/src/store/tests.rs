use super::*;

fn route(name: &str, path: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: {name} }}
spec:
  parentRefs: [{{ name: shop }}]
  rules:
    - matches: [{{ path: {{ type: PathPrefix, value: {path} }} }}]
      backendRefs: [{{ name: order, port: 8080 }}]
"
    )
}

/// Known to be that route, and not to be understood.
fn broken_route(name: &str) -> String {
    route(name, "/").replace("parentRefs: [{ name: shop }]", "parentRefs: 7")
}

#[derive(Default)]
struct Story {
    store: Store,
}

impl Story {
    fn says(&mut self, file: &str, documents: &[String]) -> &mut Self {
        self.becomes(file, Change::Text(documents.join("---\n")))
    }

    fn becomes(&mut self, file: &str, change: Change) -> &mut Self {
        self.store.apply(&file.into(), change);
        self
    }

    /// `name path` of all routes in force.
    fn in_force(&self) -> Vec<String> {
        let (world, _) = self.store.world();
        let routes = world.objects.values().map(|object| format!("{}:{}", object.key.name, text_of(object)));
        routes.collect()
    }

    fn problems(&self) -> Vec<String> {
        self.store.world().1.iter().map(ToString::to_string).collect()
    }
}

fn text_of(object: &Object) -> String {
    let debug = format!("{:?}", object.body);
    let path = debug.split('"').find(|part| part.starts_with('/'));
    path.expect("every route here has a path").to_owned()
}

#[test]
fn what_files_say_is_in_force_together() {
    let mut story = Story::default();
    story.says("a.yaml", &[route("a", "/1"), route("b", "/1")]).says("c.yaml", &[route("c", "/1")]);
    assert_eq!(story.in_force(), ["a:/1", "b:/1", "c:/1"]);
    assert_eq!(story.problems(), [""; 0]);
    story.says("a.yaml", &[route("b", "/2")]);
    assert_eq!(story.in_force(), ["b:/2", "c:/1"]);
}

#[test]
fn a_bad_document_keeps_its_last_good_version_and_its_neighbours_move_on() {
    let mut story = Story::default();
    story.says("a.yaml", &[route("a", "/1"), route("b", "/1"), route("gone", "/1")]);
    story.says("a.yaml", &[broken_route("a"), route("b", "/2")]);
    assert_eq!(story.in_force(), ["a:/1", "b:/2"]);
    assert!(story.problems().iter().any(|problem| problem.starts_with("a.yaml:5:")), "{:?}", story.problems());
    story.says("a.yaml", &[broken_route("a"), route("b", "/3")]);
    assert_eq!(story.in_force(), ["a:/1", "b:/3"], "kept for as long as it is bad");
    story.says("a.yaml", &[route("a", "/4"), route("b", "/3")]);
    assert_eq!(story.in_force(), ["a:/4", "b:/3"]);
    assert_eq!(story.problems(), [""; 0]);
}

#[test]
fn a_bad_document_that_says_nothing_of_itself_keeps_everything_its_file_said() {
    let mut story = Story::default();
    story.says("a.yaml", &[route("a", "/1"), route("b", "/1")]).says("c.yaml", &[route("c", "/1")]);
    story.says("a.yaml", &["kind: [HTTPRoute\n".into(), route("b", "/2")]).says("c.yaml", &[]);
    assert_eq!(story.in_force(), ["a:/1", "b:/2"]);
}

#[test]
fn a_document_that_was_never_good_is_not_in_force() {
    let mut story = Story::default();
    story.says("a.yaml", &[broken_route("a"), route("b", "/1")]);
    assert_eq!(story.in_force(), ["b:/1"]);
}

#[test]
fn a_file_that_cannot_be_read_keeps_what_it_said() {
    let mut story = Story::default();
    let problem = Problem::error(Place::new("a.yaml", 1, 1), "", "not UTF-8");
    story.says("a.yaml", &[route("a", "/1")]).becomes("a.yaml", Change::Unreadable(problem));
    assert_eq!(story.in_force(), ["a:/1"]);
    assert_eq!(story.problems(), ["a.yaml:1:1 not UTF-8"]);
    story.says("a.yaml", &[route("a", "/2")]);
    assert_eq!((story.in_force(), story.problems().len()), (vec!["a:/2".to_owned()], 0));
}

#[test]
fn a_removed_file_takes_its_objects_along_also_the_kept_ones() {
    let mut story = Story::default();
    story.says("a.yaml", &[route("a", "/1")]).says("a.yaml", &[broken_route("a")]).says("b.yaml", &[route("b", "/1")]);
    story.becomes("a.yaml", Change::Removed);
    assert_eq!((story.in_force(), story.problems().len()), (vec!["b:/1".to_owned()], 0));
}

#[test]
fn a_file_that_vanishes_stays_in_force_until_it_is_removed_and_another_may_say_it_anew() {
    let mut story = Story::default();
    story.says("a.yaml", &[route("a", "/1"), route("b", "/1")]).becomes("a.yaml", Change::Vanished);
    assert_eq!(story.in_force(), ["a:/1", "b:/1"]);
    story.says("moved.yaml", &[route("a", "/2")]);
    assert_eq!((story.in_force(), story.problems().len()), (vec!["a:/2".to_owned(), "b:/1".to_owned()], 0));
    story.becomes("a.yaml", Change::Removed);
    assert_eq!(story.in_force(), ["a:/2"]);
}

#[test]
fn of_two_definitions_the_first_file_wins_and_the_second_is_a_problem() {
    let mut story = Story::default();
    story.says("b.yaml", &[route("a", "/b")]).says("a.yaml", &[route("a", "/a")]);
    assert_eq!(story.in_force(), ["a:/a"]);
    assert!(story.problems()[0].starts_with("b.yaml:1:1 "), "{:?}", story.problems());
}
