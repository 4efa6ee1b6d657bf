use super::*;

fn tree(text: &str) -> (Vec<Node>, Vec<Fault>) {
    parse(text, 1, &mut MAX_NODES.clone())
}

/// The tree as JSON-like text with every node's place.
fn show(node: &Node) -> String {
    let Mark { line, column } = node.mark;
    match &node.value {
        Value::Scalar(Scalar { text, plain }) => format!("{}{text}@{line}:{column}", if *plain { "" } else { "'" }),
        Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Map(entries) => {
            let entries: Vec<String> = entries.iter().map(|e| format!("{}:{}", e.key, show(&e.value))).collect();
            format!("{{{}}}@{line}:{column}", entries.join(" "))
        }
    }
}

#[track_caller]
fn shows(text: &str, expected: &str) {
    let (documents, faults) = tree(text);
    assert_eq!(faults, []);
    assert_eq!(documents.iter().map(show).collect::<Vec<_>>(), [expected]);
}

#[track_caller]
fn faulty(text: &str, expected: &str) {
    let (_, faults) = tree(text);
    let faults: Vec<String> =
        faults.iter().map(|f| format!("{}:{} {}: {}", f.mark.line, f.mark.column, f.path, f.message)).collect();
    assert_eq!(faults, [expected]);
}

#[test]
fn every_node_knows_its_place() {
    shows("a: 1\nb:\n  - x\n  - 'y'\n", "{a:1@1:4 b:[x@3:5 'y@4:5]}@1:1");
    shows("{\"a\": {\"b\": null}}", "{a:{b:null@1:13}@1:7}@1:1");
}

#[test]
fn columns_count_characters_and_lines_end_in_any_way() {
    shows("ä: {ö: 1}\r\nb: 2\r\n", "{ä:{ö:1@1:8}@1:4 b:2@2:4}@1:1");
}

#[test]
fn aliases_stand_where_they_are_used() {
    shows("a: &x {b: 1}\nc: *x\n", "{a:{b:1@1:11}@1:4 c:{b:1@1:11}@2:4}@1:1");
}

#[test]
fn a_merge_key_brings_in_what_is_not_written() {
    shows("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  b: 3\n", "{a:{b:1@1:11 c:2@1:17}@1:4 d:{b:3@4:6 c:2@1:17}@3:3}@1:1");
    faulty("a:\n  <<: 1\n", "2:7 a: `<<` takes a mapping, or a list of mappings");
}

#[test]
fn a_name_that_is_written_twice_is_told_with_the_line_of_the_first() {
    faulty("spec:\n  a: 1\n  b: 2\n  a: 3\n", "4:3 spec: `a` is already written in line 2");
}

#[test]
fn an_alias_inside_its_own_anchor_is_refused() {
    faulty("a: &x [1, *x]\n", "1:11 a[1]: an alias cannot stand inside what it names");
}

#[test]
fn a_billion_laughs_stay_within_the_allowance() {
    let mut text = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let mut allowance = MAX_NODES;
    let (documents, faults) = parse(&text, 1, &mut allowance);
    assert!(documents.is_empty());
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].message.contains("values, aliases written out"), "{faults:?}");
}

#[test]
fn deep_nesting_is_refused_written_out_or_by_aliases() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(tree(&deep(MAX_DEPTH)).1, []);
    assert!(tree(&deep(MAX_DEPTH + 1)).1[0].message.contains("levels of nesting"));
    assert!(tree(&deep(100_000)).1.len() == 1);
    let half = MAX_DEPTH / 2;
    let by_alias = format!("a: &x {}\nb: {}*x{}\n", deep(half), "[".repeat(half), "]".repeat(half));
    assert!(tree(&by_alias).1[0].message.contains("levels of nesting"));
}

#[test]
fn tags_of_the_core_schema_are_obeyed_and_others_refused() {
    let (documents, faults) = tree("a: !!str 1\nb: ! 2\nc: !!int 3\n");
    assert_eq!(faults, []);
    assert_eq!(show(&documents[0]), "{a:'1@1:4 b:'2@2:4 c:3@3:4}@1:1");
    faulty("a: !Ref b\n", "1:4 a: the tag !Ref has no meaning here");
}

#[test]
fn faults_of_the_text_say_what_to_do() {
    for (text, hint) in [
        ("a:\n\tb: 1\n", "indent with spaces; this line begins with a tab"),
        ("a: b: c\n", "put a value that has `: ` in it in quotes, and check the indentation"),
        ("a: [1, 2\n", "check that every [ and { is closed"),
        ("a: \"b\n", "close the quotes"),
    ] {
        let (_, faults) = tree(text);
        assert_eq!(faults[0].hint.as_deref(), Some(hint), "{text:?} {faults:?}");
    }
}

#[test]
fn plain_scalars_follow_the_core_schema() {
    let scalar = |text: &str| Scalar { text: text.into(), plain: true };
    for text in ["", "~", "null", "Null", "NULL"] {
        assert!(scalar(text).is_null(), "{text}");
    }
    for (text, number) in [("8080", 8080), ("-1", -1), ("+7", 7), ("0o17", 15), ("0x1F", 31), ("010", 10)] {
        assert_eq!(scalar(text).integer(), Some(number), "{text}");
    }
    for text in ["1.5", ".5", "1e3", "-.5", ".inf", "0x1f", "12"] {
        assert!(scalar(text).is_number(), "{text}");
    }
    for text in ["1.2.3", "10s", "e3", "inf", "nan", "0x", "0o-7", "1_000", "-", ""] {
        assert!(!scalar(text).is_number(), "{text}");
    }
    assert_eq!(scalar("True").boolean(), Some(true));
    assert_eq!(scalar("yes").boolean(), None);
    assert!(!Scalar { text: "8080".into(), plain: false }.is_number());
}
