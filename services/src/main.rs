//! One service of the shop by itself: `weft-shop order`. The same as `weft service order`.

use clap::Parser;

/// The shop's services: order, delivery, product
#[derive(Parser)]
#[command(name = "weft-shop", version)]
struct Cli {
    /// order, delivery or product
    service: String,
    #[command(flatten)]
    args: weft_shop::Args,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    weft_shop::run(&cli.service, cli.args)
}
