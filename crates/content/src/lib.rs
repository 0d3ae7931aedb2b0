//! What was said, and how long is it kept? Stored responses and answers worth repeating, apart from the book.

#![forbid(unsafe_code)]
