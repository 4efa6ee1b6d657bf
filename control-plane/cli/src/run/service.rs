//! `weft service NAME`: one of the shop's programs, which know nothing of Weft.

use clap::Args;
use std::process::ExitCode;

/// Run one service of the shop: order, delivery, product or payment
///
/// An ordinary HTTP program, with or without a mesh around it. GET /actuator/health says how it is.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  weft service product --port 8083
  weft service order --port 8081 --product-url http://127.0.0.1:8083
  HTTP_PROXY=http://127.0.1.2:15001 weft service order")]
pub(crate) struct ServiceArgs {
    #[arg(value_parser = ["order", "delivery", "product", "payment"])]
    name: String,
    #[command(flatten)]
    service: weft_shop::Args,
}

pub(crate) fn run(args: ServiceArgs) -> anyhow::Result<ExitCode> {
    weft_shop::run(&args.name, args.service)?;
    Ok(ExitCode::SUCCESS)
}
