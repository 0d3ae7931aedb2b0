//! `baseload admin` and `baseload keys`: who may come in, for what, on whose account.
//!
//! Each command becomes a verb of the admin API. It is performed here, on the ledger, or sent to a server: see [`Office`].

use anyhow::Context;
use control::admin_api::{
    AccountView, Actor, AdminError, ApproveTask, AskWhoAmI, ChangeAccount, CheckIntegrity, CloseAccount,
    Configuration, CreateAccount, CreateKey, Desk, EndLimit, KeyView, Kind, LimitView, ListAccounts,
    ListKeys, ListLimits, ListPrices, ListTasks, NewSecret, Page, PriceView, ReplaceKey, RevokeKey, RoleWord,
    RotateKey, ScopeLists, ScopePattern, SetLimit, SetPrices, ShowAccount, ShowConfiguration, ShowKey,
    ShowTask, ShowUsage, StateWord, StopTask, TaskList, TaskView, UpdateAccount, Usage, Verb, document,
};
use serde::Serialize;
use serde_json::Value;

use crate::cli::{
    self, AccountsCommand, AdminArgs, AdminCommand, AdminFormat, AdminTasksCommand, CreateKeyArgs, KeysArgs,
    KeysCommand, KindWord, LimitsCommand, PricesCommand, RoleChoice,
};
use crate::place;
use crate::remote::Remote;
use crate::roles::decisions;
use crate::table;

pub async fn admin(args: AdminArgs) -> anyhow::Result<()> {
    if let AdminCommand::Openapi = args.command {
        println!("{}", document());
        return Ok(());
    }
    let office = Office::open(&args.office).await?;
    let done = run(&office, args.command).await;
    office.close().await;
    done
}

pub async fn keys(args: KeysArgs) -> anyhow::Result<()> {
    admin(AdminArgs { office: args.office, command: AdminCommand::Keys(args.command) }).await
}

/// Where verbs are performed.
pub struct Office {
    counter: Counter,
    format: AdminFormat,
}

enum Counter {
    /// On this machine's ledger, by whoever may write its file.
    Here(Box<Desk>),
    /// By a server, for the holder of a key.
    There(Remote),
}

impl Office {
    async fn open(args: &cli::Office) -> anyhow::Result<Self> {
        let counter = match &args.url {
            Some(url) => Counter::There(Remote::new(url, args.key.clone())),
            None => {
                let journal = place::attach(&args.place).await?;
                let data = place::data_folder(&args.place, &place::config(&args.place)?)?;
                Counter::Here(Box::new(decisions::beside(Desk::new(journal), data)))
            }
        };
        Ok(Self { counter, format: args.format })
    }

    pub async fn ask<V: Verb>(&self, verb: V) -> Result<V::Reply, AdminError> {
        match &self.counter {
            Counter::Here(desk) => verb.perform(desk, &Actor::operator()).await,
            Counter::There(remote) => {
                let reply = remote.ask(verb.call()).await?;
                serde_json::from_value(reply).map_err(|error| {
                    AdminError::Unreachable(format!("the server answers in another shape: {error}"))
                })
            }
        }
    }

    async fn close(&self) {
        if let Counter::Here(desk) = &self.counter {
            desk.journal.close().await;
        }
    }

    pub fn show<T: Serialize>(&self, answer: &T, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        match self.format {
            AdminFormat::Table => print!("{}", table(answer)),
            AdminFormat::Json => println!("{}", serde_json::to_string_pretty(answer)?),
        }
        Ok(())
    }
}

