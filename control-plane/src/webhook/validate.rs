//! `/validate`: the checks of `weft check` on one object, before it is stored, in the same words.
//!
//! What is wrong in the object itself refuses it. What it says of others only warns: `kubectl apply -f` of a directory
//! brings a route before its Service as often as after, and both must get in; whether they found each other is told by
//! the route's status. Two more must not be refused: a kind that the API server knows and Weft does not, and a change that
//! leaves a wrong object as wrong as it was, or its finalizers could never be taken off.

use super::review::{Answer, Review};
use serde_json::Value;
use std::fmt::Write as _;
use weft_config::{Parsed, Problem, World};

pub(super) fn answer(review: &Review, world: &World) -> Answer {
    if review.object.is_null() {
        return Answer::default();
    }
    let parsed = weft_config::read_object(&place(review), &review.object);
    let is_as_before = !review.old.is_null() && review.old.get("spec") == review.object.get("spec");
    let refuses = |problem: &&Problem| {
        problem.is_error() && !is_as_before && !["kind", "apiVersion"].contains(&problem.path.as_str())
    };
    let (errors, warnings): (Vec<&Problem>, Vec<&Problem>) = parsed.problems.iter().partition(refuses);
    let said = |problems: Vec<&Problem>| -> Vec<String> { problems.into_iter().map(said).collect() };
    let mut answer = Answer { warnings: said(warnings), ..Answer::default() };
    if errors.is_empty() {
        answer.warnings.extend(between(&parsed, world).iter().map(self::said));
    } else {
        answer.refusal = Some(said(errors).join("\n"));
    }
    answer
}

/// As a file would be called: `shop/httproute/orders`.
fn place(review: &Review) -> String {
    let name = |path: &str| review.object.pointer(path).and_then(Value::as_str).unwrap_or("?").to_owned();
    let name = match review.object.pointer("/metadata/name") {
        Some(_) => name("/metadata/name"),
        None => name("/metadata/generateName"),
    };
    let kind = review.kind.to_ascii_lowercase();
    match review.namespace.as_str() {
        "" => format!("{kind}/{name}"),
        namespace => format!("{namespace}/{kind}/{name}"),
    }
}

/// What the object and the world in force say of each other, as far as it is the object's own mistake.
fn between(parsed: &Parsed, world: &World) -> Vec<Problem> {
    let mut world = world.clone();
    world.objects.extend(parsed.objects.iter().map(|object| (object.key.clone(), object.clone())));
    let mut problems = weft_config::validate(&world);
    problems.retain(|problem| parsed.objects.iter().any(|object| problem.object.as_ref() == Some(&object.key)));
    problems
}

/// As a problem is said anywhere, without the line and column of a file that nobody wrote.
fn said(problem: &Problem) -> String {
    let mut text = problem.place.file.to_string();
    if !problem.path.is_empty() {
        let _ = write!(text, " {}", problem.path);
    }
    let _ = write!(text, ": {}", problem.message);
    if let Some(hint) = &problem.hint {
        let _ = write!(text, " ({hint})");
    }
    text
}
