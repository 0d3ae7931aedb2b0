//! Which steps stand for the numbers of one row with the least error?
//!
//! Rounding to the nearest step between the least and the largest number is what packing does by itself. Here the range is narrowed
//! a little at a time: few numbers at the ends are cut off, all others get finer steps. For each range of int4, scale and minimum
//! are then the ones that fit the chosen steps best (weighted least squares). The plain way is one of the candidates, so the result is never worse
//! by the measure that is minimised: `Σ importance · error²`.

use kernels::{INT4_GROUP, Int4Group};

/// Shares of the whole range that are tried. Below 0.7 the ends that are cut off have cost more than finer steps gain for every
/// distribution between uniform and a Gaussian's; heavier tails are outliers, which matter.
const SHARES: [f32; 7] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7];

/// What an input that the text never used still counts, as a share of the mean: another text will use it.
const IMPORTANCE_LEAST: f32 = 0.1;

/// Returns how much the error of each input counts, with a mean near one.
pub(crate) fn importance(moments: Option<&[f32]>, inputs: usize) -> Vec<f32> {
    let Some(moments) = moments.filter(|moments| moments.len() == inputs) else { return vec![1.0; inputs] };
    let mean = moments.iter().sum::<f32>() / inputs.max(1) as f32;
    if mean.is_nan() || mean <= 0.0 {
        return vec![1.0; inputs];
    }
    moments.iter().map(|moment| moment / mean + IMPORTANCE_LEAST).collect()
}

/// Replaces a row by what int8 shall keep of it: packing it then rounds nothing any more.
pub(crate) fn int8(values: &mut [f32], importance: &[f32]) {
    const LARGEST: f32 = 127.0;
    let largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    if largest <= 0.0 || !largest.is_finite() {
        return;
    }
    let kept = |value: f32, scale: f32| (value / scale).round_ties_even().clamp(-LARGEST, LARGEST) * scale;
    let error = |scale: f32| -> f32 {
        let terms = values.iter().zip(importance);
        terms.map(|(value, importance)| importance * (value - kept(*value, scale)).powi(2)).sum()
    };
    let scales = SHARES.map(|share| largest * share / LARGEST);
    let best = scales.into_iter().map(|scale| (error(scale), scale)).min_by(|a, b| a.0.total_cmp(&b.0));
    let (_, scale) = best.expect("there are shares to try");
    values.iter_mut().for_each(|value| *value = kept(*value, scale));
}

/// Rounds a row to int4: sixteen steps in each group of 128.
pub(crate) fn int4(values: &[f32], importance: &[f32], steps: &mut [u8], groups: &mut [Int4Group]) {
    let parts = values.chunks(INT4_GROUP).zip(importance.chunks(INT4_GROUP));
    for (((values, importance), steps), group) in
        parts.zip(steps.chunks_mut(INT4_GROUP)).zip(groups.iter_mut())
    {
        *group = int4_group(values, importance, steps);
    }
}

fn int4_group(values: &[f32], importance: &[f32], steps: &mut [u8]) -> Int4Group {
    const STEPS: f32 = 15.0;
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut best = (f32::INFINITY, Int4Group::default());
    let mut tried = [0; INT4_GROUP];
    let tried = &mut tried[..values.len()];
    let mut consider = |group: Int4Group, tried: &mut [u8], steps: &mut [u8]| {
        let error = nearest(values, importance, group, tried);
        if error < best.0 {
            best = (error, group);
            steps.copy_from_slice(tried);
        }
    };
    for share in SHARES {
        let minimum = as_kept(least * share);
        let group = Int4Group { scale: as_kept((largest * share - minimum).max(0.0) / STEPS), minimum };
        consider(group, tried, steps);
        if let Some(group) = fitted(values, importance, tried) {
            consider(group, tried, steps);
        }
    }
    if best.0.is_finite() {
        return best.1;
    }
    // Numbers that are no numbers: what packing does with them is as good as anything.
    steps.fill(0);
    Int4Group { scale: 0.0, minimum: as_kept(least) }
}

/// As int4 keeps scales and minima: in f16.
fn as_kept(value: f32) -> f32 {
    half::f16::from_f32(value.clamp(-65504.0, 65504.0)).to_f32()
}

