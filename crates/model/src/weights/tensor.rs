//! What is one tensor of a checkpoint, and what are the numbers in its rows?

use std::fmt;
use std::ops::Range;
use std::path::Path;

use super::{WeightsError, dequantize};

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    F32,
    F16,
    Bf16,
    /// GGUF: blocks of 32, one scale, 8-bit values.
    Q8_0,
    /// GGUF: blocks of 32, one scale, 4-bit values.
    Q4_0,
    /// GGUF: blocks of 256, eight 6-bit scales and minima, 4-bit values.
    Q4K,
    /// GGUF: blocks of 256, sixteen 8-bit scales, 6-bit values.
    Q6K,
}

impl Encoding {
    pub(crate) const NAMES: &str = "F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q6_K";

    pub fn name(self) -> &'static str {
        match self {
            Encoding::F32 => "F32",
            Encoding::F16 => "F16",
            Encoding::Bf16 => "BF16",
            Encoding::Q8_0 => "Q8_0",
            Encoding::Q4_0 => "Q4_0",
            Encoding::Q4K => "Q4_K",
            Encoding::Q6K => "Q6_K",
        }
    }

    /// Numbers that are stored together. A row holds a whole number of blocks.
    pub fn block_values(self) -> usize {
        match self {
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 => 1,
            Encoding::Q8_0 | Encoding::Q4_0 => 32,
            Encoding::Q4K | Encoding::Q6K => 256,
        }
    }

    /// Bytes that one block takes.
    pub fn block_bytes(self) -> usize {
        match self {
            Encoding::F32 => 4,
            Encoding::F16 | Encoding::Bf16 => 2,
            Encoding::Q8_0 => 2 + 32,
            Encoding::Q4_0 => 2 + 16,
            Encoding::Q4K => 2 + 2 + 12 + 128,
            Encoding::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// Bits that one number takes, scales included.
    pub fn bits_per_value(self) -> f64 {
        (self.block_bytes() * 8) as f64 / self.block_values() as f64
    }

    fn row_bytes(self, columns: usize) -> usize {
        columns / self.block_values() * self.block_bytes()
    }

    /// Bytes of a tensor of this shape, or `None` where a row is no whole number of blocks or the product overflows.
    pub(crate) fn tensor_bytes(self, shape: &[usize]) -> Option<usize> {
        let columns = shape.last().copied().unwrap_or(1);
        if !columns.is_multiple_of(self.block_values()) {
            return None;
        }
        let rows = shape.iter().rev().skip(1).try_fold(1usize, |product, size| product.checked_mul(*size))?;
        (columns / self.block_values()).checked_mul(self.block_bytes())?.checked_mul(rows)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Where the rows of a query or key projection lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowOrder {
    AsStored,
    /// GGUF files of the llama architecture keep the two rows that RoPE rotates together side by side; Hugging Face
    /// keeps them half a head apart:
    ///
    /// ```text
    /// wanted   a0 a1 a2 a3 b0 b1 b2 b3      (a_i and b_i rotate together)
    /// stored   a0 b0 a1 b1 a2 b2 a3 b3
    /// ```
    PairsWithin {
        head_rows: usize,
    },
}

impl RowOrder {
    fn stored(self, row: usize) -> usize {
        match self {
            RowOrder::AsStored => row,
            RowOrder::PairsWithin { head_rows } => {
                let (head, within) = (row / head_rows, row % head_rows);
                let half = head_rows / 2;
                head * head_rows + 2 * (within % half) + within / half
            }
        }
    }
}

/// How a tensor is stored, checked or still unknown. A file may hold tensors in encodings that we do not read as
/// long as nobody asks for them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stored {
    As(Encoding),
    Unknown(String),
}

/// A tensor's place in one of a checkpoint's files; `bytes` was checked to lie in the file and to fit the shape.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) file: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) stored: Stored,
    pub(crate) bytes: Range<usize>,
    pub(crate) order: RowOrder,
}

/// Two tensors in the same bytes mean that at least one of them is wrong. Gaps are harmless.
pub(crate) fn refuse_overlaps(
    path: &Path,
    entries: &[(String, Entry)],
    data_start: usize,
) -> Result<(), WeightsError> {
    let mut places: Vec<(&Range<usize>, &str)> =
        entries.iter().map(|(name, entry)| (&entry.bytes, name.as_str())).collect();
    places.sort_by_key(|(bytes, _)| (bytes.start, bytes.end));
    for pair in places.windows(2) {
        let ((first, first_name), (second, second_name)) = (pair[0], pair[1]);
        if first.end > second.start {
            return Err(WeightsError::damaged(
                path,
                format!("place of tensor {second_name:?}"),
                format!("a start at or after {}, where {first_name:?} ends", first.end - data_start),
                second.start - data_start,
            ));
        }
    }
    Ok(())
}

/// One tensor, still in its file. A tensor of one dimension is a single row.
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    file: &'a Path,
    name: &'a str,
    shape: &'a [usize],
    encoding: Encoding,
    order: RowOrder,
    bytes: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// `bytes` are those of the whole file.
    pub(crate) fn new(
        file: &'a Path,
        name: &'a str,
        entry: &'a Entry,
        bytes: &'a [u8],
    ) -> Result<Tensor<'a>, WeightsError> {
        match &entry.stored {
            Stored::Unknown(found) => Err(WeightsError::Encoding {
                file: file.to_path_buf(),
                tensor: name.to_string(),
                found: found.clone(),
            }),
            Stored::As(encoding) => {
                let bytes = &bytes[entry.bytes.clone()];
                assert_eq!(
                    encoding.tensor_bytes(&entry.shape),
                    Some(bytes.len()),
                    "an entry's bytes fit its shape"
                );
                Ok(Tensor { file, name, shape: &entry.shape, encoding: *encoding, order: entry.order, bytes })
            }
        }
    }

    /// Returns the file that holds the tensor.
    pub fn file(&self) -> &'a Path {
        self.file
    }

    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Returns the sizes, slowest first, as Hugging Face writes them.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Returns the product of all sizes but the last.
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// Returns the last size.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Returns the bytes that the tensor takes in its file.
    pub fn stored_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Checks the shape; the error names file, tensor, expected and found.
    pub fn expect_shape(&self, expected: &[usize]) -> Result<(), WeightsError> {
        if self.shape == expected {
            return Ok(());
        }
        Err(WeightsError::Shape {
            file: self.file.to_path_buf(),
            tensor: self.name.to_string(),
            expected: expected.to_vec(),
            found: self.shape.to_vec(),
        })
    }

    /// Fills `out` with one row as f32.
    ///
    /// Panics where `row` is not below `rows()` or `out` is not `columns()` long: callers check shapes first.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.columns(), "the target of {} is one row long", self.name);
        let bytes = self.row_bytes(row);
        match (self.order, self.shape.len()) {
            (RowOrder::PairsWithin { .. }, 0 | 1) => {
                // The bias of a query or key projection is one row whose elements are out of order.
                let mut stored = vec![0.0; out.len()];
                dequantize::row(self.encoding, bytes, &mut stored);
                for (index, value) in out.iter_mut().enumerate() {
                    *value = stored[self.order.stored(index)];
                }
            }
            _ => dequantize::row(self.encoding, bytes, out),
        }
    }

    /// Returns all numbers as f32, row after row. Meant for norms, biases and tests; weights are read by row.
    pub fn to_vec(&self) -> Vec<f32> {
        let columns = self.columns();
        let mut all = vec![0.0; self.rows() * columns];
        if columns > 0 {
            for (row, out) in all.chunks_exact_mut(columns).enumerate() {
                self.read_row(row, out);
            }
        }
        all
    }

    /// Returns the raw bits of one row where the tensor is bf16 and the bits can be seen in place. `None` does not
    /// mean that the tensor is not bf16: a file may place it at an odd address. `read_row` always works.
    pub fn bf16_row(&self, row: usize) -> Option<&'a [u16]> {
        let in_place = self.encoding == Encoding::Bf16
            && cfg!(target_endian = "little")
            && (self.order == RowOrder::AsStored || self.shape.len() > 1);
        if in_place { bytemuck::try_cast_slice(self.row_bytes(row)).ok() } else { None }
    }

    fn row_bytes(&self, row: usize) -> &'a [u8] {
        assert!(row < self.rows(), "row {row} of {} exists", self.name);
        let stored = if self.shape.len() > 1 { self.order.stored(row) } else { row };
        let bytes = self.encoding.row_bytes(self.columns());
        &self.bytes[stored * bytes..][..bytes]
    }
}

impl fmt::Debug for Tensor<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {:?} {} in {}", self.name, self.shape, self.encoding, self.file.display())
    }
}
