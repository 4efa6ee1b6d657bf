//! One service of the shop by itself: `weft-shop order`. The same as `weft service order`.

use clap::Parser;

/// The shop's services: order, delivery, product, payment
#[derive(Parser)]
#[command(name = "weft-shop", version)]
struct Cli {
    /// order, delivery, product or payment
    service: String,
    #[command(flatten)]
    args: weft_shop::Args,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    weft_shop::run(&cli.service, cli.args)
}