async fn run(office: &Office, command: AdminCommand) -> anyhow::Result<()> {
    match command {
        AdminCommand::Accounts(command) => accounts(office, command).await,
        AdminCommand::Keys(command) => on_keys(office, command).await,
        AdminCommand::Limits(command) => limits(office, command).await,
        AdminCommand::Prices(command) => prices(office, command).await,
        AdminCommand::Usage { within, by, since, until } => {
            let usage = office.ask(ShowUsage { within, by: Some(by), since, until }).await?;
            office.show(&usage, usage_table)
        }
        AdminCommand::Tasks(command) => tasks(office, command).await,
        AdminCommand::Decisions(command) => decisions::run(office, command).await,
        AdminCommand::Configuration => {
            let configuration = office.ask(ShowConfiguration).await?;
            office.show(&configuration, configuration_text)
        }
        AdminCommand::Check => check(office).await,
        AdminCommand::Whoami => {
            let me = office.ask(AskWhoAmI).await?;
            office.show(&me, |me| {
                let key = me.key.as_deref().unwrap_or("whoever runs commands on this machine");
                format!("{key}: {} of {}\n{}", word(&me.role), me.account, scopes(&me.scopes))
            })
        }
        AdminCommand::Openapi => unreachable!("the document needs no ledger and was printed above"),
    }
}

async fn accounts(office: &Office, command: AccountsCommand) -> anyhow::Result<()> {
    let view = match command {
        AccountsCommand::List { within, closed } => {
            let mut all = Vec::new();
            let mut cursor = None;
            loop {
                let verb = ListAccounts { within: within.clone(), closed, cursor, limit: None };
                let Page { data, next_cursor } = office.ask(verb).await?;
                all.extend(data);
                cursor = next_cursor;
                if cursor.is_none() {
                    return office.show(&all, |all| account_table(all));
                }
            }
        }
        AccountsCommand::Create { account, kind, name: display_name, cost_centre, parents } => {
            let kind = kind.map(Kind::from);
            office.ask(CreateAccount { account, kind, display_name, cost_centre, parents }).await?
        }
        AccountsCommand::Show { account } => office.ask(ShowAccount { account }).await?,
        AccountsCommand::Set { account, kind, name, cost_centre } => {
            // Empty takes it away.
            let field = |text: Option<String>| text.map(|text| Some(text).filter(|text| !text.is_empty()));
            let update = UpdateAccount {
                kind: kind.map(Kind::from),
                display_name: field(name),
                cost_centre: field(cost_centre),
            };
            office.ask(ChangeAccount { account, update }).await?
        }
        AccountsCommand::Close { account } => office.ask(CloseAccount { account, closed: true }).await?,
        AccountsCommand::Reopen { account } => office.ask(CloseAccount { account, closed: false }).await?,
    };
    office.show(&view, |view| account_table(std::slice::from_ref(view)))
}

async fn on_keys(office: &Office, command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Create(args) => {
            let new = create_key(office, args).await?;
            hand_out(office, &new)
        }
        KeysCommand::Rotate { id, overlap } => {
            let overlap_seconds = overlap.map(|text| span_seconds(&text).context("--overlap")).transpose()?;
            let new = office.ask(ReplaceKey { id, rotation: RotateKey { overlap_seconds } }).await?;
            hand_out(office, &new)
        }
        KeysCommand::List { within } => {
            let mut all = Vec::new();
            let mut cursor = None;
            loop {
                let verb = ListKeys { within: within.clone(), cursor, limit: None };
                let Page { data, next_cursor } = office.ask(verb).await?;
                all.extend(data);
                cursor = next_cursor;
                if cursor.is_none() {
                    return office.show(&all, |all| key_table(all));
                }
            }
        }
        KeysCommand::Show { id } => {
            let key = office.ask(ShowKey { id }).await?;
            office
                .show(&key, |key| format!("{}{}", key_table(std::slice::from_ref(key)), scopes(&key.scopes)))
        }
        KeysCommand::Revoke { id } => {
            let key = office.ask(RevokeKey { id }).await?;
            office.show(&key, |key| format!("{} ({}) is revoked\n", key.id, key.name))
        }
    }
}

