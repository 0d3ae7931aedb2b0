//! `baseload models`: what could be served, or what a running server serves.

use std::path::{Path, PathBuf};

use model::weights;

use crate::bundled::BUNDLED;
use crate::cli::ModelsArgs;
use crate::models::hub_cache;
use crate::place;
use crate::remote::Remote;

pub async fn models(args: ModelsArgs) -> anyhow::Result<()> {
    match &args.url {
        Some(url) => served(url).await,
        None => known(&args),
    }
}

async fn served(url: &str) -> anyhow::Result<()> {
    let remote = Remote::new(url, std::env::var("OPENAI_API_KEY").ok());
    for model in remote.models().await? {
        let context =
            model["max_model_len"].as_u64().map_or(String::new(), |tokens| format!("  context {tokens}"));
        println!("{}{context}", model["id"].as_str().unwrap_or("?"));
    }
    Ok(())
}

fn known(args: &ModelsArgs) -> anyhow::Result<()> {
    let config = place::config(&args.place)?;
    let data = place::data_folder(&args.place, &config)?;
    for model in BUNDLED {
        println!("bundled:{:<30} {:>10}  in the binary", model.name, size(model.bytes()));
    }
    for model in &config.models {
        let Some(path) = model.path.as_deref() else {
            println!("{} at {}", model.public_name(), model.provider.as_deref().unwrap_or_default());
            continue;
        };
        let name = model.name.as_ref().map_or(path, |name| name.as_str());
        let found = describe(Path::new(path)).unwrap_or_else(|| "not here yet".into());
        println!("{name:<38} {found}  configured: {path}");
    }
    for path in downloads(&hub_cache(&data)) {
        if let Some(found) = describe(&path) {
            println!("{:<38} {found}", path.display());
        }
    }
    Ok(())
}

fn describe(path: &Path) -> Option<String> {
    let checkpoint = weights::open(path).ok()?;
    let kind = checkpoint.config["model_type"].as_str().unwrap_or("?").to_owned();
    Some(format!("{:>10}  {kind}", size(checkpoint.file_bytes)))
}

/// Returns the folders and files below the cache that look like models, without going deeper than a hub's layout does.
fn downloads(cache: &Path) -> Vec<PathBuf> {
    fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        entries.sort();
        if entries.iter().any(|path| path.file_name().is_some_and(|name| name == "config.json")) {
            found.push(folder.to_owned());
            return;
        }
        for path in entries {
            if path.is_dir() && depth > 0 {
                walk(&path, depth - 1, found);
            } else if path.extension().is_some_and(|extension| extension == "gguf") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(cache, 4, &mut found);
    found
}

/// Returns bytes as people read them: `19.2 MiB`.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short() {
        assert_eq!([size(0), size(1023), size(20_132_659)], ["0 B", "1023 B", "19.2 MiB"]);
    }
}
