//! How much of an answer is paid for, and who asks for more?

use domain::Usage;
use tokio::task::JoinHandle;

use super::credit::Credit;
use super::end::End;
use crate::admit::{self, Growth, OpenHold};

/// An answer's hold, and what may be delivered under it. It grows while tokens are delivered, as far as limits allow.
pub struct Purse {
    pub hold: OpenHold,
    credit: Credit,
    /// At most one wish for more is under way.
    growth: Option<JoinHandle<Growth>>,
}

impl Purse {
    /// `ceiling` is the most that the answer can have in all of its `choices`.
    pub fn new(hold: OpenHold, ceiling: u64, choices: u64) -> Self {
        let credit = Credit::new(hold.estimate.output, ceiling, choices);
        Self { hold, credit, growth: None }
    }

    /// Returns how many more tokens may be delivered now.
    pub fn room(&self) -> u64 {
        self.credit.room()
    }

    pub fn deliver(&mut self, tokens: u64) {
        self.credit.deliver(tokens);
    }

    /// Asks for a larger hold when it is time to, or too small for the `next` tokens; tokens go on being delivered meanwhile, as far
    /// as they are held. Returns whether an answer is awaited.
    pub fn ask_for_more(&mut self, next: u64) -> bool {
        if self.growth.is_none()
            && let Some(output) = self.credit.wish(next)
        {
            let estimate = Usage { output, ..self.hold.estimate };
            self.growth = Some(tokio::spawn(admit::grow(&self.hold, estimate)));
        }
        self.growth.is_some()
    }

    /// Completes when a wish under way is answered; never where there is none.
    pub async fn grown(&mut self) -> Result<(), End> {
        let Some(task) = &mut self.growth else { return std::future::pending().await };
        // It ends without a word only by a panic, which the runtime has logged.
        let growth = task.await.unwrap_or(Growth::Lost);
        self.growth = None;
        match growth {
            Growth::Held(held) => self.credit.granted(held.output),
            Growth::Short => self.credit.refused(),
            Growth::Lost => return Err(End::HoldLost),
        }
        Ok(())
    }

    /// Waits for a wish under way: whatever comes of it, it comes before the end in the book.
    pub async fn close(mut self) -> OpenHold {
        if let Some(growth) = self.growth.take() {
            let _ = growth.await;
        }
        self.hold
    }
}
