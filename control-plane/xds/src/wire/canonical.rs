//! Sorts the maps of encoded bytes.
//!
//! Protobuf maps are hash maps in memory, and come out in another order each time. A version that is a
//! hash of such bytes would call unchanged resources changed, and push them again. Sorting keeps every
//! length, so it is done in place, and only along the way to those maps in which we write more than one entry.

use weft_model::Kind;

/// What a field of a message holds.
enum Field {
    /// Nothing that would need sorting.
    Plain,
    Message(Schema),
    /// Entries with a message of this schema as value.
    Map(Schema),
}

type Schema = fn(u32) -> Field;

/// `bytes` are the encoding of a resource of this kind, as prost writes it: the entries of a map in a row.
pub(super) fn sort_maps(bytes: &mut [u8], kind: Kind) {
    match kind {
        Kind::Cluster => sort(bytes, cluster),
        Kind::Endpoints => sort(bytes, load_assignment),
        Kind::RouteTable => sort(bytes, route_configuration),
        Kind::Listener | Kind::Secret => {}
    }
}

fn cluster(field: u32) -> Field {
    match field {
        25 => Field::Message(metadata),
        33 => Field::Message(load_assignment),
        _ => Field::Plain,
    }
}

fn load_assignment(field: u32) -> Field {
    match field {
        2 => Field::Message(locality),
        _ => Field::Plain,
    }
}

fn locality(field: u32) -> Field {
    match field {
        2 => Field::Message(endpoint),
        _ => Field::Plain,
    }
}

fn endpoint(field: u32) -> Field {
    match field {
        3 => Field::Message(metadata),
        _ => Field::Plain,
    }
}

fn route_configuration(field: u32) -> Field {
    match field {
        2 => Field::Message(virtual_host),
        _ => Field::Plain,
    }
}

fn virtual_host(field: u32) -> Field {
    match field {
        3 => Field::Message(route),
        _ => Field::Plain,
    }
}

fn route(field: u32) -> Field {
    match field {
        4 => Field::Message(metadata),
        13 => Field::Map(plain),
        _ => Field::Plain,
    }
}

fn plain(_: u32) -> Field {
    Field::Plain
}

fn metadata(field: u32) -> Field {
    match field {
        1 => Field::Map(structure),
        _ => Field::Plain,
    }
}

fn structure(field: u32) -> Field {
    match field {
        1 => Field::Map(value),
        _ => Field::Plain,
    }
}

fn value(field: u32) -> Field {
    match field {
        5 => Field::Message(structure),
        6 => Field::Message(list),
        _ => Field::Plain,
    }
}

fn list(field: u32) -> Field {
    match field {
        1 => Field::Message(value),
        _ => Field::Plain,
    }
}

fn sort(bytes: &mut [u8], schema: Schema) {
    let mut at = 0;
    // the run of map entries that is being read: its field, where it starts, and each entry's end
    let mut run: Option<(u32, usize, Vec<usize>)> = None;
    while let Some((field, body, end)) = next_field(bytes, at) {
        let mut in_map = false;
        match schema(field) {
            Field::Plain => {}
            Field::Message(inner) => sort(&mut bytes[body..end], inner),
            Field::Map(of_value) => {
                in_map = true;
                sort_entry(&mut bytes[body..end], of_value);
            }
        }
        if run.as_ref().is_some_and(|(running, ..)| !in_map || *running != field) {
            sort_run(bytes, run.take());
        }
        if in_map {
            run.get_or_insert((field, at, Vec::new())).2.push(end);
        }
        at = end;
    }
    sort_run(bytes, run);
}

/// A map's entry is a message of key (1) and value (2).
fn sort_entry(entry: &mut [u8], of_value: Schema) {
    let mut at = 0;
    while let Some((field, body, end)) = next_field(entry, at) {
        if field == 2 {
            sort(&mut entry[body..end], of_value);
        }
        at = end;
    }
}

fn sort_run(bytes: &mut [u8], run: Option<(u32, usize, Vec<usize>)>) {
    let Some((_, start, ends)) = run else { return };
    let Some(&last) = ends.last() else { return };
    let starts = std::iter::once(start).chain(ends.iter().copied());
    let mut entries: Vec<Vec<u8>> = starts.zip(&ends).map(|(from, to)| bytes[from..*to].to_vec()).collect();
    // an entry's tag and length come first and say nothing of its key
    entries.sort_by(|one, other| body_of(one).cmp(body_of(other)));
    bytes[start..last].copy_from_slice(&entries.concat());
}

fn body_of(entry: &[u8]) -> &[u8] {
    next_field(entry, 0).map_or(entry, |(_, body, end)| &entry[body..end])
}

/// The field that starts at `at`: its number, where its contents start and end. `None` at the end, and where the bytes are no field.
fn next_field(bytes: &[u8], at: usize) -> Option<(u32, usize, usize)> {
    let mut position = at;
    let tag = varint(bytes, &mut position)?;
    let field = u32::try_from(tag >> 3).ok()?;
    let body = position;
    let end = match tag & 7 {
        0 => {
            varint(bytes, &mut position)?;
            return Some((field, body, position));
        }
        1 => body + 8,
        2 => {
            let length = usize::try_from(varint(bytes, &mut position)?).ok()?;
            let end = position.checked_add(length)?;
            return (end <= bytes.len()).then_some((field, position, end));
        }
        5 => body + 4,
        _ => return None,
    };
    (end <= bytes.len()).then_some((field, body, end))
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
