//! `baseload config check`: whether a configuration would be accepted, and what it means.

use std::path::Path;

use crate::config::Config;

pub fn check(file: &Path) -> anyhow::Result<()> {
    let config = Config::read(file)?;
    println!("{}: ok", file.display());
    println!("listens on {}", config.listen);
    if config.models.is_empty() {
        println!("serves the bundled models");
    }
    for model in &config.models {
        let name = model.name.as_ref().map_or("(named after its folder)", |name| name.as_str());
        let price = match model.price {
            Some(price) => format!(
                "{} USD in, {} USD cached, {} USD out per million tokens",
                price.input.of(1_000_000),
                price.cached.unwrap_or(price.input).of(1_000_000),
                price.output.of(1_000_000)
            ),
            None => "unpriced".into(),
        };
        println!("serves {name} from {}: {price}", model.path);
    }
    Ok(())
}
