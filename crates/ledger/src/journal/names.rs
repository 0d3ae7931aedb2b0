//! Which number stands for which name in the book's rows?

use std::collections::{BTreeSet, HashMap};

use domain::{Account, ModelName};

use super::database::{Bulk, Kind, Speaker, StoreError, Value};
use crate::{Circumstances, Hold, KeyId, TaskPath, Timestamp};

/// Ordered, and always made in this order: so two processes that make the same names never wait for each other in a circle.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    Account(Account),
    Model(ModelName),
    Key(KeyId),
    EndUser(String),
    Circumstances(String),
    /// A whole task.
    TaskRoot(TaskPath),
    /// What is inside of a task, whose row it refers to.
    Task(TaskPath),
}

/// Returns the names that a hold's row refers to.
pub fn names_of(hold: &Hold) -> Vec<Name> {
    let mut names = vec![
        Name::Account(hold.account.clone()),
        Name::Model(hold.model.clone()),
        Name::Circumstances(text(&hold.circumstances)),
    ];
    names.extend(hold.key.clone().map(Name::Key));
    names.extend(hold.end_user.clone().map(Name::EndUser));
    if let Some(task) = &hold.task {
        names.extend([Name::TaskRoot(task.top(2)), task_name(task)]);
    }
    names
}

pub fn task_name(task: &TaskPath) -> Name {
    if task.depth() <= 2 { Name::TaskRoot(task.clone()) } else { Name::Task(task.clone()) }
}

/// The canonical text of circumstances.
pub fn text(circumstances: &Circumstances) -> String {
    serde_json::to_string(circumstances).expect("circumstances are words")
}

/// Numbers that were asked for, by name. A name's number never changes.
#[derive(Debug, Default)]
pub struct Names(HashMap<Name, i64>);

/// Names remembered, some hundred bytes each; past this the memory starts afresh.
const REMEMBERED_MAX: usize = 20_000;

impl Names {
    /// Returns the number of a name that was learned.
    pub fn number(&self, name: &Name) -> i64 {
        *self.0.get(name).unwrap_or_else(|| panic!("the name {name:?} was not learned before it is written"))
    }
    pub fn knows(&self, name: &Name) -> bool {
        self.0.contains_key(name)
    }
    /// Makes room between batches.
    pub fn trim(&mut self) {
        if self.0.len() > REMEMBERED_MAX {
            self.0.clear();
        }
    }

    /// Learns the numbers of all these names, and gives numbers to those that have none.
    pub async fn learn(
        &mut self,
        speaker: &mut Speaker<'_>,
        names: &BTreeSet<Name>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for table in &TABLES {
            let unknown: Vec<&Name> =
                names.iter().filter(|name| table.kinds.contains(&name.kind()) && !self.knows(name)).collect();
            if unknown.is_empty() {
                continue;
            }
            self.look_up(speaker, table, &unknown).await?;
            let missing: Vec<&Name> = unknown.into_iter().filter(|name| !self.knows(name)).collect();
            if !missing.is_empty() {
                let rows = missing.iter().map(|name| self.row(name, now)).collect();
                table.insert.run(speaker, rows).await?;
                self.look_up(speaker, table, &missing).await?;
            }
        }
        Ok(())
    }

    async fn look_up(
        &mut self,
        speaker: &mut Speaker<'_>,
        table: &Table,
        names: &[&Name],
    ) -> Result<(), StoreError> {
        let asked = names.iter().map(|name| vec![name.kind().into(), name.text().into()]).collect();
        let rows = table.select.run(speaker, asked).await?;
        let by_text: HashMap<(i64, &str), &Name> =
            names.iter().map(|name| ((name.kind(), name.text()), *name)).collect();
        for row in &rows {
            let mut columns = row.columns();
            let (id, kind, text) = (columns.integer()?, columns.integer()?, columns.text()?);
            if let Some(name) = by_text.get(&(kind, text.as_str())) {
                self.0.insert((*name).clone(), id);
            }
        }
        Ok(())
    }

    fn row(&self, name: &Name, now: Timestamp) -> Vec<Value> {
        let root = match name {
            Name::Task(task) => Some(self.number(&Name::TaskRoot(task.top(2)))),
            _ => None,
        };
        vec![name.kind().into(), name.text().into(), now.millis().into(), root.into()]
    }
}

impl Name {
    /// How the row of a shared text says what it is; a number, once released, keeps its meaning.
    fn kind(&self) -> i64 {
        match self {
            Name::Key(_) => 1,
            Name::EndUser(_) => 2,
            Name::Circumstances(_) => 3,
            // These have tables of their own.
            Name::Account(_) => -1,
            Name::Model(_) => -2,
            Name::TaskRoot(_) => -3,
            Name::Task(_) => -4,
        }
    }
    fn text(&self) -> &str {
        match self {
            Name::Account(account) => account.as_str(),
            Name::Model(model) => model.as_str(),
            Name::Key(key) => &key.0,
            Name::EndUser(text) | Name::Circumstances(text) => text,
            Name::TaskRoot(task) | Name::Task(task) => task.as_str(),
        }
    }
}

struct Table {
    kinds: &'static [i64],
    select: Bulk,
    insert: Bulk,
}

const ASKED: &[(&str, Kind)] = &[("kind", Kind::Integer), ("text", Kind::Text)];
const MADE: &[(&str, Kind)] =
    &[("kind", Kind::Integer), ("text", Kind::Text), ("now", Kind::Integer), ("root", Kind::Integer)];

const TASKS: Bulk =
    Bulk { columns: ASKED, sql: "SELECT t.id, v.kind, t.path FROM v JOIN task t ON t.path = v.text" };
const NEW_TASKS: Bulk = Bulk {
    columns: MADE,
    sql: "INSERT INTO task (path, root, created_at) SELECT v.text, v.root, v.now FROM v WHERE true ORDER BY v.text \
          ON CONFLICT DO NOTHING",
};

static TABLES: [Table; 5] = [
    Table {
        kinds: &[-1],
        select: Bulk {
            columns: ASKED,
            sql: "SELECT a.id, v.kind, a.name FROM v JOIN account a ON a.name = v.text AND a.system = 0",
        },
        insert: Bulk {
            columns: MADE,
            sql: "INSERT INTO account (name) SELECT v.text FROM v WHERE true ORDER BY v.text ON CONFLICT DO NOTHING",
        },
    },
    Table {
        kinds: &[-2],
        select: Bulk {
            columns: ASKED,
            sql: "SELECT m.id, v.kind, m.name FROM v JOIN model m ON m.name = v.text",
        },
        insert: Bulk {
            columns: MADE,
            sql: "INSERT INTO model (name) SELECT v.text FROM v WHERE true ORDER BY v.text ON CONFLICT DO NOTHING",
        },
    },
    Table {
        kinds: &[1, 2, 3],
        select: Bulk {
            columns: ASKED,
            sql: "SELECT n.id, v.kind, n.text FROM v JOIN name n ON n.kind = v.kind AND n.text = v.text",
        },
        insert: Bulk {
            columns: MADE,
            sql: "INSERT INTO name (kind, text) SELECT v.kind, v.text FROM v WHERE true ORDER BY v.kind, v.text \
                  ON CONFLICT DO NOTHING",
        },
    },
    Table { kinds: &[-3], select: TASKS, insert: NEW_TASKS },
    Table { kinds: &[-4], select: TASKS, insert: NEW_TASKS },
];
