//! the inventory service
