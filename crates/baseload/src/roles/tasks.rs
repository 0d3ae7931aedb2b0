//! `baseload tasks`: what agents do, what it costs, and who lets them go on.

use anyhow::Context;
use domain::{Account, Money};
use ledger::{
    Amount, Journal, Measure, TaskChange, TaskDeed, TaskNode, TaskPath, TaskQuery, TaskRecord, TaskState,
};

use crate::cli::{Place, TaskState as StateWord, TasksCommand};
use crate::{now, place};

pub async fn tasks(command: TasksCommand) -> anyhow::Result<()> {
    match command {
        TasksCommand::List { place, account, state, limit } => {
            let (within, state) = (account.map(Account::new), state.map(StateWord::of_the_book));
            let query = TaskQuery { within, state, limit };
            list(&open(&place).await?, &query).await
        }
        TasksCommand::Show { place, task } => show(&open(&place).await?, &task).await,
        TasksCommand::Approve { place, task, usd, tokens, calls, seconds, reason } => {
            let more = more(usd, tokens, calls, seconds)?;
            approve(&open(&place).await?, &task, more, reason).await
        }
        TasksCommand::Stop { place, task, reason } => stop(&open(&place).await?, &task, reason).await,
    }
}

async fn list(journal: &Journal, query: &TaskQuery) -> anyhow::Result<()> {
    let rows = journal.tasks(query).await?;
    if rows.is_empty() {
        println!("no tasks; a request names its task in the header x-baseload-task");
    }
    let runs = rows.into_iter().map(|row| TaskNode { whole: row.own, row, inside: Vec::new() });
    print!("{}", TaskNode::list(&runs.collect::<Vec<_>>()));
    Ok(())
}

async fn show(journal: &Journal, task: &str) -> anyhow::Result<()> {
    let path = find(journal, task).await?;
    for tree in TaskNode::trees(journal.task_tree(&path).await?) {
        print!("{}", tree.draw());
        for (task, reason) in tree.reasons() {
            println!("{task}: {reason}");
        }
    }
    Ok(())
}

async fn approve(
    journal: &Journal,
    task: &str,
    more: Vec<(Measure, i64)>,
    reason: Option<String>,
) -> anyhow::Result<()> {
    let path = find(journal, task).await?;
    let given: Vec<String> = more.iter().map(|(measure, amount)| measure.show(Amount(*amount))).collect();
    for task in change(journal, &path, TaskDeed::Approve(more), reason).await? {
        println!("{} goes on", task.path);
    }
    if !given.is_empty() {
        println!("{path} may use {} more", given.join(", "));
    }
    let above = journal.task_chain(&path).await?;
    if let Some(stopped) = above.iter().find(|task| task.state == TaskState::Stopped) {
        println!("but {} is stopped, and stops all inside of it; approve that", stopped.path);
    }
    Ok(())
}

async fn stop(journal: &Journal, task: &str, reason: Option<String>) -> anyhow::Result<()> {
    let path = find(journal, task).await?;
    let reason = reason.unwrap_or_else(|| "a person stopped it".to_owned());
    match change(journal, &path, TaskDeed::Stop, Some(reason)).await?.is_empty() {
        true => println!("{path} was stopped already"),
        false => println!(
            "{path} is stopped: new requests are refused within a second, running answers end as they grow"
        ),
    }
    Ok(())
}

async fn change(
    journal: &Journal,
    path: &TaskPath,
    deed: TaskDeed,
    reason: Option<String>,
) -> anyhow::Result<Vec<TaskRecord>> {
    let at = now();
    Ok(journal.change_task(TaskChange { path: path.clone(), deed, reason, at }).await?)
}

/// Returns the task with this path; or, of the latest runs, the only one whose path ends so: people leave out the organisation.
async fn find(journal: &Journal, task: &str) -> anyhow::Result<TaskPath> {
    let path = TaskPath::parse(task)?;
    if !journal.task_tree(&path).await?.is_empty() {
        return Ok(path);
    }
    const LOOKED_AT: usize = 1_000;
    let all = journal.tasks(&TaskQuery { within: None, state: None, limit: LOOKED_AT }).await?;
    let name = path.segments().next().unwrap_or_default();
    let organisations =
        all.iter().filter(|run| run.record.path.leaf() == name).map(|run| run.record.path.top(1));
    let mut found = Vec::new();
    for organisation in organisations {
        let candidate = organisation.child(task)?;
        if !journal.task_tree(&candidate).await?.is_empty() {
            found.push(candidate);
        }
    }
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => anyhow::bail!("there is no task {task}; `baseload tasks list` shows the latest"),
        several => {
            let names: Vec<&str> = several.iter().map(TaskPath::as_str).collect();
            anyhow::bail!("several tasks end in {task}; say which: {}", names.join(", "))
        }
    }
}

fn more(
    usd: Option<Money>,
    tokens: Option<u64>,
    calls: Option<u64>,
    seconds: Option<u64>,
) -> anyhow::Result<Vec<(Measure, i64)>> {
    let count = |count: u64| i64::try_from(count).context("the amount is too large");
    let mut more = Vec::new();
    if let Some(usd) = usd {
        more.push((Measure::Money, Amount::of_money(usd)?.0));
    }
    if let Some(tokens) = tokens {
        more.push((Measure::Tokens, count(tokens)?));
    }
    if let Some(calls) = calls {
        more.push((Measure::Calls, count(calls)?));
    }
    if let Some(seconds) = seconds {
        more.push((Measure::WallClock, count(seconds.saturating_mul(1_000))?));
    }
    Ok(more)
}

impl StateWord {
    fn of_the_book(self) -> TaskState {
        match self {
            Self::Running => TaskState::Running,
            Self::HandingBack => TaskState::HandingBack,
            Self::Stopped => TaskState::Stopped,
            Self::Approved => TaskState::Approved,
        }
    }
}

async fn open(place: &Place) -> anyhow::Result<Journal> {
    place::attach_to_existing(place).await
}
