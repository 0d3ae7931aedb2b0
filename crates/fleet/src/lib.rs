//! Who should answer a request: pure decisions over one snapshot of all that can.

#![forbid(unsafe_code)]