/// Takes the nearest step of each value, and returns the weighted error.
fn nearest(values: &[f32], importance: &[f32], group: Int4Group, steps: &mut [u8]) -> f32 {
    let inverse = if group.scale > 0.0 { 1.0 / group.scale } else { 0.0 };
    let mut error = 0.0;
    for ((value, importance), place) in values.iter().zip(importance).zip(steps) {
        let step = ((value - group.minimum) * inverse).round_ties_even().clamp(0.0, 15.0);
        let off = value - (group.minimum + group.scale * step);
        error += importance * off * off;
        *place = step as u8;
    }
    error
}

/// Returns the scale and minimum that fit these steps best; `None` where all steps are the same.
fn fitted(values: &[f32], importance: &[f32], steps: &[u8]) -> Option<Int4Group> {
    let (mut w, mut q, mut qq, mut v, mut qv) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for ((value, importance), step) in values.iter().zip(importance).zip(steps) {
        let step = f32::from(*step);
        w += importance;
        q += importance * step;
        qq += importance * step * step;
        v += importance * value;
        qv += importance * step * value;
    }
    let determinant = w * qq - q * q;
    let scale = (w * qv - q * v) / determinant;
    let is_sound = determinant > 0.0 && scale.is_finite() && scale > 0.0;
    is_sound.then(|| Int4Group { scale: as_kept(scale), minimum: as_kept((v - scale * q) / w) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::{Matrix, Pool, Precision};

    /// A bell with a few outliers, by a small generator.
    fn rows(outputs: usize, inputs: usize) -> Vec<Vec<f32>> {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from((state >> 16) as u16) / 65_536.0
        };
        let mut value = |i: usize| {
            let bell: f32 = (0..6).map(|_| next()).sum::<f32>() - 3.0;
            if i % 97 == 5 { bell * 3.0 } else { bell }
        };
        (0..outputs).map(|_| (0..inputs).map(&mut value).collect()).collect()
    }

    fn error(matrix: &Matrix, rows: &[Vec<f32>], importance: &[f32]) -> f64 {
        let mut found = vec![0.0; matrix.inputs()];
        let mut sum = 0.0;
        for (row, values) in rows.iter().enumerate() {
            matrix.row(row, &mut found);
            let terms = found.iter().zip(values).zip(importance);
            sum += terms.map(|((a, b), i)| f64::from(i * (a - b) * (a - b))).sum::<f64>();
        }
        sum
    }

    #[test]
    fn searching_never_makes_the_error_larger_and_mostly_much_smaller() {
        let (outputs, inputs) = (21, 300);
        let rows = rows(outputs, inputs);
        let pool = Pool::new(2);
        let moments: Vec<f32> = (0..inputs).map(|i| 1.0 + (i % 13) as f32).collect();
        for importance in [importance(None, inputs), importance(Some(&moments), inputs)] {
            let fill = |row: usize, values: &mut [f32]| values.copy_from_slice(&rows[row]);
            let plain = Matrix::pack_with(&pool, Precision::Int4, outputs, inputs, &fill);
            let searched = Matrix::pack_int4(&pool, outputs, inputs, &|row, steps, groups| {
                int4(&rows[row], &importance, steps, groups);
            });
            let (plain, searched) = (error(&plain, &rows, &importance), error(&searched, &rows, &importance));
            println!("int4: {searched:.3} of {plain:.3}");
            assert!(searched < 0.9 * plain, "{searched} of {plain}");

            let plain = Matrix::pack_with(&pool, Precision::Int8, outputs, inputs, &fill);
            let searched = Matrix::pack_with(&pool, Precision::Int8, outputs, inputs, &|row, values| {
                values.copy_from_slice(&rows[row]);
                int8(values, &importance);
            });
            let (plain, searched) = (error(&plain, &rows, &importance), error(&searched, &rows, &importance));
            println!("int8: {searched:.5} of {plain:.5}");
            assert!(searched <= plain * 1.0001, "{searched} of {plain}");
        }
    }

    #[test]
    fn rows_of_nothing_of_one_number_and_of_no_numbers_are_rounded_too() {
        for row in [vec![0.0; 130], vec![0.25; 130], vec![f32::NAN; 130], vec![f32::INFINITY; 130]] {
            let (mut steps, mut groups) = (vec![9; 130], vec![Int4Group::default(); 2]);
            int4(&row, &[1.0; 130], &mut steps, &mut groups);
            let kept = groups[1].minimum + groups[1].scale * f32::from(steps[129]);
            assert!(kept == row[0] || !row[0].is_finite(), "{kept} of {}", row[0]);
            let mut same = row.clone();
            int8(&mut same, &[1.0; 130]);
            assert!(row[0].is_nan() || (same[3] - row[3]).abs() < 1e-6 || row[0] == same[0]);
        }
    }
}
