//! Are these the same weights as last time?

use sha2::{Digest, Sha256};

use super::Checkpoint;

impl Checkpoint {
    /// Returns a digest that another model, or the same one trained further, does not have.
    ///
    /// It covers the configuration and, of every tensor, name, shape, encoding, and the first, the middle and the last row.
    /// Reading all of the weights would take as long as loading them; training changes every row of a tensor that it changes.
    /// A file that was edited by hand elsewhere than in these rows is not noticed.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut digest = Sha256::new().chain_update(self.config.to_string());
        let mut values = Vec::new();
        for name in self.names() {
            digest.update(name);
            // A tensor in a format that cannot be read is in no model that was loaded.
            let Ok(tensor) = self.tensor(name) else { continue };
            digest.update(format!("\0{:?}{:?}\0", tensor.shape(), tensor.encoding()));
            let rows = tensor.rows();
            if rows == 0 || tensor.columns() == 0 {
                continue;
            }
            values.resize(tensor.columns(), 0.0);
            for row in [0, rows / 2, rows - 1] {
                tensor.read_row(row, &mut values);
                values.iter().for_each(|value: &f32| digest.update(value.to_le_bytes()));
            }
        }
        digest.finalize().into()
    }
}