/// An account that is not there yet is made on the way, aloud: the first key should take one command.
async fn create_key(office: &Office, args: CreateKeyArgs) -> anyhow::Result<NewSecret> {
    let account = args.account.unwrap_or_else(|| match args.role {
        RoleChoice::Member => args.name.clone(),
        _ => ledger::account::ROOT.to_owned(),
    });
    let expires_at = args.expires.map(|text| ahead(&text).context("--expires")).transpose()?;
    let verb = CreateKey {
        name: args.name,
        account: account.clone(),
        role: Some(args.role.into()),
        scopes: ScopeLists {
            models: patterns(args.models),
            endpoints: patterns(args.endpoints),
            routes: patterns(args.routes),
            regions: patterns(args.regions),
            service_tiers: patterns(args.service_tiers),
        },
        expires_at,
    };
    match office.ask(verb.clone()).await {
        Err(error) if error.is_not_found() => {
            let (kind, display_name, cost_centre, parents) = (None, None, None, true);
            let made =
                office.ask(CreateAccount { account, kind, display_name, cost_centre, parents }).await?;
            eprintln!("the account {} is new", made.account);
            Ok(office.ask(verb).await?)
        }
        answer => Ok(answer?),
    }
}

fn patterns(words: Option<Vec<String>>) -> Option<Vec<ScopePattern>> {
    words.map(|words| words.into_iter().map(ScopePattern).collect())
}

fn hand_out(office: &Office, new: &NewSecret) -> anyhow::Result<()> {
    office.show(new, |new| format!("{}\n", new.secret))?;
    let KeyView { id, account, role, .. } = &new.key;
    eprintln!(
        "key {id} has the role {} on the account {account}. The secret above is shown once; only its hash is kept.",
        word(role)
    );
    Ok(())
}

async fn limits(office: &Office, command: LimitsCommand) -> anyhow::Result<()> {
    let limits = match command {
        LimitsCommand::Set { scope, measure, amount, window, action, thresholds, name } => {
            let (window, action) = (Some(window), Some(action));
            vec![office.ask(SetLimit { name, scope, measure, amount, window, action, thresholds }).await?]
        }
        LimitsCommand::End { name } => vec![office.ask(EndLimit { name }).await?],
        LimitsCommand::List { within } => {
            let (mut all, mut cursor) = (Vec::new(), None);
            loop {
                let verb = ListLimits { within: within.clone(), cursor, limit: None };
                let Page { data, next_cursor } = office.ask(verb).await?;
                all.extend(data);
                cursor = next_cursor;
                if cursor.is_none() {
                    break all;
                }
            }
        }
    };
    office.show(&limits, |limits: &Vec<LimitView>| {
        let row = |limit: &LimitView| {
            let alone = limit.standings.first().filter(|_| limit.standings.len() == 1);
            vec![
                limit.name.clone(),
                limit.amount.clone(),
                alone.map(|standing| standing.spent.clone()).unwrap_or_default(),
                alone.map(|standing| standing.remaining.clone()).unwrap_or_default(),
                limit.action.clone(),
                limit.ended_at.as_ref().map_or("in force".into(), |at| format!("ended {at}")),
            ]
        };
        table::text(&["limit", "amount", "spent", "remaining", "beyond it", "state"], limits.iter().map(row))
    })
}

async fn prices(office: &Office, command: PricesCommand) -> anyhow::Result<()> {
    let versions = match command {
        PricesCommand::Set { file } => {
            let text = match file.as_str() {
                "-" => std::io::read_to_string(std::io::stdin())?,
                file => std::fs::read_to_string(file).with_context(|| format!("reading {file}"))?,
            };
            let list: PriceList = toml::from_str(&text).with_context(|| format!("reading {file}"))?;
            office.ask(SetPrices { prices: list.price }).await?.data
        }
        PricesCommand::List { model } => {
            let (mut all, mut cursor) = (Vec::new(), None);
            loop {
                let verb = ListPrices { model: model.clone(), cursor, limit: None };
                let Page { data, next_cursor } = office.ask(verb).await?;
                all.extend(data);
                cursor = next_cursor;
                if cursor.is_none() {
                    break all;
                }
            }
        }
    };
    office.show(&versions, |versions: &Vec<PriceView>| {
        let row = |price: &PriceView| {
            vec![price.id.to_string(), price.model.clone(), price.valid_from.clone(), price.sheet.to_string()]
        };
        table::text(&["id", "model", "valid from", "sheet"], versions.iter().map(row))
    })
}

/// What of a file is a list of prices; each is read where it is recorded.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceList {
    price: Vec<serde_json::Map<String, Value>>,
}

