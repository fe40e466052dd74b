//! Unit tests of incidents.
