//! How a checkpoint on disk becomes a model in memory.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kernels::{BLOCK_TOKENS, Isa, KvCache, KvPrecision, Matrix, Numerics, Pool, PoolOptions, Precision};

use crate::batch::Shape;
use crate::config::{ConfigError, DIVISORS, ModelConfig, RopeScaling};
use crate::forward::Model;
use crate::layers::{Attention, Buffers, HeadNorms, Layer, Linear, Mlp, Rotary};
use crate::weights::{Checkpoint, Encoding, Tensor, WeightsError};

/// How a model shall be kept and run.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// How weights are kept in memory. `None` is as they are stored; the block formats of GGUF then become bf16.
    pub precision: Option<Precision>,
    /// How keys and values are kept in memory.
    pub kv_precision: KvPrecision,
    /// Threads that compute a step, the calling one included.
    pub threads: usize,
    /// The best code path to take; the default is the best of this machine.
    pub isa: Isa,
    /// Whether a row's scores may depend, in their last bits, on the rows beside it.
    pub numerics: Numerics,
}

impl Default for LoadOptions {
    fn default() -> Self {
        let PoolOptions { threads, isa, numerics } = PoolOptions::default();
        Self { precision: None, kv_precision: KvPrecision::default(), threads, isa, numerics }
    }
}

/// A tensor was read and packed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadProgress<'a> {
    pub tensor: &'a str,
    /// Bytes read from the checkpoint so far, and in the end.
    pub done_bytes: u64,
    pub total_bytes: u64,
}

/// What was loaded, and what it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadReport {
    /// Numbers that the model learned; a tied embedding counts once.
    pub parameters: u64,
    /// Bytes of weights in memory, scales and padding included.
    pub resident_bytes: u64,
    pub bits_per_weight: f64,
    /// How the layers' weights are kept.
    pub precision: Precision,
    /// Which code multiplies by each kind of weight on this machine.
    pub paths: Vec<(&'static str, &'static str)>,
    pub kv_bytes_per_token: usize,
    pub context_tokens: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the configuration of {model:?} cannot be used: {source}")]
    Config { model: String, source: ConfigError },
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(
        "{}: tensor {tensor:?} has no place in a {family} model of {layers} layers; the model and its configuration do \
         not belong together", file.display()
    )]
    Unused { file: PathBuf, tensor: String, family: &'static str, layers: usize },
}

impl Model {
    /// Reads every tensor once, in the order of use, and packs it for this machine. Shapes are checked before memory is
    /// taken, so a configuration that lies about them costs nothing.
    pub fn load(
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress<'_>),
    ) -> Result<Model, LoadError> {
        let config = ModelConfig::parse(&checkpoint.config)
            .map_err(|source| LoadError::Config { model: checkpoint.name.clone(), source })?;
        let LoadOptions { precision, kv_precision, threads, isa, numerics } = *options;
        let pool = Pool::with(PoolOptions { threads, isa, numerics });
        let mut loader = Loader {
            checkpoint,
            pool: &pool,
            config: &config,
            precision,
            used: BTreeSet::new(),
            done_bytes: 0,
            total_bytes: bytes_to_read(checkpoint, &config),
            parameters: 0,
            resident_bytes: 0,
            progress,
        };
        let names = config.names;
        let embedding = loader.matrix(&[(weight(names.embedding), config.vocabulary)], config.hidden)?;
        let layers = (0..config.layers()).map(|layer| loader.layer(layer)).collect::<Result<Vec<_>, _>>()?;
        let norm = loader.vector(&weight(names.norm), config.hidden)?;
        let (embedding, head) = if config.tied_embeddings {
            (None, embedding)
        } else {
            (Some(embedding), loader.matrix(&[(weight(names.head), config.vocabulary)], config.hidden)?)
        };
        let divisors = match config.rope.scaling {
            RopeScaling::Divisors => Some(loader.constants(DIVISORS, config.rope.rotary_dim / 2)?),
            _ => None,
        };
        loader.check_nothing_is_left()?;

        let cache = KvCache::new(kv_precision, config.layers(), 0, config.kv_heads, config.head_dim);
        let block_bytes = cache.block_bytes();
        let report = loader.report(&layers, &head, block_bytes);
        Ok(Model {
            shape: Shape {
                vocabulary: config.vocabulary,
                context_tokens: config.context_tokens,
                block_tokens: BLOCK_TOKENS,
                block_bytes,
            },
            report,
            pool,
            embedding,
            layers,
            norm,
            head,
            rotary: Rotary::new(&config.rope, divisors.as_deref()),
            cache,
            buffers: Buffers::default(),
            config,
        })
    }
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    pool: &'a Pool,
    config: &'a ModelConfig,
    precision: Option<Precision>,
    used: BTreeSet<String>,
    done_bytes: u64,
    total_bytes: u64,
    parameters: u64,
    resident_bytes: u64,
    progress: &'a mut dyn FnMut(LoadProgress<'_>),
}

