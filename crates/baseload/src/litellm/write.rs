//! How is the plan written down, as a file that a person goes on with?

use std::fmt::Write;

use super::Remarks;
use super::deployment::{Deployment, HeaderPlan, ProviderPlan};

/// All that will be in the file.
#[derive(Debug, Default)]
pub struct Plan {
    pub deployments: Vec<Deployment>,
    pub routes: Vec<RoutePlan>,
    /// Another name, and what it means.
    pub aliases: Vec<(String, String)>,
    pub redis: bool,
    pub redis_variable: Option<String>,
    pub ttl_seconds: Option<u64>,
    pub body_mib: Option<u64>,
    pub keep_requests_days: Option<u32>,
}

/// A name that is answered by its own models first, and then by others.
#[derive(Debug)]
pub struct RoutePlan {
    pub name: String,
    pub fallbacks: Vec<String>,
    pub attempts: Option<u32>,
    pub ttl_seconds: Option<u64>,
}

/// A provider, with the name that it got.
struct Named {
    name: String,
    plan: ProviderPlan,
}

impl Plan {
    pub fn has_group(&self, name: &str) -> bool {
        self.deployments.iter().any(|deployment| deployment.name == name)
    }

    fn is_route(&self, name: &str) -> bool {
        self.routes.iter().any(|route| route.name == name)
    }

    /// A name is a route's or a model's: the models behind a route are called so.
    fn model_name(&self, group: &str) -> String {
        let mut name = group.to_owned();
        while self.is_route(&name) || (name != group && self.has_group(&name)) {
            name += "-direct";
        }
        name
    }
}

/// Returns the file.
pub fn toml(plan: &Plan, remarks: &Remarks) -> String {
    let (providers, units) = named(plan);
    let mut text = head(remarks);
    if let Some(mib) = plan.body_mib {
        text += &format!("[limits]\nbody_mib = {mib}\n\n");
    }
    if let Some(days) = plan.keep_requests_days {
        text += &format!("[ledger]\nkeep_requests_days = {days}\n\n");
    }
    if plan.redis {
        let variable = plan.redis_variable.as_deref().unwrap_or("BASELOAD_REDIS_URL");
        text += &format!("[cache]\nredis = {{ url = {{ env = {} }} }}\n\n", quoted(variable));
    }
    providers.iter().for_each(|provider| text += &provider_text(provider));
    for (deployment, provider) in plan.deployments.iter().zip(&units) {
        text += &model_text(plan, deployment, provider);
    }
    plan.routes.iter().for_each(|route| text += &route_text(plan, route, &route.name));
    for (alias, meant) in &plan.aliases {
        // A route has no aliases; another route says the same.
        if let Some(route) = plan.routes.iter().find(|route| route.name == *meant) {
            text += &route_text(plan, route, alias);
        }
    }
    text.trim_end().to_owned() + "\n"
}

fn head(remarks: &Remarks) -> String {
    let mut text =
        String::from("# Made from a config.yaml of LiteLLM by `baseload config import-litellm`.\n");
    for (title, lines) in [("To do:", &remarks.todo), ("Not carried over:", &remarks.left_out)] {
        if !lines.is_empty() {
            let _ = writeln!(text, "#\n# {title}");
            // A comment ends with its line, whatever a name may hold.
            lines.iter().for_each(|line| {
                let plain: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                let _ = writeln!(text, "# - {plain}");
            });
        }
    }
    text + "\n"
}

