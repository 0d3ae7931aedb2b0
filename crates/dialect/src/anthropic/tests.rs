//! Whole requests and answers in Anthropic's words, and what must hold for all of them.
