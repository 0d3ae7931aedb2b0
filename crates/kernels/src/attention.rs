//! Where do keys and values live, and how do queries read them?

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::AtomicUsize;

use crate::cpu::append::Append;
use crate::cpu::attention::{Exact, Form, Pairs, Part, Reader, Reading, SEGMENT_TOKENS, Shorts, Tile};
use crate::cpu::lanes::{LANES, dispatch, dispatch_dots, has_dots};
use crate::memory::{Arena, Shared};
use crate::{Numerics, Pool};

/// Tokens in one block of the cache.
pub const BLOCK_TOKENS: usize = 32;

/// How keys and values are kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvPrecision {
    #[default]
    Bf16,
    /// One scale for each token's key and one for its value, of each head. Half the bytes; a number is off by up to half a
    /// step of 1/126 of the largest in its vector.
    Int8,
}

/// The keys and values of all layers, in blocks of `BLOCK_TOKENS` tokens: a pre-sized arena.
///
/// For each layer, block and kv head, the keys and then the values of 32 tokens lie together, both packed as `Matrix` packs
/// weights (`d` is the head dimension rounded up to 16):
///
/// ```text
/// bf16    keys      [32/16 tokens][d/2][16][2]       a matrix with a token for each output
///         values    [d/16][32/2 tokens][16][2]       a matrix with a token for each input
/// int8    keys      [32/16 tokens][d/4][16][4]
///         values    [d/16][32/4 tokens][16][4]
///         scales    [32] of keys, [32] of values     bf16
/// ```
///
/// So `q · keys` and `weights · values` are the same product as the one with weights, on registers and on tiles; each panel
/// is one contiguous run. Memory is taken as blocks are first written.
pub struct KvCache {
    layers: usize,
    blocks: usize,
    kv_heads: usize,
    head_dim: usize,
    layout: HeadLayout,
    bytes: Arena,
}

/// Where one head's numbers of one block lie, in bytes behind its keys.
#[derive(Clone, Copy)]
pub(crate) struct HeadLayout {
    pub precision: KvPrecision,
    /// The head dimension rounded up to whole lanes.
    pub width: usize,
    pub values: usize,
    pub key_scales: usize,
    pub value_scales: usize,
    pub bytes: usize,
}

impl HeadLayout {
    fn new(precision: KvPrecision, head_dim: usize) -> Self {
        let width = head_dim.next_multiple_of(LANES);
        let (number_bytes, scale_bytes) = match precision {
            KvPrecision::Bf16 => (size_of::<u16>(), 0),
            KvPrecision::Int8 => (size_of::<i8>(), BLOCK_TOKENS * size_of::<u16>()),
        };
        let values = BLOCK_TOKENS * width * number_bytes;
        let key_scales = 2 * values;
        let value_scales = key_scales + scale_bytes;
        Self { precision, width, values, key_scales, value_scales, bytes: value_scales + scale_bytes }
    }
}

/// Rows of one batch that belong to one sequence: consecutive positions that start at `first_position`.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSpan<'a> {
    pub first_row: usize,
    pub rows: usize,
    pub first_position: usize,
    /// Block numbers of positions 0, 32, 64, …, up to the last row's position.
    pub blocks: &'a [u32],
}

impl AttentionSpan<'_> {
    fn end_row(&self) -> usize {
        self.first_row + self.rows
    }
    fn end_position(&self) -> usize {
        self.first_position + self.rows
    }
}

impl KvCache {
    pub fn new(
        precision: KvPrecision,
        layers: usize,
        blocks: usize,
        kv_heads: usize,
        head_dim: usize,
    ) -> Self {
        assert!(kv_heads > 0 && head_dim > 0, "a cache has heads, and heads have dimensions");
        let layout = HeadLayout::new(precision, head_dim);
        let bytes = Arena::zeroed(blocks * layers * kv_heads * layout.bytes);
        Self { layers, blocks, kv_heads, head_dim, layout, bytes }
    }

    /// Bytes that one block takes over all layers.
    pub fn block_bytes(&self) -> usize {
        self.layers * self.kv_heads * self.layout.bytes
    }
    pub fn precision(&self) -> KvPrecision {
        self.layout.precision
    }
    pub fn blocks(&self) -> usize {
        self.blocks
    }
    pub fn layers(&self) -> usize {
        self.layers
    }
    pub fn resident_bytes(&self) -> usize {
        self.bytes.bytes()
    }

    /// Copies a block's keys and values of all layers, `block_bytes` long, as they lie in memory: for whoever keeps blocks
    /// elsewhere and brings them back with `import_block`, to any block of a cache of the same kind.
    pub fn export_block(&self, block: usize, to: &mut [u8]) {
        let layer_bytes = self.check_block(block, to.len());
        for (layer, to) in to.chunks_exact_mut(layer_bytes.max(1)).enumerate() {
            to.copy_from_slice(&self.bytes.as_slice()[self.block_start(layer, block)..][..layer_bytes]);
        }
    }

