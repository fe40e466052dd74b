//! the order service