fn configuration_text(configuration: &Configuration) -> String {
    let Configuration { file, generation, in_force_since, waits_for_restart, unpriced, refused } =
        configuration;
    let file = file.as_deref().unwrap_or("no file");
    let mut text =
        format!("{file}: in force since {in_force_since}, replaced {generation} times since the start\n");
    if !waits_for_restart.is_empty() {
        text += &format!("waits for a restart: {}\n", waits_for_restart.join(", "));
    }
    if !unpriced.is_empty() {
        text += &format!("unpriced: {}\n", unpriced.join(", "));
    }
    if let Some(refused) = refused {
        text += &format!("a newer one was refused at {}:\n  {}\n", refused.at, refused.mistakes.join("\n  "));
    }
    text
}

async fn tasks(office: &Office, command: AdminTasksCommand) -> anyhow::Result<()> {
    let list = match command {
        AdminTasksCommand::List { within, state, limit } => {
            let state =
                state.map(|word| serde_json::from_value(word.into())).transpose().context("--state")?;
            office.ask(ListTasks { within, state, limit: Some(limit) }).await?
        }
        AdminTasksCommand::Show { task } => office.ask(ShowTask { task }).await?,
        AdminTasksCommand::Approve { task, usd, tokens, calls, seconds, reason } => {
            office.ask(ApproveTask { task, usd, tokens, calls, seconds, reason }).await?
        }
        AdminTasksCommand::Stop { task, reason } => office.ask(StopTask { task, reason }).await?,
    };
    office.show(&list, |TaskList { data }| {
        let row = |task: &TaskView| {
            vec![
                format!("{}{}", "  ".repeat(task.level), task.task),
                task.account.clone(),
                word(&task.state),
                task.calls.to_string(),
                task.cost.clone(),
                task.reason.clone().unwrap_or_default(),
            ]
        };
        table::text(&["task", "account", "state", "calls", "cost USD", "why"], data.iter().map(row))
    })
}

async fn check(office: &Office) -> anyhow::Result<()> {
    let integrity = office.ask(CheckIntegrity).await?;
    office.show(&integrity, |found| {
        let counts = format!(
            "{} requests, {} entries, {} open holds\n",
            found.requests, found.entries, found.open_holds
        );
        let faults = found.faults.iter().map(|fault| format!("FAULT: {fault}\n")).collect::<String>();
        let verdict = if found.is_sound { "the ledger balances\n" } else { "" };
        counts + &faults + verdict
    })?;
    anyhow::ensure!(integrity.is_sound, "the ledger does not balance");
    Ok(())
}

/// The groups asked for, then what is priced and how many requests are not; the whole at the end.
fn usage_table(usage: &Usage) -> String {
    const SUMS: [(&str, &str); 6] = [
        ("requests", "/requests"),
        ("input", "/priced/input_uncached"),
        ("cached", "/priced/cache_read"),
        ("output", "/priced/output"),
        ("cost USD", "/priced/cost_usd"),
        ("unpriced", "/unpriced/requests"),
    ];
    let cell = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(value) => value.to_string(),
    };
    let is_group = |name: &&String| !usage.total.contains_key(*name);
    let groups: Vec<String> =
        usage.rows.first().map(|row| row.keys().filter(is_group).cloned().collect()).unwrap_or_default();
    let row = |row: &serde_json::Map<String, Value>| {
        let mut cells: Vec<String> = groups.iter().map(|name| cell(row.get(name))).collect();
        let row = Value::Object(row.clone());
        cells.extend(SUMS.iter().map(|(_, place)| cell(row.pointer(place))));
        cells
    };
    let headings: Vec<&str> =
        groups.iter().map(String::as_str).chain(SUMS.map(|(heading, _)| heading)).collect();
    table::text(&headings, usage.rows.iter().chain([&usage.total]).map(row))
}

fn account_table(accounts: &[AccountView]) -> String {
    let row = |account: &AccountView| {
        vec![
            account.account.clone(),
            account.kind.as_ref().map(word).unwrap_or_default(),
            account.display_name.clone().unwrap_or_default(),
            account.cost_centre.clone().unwrap_or_default(),
            account.closed_at.as_ref().map_or("open".into(), |at| format!("closed {at}")),
        ]
    };
    if accounts.is_empty() {
        return "no accounts; make one with: baseload admin accounts create acme\n".into();
    }
    table::text(&["account", "kind", "name", "cost centre", "state"], accounts.iter().map(row))
}

