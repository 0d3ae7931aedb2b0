//! How a checkpoint on disk becomes a model in memory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kernels::{BLOCK_TOKENS, Isa, KvCache, KvPrecision, Matrix, Numerics, Pool, PoolOptions, Precision};

use crate::batch::Shape;
use crate::config::{ConfigError, DIVISORS, ModelConfig, RopeScaling};
use crate::forward::Model;
use crate::layers::{Attention, Buffers, FeedForward, HeadNorms, Layer, Linear, Mlp, Rotary};
use crate::quantize::{Moments, Observer, Requantized, Sums, gate, round};
use crate::weights::{
    CacheUse, Checkpoint, Encoding, Identity, PACKED, PackedCache, PackedFile, PackedWriter, Tensor,
    WeightsError,
};

mod experts;

/// How a model shall be kept and run.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// How weights are kept in memory. `None` is as they are stored, which for GGUF's block formats `block_formats` says.
    pub precision: Option<Precision>,
    pub block_formats: BlockFormats,
    /// How keys and values are kept in memory.
    pub kv_precision: KvPrecision,
    /// Threads that compute a step, the calling one included.
    pub threads: usize,
    /// The best code path to take; the default is the best of this machine.
    pub isa: Isa,
    /// Whether a row's scores may depend, in their last bits, on the rows beside it.
    pub numerics: Numerics,
}

/// What a block format of GGUF becomes in memory where no precision is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlockFormats {
    /// Q8_0 and Q6_K become int8, Q4_0 and Q4_K int4; what the gate of `quantize` does not admit becomes wider.
    #[default]
    Compact,
    /// Bf16, which is close to every number that the file means, and takes two to four times the file's size.
    Bf16,
}

impl Default for LoadOptions {
    fn default() -> Self {
        let PoolOptions { threads, isa, numerics } = PoolOptions::default();
        Self {
            precision: None,
            block_formats: BlockFormats::default(),
            kv_precision: KvPrecision::default(),
            threads,
            isa,
            numerics,
        }
    }
}

impl LoadOptions {
    /// What of all this decides how weights are kept.
    fn kept(&self) -> String {
        match (self.precision, self.block_formats) {
            (Some(precision), _) => gate::name(precision).into(),
            (None, BlockFormats::Compact) => "stored".into(),
            (None, BlockFormats::Bf16) => "stored-wide".into(),
        }
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
    /// What the files of weights take on disk: for a packed copy, the files that it is a copy of.
    pub file_bytes: u64,
    /// Matrices whose block format became something else than bf16, or had to become bf16.
    pub requantized: Vec<Requantized>,
    /// What became of the packed copy.
    pub cache: CacheUse,
    /// What went wrong without being in the way, in words for who runs the program.
    pub warnings: Vec<String>,
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
    #[error(
        "{} holds weights that are packed as they are, so they cannot be kept as {wanted}; leave the precision out, or quantize the \
         original model again", file.display()
    )]
    Packed { file: PathBuf, wanted: &'static str },
}

impl Model {
    /// Reads every tensor once, in the order of use, and packs it for this machine. Shapes are checked before memory is
    /// taken, so a configuration that lies about them costs nothing.
    pub fn load(
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress<'_>),
    ) -> Result<Model, LoadError> {
        let packed = checkpoint.packed.as_ref();
        if let (Some(packed), Some(precision)) = (packed, options.precision) {
            let file = packed.path().to_path_buf();
            return Err(LoadError::Packed { file, wanted: gate::name(precision) });
        }
        Self::load_through(checkpoint, options, Through { packed, ..Through::default() }, progress)
            .map(|(model, _)| model)
    }

