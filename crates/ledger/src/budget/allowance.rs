//! How does a process spend what it was granted, and when does it ask for more?
//!
//! All amounts are counts in the unit of their limit, signed, because what was used beyond a hold is booked all the same:
//! a share may owe. Whoever owes pays first, from the pool, before it is granted anything.

use std::collections::HashMap;

use super::{Need, WindowKey};

/// What one process has of one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub granted: i64,
    pub spent: i64,
    pub held: i64,
}

/// What all processes have of one window, as it stands in the store while it is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The limit's amount.
    pub cap: i64,
    /// The sum of all grants in this window.
    pub granted: i64,
    /// Grants in earlier windows that still count against the same amount: only rolling windows have them.
    pub elsewhere: i64,
    /// The part of other processes' grants that they neither hold nor have spent.
    pub idle_elsewhere: i64,
}

/// What other processes had spent and held in a window when somebody last looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    pub spent: i64,
    pub held: i64,
}

/// The window in which a request does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    pub key: WindowKey,
    pub needed: i64,
    pub remaining: i64,
    /// Other processes have grants that they do not use; when they give them back, the request would fit.
    pub is_worth_waiting: bool,
}

/// Everything that one process may spend: its shares, and those pools that it has locked at the moment.
#[derive(Clone, Debug, Default)]
pub struct Allowance {
    shares: HashMap<WindowKey, Share>,
    pools: HashMap<WindowKey, Pool>,
}

impl Share {
    /// Returns what may still be held; below zero, what is owed.
    pub fn idle(&self) -> i64 {
        self.granted.saturating_sub(self.spent).saturating_sub(self.held)
    }

    /// Ends a hold: what it reserved is free again, and what was used is spent, however much it was.
    pub fn settle(&mut self, reserved: i64, spent: i64) {
        self.held = self.held.saturating_sub(reserved);
        self.spent = self.spent.saturating_add(spent);
    }

    /// Returns what is idle, which from now on is not this share's any more.
    pub fn give_back(&mut self) -> i64 {
        let idle = self.idle().max(0);
        self.granted -= idle;
        idle
    }
}

impl Pool {
    /// Returns what was granted to nobody yet.
    pub fn rest(&self) -> i64 {
        self.cap.saturating_sub(self.granted).saturating_sub(self.elsewhere)
    }

    /// Grants at least `lack`, or nothing at all. While much is left, a share gets more than it asked for, so that it need
    /// not come back soon; the more processes there are and the less is left, the smaller is that surplus, and in the end
    /// everyone gets exactly what it needs.
    fn take(&mut self, lack: i64, processes: i64) -> i64 {
        /// A process may take this part of its even share of the rest at once: after it, three quarters are still there.
        const PARTS: i64 = 4;
        let rest = self.rest();
        if lack <= 0 || lack > rest {
            return 0;
        }
        let grant = lack.max(rest / (PARTS * processes.max(1)));
        self.granted += grant;
        grant
    }

    /// Takes what is owed, even where nothing is left: it is spent already, and others must not spend it again.
    pub fn cover(&mut self, owed: i64) {
        self.granted = self.granted.saturating_add(owed);
    }

    pub fn give_back(&mut self, idle: i64) {
        self.granted -= idle;
    }
}

impl Allowance {
    /// Reserves all needs or none; asks the pools for what the shares lack. `processes` is how many share the pools.
    pub fn reserve(&mut self, needs: &[Need], processes: i64) -> Result<(), Lack> {
        for need in needs.iter().filter(|need| need.is_binding && need.amount > 0) {
            self.check(need)?;
        }
        for need in needs {
            let share = self.shares.entry(need.key.clone()).or_default();
            if need.is_binding
                && let Some(pool) = self.pools.get_mut(&need.key)
            {
                share.granted += pool.take(need.amount.saturating_sub(share.idle()), processes);
            }
            share.held = share.held.saturating_add(need.amount);
        }
        Ok(())
    }

    fn check(&self, need: &Need) -> Result<(), Lack> {
        let idle = self.share(&need.key).idle();
        let lack = need.amount.saturating_sub(idle);
        if lack <= 0 {
            return Ok(());
        }
        let pool = self.pools.get(&need.key);
        let rest = pool.map_or(0, Pool::rest);
        if lack <= rest {
            return Ok(());
        }
        // Whoever has not seen the pool cannot know that it is empty.
        let elsewhere = pool.map_or(i64::MAX, |pool| pool.idle_elsewhere);
        Err(Lack {
            key: need.key.clone(),
            needed: need.amount,
            remaining: idle.saturating_add(rest).max(0),
            // Where more is granted than may be (a rolling window whose clock jumped), what comes back fills that first.
            is_worth_waiting: lack <= rest.saturating_add(elsewhere),
        })
    }

    pub fn settle(&mut self, key: &WindowKey, reserved: i64, spent: i64) {
        self.shares.entry(key.clone()).or_default().settle(reserved, spent);
    }

