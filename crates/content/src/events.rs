//! What is worth knowing from here, said once when it changes.

/// Questions are no longer asked of the shared cache, until it answers again.
pub struct RedisLost<'a> {
    pub why: &'a str,
}
impl RedisLost<'_> {
    pub fn emit(self) {
        tracing::warn!(why = self.why, "the shared cache does not answer; requests go on without it");
    }
}

pub struct RedisFound;
impl RedisFound {
    pub fn emit(self) {
        tracing::info!("the shared cache answers");
    }
}
