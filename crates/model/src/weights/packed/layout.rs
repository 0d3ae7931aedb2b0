//! Would this program lay the same weights out in the same bytes?

use std::sync::OnceLock;

use kernels::{Matrix, Precision};
use sha2::{Digest, Sha256};

/// Returns a hash of a small matrix as it is packed here, in every precision. Whatever changes the layout or the rounding changes
/// it, without anybody having to remember a version; the processor does not, because packing is plain code.
pub(super) fn fingerprint() -> &'static str {
    static FINGERPRINT: OnceLock<String> = OnceLock::new();
    FINGERPRINT.get_or_init(|| {
        /// More than one panel and one group, and no whole number of either.
        const OUTPUTS: usize = 19;
        const INPUTS: usize = 150;
        let mut hash = Sha256::new();
        for precision in [Precision::F32, Precision::F16, Precision::Bf16, Precision::Int8, Precision::Int4] {
            let matrix = Matrix::pack(precision, OUTPUTS, INPUTS, &mut |row, values| {
                let value = |i: usize| ((row * 31 + i * 17) % 101) as f32 / 64.0 - 0.7;
                values.iter_mut().enumerate().for_each(|(i, place)| *place = value(i));
            });
            hash.update(matrix.bytes());
        }
        super::hex(&hash.finalize()[..16])
    })
}