impl<'a> Loader<'a> {
    fn layer(&mut self, number: usize) -> Result<Layer, LoadError> {
        let (config, names) = (self.config, self.config.names);
        let part = |part: &str| format!("{}.{number}.{part}", names.layers);
        let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let attention = Attention {
            norm: self.vector(&weight(&part(names.attention_norm)), config.hidden)?,
            qkv: self.linear(
                &[(part(names.query), queries), (part(names.key), keys), (part(names.value), keys)],
                config.hidden,
                config.qkv_bias,
            )?,
            head_norms: match config.qk_norm {
                true => Some(HeadNorms {
                    query: self.vector(&weight(&part(names.query_norm)), config.head_dim)?,
                    key: self.vector(&weight(&part(names.key_norm)), config.head_dim)?,
                }),
                false => None,
            },
            output: self.linear(&[(part(names.output), config.hidden)], queries, config.output_bias)?,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            rotary_dim: config.rope.rotary_dim,
            window: config.windows[number],
        };
        let mlp = Mlp {
            norm: self.vector(&weight(&part(names.mlp_norm)), config.hidden)?,
            gate_up: self.linear(
                &[(part(names.gate), config.intermediate), (part(names.up), config.intermediate)],
                config.hidden,
                config.mlp_bias,
            )?,
            down: self.linear(&[(part(names.down), config.hidden)], config.intermediate, config.mlp_bias)?,
        };
        Ok(Layer { attention, mlp })
    }

    /// Reads maps of the same inputs into one: their outputs follow one another.
    fn linear(
        &mut self,
        parts: &[(String, usize)],
        inputs: usize,
        biased: bool,
    ) -> Result<Linear, LoadError> {
        let weights: Vec<_> = parts.iter().map(|(name, outputs)| (weight(name), *outputs)).collect();
        let matrix = self.matrix(&weights, inputs)?;
        let bias = match biased {
            true => {
                let biases =
                    parts.iter().map(|(name, outputs)| self.vector(&format!("{name}.bias"), *outputs));
                Some(biases.collect::<Result<Vec<_>, _>>()?.concat())
            }
            false => None,
        };
        Ok(Linear { matrix, bias })
    }

    fn matrix(&mut self, parts: &[(String, usize)], inputs: usize) -> Result<Matrix, LoadError> {
        let tensors = parts.iter().map(|(name, outputs)| self.tensor(name, &[*outputs, inputs]));
        let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
        let precision = self.precision.unwrap_or_else(|| as_stored(&tensors));
        let outputs: usize = parts.iter().map(|(_, outputs)| outputs).sum();
        let matrix =
            if precision == Precision::Bf16 && tensors.iter().all(|tensor| bf16_row(tensor, 0).is_some()) {
                let row = |row| {
                    let (tensor, row) = part_of(&tensors, row);
                    bf16_row(tensor, row).expect("a tensor that shows one row shows them all")
                };
                Matrix::pack_bytes(self.pool, precision, outputs, inputs, &row)
            } else {
                Matrix::pack_with(self.pool, precision, outputs, inputs, &|row, values| {
                    let (tensor, row) = part_of(&tensors, row);
                    tensor.read_row(row, values);
                })
            };
        self.parameters += (outputs * inputs) as u64;
        self.resident_bytes += matrix.resident_bytes() as u64;
        tensors.iter().for_each(|tensor| self.done(tensor));
        Ok(matrix)
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        let values = self.constants(name, length)?;
        self.parameters += length as u64;
        self.resident_bytes += size_of_val(&*values) as u64;
        Ok(values)
    }

