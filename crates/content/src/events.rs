//! What is worth knowing from here, in one place.
