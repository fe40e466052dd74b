//! The examples' shared parts: none so far.
