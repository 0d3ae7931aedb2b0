//! How does a tree of tasks look, with what each used, for people?

use std::fmt::Write;

use super::{TaskPath, TaskRecord, TaskSums};

/// One task with its own requests' sums. What is inside of it is added when the tree is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    pub record: TaskRecord,
    pub own: TaskSums,
}

/// A task with what it and everything inside of it came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskNode {
    pub row: TaskRow,
    pub whole: TaskSums,
    pub inside: Vec<TaskNode>,
}

impl TaskNode {
    /// Returns the trees of these tasks, each level in the order of its first requests. A task whose parent is not among them
    /// is the top of a tree.
    pub fn trees(rows: Vec<TaskRow>) -> Vec<TaskNode> {
        let mut nodes: Vec<TaskNode> =
            rows.into_iter().map(|row| TaskNode { whole: row.own, row, inside: Vec::new() }).collect();
        // The deepest first: whoever is moved into its parent has everything inside of it already.
        nodes.sort_by(|one, other| {
            let order = |node: &TaskNode| (node.row.record.created_at, node.row.record.path.clone());
            let depth = |node: &TaskNode| node.row.record.path.depth();
            depth(other).cmp(&depth(one)).then_with(|| order(one).cmp(&order(other)))
        });
        let mut trees = Vec::new();
        while !nodes.is_empty() {
            let node = nodes.remove(0);
            let above = |other: &&mut TaskNode| {
                node.row.record.path.parent().as_ref() == Some(&other.row.record.path)
            };
            match nodes.iter_mut().find(above) {
                Some(parent) => {
                    parent.whole.add(&node.whole);
                    parent.inside.push(node);
                }
                None => trees.push(node),
            }
        }
        trees.sort_by_key(|tree| (tree.row.record.created_at, tree.row.record.path.clone()));
        trees
    }

    /// Returns the tree as a table: each line a task with everything inside of it.
    pub fn draw(&self) -> String {
        let mut lines = vec![["task", "state", "cost", "tokens", "calls", "time"].map(str::to_owned)];
        self.lines(self.row.record.path.as_str(), "", &mut lines);
        table(&lines)
    }

    /// Returns runs as a table, without what is inside of them.
    pub fn list(runs: &[TaskNode]) -> String {
        if runs.is_empty() {
            return String::new();
        }
        let mut lines = vec![["task", "state", "cost", "tokens", "calls", "time"].map(str::to_owned)];
        for run in runs {
            let alone = TaskNode { inside: Vec::new(), ..run.clone() };
            alone.lines(run.row.record.path.as_str(), "", &mut lines);
        }
        table(&lines)
    }

    /// Returns why tasks of this tree are in their state, where somebody said why.
    pub fn reasons(&self) -> Vec<(TaskPath, String)> {
        let TaskRecord { path, state, reason, .. } = &self.row.record;
        let own = reason.as_ref().map(|reason| (path.clone(), format!("{}, because {reason}", state.word())));
        own.into_iter().chain(self.inside.iter().flat_map(TaskNode::reasons)).collect()
    }

    fn lines(&self, name: &str, indent: &str, lines: &mut Vec<[String; 6]>) {
        let TaskSums { calls, open_calls, unpriced_calls, usage, cost, .. } = &self.whole;
        let open = if *open_calls > 0 { format!(" ({open_calls} open)") } else { String::new() };
        let unpriced =
            if *unpriced_calls > 0 { format!(" + {unpriced_calls} unpriced") } else { String::new() };
        lines.push([
            name.to_owned(),
            self.row.record.state.word().to_owned(),
            format!("{cost} USD{unpriced}"),
            usage.total().to_string(),
            format!("{calls}{open}"),
            duration(self.whole.elapsed_ms()),
        ]);
        for (place, node) in self.inside.iter().enumerate() {
            let (branch, below) =
                if place + 1 == self.inside.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let name = format!("{indent}{branch}{}", node.row.record.path.leaf());
            node.lines(&name, &format!("{indent}{below}"), lines);
        }
    }
}

/// Names stand left, numbers right.
fn table(lines: &[[String; 6]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            let pad = " ".repeat(widths[column] - cell.chars().count());
            let gap = if column == 0 { "" } else { "  " };
            let _ = match column {
                0 | 1 => write!(text, "{gap}{cell}{pad}"),
                _ => write!(text, "{gap}{pad}{cell}"),
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}.{} s", ms % 1_000 / 100),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use domain::{Money, Usage};

    use super::*;
    use crate::{TaskState, Timestamp};

    fn row(path: &str, state: TaskState, calls: u64, pico: i128, first: i64, last: i64) -> TaskRow {
        let at = Timestamp::from_millis;
        TaskRow {
            record: TaskRecord {
                path: TaskPath::parse(path).unwrap(),
                account: "acme/bot".into(),
                state,
                reason: None,
                created_at: at(first),
                state_at: at(first),
            },
            own: TaskSums {
                calls,
                usage: Usage { input_uncached: 100 * calls, output: 10 * calls, ..Usage::default() },
                cost: Money::from_pico(pico),
                first_at: Some(at(first)),
                last_at: Some(at(last)),
                ..TaskSums::default()
            },
        }
    }

    #[test]
    fn a_tree_shows_at_each_task_what_everything_inside_of_it_came_to() {
        let rows = vec![
            row("acme/run-42/plan/search", TaskState::HandingBack, 4, 250_000_000, 3_000, 65_000),
            row("acme/run-42", TaskState::Running, 2, 1_000_000_000, 1_000, 70_000),
            row("acme/run-42/write", TaskState::Stopped, 1, 0, 5_000, 6_500),
            row("acme/run-42/plan", TaskState::Running, 3, 500_000_000, 2_000, 60_000),
        ];
        let trees = TaskNode::trees(rows);
        assert_eq!(trees.len(), 1);
        assert_eq!(
            trees[0].draw(),
            "\
task          state                cost  tokens  calls        time
acme/run-42   running       0.00175 USD    1100     10  1 min 09 s
├─ plan       running       0.00075 USD     770      7  1 min 03 s
│  └─ search  handing back  0.00025 USD     440      4  1 min 02 s
└─ write      stopped          0.00 USD     110      1       1.5 s
"
        );
    }

    #[test]
    fn a_task_without_its_parent_is_the_top_of_its_own_tree() {
        let rows = vec![
            row("acme/b/x", TaskState::Running, 1, 0, 2_000, 2_000),
            row("acme/a", TaskState::Running, 1, 0, 1_000, 1_000),
        ];
        let tops: Vec<String> =
            TaskNode::trees(rows).iter().map(|tree| tree.row.record.path.to_string()).collect();
        assert_eq!(tops, ["acme/a", "acme/b/x"]);
    }
}