    /// Reads numbers that nobody learned.
    fn constants(&mut self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        let tensor = self.tensor(name, &[length])?;
        self.done(&tensor);
        Ok(tensor.to_vec())
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor<'a>, LoadError> {
        let tensor = self.checkpoint.tensor(name)?;
        tensor.expect_shape(shape)?;
        Ok(tensor)
    }

    fn done(&mut self, tensor: &Tensor<'_>) {
        self.used.insert(tensor.name().to_string());
        self.done_bytes += tensor.stored_bytes() as u64;
        let Self { done_bytes, total_bytes, .. } = *self;
        (self.progress)(LoadProgress { tensor: tensor.name(), done_bytes, total_bytes });
    }

    /// A tensor of a layer that nobody asked for, such as a bias or a ninth layer of eight, would make other scores.
    fn check_nothing_is_left(&self) -> Result<(), LoadError> {
        let layers = format!("{}.", self.config.names.layers);
        let left = self.checkpoint.names().find(|name| {
            // Old files keep the rotation's frequencies, which follow from the configuration.
            name.starts_with(&layers) && !name.ends_with("rotary_emb.inv_freq") && !self.used.contains(*name)
        });
        let Some(tensor) = left else { return Ok(()) };
        Err(LoadError::Unused {
            file: self.checkpoint.tensor(tensor)?.file().to_path_buf(),
            tensor: tensor.to_string(),
            family: self.config.family,
            layers: self.config.layers(),
        })
    }

    fn report(&self, layers: &[Layer], head: &Matrix, block_bytes: usize) -> LoadReport {
        let first = &layers[0];
        let products = [
            ("query, key, value", &first.attention.qkv.matrix),
            ("attention output", &first.attention.output.matrix),
            ("gate, up", &first.mlp.gate_up.matrix),
            ("down", &first.mlp.down.matrix),
            ("output projection", head),
        ];
        LoadReport {
            parameters: self.parameters,
            resident_bytes: self.resident_bytes,
            bits_per_weight: self.resident_bytes as f64 * 8.0 / self.parameters as f64,
            precision: first.attention.qkv.matrix.precision(),
            paths: products.map(|(what, matrix)| (what, self.pool.path(matrix.precision()))).to_vec(),
            kv_bytes_per_token: block_bytes / BLOCK_TOKENS,
            context_tokens: self.config.context_tokens,
        }
    }
}

/// All tensors, but for an output projection that the embedding stands in for.
fn bytes_to_read(checkpoint: &Checkpoint, config: &ModelConfig) -> u64 {
    let unread = config.tied_embeddings.then(|| weight(config.names.head));
    let names = checkpoint.names().filter(|name| unread.as_deref() != Some(*name));
    names.filter_map(|name| checkpoint.tensor(name).ok()).map(|tensor| tensor.stored_bytes() as u64).sum()
}

fn weight(name: &str) -> String {
    format!("{name}.weight")
}

/// Returns the tensor that holds a row of several tensors laid end to end, and the row's number in it.
fn part_of<'t, 'a>(tensors: &'t [Tensor<'a>], mut row: usize) -> (&'t Tensor<'a>, usize) {
    for tensor in tensors {
        if row < tensor.rows() {
            return (tensor, row);
        }
        row -= tensor.rows();
    }
    unreachable!("a matrix has the rows of its tensors")
}

/// Rows that are in the file as they shall be in memory are not turned into floats and back.
fn bf16_row<'a>(tensor: &Tensor<'a>, row: usize) -> Option<&'a [u8]> {
    tensor.bf16_row(row).map(bytemuck::cast_slice)
}

/// The smallest precision that keeps every value as it is stored; block formats are close to bf16 in precision and have no
/// form of their own in memory yet.
fn as_stored(tensors: &[Tensor<'_>]) -> Precision {
    let precision = |encoding| match encoding {
        Encoding::F32 => Precision::F32,
        Encoding::F16 => Precision::F16,
        Encoding::Bf16 | Encoding::Q8_0 | Encoding::Q4_0 | Encoding::Q4K | Encoding::Q6K => Precision::Bf16,
    };
    let mut precisions = tensors.iter().map(|tensor| precision(tensor.encoding()));
    let first = precisions.next().unwrap_or(Precision::F32);
    // Neither f16 nor bf16 holds all values of the other.
    if precisions.all(|next| next == first) { first } else { Precision::F32 }
}
