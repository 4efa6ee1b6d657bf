//! Header edits: what to remove is its own list, what to set or add is one list in order.

use super::super::parts::{At, Decoded, each, refuse, required};
use super::text::{escape_format, read_format};
use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
};
use weft_model::route::HeaderEdits;

pub(super) fn encode(edits: &HeaderEdits) -> Vec<HeaderValueOption> {
    let set = edits.set.iter().map(|header| option(header, HeaderAppendAction::OverwriteIfExistsOrAdd));
    set.chain(edits.add.iter().map(|header| option(header, HeaderAppendAction::AppendIfExistsOrAdd))).collect()
}

fn option((name, value): &(String, String), action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.clone(), value: escape_format(value), ..Default::default() }),
        append_action: action as i32,
        keep_empty_value: value.is_empty(),
        ..Default::default()
    }
}

/// `field` names the list of what to set or add.
pub(super) fn decode(field: &str, changes: Vec<HeaderValueOption>, remove: Vec<String>) -> Decoded<HeaderEdits> {
    let mut edits = HeaderEdits {
        remove: remove.into_iter().map(|name| name.to_ascii_lowercase()).collect(),
        ..Default::default()
    };
    for (i, change) in each(field, changes, read_change)?.into_iter().enumerate() {
        let Some((name, value, append)) = change else { continue };
        if append {
            edits.add.push((name, value));
        } else if edits.add.iter().any(|(added, _)| *added == name) {
            return refuse("", "a header is overwritten after it was appended to").at(format_args!("{field}[{i}]"));
        } else {
            edits.set.push((name, value));
        }
    }
    Ok(edits)
}

/// Name, value, and whether it is appended; `None` for an empty value that is not kept.
fn read_change(change: HeaderValueOption) -> Decoded<Option<(String, String, bool)>> {
    #[allow(deprecated, reason = "older control planes still send it")]
    let append = change.append.map(|append| append.value);
    let append = match (HeaderAppendAction::try_from(change.append_action), append) {
        (Ok(HeaderAppendAction::AppendIfExistsOrAdd), Some(false)) => false,
        (Ok(HeaderAppendAction::AppendIfExistsOrAdd), _) => true,
        (Ok(HeaderAppendAction::OverwriteIfExistsOrAdd), _) => false,
        _ => {
            return refuse(
                "append_action",
                "only APPEND_IF_EXISTS_OR_ADD and OVERWRITE_IF_EXISTS_OR_ADD are supported",
            );
        }
    };
    let header = required("header", change.header)?;
    if !header.raw_value.is_empty() {
        return refuse("header.raw_value", "is not supported by this proxy");
    }
    if header.value.is_empty() && !change.keep_empty_value {
        return Ok(None);
    }
    Ok(Some((header.key.to_ascii_lowercase(), read_format("header.value", &header.value)?, append)))
}