    /// As [`Model::load`], but what it packs is kept in the cache, and what is there already is mapped instead of packed. Whatever
    /// is wrong with a copy is a warning in the report, and the model is read from its own files.
    pub fn load_cached(
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        cache: &PackedCache,
        progress: &mut dyn FnMut(LoadProgress<'_>),
    ) -> Result<Model, LoadError> {
        let is_kept =
            checkpoint.packed.is_none() && checkpoint.file_bytes >= cache.bytes_least && cache.bytes_max > 0;
        if !is_kept {
            return Self::load(checkpoint, options, progress);
        }
        let identity = Identity::of(checkpoint, options.kept())?;
        let name = &checkpoint.name;
        let mut warnings = Vec::new();
        let found = cache.find(&identity, name).map_err(LoadError::from).and_then(|found| {
            let Some(packed) = found else { return Ok(None) };
            let through = Through { packed: Some(&packed), ..Through::default() };
            Self::load_through(checkpoint, options, through, progress).map(|(model, _)| Some(model))
        });
        match found {
            Ok(Some(mut model)) => {
                model.report.cache = CacheUse::Mapped(cache.path(&identity, name));
                return Ok(model);
            }
            Ok(None) => {}
            Err(error) => warnings.push(format!("a packed copy is not used and made again: {error}")),
        }
        let begun = cache.begin(&identity, name);
        let (writer, mut trouble) = match begun {
            Ok(writer) => (Some(writer), None),
            Err(error) => (None, Some(error)),
        };
        let through = Through { writer, ..Through::default() };
        let (mut model, written) = Self::load_through(checkpoint, options, through, progress)?;
        let path = cache.path(&identity, name);
        model.report.cache = match (trouble.take(), written) {
            (None, Some(Ok(bytes))) => {
                cache.make_room(&path);
                CacheUse::Written { path, bytes }
            }
            (trouble, written) => {
                let error = trouble.or(written.and_then(Result::err));
                let why = error.map_or_else(String::new, |error| format!(": {error}"));
                warnings
                    .push(format!("no packed copy of {name} is kept, so the next start packs it again{why}"));
                CacheUse::Failed
            }
        };
        model.report.warnings = warnings;
        Ok(model)
    }

    /// Packs a model into the folder that [`crate::quantize::write_folder`] has made, and returns it. With `search`, the ends of
    /// each row or group are sought that lose least, weighted by these moments; without moments all inputs count the same.
    pub fn quantize(
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        search: Option<&Moments>,
        folder: &Path,
        progress: &mut dyn FnMut(LoadProgress<'_>),
    ) -> Result<Model, LoadError> {
        if let Some(packed) = &checkpoint.packed {
            let wanted = options.precision.map_or("anything else", gate::name);
            return Err(LoadError::Packed { file: packed.path().to_path_buf(), wanted });
        }
        let writer = PackedWriter::create(&folder.join(PACKED), None, u64::MAX)?;
        let through = Through { writer: Some(writer), search, ..Through::default() };
        let (model, written) = Self::load_through(checkpoint, options, through, progress)?;
        written.expect("a file was begun")?;
        Ok(model)
    }

    /// Loads a model that [`crate::quantize::observe`] can run.
    pub fn load_observed(
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress<'_>),
    ) -> Result<Model, LoadError> {
        let through = Through { packed: checkpoint.packed.as_ref(), is_observed: true, ..Through::default() };
        Self::load_through(checkpoint, options, through, progress).map(|(model, _)| model)
    }

    /// Returns the model, and what became of the packed file if one was begun.
    fn load_through(
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        through: Through<'_>,
        progress: &mut dyn FnMut(LoadProgress<'_>),
    ) -> Result<(Model, Option<Result<u64, WeightsError>>), LoadError> {
        let config = ModelConfig::parse(&checkpoint.config)
            .map_err(|source| LoadError::Config { model: checkpoint.name.clone(), source })?;
        let LoadOptions { precision, block_formats, kv_precision, threads, isa, numerics } = *options;
        let pool = Pool::with(PoolOptions { threads, isa, numerics });
        let mut loader = Loader {
            checkpoint,
            pool: &pool,
            config: &config,
            precision,
            block_formats,
            total_bytes: bytes_to_read(checkpoint, &config, through.packed),
            through,
            trouble: None,
            requantized: Vec::new(),
            observed: Sums::default(),
            used: BTreeSet::new(),
            done_bytes: 0,
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
        let head_name = if config.tied_embeddings { names.embedding } else { names.head };
        let head_observer = loader.observer(&weight(head_name));
        let (observed, written) = (loader.observed.clone(), loader.finish_writing());

        let cache = KvCache::new(kv_precision, config.layers(), 0, config.kv_heads, config.head_dim);
        let block_bytes = cache.block_bytes();
        let report = loader.report(&layers, &head, block_bytes);
        let model = Model {
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
            observed,
            head_observer,
            config,
        };
        Ok((model, written))
    }
}

/// Where weights come from and go to besides the checkpoint and the model.
#[derive(Default)]
struct Through<'a> {
    /// Holds the weights as they shall be kept; then the checkpoint's tensors are not read.
    packed: Option<&'a PackedFile>,
    /// Takes everything that was packed.
    writer: Option<PackedWriter>,
    /// Rounds with care instead of to the nearest.
    search: Option<&'a Moments>,
    is_observed: bool,
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    pool: &'a Pool,
    config: &'a ModelConfig,
    precision: Option<Precision>,
    block_formats: BlockFormats,
    through: Through<'a>,
    /// Why nothing is written any more.
    trouble: Option<WeightsError>,
    requantized: Vec<Requantized>,
    observed: Sums,
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
        let norm = self.vector(&weight(&part(names.mlp_norm)), config.hidden)?;
        if let Some(experts) = config.experts.as_ref().filter(|_| config.has_experts(number)) {
            let moe = self.moe(&part, norm, experts)?;
            return Ok(Layer { attention, feed_forward: FeedForward::Experts(moe) });
        }
        let mlp = Mlp {
            norm,
            gate_up: self.linear(
                &[(part(names.gate), config.intermediate), (part(names.up), config.intermediate)],
                config.hidden,
                config.mlp_bias,
            )?,
            down: self.linear(&[(part(names.down), config.hidden)], config.intermediate, config.mlp_bias)?,
        };
        Ok(Layer { attention, feed_forward: FeedForward::Dense(mlp) })
    }

    /// Reads maps of the same inputs into one: their outputs follow one another.
    fn linear(
        &mut self,
        parts: &[(String, usize)],
        inputs: usize,
        biased: bool,
    ) -> Result<Linear, LoadError> {
        let weights: Vec<_> = parts.iter().map(|(name, outputs)| (weight(name), *outputs)).collect();
        let observer = self.observer(&joined(&weights));
        let matrix = self.matrix(&weights, inputs)?;
        let bias = match biased {
            true => {
                let biases =
                    parts.iter().map(|(name, outputs)| self.vector(&format!("{name}.bias"), *outputs));
                Some(biases.collect::<Result<Vec<_>, _>>()?.concat())
            }
            false => None,
        };
        Ok(Linear { matrix, bias, observer })
    }

    fn matrix(&mut self, parts: &[(String, usize)], inputs: usize) -> Result<Matrix, LoadError> {
        let outputs: usize = parts.iter().map(|(_, outputs)| outputs).sum();
        self.made(&joined(parts), outputs, inputs, |loader| {
            let tensors = parts.iter().map(|(name, outputs)| loader.tensor(name, &[*outputs, inputs]));
            Ok(Box::new(tensors.collect::<Result<Vec<_>, _>>()?))
        })
    }

    /// Takes the matrix of this name from the packed file where there is one; else packs its rows, and writes it there if one is begun.
    fn made<'r>(
        &mut self,
        name: &str,
        outputs: usize,
        inputs: usize,
        rows: impl FnOnce(&Self) -> Result<Box<dyn Rows<'a> + 'r>, LoadError>,
    ) -> Result<Matrix, LoadError> {
        let matrix = match self.through.packed {
            Some(packed) => {
                let matrix = packed.matrix(name, outputs, inputs)?;
                self.note_read(name, matrix.resident_bytes());
                matrix
            }
            None => {
                let rows = rows(self)?;
                let matrix = self.pack_rows(name, &*rows, outputs, inputs);
                self.write(|writer| writer.matrix(name, &matrix));
                rows.tensors().iter().for_each(|tensor| self.done(tensor));
                matrix
            }
        };
        self.parameters += (outputs * inputs) as u64;
        self.resident_bytes += matrix.resident_bytes() as u64;
        Ok(matrix)
    }

    /// Packs in the precision that was asked for, in that in which the rows are stored, or in the narrowest that the gate admits.
    fn pack_rows(&mut self, name: &str, rows: &dyn Rows<'a>, outputs: usize, inputs: usize) -> Matrix {
        if let Some(precision) = self.precision {
            return self.pack(name, rows, precision, outputs, inputs, self.through.search);
        }
        let tensors = rows.tensors();
        let candidates = match self.block_formats {
            BlockFormats::Compact => gate::candidates(tensors.iter().map(Tensor::encoding)),
            BlockFormats::Bf16 => &[],
        };
        let mut refused = None;
        for &precision in candidates {
            // The search costs a little and brings more of the narrow form through the gate.
            let matrix = self.pack(name, rows, precision, outputs, inputs, Some(&Moments::default()));
            let error = gate::relative_error(self.pool, &matrix, &|row, values| rows.read(row, values));
            if gate::admits(precision, error) {
                let (stored, kept) = (gate::stored(tensors), gate::name(precision));
                self.requantized.push(Requantized { matrix: name.into(), stored, kept, error, refused });
                return matrix;
            }
            refused = Some((gate::name(precision), error));
        }
        let precision = as_stored(tensors);
        if refused.is_some() {
            let (stored, kept) = (gate::stored(tensors), gate::name(precision));
            self.requantized.push(Requantized { matrix: name.into(), stored, kept, error: 0.0, refused });
        }
        self.pack(name, rows, precision, outputs, inputs, None)
    }

    fn pack(
        &self,
        name: &str,
        rows: &dyn Rows<'a>,
        precision: Precision,
        outputs: usize,
        inputs: usize,
        search: Option<&Moments>,
    ) -> Matrix {
        if precision == Precision::Bf16 && rows.bf16(0).is_some() {
            let row = |row| rows.bf16(row).expect("rows that show one show them all");
            return Matrix::pack_bytes(self.pool, precision, outputs, inputs, &row);
        }
        let importance = search.map(|moments| round::importance(moments.of(name), inputs));
        match (precision, importance) {
            (Precision::Int4, Some(importance)) => {
                Matrix::pack_int4(self.pool, outputs, inputs, &|row, steps, groups| {
                    let mut values = vec![0.0; inputs];
                    rows.read(row, &mut values);
                    round::int4(&values, &importance, steps, groups);
                })
            }
            (Precision::Int8, Some(importance)) => {
                Matrix::pack_with(self.pool, precision, outputs, inputs, &|row, values| {
                    rows.read(row, values);
                    round::int8(values, &importance);
                })
            }
            _ => Matrix::pack_with(self.pool, precision, outputs, inputs, &|row, values| {
                rows.read(row, values);
            }),
        }
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        let values = self.constants(name, length)?;
        self.parameters += length as u64;
        self.resident_bytes += size_of_val(&*values) as u64;
        Ok(values)
    }

    /// Reads numbers that nobody learned.
    fn constants(&mut self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        if let Some(packed) = self.through.packed {
            let values = packed.vector(name, length)?;
            self.note_read(name, size_of_val(&*values));
            return Ok(values);
        }
        let tensor = self.tensor(name, &[length])?;
        let values = tensor.to_vec();
        self.write(|writer| writer.vector(name, &values));
        self.done(&tensor);
        Ok(values)
    }

    /// A file that cannot be written any more is given up; the model is loaded all the same.
    fn write(&mut self, put: impl FnOnce(&mut PackedWriter) -> Result<(), WeightsError>) {
        if let Some(writer) = &mut self.through.writer
            && let Err(error) = put(writer)
        {
            self.trouble = Some(error);
            self.through.writer = None;
        }
    }

    /// Returns the size of the file that was written, or why there is none; `None` where none was wanted.
    fn finish_writing(&mut self) -> Option<Result<u64, WeightsError>> {
        if let Some(error) = self.trouble.take() {
            return Some(Err(error));
        }
        let parameters = self.parameters;
        self.through.writer.take().map(|writer| writer.finish(parameters))
    }

    fn observer(&self, name: &str) -> Option<Observer> {
        self.through.is_observed.then(|| Observer::new(name, &self.observed))
    }

    fn note_read(&mut self, name: &str, bytes: usize) {
        self.used.insert(name.to_string());
        self.done_bytes += bytes as u64;
        let Self { done_bytes, total_bytes, .. } = *self;
        (self.progress)(LoadProgress { tensor: name, done_bytes, total_bytes });
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor<'a>, LoadError> {
        let tensor = self.checkpoint.tensor(name)?;
        tensor.expect_shape(shape)?;
        Ok(tensor)
    }

    fn done(&mut self, tensor: &Tensor<'_>) {
        self.note_read(tensor.name(), tensor.stored_bytes());
    }

    /// A tensor of a layer that nobody asked for, such as a bias or a ninth layer of eight, would make other scores.
    fn check_nothing_is_left(&self) -> Result<(), LoadError> {
        if let Some(packed) = self.through.packed {
            let Some(tensor) = packed.names().find(|name| !self.used.contains(*name)) else { return Ok(()) };
            return Err(self.unused(packed.path(), tensor));
        }
        let layers = format!("{}.", self.config.names.layers);
        let left = self.checkpoint.names().find(|name| {
            // Old files keep the rotation's frequencies, which follow from the configuration.
            name.starts_with(&layers) && !name.ends_with("rotary_emb.inv_freq") && !self.used.contains(*name)
        });
        let Some(tensor) = left else { return Ok(()) };
        Err(self.unused(self.checkpoint.tensor(tensor)?.file(), tensor))
    }

    fn unused(&self, file: &Path, tensor: &str) -> LoadError {
        let (file, tensor) = (file.to_path_buf(), tensor.to_string());
        LoadError::Unused { file, tensor, family: self.config.family, layers: self.config.layers() }
    }

    fn report(&self, layers: &[Layer], head: &Matrix, block_bytes: usize) -> LoadReport {
        let first = &layers[0];
        let path = |matrix: &Matrix| self.pool.path(matrix.precision());
        let mut paths = vec![
            ("query, key, value", path(&first.attention.qkv.matrix)),
            ("attention output", path(&first.attention.output.matrix)),
        ];
        let dense = layers.iter().find_map(|layer| match &layer.feed_forward {
            FeedForward::Dense(mlp) => Some(mlp),
            FeedForward::Experts(_) => None,
        });
        let experts = layers.iter().find_map(|layer| match &layer.feed_forward {
            FeedForward::Experts(moe) => Some(&moe.experts),
            FeedForward::Dense(_) => None,
        });
        if let Some(mlp) = dense {
            paths.extend([("gate, up", path(&mlp.gate_up.matrix)), ("down", path(&mlp.down.matrix))]);
        }
        paths.extend(experts.map(|experts| ("experts", experts.path(self.pool))));
        paths.push(("output projection", path(head)));
        LoadReport {
            parameters: self.parameters,
            resident_bytes: self.resident_bytes,
            bits_per_weight: self.resident_bytes as f64 * 8.0 / self.parameters as f64,
            precision: first.attention.qkv.matrix.precision(),
            paths,
            kv_bytes_per_token: block_bytes / BLOCK_TOKENS,
            context_tokens: self.config.context_tokens,
            file_bytes: self.checkpoint.file_bytes,
            requantized: self.requantized.clone(),
            cache: CacheUse::None,
            warnings: Vec::new(),
        }
    }
}

/// All tensors, but for an output projection that the embedding stands in for.
fn bytes_to_read(checkpoint: &Checkpoint, config: &ModelConfig, packed: Option<&PackedFile>) -> u64 {
    if let Some(packed) = packed {
        return packed.weight_bytes();
    }
    let unread = config.tied_embeddings.then(|| weight(config.names.head));
    let names = checkpoint.names().filter(|name| unread.as_deref() != Some(*name));
    names.filter_map(|name| checkpoint.tensor(name).ok()).map(|tensor| tensor.stored_bytes() as u64).sum()
}

fn weight(name: &str) -> String {
    format!("{name}.weight")
}

/// What a packed file calls the matrix that several tensors make.
fn joined(parts: &[(String, usize)]) -> String {
    parts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" + ")
}

/// The rows of a matrix, wherever its tensors have them.
trait Rows<'a>: Sync {
    /// All that they come from.
    fn tensors(&self) -> &[Tensor<'a>];
    fn read(&self, row: usize, values: &mut [f32]);
    /// A row as it is in the file, where all are bf16 there: it need not become floats and then bf16 again.
    fn bf16(&self, _row: usize) -> Option<&'a [u8]> {
        None
    }
}

/// Tensors laid end to end.
impl<'a> Rows<'a> for Vec<Tensor<'a>> {
    fn tensors(&self) -> &[Tensor<'a>] {
        self
    }
    fn read(&self, row: usize, values: &mut [f32]) {
        let (tensor, row) = part_of(self, row);
        tensor.read_row(row, values);
    }
    fn bf16(&self, row: usize) -> Option<&'a [u8]> {
        let is_each = self.iter().all(|tensor| tensor.bf16_row(0).is_some());
        let (tensor, row) = part_of(self, row);
        is_each.then(|| tensor.bf16_row(row))?.map(bytemuck::cast_slice)
    }
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

/// The smallest precision that keeps every value as it is stored; block formats are close to bf16 in precision.
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
