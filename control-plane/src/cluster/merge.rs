//! A status as it is, and as we would have it, made one.
//!
//! Several controllers write into one status: a route has an entry for each parent, each with its controller's name, and
//! conditions of types that are not ours may stand beside ours. Theirs stay as they are, and a condition of ours that says what
//! it said before keeps the time since when it is so (`lastTransitionTime`). What comes out equal is not written at all, so that
//! nobody's watch is woken for nothing.

use serde_json::{Map, Value, json};

/// Lists of entries that belong each to one controller.
const SHARED: [&str; 2] = ["parents", "ancestors"];

/// Conditions that are nobody's but a Gateway's controller's, and are there only while there is something to say.
const PASSING: [&str; 2] = ["ResolvedRefs", "InsecureFrontendValidationMode"];

/// The status to write. `controller`: whose entries of shared lists are ours; `now`: RFC 3339.
pub(super) fn merged(current: &Value, wanted: &Value, controller: &str, now: &str) -> Value {
    let mut result = current.as_object().cloned().unwrap_or_default();
    for (field, wanted) in wanted.as_object().into_iter().flatten() {
        let before = current.get(field).unwrap_or(&Value::Null);
        let value = match field.as_str() {
            "conditions" => conditions(before, wanted, true, now),
            field if SHARED.contains(&field) => shared(before, wanted, controller, now),
            "listeners" => listeners(before, wanted, now),
            _ => wanted.clone(),
        };
        result.insert(field.clone(), value);
    }
    Value::Object(result)
}

/// `foreign`: keep those whose type is not among the wanted ones, and not one that has passed.
fn conditions(before: &Value, wanted: &Value, foreign: bool, now: &str) -> Value {
    let of_type = |list: &Value, kind: &Value| list.as_array()?.iter().find(|entry| entry["type"] == *kind).cloned();
    let has_passed = |old: &Value| PASSING.iter().any(|kind| old["type"] == *kind);
    let is_theirs = |old: &&Value| foreign && of_type(wanted, &old["type"]).is_none() && !has_passed(old);
    let theirs = items(before).filter(is_theirs).cloned();
    let ours = items(wanted).map(|new| {
        let since = of_type(before, &new["type"]).filter(|old| old["status"] == new["status"]);
        let since = since.map_or_else(|| json!(now), |old| old["lastTransitionTime"].clone());
        let mut condition = new.as_object().cloned().unwrap_or_default();
        condition.insert("lastTransitionTime".into(), since);
        Value::Object(condition)
    });
    // in the order in which they were, so that equal lists are equal
    let mut all: Vec<Value> = theirs.chain(ours).collect();
    let place =
        |condition: &Value| items(before).position(|old| old["type"] == condition["type"]).unwrap_or(usize::MAX);
    all.sort_by_key(place);
    Value::Array(all)
}

/// Others' entries first, as they are; then ours.
fn shared(before: &Value, wanted: &Value, controller: &str, now: &str) -> Value {
    let theirs = items(before).filter(|entry| entry["controllerName"] != *controller).cloned();
    let ours = items(wanted).map(|new| {
        let is_same = |old: &&Value| {
            ["controllerName", "parentRef", "ancestorRef"].iter().all(|field| old.get(field) == new.get(field))
        };
        with_conditions(new, items(before).find(is_same), now)
    });
    Value::Array(theirs.chain(ours).collect())
}

fn listeners(before: &Value, wanted: &Value, now: &str) -> Value {
    let ours = items(wanted).map(|new| with_conditions(new, items(before).find(|old| old["name"] == new["name"]), now));
    Value::Array(ours.collect())
}

fn with_conditions(new: &Value, old: Option<&Value>, now: &str) -> Value {
    let mut entry: Map<String, Value> = new.as_object().cloned().unwrap_or_default();
    let before = old.map_or(&Value::Null, |old| &old["conditions"]);
    entry.insert("conditions".into(), conditions(before, &new["conditions"], false, now));
    Value::Object(entry)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: &str, status: &str) -> Value {
        json!({ "type": kind, "status": status, "reason": "R", "message": "", "observedGeneration": 1 })
    }

    fn at(mut condition: Value, time: &str) -> Value {
        condition["lastTransitionTime"] = json!(time);
        condition
    }

    #[test]
    fn what_says_the_same_comes_out_the_same() {
        let wanted = json!({
            "conditions": [condition("Accepted", "True")],
            "parents": [{ "controllerName": "ours", "parentRef": { "name": "g" }, "conditions": [condition("Accepted", "True")] }],
            "listeners": [{ "name": "http", "attachedRoutes": 1, "conditions": [condition("Programmed", "True")] }],
        });
        let once = merged(&Value::Null, &wanted, "ours", "t1");
        assert_eq!(merged(&once, &wanted, "ours", "t2"), once);
    }

    #[test]
    fn only_a_condition_whose_status_changes_gets_a_new_time() {
        let before = json!({ "conditions": [at(condition("Accepted", "True"), "t0"), at(condition("Programmed", "False"), "t0")] });
        let wanted = json!({ "conditions": [condition("Accepted", "True"), condition("Programmed", "True")] });
        let after = merged(&before, &wanted, "ours", "t1");
        assert_eq!(
            after["conditions"],
            json!([at(condition("Accepted", "True"), "t0"), at(condition("Programmed", "True"), "t1")])
        );
    }

    #[test]
    fn a_condition_that_comes_and_goes_goes() {
        let insecure = condition("InsecureFrontendValidationMode", "True");
        let wanted = json!({ "conditions": [condition("Accepted", "True"), insecure] });
        let before = merged(&Value::Null, &wanted, "ours", "t0");
        let after = merged(&before, &json!({ "conditions": [condition("Accepted", "True")] }), "ours", "t1");
        assert_eq!(after["conditions"], json!([at(condition("Accepted", "True"), "t0")]));
    }

    #[test]
    fn what_others_wrote_stays() {
        let theirs = json!({ "controllerName": "theirs", "parentRef": { "name": "g" }, "conditions": [at(condition("Accepted", "False"), "t0")] });
        let before = json!({ "parents": [theirs], "conditions": [at(condition("Foreign", "True"), "t0")], "other": 7 });
        let wanted = json!({
            "conditions": [condition("Accepted", "True")],
            "parents": [{ "controllerName": "ours", "parentRef": { "name": "g" }, "conditions": [condition("Accepted", "True")] }],
        });
        let after = merged(&before, &wanted, "ours", "t1");
        assert_eq!(after["parents"][0], theirs);
        assert_eq!(after["parents"].as_array().map(Vec::len), Some(2));
        assert_eq!(after["conditions"][0], at(condition("Foreign", "True"), "t0"));
        assert_eq!(after["other"], 7);
        let gone = merged(&after, &json!({ "parents": [] }), "ours", "t2");
        assert_eq!(gone["parents"], json!([theirs]), "an entry of ours that is no longer wanted goes");
    }
}
