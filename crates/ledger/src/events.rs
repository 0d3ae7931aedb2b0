//! What is worth knowing of the store.