/// Returns the providers with their names, and for each deployment the name of its own. A name and a provider make one unit, so a
/// second deployment of the same name at the same provider gets that provider under another name.
fn named(plan: &Plan) -> (Vec<Named>, Vec<String>) {
    let mut providers: Vec<Named> = Vec::new();
    let mut units: Vec<String> = Vec::new();
    for deployment in &plan.deployments {
        let is_taken = |name: &str| {
            units
                .iter()
                .zip(&plan.deployments)
                .any(|(provider, other)| provider == name && other.name == deployment.name)
        };
        let known =
            providers.iter().find(|known| known.plan == deployment.provider && !is_taken(&known.name));
        let name = match known {
            Some(known) => known.name.clone(),
            None => {
                let base = deployment.provider.prefix.replace('_', "-");
                let is_new = |name: &String| providers.iter().all(|known| known.name != *name);
                let mut names = std::iter::once(base.clone()).chain((2..).map(|nth| format!("{base}-{nth}")));
                let name = names.find(is_new).expect("numbers do not end");
                providers.push(Named { name: name.clone(), plan: deployment.provider.clone() });
                name
            }
        };
        units.push(name);
    }
    (providers, units)
}

fn provider_text(Named { name, plan }: &Named) -> String {
    let mut text = format!("[[provider]]\nname = {}\nkind = {}\n", quoted(name), quoted(plan.kind));
    if name != plan.vendor {
        text += &format!("vendor = {}\n", quoted(plan.vendor));
    }
    if let Some(url) = &plan.base_url {
        text += &format!("base_url = {}\n", quoted(url));
    }
    for (field, value) in &plan.fields {
        text += &format!("{field} = {}\n", quoted(value));
    }
    for (field, variable) in &plan.secrets {
        text += &format!("{field} = {{ env = {} }}\n", quoted(variable));
    }
    if let Some(count) = plan.max_concurrent {
        text += &format!("max_concurrent = {count}\n");
    }
    if !plan.headers.is_empty() {
        let header = |(name, value): (&String, &HeaderPlan)| match value {
            HeaderPlan::Plain(value) => format!("{} = {}", quoted(name), quoted(value)),
            HeaderPlan::Environment(variable) => {
                format!("{} = {{ env = {} }}", quoted(name), quoted(variable))
            }
        };
        let headers: Vec<String> = plan.headers.iter().map(header).collect();
        text += &format!("headers = {{ {} }}\n", headers.join(", "));
    }
    text + "# jurisdictions = []   # where it processes: without them no residency rule admits it\n\n"
}

fn model_text(plan: &Plan, deployment: &Deployment, provider: &str) -> String {
    let name = plan.model_name(&deployment.name);
    let mut text = format!("[[model]]\nname = {}\nprovider = {}\n", quoted(&name), quoted(provider));
    if deployment.id != name {
        text += &format!("id = {}\n", quoted(&deployment.id));
    }
    let is_meant = |(_, meant): &&(String, String)| *meant == deployment.name && !plan.is_route(meant);
    let aliases: Vec<String> = plan.aliases.iter().filter(is_meant).map(|(alias, _)| quoted(alias)).collect();
    if !aliases.is_empty() {
        text += &format!("aliases = [{}]\n", aliases.join(", "));
    }
    if deployment.embeds {
        text += "capabilities = [\"embeddings\"]\n";
    }
    for (field, tokens) in
        [("context_tokens", deployment.context_tokens), ("max_output_tokens", deployment.max_output_tokens)]
    {
        if let Some(tokens) = tokens {
            text += &format!("{field} = {tokens}\n");
        }
    }
    if !deployment.price.is_empty() {
        let price: Vec<String> =
            deployment.price.iter().map(|(field, usd)| format!("{field} = {}", quoted(usd))).collect();
        text += &format!("price = {{ {} }}\n", price.join(", "));
    }
    text + "\n"
}

fn route_text(plan: &Plan, route: &RoutePlan, name: &str) -> String {
    let models: Vec<String> = std::iter::once(&route.name)
        .chain(&route.fallbacks)
        .map(|group| quoted(&plan.model_name(group)))
        .collect();
    let mut text =
        format!("[[route]]\nname = {}\nmodels = [{}]\norder = \"listed\"\n", quoted(name), models.join(", "));
    if let Some(attempts) = route.attempts {
        text += &format!("attempts = {attempts}\n");
    }
    if let Some(seconds) = route.ttl_seconds {
        text += &format!("cache = {{ ttl_seconds = {seconds} }}\n");
    }
    text + "\n"
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
