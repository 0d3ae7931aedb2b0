//! Who else hears an answer as it grows?

use dialect::Head;
use domain::{AnswerEvent, UsageReport};

use crate::keeper::Keeper;
use crate::repeat::Tee;

/// Whoever asked the same, and whoever keeps responses.
#[derive(Default)]
pub struct Ears {
    pub tee: Option<Tee>,
    pub keeper: Option<Keeper>,
}

impl Ears {
    pub fn are_open(&self) -> bool {
        self.tee.is_some() || self.keeper.is_some()
    }

    pub fn say(&mut self, event: &AnswerEvent) {
        self.tee.iter_mut().for_each(|tee| tee.say(event));
        self.keeper.iter_mut().for_each(|keeper| keeper.say(event));
    }

    /// Tells that the answer is whole and booked, before its client hears so.
    pub async fn complete(self, head: &Head, report: &UsageReport) {
        if let Some(keeper) = self.keeper {
            keeper.complete(head, report).await;
        }
        self.tee.into_iter().for_each(|tee| tee.complete(report.usage));
    }
}
