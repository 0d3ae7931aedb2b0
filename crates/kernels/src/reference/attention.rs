//! What is causal attention of one query?

/// One head of one row at `position`: softmax over positions `0..=position`, or the last `window` of them, of `q · k · scale`,
/// and the values' mean under it. `key(p)` and `value(p)` give the vectors of position `p`.
pub fn attend<'a>(
    query: &[f32],
    position: usize,
    window: Option<usize>,
    scale: f32,
    key: impl Fn(usize) -> &'a [f32],
    value: impl Fn(usize) -> &'a [f32],
    out: &mut [f32],
) {
    let start = window.map_or(0, |window| (position + 1).saturating_sub(window));
    let dot = |k: &[f32]| query.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
    let scores: Vec<f64> = (start..=position).map(|p| dot(key(p)) * f64::from(scale)).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    for (i, out) in out.iter_mut().enumerate() {
        let sum: f64 = (start..=position).zip(&weights).map(|(p, w)| w * f64::from(value(p)[i])).sum();
        *out = (sum / total) as f32;
    }
}