fn key_table(keys: &[KeyView]) -> String {
    let state = |key: &KeyView| match (key.state, &key.revoked_at, &key.expires_at) {
        (StateWord::Revoked, Some(at), _) => format!("revoked {at}"),
        (StateWord::Expired, _, Some(at)) => format!("expired {at}"),
        (_, _, Some(at)) => format!("active until {at}"),
        _ => "active".into(),
    };
    let row = |key: &KeyView| {
        vec![
            key.id.clone(),
            key.name.clone(),
            key.account.clone(),
            word(&key.role),
            if key.scopes == ScopeLists::default() { "everything".into() } else { "narrowed".into() },
            key.created_at.clone(),
            state(key),
        ]
    };
    if keys.is_empty() {
        return "no keys; make one with: baseload keys create --name alice\n".into();
    }
    table::text(&["key", "name", "account", "role", "for", "created", "state"], keys.iter().map(row))
}

fn scopes(scopes: &ScopeLists) -> String {
    let lists = [
        ("models", &scopes.models),
        ("endpoints", &scopes.endpoints),
        ("routes", &scopes.routes),
        ("regions", &scopes.regions),
        ("service tiers", &scopes.service_tiers),
    ];
    let line = |(name, list): &(&str, &Option<Vec<ScopePattern>>)| {
        let joined = |list: &Vec<ScopePattern>| {
            list.iter().map(|ScopePattern(name)| name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let list = list.as_ref().map_or("all".to_owned(), joined);
        format!("{name}: {list}\n")
    };
    lists.iter().map(line).collect()
}

/// Returns the word that JSON has for it.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Reads a span: `30m`, `24h`, `7d`.
fn span_seconds(text: &str) -> anyhow::Result<u64> {
    let seconds_of = |unit: char| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3_600),
        'd' => Some(86_400),
        _ => None,
    };
    let unit = text.chars().last().and_then(seconds_of);
    let count = text.get(..text.len().saturating_sub(1)).and_then(|count| count.parse::<u64>().ok());
    unit.zip(count)
        .and_then(|(unit, count)| count.checked_mul(unit))
        .with_context(|| format!("{text:?} is no span such as 30m, 24h or 7d"))
}

/// Reads a span from now, or an instant.
fn ahead(text: &str) -> anyhow::Result<String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.to_string());
    }
    let seconds = span_seconds(text).with_context(|| {
        format!("{text:?} is neither a span such as 90d nor an instant such as 2027-01-31T00:00:00Z")
    })?;
    let span = jiff::SignedDuration::from_secs(i64::try_from(seconds)?);
    Ok(jiff::Timestamp::now().checked_add(span)?.to_string())
}

impl From<KindWord> for Kind {
    fn from(word: KindWord) -> Self {
        match word {
            KindWord::Organisation => Self::Organisation,
            KindWord::Team => Self::Team,
            KindWord::App => Self::App,
            KindWord::User => Self::User,
            KindWord::Service => Self::Service,
        }
    }
}

impl From<RoleChoice> for RoleWord {
    fn from(role: RoleChoice) -> Self {
        match role {
            RoleChoice::Member => Self::Member,
            RoleChoice::Viewer => Self::Viewer,
            RoleChoice::Admin => Self::Admin,
            RoleChoice::Owner => Self::Owner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit() {
        assert_eq!(span_seconds("90d").unwrap(), 7_776_000);
        assert_eq!(span_seconds("30m").unwrap(), 1_800);
        for wrong in ["", "d", "90", "-3d", "99999999999999999999d", "18446744073709551615d"] {
            assert!(span_seconds(wrong).is_err(), "{wrong:?} must be refused");
        }
        assert_eq!(ahead("2027-01-31T00:00:00Z").unwrap(), "2027-01-31T00:00:00Z");
        assert!(ahead("soon").unwrap_err().to_string().contains("neither a span"));
    }
}
