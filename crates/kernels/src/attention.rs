//! Where do keys and values live, and how do queries read them?

use crate::cpu::append::Append;
use crate::cpu::attention::{Reader, Tile};
use crate::cpu::lanes::{LANES, dispatch};
use crate::memory::{Arena, Shared};
use crate::{Pool, cpu};

/// Tokens in one block of the cache.
pub const BLOCK_TOKENS: usize = 32;

/// The keys and values of all layers, in blocks of `BLOCK_TOKENS` tokens: a pre-sized arena, bf16.
///
/// For each layer, block and kv head, the keys and then the values of 32 tokens lie together, both packed as `Matrix` packs
/// bf16 weights (`d` is the head dimension rounded up to 16):
///
/// ```text
/// keys      [32/16 tokens][d/2][16][2]       a matrix with a token for each output
/// values    [d/16][32/2 tokens][16][2]       a matrix with a token for each input
/// ```
///
/// So `q · keys` and `weights · values` are the same product as the one with weights, on registers and on tiles; each panel
/// is one contiguous run. Memory is taken as blocks are first written.
pub struct KvCache {
    layers: usize,
    blocks: usize,
    kv_heads: usize,
    head_dim: usize,
    halves: Arena,
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
    pub fn new(layers: usize, blocks: usize, kv_heads: usize, head_dim: usize) -> Self {
        assert!(kv_heads > 0 && head_dim > 0, "a cache has heads, and heads have dimensions");
        let halves = Arena::zeroed(blocks * Self::block_bytes(layers, kv_heads, head_dim));
        Self { layers, blocks, kv_heads, head_dim, halves }
    }

    /// Bytes that one block takes over all layers.
    pub fn block_bytes(layers: usize, kv_heads: usize, head_dim: usize) -> usize {
        layers * kv_heads * head_halves(head_dim) * size_of::<u16>()
    }

    pub fn blocks(&self) -> usize {
        self.blocks
    }
    pub fn layers(&self) -> usize {
        self.layers
    }
    pub fn resident_bytes(&self) -> usize {
        self.halves.bytes()
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
        let (head_dim, kv_heads, start) = (self.head_dim, self.kv_heads, self.head_start(layer, 0, 0));
        let words = Shared::new(self.halves.start_mut().cast::<u32>());
        pool.run_ranges(kv_heads, heads_least, &|heads| {
            for stretch in stretches(spans) {
                for head in heads.clone() {
                    let at = start + (stretch.block * kv_heads + head) * head_halves(head_dim);
                    // SAFETY: `check_spans` saw that layer and block exist, so this head's words lie inside the arena;
                    // each head is in one range only, so nobody else touches them.
                    let words = unsafe {
                        std::slice::from_raw_parts_mut(words.get().add(at / 2), head_halves(head_dim) / 2)
                    };
                    for (i, row) in stretch.rows.clone().enumerate() {
                        let from = row * stride + head * head_dim;
                        let append = Append {
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
    /// A row's result has the same bits in a chunk of a prompt, alone, and in any batch.
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
        let (on_tiles, spans): (Vec<_>, Vec<_>) =
            spans.iter().partition(|span| cpu::amx::attention::suits(pool, span));
        #[cfg(target_arch = "x86_64")]
        if !on_tiles.is_empty() {
            let reader = cpu::amx::attention::Reader {
                layer: self.halves.as_slice()[2 * self.head_start(layer, 0, 0)..].as_ptr(),
                head_bytes: 2 * head_halves(self.head_dim),
                kv_heads: self.kv_heads,
                head_dim: self.head_dim,
                heads,
                queries,
                query_stride,
                scale,
                window,
                out: Shared::new(out.as_mut_ptr()),
            };
            // SAFETY: the pool holds only paths that this machine has. The checks above saw that blocks, queries and outputs
            // exist, and that spans share no rows.
            unsafe { reader.attend(pool, &on_tiles) };
        }
        let reader = Reader {
            halves: self.halves.start().cast(),
            layer_start: self.head_start(layer, 0, 0),
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            heads,
            queries,
            query_stride,
            scale,
            window,
            out: Shared::new(out.as_mut_ptr()),
        };
        let tiles = self.tiles(heads / self.kv_heads, &spans);
        let task = |i: usize| {
            // SAFETY: the pool holds only paths that this machine has. The checks above saw that each tile's blocks,
            // queries and outputs exist; spans share no rows, and tiles of a span share none with equal heads.
            unsafe { dispatch(pool.isa(), reader.read(&tiles[i])) };
        };
        pool.run(tiles.len(), &task);
    }

    /// Cuts the spans into tiles of rows and query heads that share one reading of one kv head. Tiles that read the same
    /// follow each other, so that they find it in a cache; later rows read more, so they come first, and no thread is
    /// left with a long tile at the end.
    fn tiles<'a>(&self, group: usize, spans: &[AttentionSpan<'a>]) -> Vec<Tile<'a>> {
        let heads_at_once = group.min(Tile::QUERIES_MAX);
        let rows_at_once = Tile::QUERIES_MAX / heads_at_once;
        let heads = (0..group).step_by(heads_at_once);
        let mut tiles = Vec::new();
        for span in spans {
            for (kv_head, head) in (0..self.kv_heads).flat_map(|kv| heads.clone().map(move |head| (kv, head)))
            {
                for start in (0..span.rows).step_by(rows_at_once).rev() {
                    tiles.push(Tile {
                        blocks: span.blocks,
                        first_row: span.first_row + start,
                        first_position: span.first_position + start,
                        rows: rows_at_once.min(span.rows - start),
                        kv_head,
                        first_head: kv_head * group + head,
                        heads: heads_at_once.min(group - head),
                    });
                }
            }
        }
        tiles
    }

    /// Where the keys of a head begin, in halves.
    fn head_start(&self, layer: usize, block: usize, head: usize) -> usize {
        ((layer * self.blocks + block) * self.kv_heads + head) * head_halves(self.head_dim)
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

/// Halves (bf16 values) that the keys and values of one head take in one block.
pub(crate) fn head_halves(head_dim: usize) -> usize {
    2 * BLOCK_TOKENS * head_dim.next_multiple_of(LANES)
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