    pub fn share(&self, key: &WindowKey) -> Share {
        self.shares.get(key).copied().unwrap_or_default()
    }
    pub fn has_share(&self, key: &WindowKey) -> bool {
        self.shares.contains_key(key)
    }
    pub fn set_share(&mut self, key: WindowKey, share: Share) {
        self.shares.insert(key, share);
    }
    pub fn forget_share(&mut self, key: &WindowKey) {
        self.shares.remove(key);
    }
    pub fn shares(&self) -> impl Iterator<Item = (&WindowKey, &Share)> {
        self.shares.iter()
    }

    pub fn pool(&self, key: &WindowKey) -> Option<Pool> {
        self.pools.get(key).copied()
    }
    /// Puts a pool in reach, as long as its row is locked.
    pub fn lock_pool(&mut self, key: WindowKey, pool: Pool) {
        self.pools.insert(key, pool);
    }
    /// Returns the pools that were in reach; now none is.
    pub fn unlock_pools(&mut self) -> HashMap<WindowKey, Pool> {
        std::mem::take(&mut self.pools)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::budget::LimitId;

    fn key(limit: i64) -> WindowKey {
        WindowKey { limit: LimitId(limit), subject: "".into(), start: Timestamp::default() }
    }

    fn need(limit: i64, amount: i64) -> Need {
        Need { key: key(limit), amount, is_binding: true }
    }

    fn pool(cap: i64, granted: i64) -> Pool {
        Pool { cap, granted, elsewhere: 0, idle_elsewhere: 0 }
    }

    #[test]
    fn a_grant_is_generous_while_there_is_much_and_exact_near_the_end() {
        let grant = |granted, lack, processes| pool(1_000, granted).take(lack, processes);
        assert_eq!(grant(0, 10, 1), 250);
        assert_eq!(grant(0, 10, 3), 83);
        assert_eq!(grant(0, 400, 3), 400);
        assert_eq!(grant(900, 30, 1), 30);
        assert_eq!(grant(990, 10, 1), 10, "the last one gets the rest to the last unit");
        assert_eq!(grant(991, 10, 1), 0, "or nothing");
    }

    #[test]
    fn a_request_fits_in_all_its_limits_or_takes_nothing_of_any() {
        let mut allowance = Allowance::default();
        allowance.lock_pool(key(1), pool(100, 0));
        allowance.lock_pool(key(2), pool(5, 0));
        let lack = allowance.reserve(&[need(1, 10), need(2, 10)], 1).unwrap_err();
        assert_eq!((lack.key, lack.needed, lack.remaining, lack.is_worth_waiting), (key(2), 10, 5, false));
        assert_eq!(allowance.share(&key(1)), Share::default());
        assert_eq!(allowance.pool(&key(1)).unwrap().granted, 0);
        allowance.reserve(&[need(1, 5), need(2, 5)], 1).unwrap();
        assert_eq!(allowance.share(&key(2)), Share { granted: 5, spent: 0, held: 5 });
    }

    #[test]
    fn inside_its_grant_a_process_needs_no_pool() {
        let mut allowance = Allowance::default();
        allowance.set_share(key(1), Share { granted: 20, spent: 0, held: 0 });
        allowance.reserve(&[need(1, 20)], 3).unwrap();
        let lack = allowance.reserve(&[need(1, 1)], 3).unwrap_err();
        assert!(lack.is_worth_waiting, "nobody has looked into the pool yet");
        allowance.settle(&key(1), 20, 12);
        allowance.reserve(&[need(1, 8)], 3).unwrap();
    }

    #[test]
    fn what_was_used_beyond_a_hold_is_paid_before_anything_is_granted() {
        let mut allowance = Allowance::default();
        allowance.set_share(key(1), Share { granted: 10, spent: 0, held: 10 });
        allowance.settle(&key(1), 10, 16);
        assert_eq!(allowance.share(&key(1)).idle(), -6);
        allowance.lock_pool(key(1), pool(20, 10));
        let lack = allowance.reserve(&[need(1, 5)], 1).unwrap_err();
        assert_eq!(lack.remaining, 4);
        allowance.reserve(&[need(1, 4)], 1).unwrap();
        assert_eq!(allowance.pool(&key(1)).unwrap().rest(), 0);
    }

    #[test]
    fn it_is_worth_waiting_for_what_others_do_not_use_and_only_then() {
        for (idle_elsewhere, expected) in [(4, false), (5, true)] {
            let mut allowance = Allowance::default();
            allowance.lock_pool(key(1), Pool { cap: 100, granted: 95, elsewhere: 0, idle_elsewhere });
            let lack = allowance.reserve(&[need(1, 10)], 2).unwrap_err();
            assert_eq!(lack.is_worth_waiting, expected);
        }
    }

    #[test]
    fn what_does_not_bind_is_counted_whatever_it_is() {
        let mut allowance = Allowance::default();
        let counted = Need { is_binding: false, ..need(1, 1_000) };
        allowance.reserve(&[counted], 1).unwrap();
        assert_eq!(allowance.share(&key(1)), Share { granted: 0, spent: 0, held: 1_000 });
    }
}
