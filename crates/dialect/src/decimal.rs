//! How is a decimal written on, so that it stays what the client wrote?

use serde_json::{Value, json};

/// Returns the shortest decimal that reads as this one: 0.7 is not to become 0.699999988079071.
pub(crate) fn decimal(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, |value| json!(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_stays_as_short_as_it_came() {
        for text in ["0.7", "0.0", "1.0", "0.95", "-2.0", "0.001"] {
            assert_eq!(decimal(text.parse().unwrap()).to_string(), text);
        }
    }
}
