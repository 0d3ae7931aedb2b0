//! How the experts of a layer are found in a checkpoint, and packed.
//!
//! All gates and ups become one matrix, all downs another, as [`ExpertsShape`] says. Three forms mean the same:
//!
//! ```text
//! {experts}.{number}.{gate, up, down}.weight     [rows][inputs]            as most checkpoints are
//! mlp.experts.{gate_up_proj, down_proj}          [experts][rows][inputs]   as transformers 5 keeps them, gates before ups
//! mlp.experts.{gate, up, down}_proj.weight       [experts][rows][inputs]   GGUF's, in our words
//! ```

use kernels::{ExpertPart, Experts, ExpertsShape, Precision};

use super::{LoadError, Loader, Rows, weight};
use crate::config::ExpertsConfig;
use crate::layers::Moe;
use crate::weights::Tensor;

/// The router and the experts of the forms that hold all experts in one tensor, and of packed files.
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

/// Says which row of which part of which expert a row is; padding is nobody's.
type Place = fn(ExpertsShape, usize) -> Option<(ExpertPart, usize, usize)>;

/// The rows of a matrix of all experts.
struct Stack<'a> {
    tensors: Vec<Tensor<'a>>,
    /// Gates and ups, or downs twice.
    sources: [Source<'a>; 2],
    inputs: usize,
    shape: ExpertsShape,
    place: Place,
}

impl<'a> Rows<'a> for Stack<'a> {
    fn tensors(&self) -> &[Tensor<'a>] {
        &self.tensors
    }

    fn read(&self, row: usize, values: &mut [f32]) {
        values.fill(0.0);
        let Some((part, expert, row)) = (self.place)(self.shape, row) else { return };
        let source = &self.sources[usize::from(part != ExpertPart::Gate)];
        source.read_row(expert, row, &mut values[..self.inputs]);
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
        let precision = self.precision.replace(Precision::F32);
        let name = weight(&part(ROUTER));
        let router = self.made(&name, count, hidden, |loader| {
            let own = weight(&part(names.router));
            let name = if loader.checkpoint.has(&own) { own } else { weight(&part(ROUTER)) };
            Ok(Box::new(vec![loader.tensor(&name, &[count, hidden])?]))
        })?;
        self.precision = precision;

        let shape = ExpertsShape { count, hidden, width };
        let (outputs, inputs) = shape.gate_up();
        let name = weight(&part(&format!("{STACKED}.gate_up")));
        let observer = self.observer(&name);
        let gate_up = self.made(&name, outputs, inputs, |loader| {
            let gate = loader.source(part, names.expert_gate, "gate_proj", count, width, hidden)?;
            let up = loader.source(part, names.expert_up, "up_proj", count, width, hidden)?;
            // Both may be parts of one tensor.
            let mut tensors: Vec<Tensor<'a>> =
                [&gate, &up].iter().flat_map(|source| &source.tensors).copied().collect();
            tensors.dedup_by(|a, b| a.name() == b.name());
            let place = ExpertsShape::of_gate_up;
            Ok(Box::new(Stack { tensors, sources: [gate, up], inputs: hidden, shape, place }))
        })?;
        let (outputs, inputs) = shape.down();
        let name = weight(&part(&format!("{STACKED}.down")));
        let down = self.made(&name, outputs, inputs, |loader| {
            let source = || loader.source(part, names.expert_down, "down_proj", count, hidden, width);
            let sources = [source()?, source()?];
            let place = ExpertsShape::of_down;
            Ok(Box::new(Stack { tensors: sources[0].tensors.clone(), sources, inputs: width, shape, place }))
        })?;
        // What pads is nothing that was learned.
        self.parameters -= ((gate_up.outputs() * gate_up.inputs() + down.outputs() * down.inputs())
            - 3 * width * hidden * count) as u64;
        let experts = Experts::new(shape, gate_up, down);
        Ok(Moe { norm, router, experts, chosen, renormalised, observer })
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
