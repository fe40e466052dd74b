//! observes every wave
