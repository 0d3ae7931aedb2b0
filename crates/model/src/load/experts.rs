//! How the experts of a layer are found in a checkpoint, and packed.
//!
//! Three forms mean the same:
//!
//! ```text
//! {experts}.{number}.{gate, up, down}.weight     [rows][inputs]            as most checkpoints are
//! mlp.experts.{gate_up_proj, down_proj}          [experts][rows][inputs]   as transformers 5 keeps them, gates before ups
//! mlp.experts.{gate, up, down}_proj.weight       [experts][rows][inputs]   GGUF's, in our words
//! ```

use kernels::{ExpertPart, Experts, ExpertsShape, Precision};

use super::{LoadError, Loader, as_stored, weight};
use crate::config::ExpertsConfig;
use crate::layers::Moe;
use crate::weights::Tensor;

/// The router and the experts of the forms that hold all experts in one tensor.
const ROUTER: &str = "mlp.gate";
const STACKED: &str = "mlp.experts";

/// Where the rows of one part of all experts are.
struct Source<'a> {
    /// One tensor for each expert, or one for all.
    tensors: Vec<Tensor<'a>>,
    /// Rows from one expert to the next in a tensor of all, and those before this part's in each.
    stride: usize,
    first: usize,
}

impl Source<'_> {
    fn read_row(&self, expert: usize, row: usize, values: &mut [f32]) {
        match &self.tensors[..] {
            [all] if self.stride > 0 => all.read_row(expert * self.stride + self.first + row, values),
            each => each[expert].read_row(row, values),
        }
    }
}

impl<'a> Loader<'a> {
    pub(super) fn moe(
        &mut self,
        part: &dyn Fn(&str) -> String,
        norm: Vec<f32>,
        config: &ExpertsConfig,
    ) -> Result<Moe, LoadError> {
        let ExpertsConfig { count, chosen, width, renormalised, .. } = *config;
        let (hidden, names) = (self.config.hidden, self.config.names);
        let own_router = weight(&part(names.router));
        let router = if self.checkpoint.has(&own_router) { own_router } else { weight(&part(ROUTER)) };
        let precision = self.precision.replace(Precision::F32);
        let router = self.matrix(&[(router, count)], hidden)?;
        self.precision = precision;

        let shape = ExpertsShape { count, hidden, width };
        let sources = [
            self.source(part, names.expert_gate, "gate_proj", count, width, hidden)?,
            self.source(part, names.expert_up, "up_proj", count, width, hidden)?,
            self.source(part, names.expert_down, "down_proj", count, hidden, width)?,
        ];
        let tensors: Vec<_> = sources.iter().flat_map(|source| source.tensors.iter().copied()).collect();
        let precision = self.precision.unwrap_or_else(|| as_stored(&tensors));
        let [gate, up, down] = &sources;
        let experts =
            Experts::pack_with(self.pool, precision, shape, &|part, expert, row, values| match part {
                ExpertPart::Gate => gate.read_row(expert, row, values),
                ExpertPart::Up => up.read_row(expert, row, values),
                ExpertPart::Down => down.read_row(expert, row, values),
            });
        self.parameters += (3 * width * hidden * count) as u64;
        self.resident_bytes += experts.resident_bytes() as u64;
        for tensor in &tensors {
            // Gates and ups may be one tensor, which is read once.
            if !self.used.contains(tensor.name()) {
                self.done(tensor);
            }
        }
        Ok(Moe { norm, router, experts, chosen, renormalised })
    }

    /// Finds one part of all experts: `rows` rows of `inputs` values each.
    fn source(
        &self,
        part: &dyn Fn(&str) -> String,
        own: &str,
        stacked: &str,
        count: usize,
        rows: usize,
        inputs: usize,
    ) -> Result<Source<'a>, LoadError> {
        let alone = part(&format!("{STACKED}.{stacked}.weight"));
        if self.checkpoint.has(&alone) {
            let tensors = vec![self.tensor(&alone, &[count, rows, inputs])?];
            return Ok(Source { tensors, stride: rows, first: 0 });
        }
        let (fused, stride) = match stacked {
            "down_proj" => (part(&format!("{STACKED}.down_proj")), rows),
            _ => (part(&format!("{STACKED}.gate_up_proj")), 2 * rows),
        };
        if self.checkpoint.has(&fused) {
            let tensors = vec![self.tensor(&fused, &[count, stride, inputs])?];
            return Ok(Source { tensors, stride, first: if stacked == "up_proj" { rows } else { 0 } });
        }
        let experts = self.config.names.experts;
        let tensor =
            |expert| self.tensor(&weight(&part(&format!("{experts}.{expert}.{own}"))), &[rows, inputs]);
        let tensors = (0..count).map(tensor).collect::<Result<_, _>>()?;
        Ok(Source { tensors, stride: 0, first: 0 })
    }
}