    /// Puts back what `export_block` gave.
    pub fn import_block(&mut self, block: usize, from: &[u8]) {
        let layer_bytes = self.check_block(block, from.len());
        for (layer, from) in from.chunks_exact(layer_bytes.max(1)).enumerate() {
            let start = self.block_start(layer, block);
            self.bytes.as_mut_slice()[start..][..layer_bytes].copy_from_slice(from);
        }
    }

    /// Writes the keys and values of a batch's rows to their places. `keys` and `values` start at the first row's first
    /// kv head; rows lie `stride` apart (so that both can be slices of one fused QKV product).
    pub fn append(
        &mut self,
        pool: &Pool,
        layer: usize,
        keys: &[f32],
        values: &[f32],
        stride: usize,
        spans: &[AttentionSpan<'_>],
    ) {
        let width = self.kv_heads * self.head_dim;
        self.check_spans(layer, spans);
        for span in spans.iter().filter(|span| span.rows > 0) {
            let end = (span.end_row() - 1) * stride + width;
            assert!(
                end <= keys.len() && end <= values.len(),
                "keys and values reach to the last row of each span"
            );
        }
        let rows: usize = spans.iter().map(|span| span.rows).sum();
        /// Fewer values than this are written sooner than a thread wakes up.
        const VALUES_LEAST: usize = 8 << 10;
        let heads_least = (VALUES_LEAST / (rows * self.head_dim).max(1)).max(1);
        let (head_dim, kv_heads, layout) = (self.head_dim, self.kv_heads, self.layout);
        let start = self.block_start(layer, 0);
        let bytes = Shared::new(self.bytes.start_mut());
        pool.run_ranges(kv_heads, heads_least, &|heads| {
            for stretch in stretches(spans) {
                for head in heads.clone() {
                    let at = start + (stretch.block * kv_heads + head) * layout.bytes;
                    // SAFETY: `check_spans` saw that layer and block exist, so this head's words lie inside the arena;
                    // each head is in one range only, so nobody else touches them. A head is whole cache lines.
                    let words = unsafe {
                        std::slice::from_raw_parts_mut(bytes.get().add(at).cast::<u32>(), layout.bytes / 4)
                    };
                    for (i, row) in stretch.rows.clone().enumerate() {
                        let from = row * stride + head * head_dim;
                        let append = Append {
                            precision: layout.precision,
                            words,
                            token: stretch.token + i,
                            key: &keys[from..from + head_dim],
                            value: &values[from..from + head_dim],
                        };
                        // SAFETY: the pool holds only paths that this machine has.
                        unsafe { dispatch(pool.isa(), append) };
                    }
                }
            }
        });
    }

    /// Causal attention of each row over its own sequence: row at position `p` reads positions `0..=p`, or the last
    /// `window` of them. `queries` rows lie `query_stride` apart, `heads * head_dim` values each; `out` is dense
    /// `[rows][heads * head_dim]`. Query head `h` reads kv head `h / (heads / kv_heads)`.
    ///
    /// A row's result has the same bits in a chunk of a prompt, alone, and in any batch; but for chunks that tiles take, which they
    /// do unless rows must not depend on each other.
    #[allow(clippy::too_many_arguments)]
    pub fn attend(
        &self,
        pool: &Pool,
        layer: usize,
        queries: &[f32],
        query_stride: usize,
        heads: usize,
        scale: f32,
        window: Option<usize>,
        spans: &[AttentionSpan<'_>],
        out: &mut [f32],
    ) {
        let width = heads * self.head_dim;
        assert!(
            heads.is_multiple_of(self.kv_heads),
            "{heads} query heads share {} kv heads evenly",
            self.kv_heads
        );
        assert!(window != Some(0), "a window holds at least the row's own position");
        self.check_spans(layer, spans);
        for span in spans.iter().filter(|span| span.rows > 0) {
            assert!(
                (span.end_row() - 1) * query_stride + width <= queries.len(),
                "queries reach to the last row"
            );
            assert!(span.end_row() * width <= out.len(), "out reaches to the last row of each span");
        }
        check_disjoint(spans);
        #[cfg(target_arch = "x86_64")]
        let (on_tiles, spans): (Vec<_>, Vec<_>) = spans
            .iter()
            .partition(|span| crate::cpu::amx::attention::suits(pool, self.layout.precision, span));
        let group = heads / self.kv_heads;
        let plan = Plan::new(pool.threads(), self.kv_heads, group, window, self.layout.width, &spans);
        let mut partial = vec![0.0; plan.partial_values];
        let reader = Reader {
            layer: self.bytes.as_slice()[self.block_start(layer, 0)..].as_ptr(),
            layout: self.layout,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            heads,
            queries,
            query_stride,
            scale,
            window,
            out: Shared::new(out.as_mut_ptr()),
            partial: Shared::new(partial.as_mut_ptr()),
            waiting: &plan.waiting,
        };
        #[cfg(target_arch = "x86_64")]
        if !on_tiles.is_empty() {
            // SAFETY: the pool holds only paths that this machine has. The checks above saw that blocks, queries and outputs
            // exist, and that spans share no rows.
            unsafe { reader.attend_on_tiles(pool, &on_tiles) };
        }
        // Batch invariance asks for sums that no other path would round differently.
        match self.layout.precision {
            KvPrecision::Int8 => plan.run::<Shorts>(pool, &reader),
            KvPrecision::Bf16 if has_dots(pool.isa()) && pool.numerics() == Numerics::Fast => {
                plan.run::<Pairs>(pool, &reader);
            }
            KvPrecision::Bf16 => plan.run::<Exact>(pool, &reader),
        }
    }

    /// Returns the bytes that one layer of a block takes.
    fn check_block(&self, block: usize, bytes: usize) -> usize {
        assert!(block < self.blocks, "block {block} of a cache with {}", self.blocks);
        let block_bytes = self.block_bytes();
        assert_eq!(bytes, block_bytes, "a block is exported to and imported from {block_bytes} bytes");
        self.kv_heads * self.layout.bytes
    }

    /// Where a block's keys and values of one layer begin, in bytes.
    fn block_start(&self, layer: usize, block: usize) -> usize {
        (layer * self.blocks + block) * self.kv_heads * self.layout.bytes
    }

    fn check_spans(&self, layer: usize, spans: &[AttentionSpan<'_>]) {
        assert!(layer < self.layers, "layer {layer} of a cache with {}", self.layers);
        for span in spans.iter().filter(|span| span.rows > 0) {
            let needed = span.end_position().div_ceil(BLOCK_TOKENS);
            assert!(
                span.blocks.len() >= needed,
                "a span up to position {} has {needed} blocks",
                span.end_position()
            );
            let known = |block: &u32| (*block as usize) < self.blocks;
            assert!(span.blocks[..needed].iter().all(known), "each block number is below {}", self.blocks);
        }
    }
}

/// Who reads what: tiles, and tasks of some tiles each.
struct Plan<'a> {
    tiles: Vec<Tile<'a>>,
    tasks: Vec<Range<usize>>,
    /// For each tile that was cut into parts, how many.
    waiting: Vec<AtomicUsize>,
    partial_values: usize,
}

/// Tasks a thread should get, so that one that other programs hold up does not hold up the rest.
const TASKS_PER_THREAD: usize = 8;

impl<'a> Plan<'a> {
    /// Cuts the spans into tiles of rows and query heads that share one reading of one kv head. Tiles that read the same
    /// follow each other, so that they find it in a cache. Later rows read more, so they come first, and a tile that would be
    /// more than its share of the work is cut into parts of its sequence: no thread is left with a long one at the end.
    fn new(
        threads: usize,
        kv_heads: usize,
        group: usize,
        window: Option<usize>,
        width: usize,
        spans: &[AttentionSpan<'a>],
    ) -> Self {
        /// Less than this is not worth a thread's attention: about two microseconds.
        const WORK_LEAST: usize = 12;
        let whole = tiles(kv_heads, group, window, spans);
        let all: usize = whole.iter().map(|tile| work(tile, window)).sum();
        let share = match threads {
            1 => usize::MAX,
            _ => (all / (threads * TASKS_PER_THREAD)).max(WORK_LEAST),
        };
        let mut plan = Self {
            tiles: Vec::with_capacity(whole.len()),
            tasks: Vec::new(),
            waiting: Vec::new(),
            partial_values: 0,
        };
        let (mut first, mut gathered) = (0, 0);
        for tile in whole {
            for tile in plan.parts(tile, share, window, width) {
                gathered += work(&tile, window);
                plan.tiles.push(tile);
                if gathered >= share {
                    plan.tasks.push(first..plan.tiles.len());
                    (first, gathered) = (plan.tiles.len(), 0);
                }
            }
        }
        if first < plan.tiles.len() {
            plan.tasks.push(first..plan.tiles.len());
        }
        plan
    }

    /// Cuts a tile that is more than twice a share of the work into parts, if it has segments enough.
    fn parts(
        &mut self,
        tile: Tile<'a>,
        share: usize,
        window: Option<usize>,
        width: usize,
    ) -> impl Iterator<Item = Tile<'a>> + use<'a> {
        let segments = tile.segments.clone();
        let parts = (work(&tile, window) / share).clamp(1, segments.len());
        let part = (parts > 1).then(|| {
            let part =
                Part { tile: self.waiting.len(), first: self.partial_values, segments: segments.clone() };
            self.waiting.push(AtomicUsize::new(parts));
            self.partial_values += segments.len() * tile.partial_values(width);
            part
        });
        (0..parts).map(move |i| {
            let border = |i: usize| segments.start + segments.len() * i / parts;
            Tile { segments: border(i)..border(i + 1), part: part.clone(), ..tile }
        })
    }

    fn run<F: Form + Sync>(&self, pool: &Pool, reader: &Reader<'_>) {
        pool.run(self.tasks.len(), &|i| {
            let reading =
                Reading::<F> { reader, tiles: &self.tiles[self.tasks[i].clone()], form: PhantomData };
            // SAFETY: the pool holds only paths that this machine has. `attend` saw that each tile's blocks, queries and
            // outputs exist; spans share no rows, and tiles of a span share none with equal heads, but for parts of one tile,
            // of which the last to be ready alone writes.
            unsafe { dispatch_dots(pool.isa(), reading) };
        });
    }
}

fn tiles<'a>(
    kv_heads: usize,
    group: usize,
    window: Option<usize>,
    spans: &[AttentionSpan<'a>],
) -> Vec<Tile<'a>> {
    let heads_at_once = group.min(Tile::QUERIES_MAX);
    let rows_at_once = Tile::QUERIES_MAX / heads_at_once;
    let heads = (0..group).step_by(heads_at_once);
    let tiles_of = |span: &AttentionSpan<'_>| span.rows.div_ceil(rows_at_once) * kv_heads * heads.len();
    let mut tiles = Vec::with_capacity(spans.iter().map(tiles_of).sum());
    let mut longest_first: Vec<&AttentionSpan<'a>> = spans.iter().collect();
    longest_first.sort_by_key(|span| std::cmp::Reverse(span.end_position()));
    for span in longest_first {
        for (kv_head, head) in (0..kv_heads).flat_map(|kv| heads.clone().map(move |head| (kv, head))) {
            for start in (0..span.rows).step_by(rows_at_once).rev() {
                let mut tile = Tile {
                    blocks: span.blocks,
                    first_row: span.first_row + start,
                    first_position: span.first_position + start,
                    rows: rows_at_once.min(span.rows - start),
                    kv_head,
                    first_head: kv_head * group + head,
                    heads: heads_at_once.min(group - head),
                    segments: 0..0,
                    part: None,
                };
                let positions = tile.positions(window);
                tile.segments = positions.start / SEGMENT_TOKENS..positions.end.div_ceil(SEGMENT_TOKENS);
                tiles.push(tile);
            }
        }
    }
    tiles
}

/// The work of a tile, in units of what eight queries take with a block in a near cache: a fraction of a microsecond. To bring
/// the block near takes about twice that.
fn work(tile: &Tile<'_>, window: Option<usize>) -> usize {
    let positions = tile.positions(window);
    let (first, last) = (tile.segments.start * SEGMENT_TOKENS, tile.segments.end * SEGMENT_TOKENS);
    let tokens = positions.end.min(last) - positions.start.max(first);
    tokens.div_ceil(BLOCK_TOKENS) * (2 + tile.queries().div_ceil(8))
}

/// Rows that follow each other in one block, the first at `token`.
struct Stretch {
    rows: std::ops::Range<usize>,
    block: usize,
    token: usize,
}

fn stretches<'a>(spans: &'a [AttentionSpan<'_>]) -> impl Iterator<Item = Stretch> + 'a {
    spans.iter().filter(|span| span.rows > 0).flat_map(|span| {
        let (first, end) = (span.first_position, span.end_position());
        (first / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS)).map(move |number| {
            let positions = first.max(number * BLOCK_TOKENS)..end.min((number + 1) * BLOCK_TOKENS);
            let row = |position| span.first_row + position - first;
            Stretch {
                rows: row(positions.start)..row(positions.end),
                block: span.blocks[number] as usize,
                token: positions.start % BLOCK_TOKENS,
            }
        })
    })
}

/// Rows of `out` are written by one span each.
fn check_disjoint(spans: &[AttentionSpan<'_>]) {
    let ascending = spans.windows(2).all(|pair| pair[0].end_row() <= pair[1].first_row);
    if ascending {
        return;
    }
    let mut taken = vec![false; spans.iter().map(AttentionSpan::end_row).max().unwrap_or(0)];
    for row in spans.iter().flat_map(|span| span.first_row..span.end_row()) {
        assert!(!std::mem::replace(&mut taken[row], true), "row {row} belongs to one span");
    }
}
