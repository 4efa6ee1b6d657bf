//! `weft crds`: our own kinds, for an API server.

use crate::check::Output;
use clap::Args;
use std::process::ExitCode;

/// Print the CustomResourceDefinitions of Weft's own kinds
///
/// They are generated from the types that read the kinds, with a schema, and are part of
/// manifests/weft and of `weft install`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  weft crds | kubectl apply --server-side -f -
  weft crds > manifests/weft/crds.yaml
  weft crds -o json")]
pub(crate) struct CrdsArgs {
    /// json: a v1 List.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(crate) fn run(args: CrdsArgs) -> anyhow::Result<ExitCode> {
    match args.output {
        Output::Json => anstream::println!(
            "{:#}",
            serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": weft_config::schema::custom_resource_definitions() })
        ),
        Output::Text => anstream::print!("{}", yaml()?),
    }
    Ok(ExitCode::SUCCESS)
}

/// All of them, as documents of one file.
pub(crate) fn yaml() -> anyhow::Result<String> {
    let mut text = "# Written by `weft crds`, from the types that read these kinds.\n".to_owned();
    for (number, definition) in weft_config::schema::custom_resource_definitions().iter().enumerate() {
        if number > 0 {
            text.push_str("---\n");
        }
        text.push_str(&serde_saphyr::to_string(definition)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    /// `weft crds > manifests/weft/crds.yaml` brings them together again.
    #[test]
    fn the_manifests_hold_what_the_types_say() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/weft/crds.yaml");
        assert_eq!(
            std::fs::read_to_string(file).unwrap(),
            super::yaml().unwrap(),
            "{file} is not as `weft crds` prints it"
        );
    }
}
