//! Which integer is this decimal number, in a unit of so many decimals? Never through a float.

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    #[error("it is not a decimal number without a sign")]
    NotDecimal,
    #[error("it has more decimals than can be kept exactly")]
    TooFine,
    #[error("it is too large")]
    TooLarge,
}

/// Digits that 128 bits surely hold; far beyond any price.
const DIGITS_MAX: usize = 36;

/// Returns the number × 10^`decimals`, exactly. Reads JSON's spellings too: `1.5e-07` with 12 decimals is 150,000.
pub fn scaled(text: &str, decimals: u32) -> Result<i128, DecimalError> {
    let text = text.trim();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, exponent.parse::<i32>().map_err(|_| DecimalError::NotDecimal)?)
        }
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return Err(DecimalError::NotDecimal);
    }
    // The digits are an integer; `shift` says by which power of ten it is to be multiplied.
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let zeros = (digits.len() - significant.len()) as i64;
    let shift = zeros + i64::from(exponent) + i64::from(decimals) - fraction.len() as i64;
    if shift < 0 {
        return Err(DecimalError::TooFine);
    }
    if significant.len() as i64 + shift > DIGITS_MAX as i64 {
        return Err(DecimalError::TooLarge);
    }
    let number: i128 = significant.parse().map_err(|_| DecimalError::TooLarge)?;
    Ok(number * 10_i128.pow(shift as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly_however_they_are_spelt() {
        for (text, decimals, number) in [
            ("1.5e-07", 12, 150_000),
            ("1.5E-7", 12, 150_000),
            ("0.00000015", 12, 150_000),
            ("3e-06", 12, 3_000_000),
            ("1.75e+0", 6, 1_750_000),
            ("0", 12, 0),
            ("0e0", 12, 0),
            ("0.0", 0, 0),
            ("12000", 0, 12_000),
            ("1e3", 0, 1_000),
            ("0.003625", 6, 3_625),
            ("2.5000000000000000000000000000000000000000000", 6, 2_500_000),
        ] {
            assert_eq!(scaled(text, decimals), Ok(number), "{text}");
        }
    }

    #[test]
    fn what_is_not_exact_or_not_a_number_is_refused() {
        for (text, error) in [
            ("1.23e-13", DecimalError::TooFine),
            ("1.9999999999999999e-07", DecimalError::TooFine),
            ("1e40", DecimalError::TooLarge),
            ("1e2000000000", DecimalError::TooLarge),
            ("-1", DecimalError::NotDecimal),
            ("+1", DecimalError::NotDecimal),
            (".5", DecimalError::NotDecimal),
            ("1e", DecimalError::NotDecimal),
            ("1e99999999999", DecimalError::NotDecimal),
            ("NaN", DecimalError::NotDecimal),
            ("", DecimalError::NotDecimal),
        ] {
            assert_eq!(scaled(text, 12), Err(error), "{text}");
        }
    }
}
