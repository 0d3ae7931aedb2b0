//! How is an order written into a prompt and found again in a request's body?

use std::fmt::Write;

/// What the upstream shall answer, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: u64,
    pub tokens: u32,
    /// Before the first token, and between two tokens; streams only.
    pub first_us: u64,
    pub pace_us: u64,
}

const MARK: &str = "[[order ";

impl Order {
    /// Every order is as long as every other: a request is made once and only its id changes.
    pub fn text(&self) -> String {
        format!("{MARK}{:012} {:06} {:09} {:09}]]", self.id, self.tokens, self.first_us, self.pace_us)
    }

    /// Returns the order in a request's body, if there is one.
    pub fn find(body: &[u8]) -> Option<Self> {
        let mark = MARK.as_bytes();
        // The order is at the prompt's end, so that a search from the end is short.
        let at = body.windows(mark.len()).rposition(|window| window == mark)? + mark.len();
        let end = at + body[at..].iter().position(|byte| *byte == b']')?;
        let mut numbers =
            std::str::from_utf8(&body[at..end]).ok()?.split(' ').map(|text| text.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        Some(Self { id: next()?, tokens: u32::try_from(next()?).ok()?, first_us: next()?, pace_us: next()? })
    }

    /// Returns the token at `index`: the first names the order, so that two answers are never the same.
    pub fn token(&self, index: u32) -> String {
        if index == 0 { format!("#{}:", self.id) } else { format!(" {index}") }
    }

    pub fn answer(&self) -> String {
        (0..self.tokens).fold(String::new(), |mut text, index| {
            let _ = write!(text, "{}", self.token(index));
            text
        })
    }

    /// Differs from order to order, so that sums of usage show which answers were counted.
    pub fn prompt_tokens(&self) -> u64 {
        100 + self.id % 900
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_found_in_any_json_around_it() {
        let order = Order { id: 17, tokens: 3, first_us: 0, pace_us: 2_000 };
        let body =
            serde_json::json!({"messages": [{"content": format!("[[order x]] {}", order.text())}], "n": 1});
        assert_eq!(Order::find(body.to_string().as_bytes()), Some(order));
        assert_eq!(order.answer(), "#17: 1 2");
        assert_eq!(order.text().len(), Order { id: 999_999, ..order }.text().len());
        assert_eq!(Order::find(b"{\"messages\": []}"), None);
    }
}
