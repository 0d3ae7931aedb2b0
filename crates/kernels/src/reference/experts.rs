//! What is a mixture of experts?

/// Returns the `chosen` experts of one row with the greatest probability, greatest first and lower numbers first among equals, and
/// their weights: probabilities among all experts, or among the chosen ones where they are `renormalised`.
pub fn route(scores: &[f32], chosen: usize, renormalised: bool) -> Vec<(usize, f32)> {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = scores.iter().map(|score| f64::from(score - largest).exp()).collect();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order.truncate(chosen);
    let among: f64 = if renormalised { order.iter().map(|i| powers[*i]).sum() } else { powers.iter().sum() };
    order.into_iter().map(|i| (i, (powers[i] / among) as f32)).collect()
}

/// What one expert makes of one row: `down · (silu(gate · x) · (up · x))`, all row-major.
pub fn expert(x: &[f32], gate: &[f32], up: &[f32], down: &[f32]) -> Vec<f32> {
    let dot = |row: &[f32], x: &[f64]| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>();
    let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    let pairs = gate.chunks_exact(x.len()).zip(up.chunks_exact(x.len()));
    let gated = pairs.map(|(gate, up)| (dot(gate, &x), dot(up, &x)));
    let gated: Vec<f64> = gated.map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
    down.chunks_exact(gated.len()).map(|row| dot(row, &gated) as f32).collect()
}
