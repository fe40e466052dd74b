//! The extension module `aether._native` of the Python package `aether-bus`.
//!
//! It has the runtime, the media, the replicas and the conversion of values. The package itself is typed Python, in
//! `python/aether`, and calls this module. No function waits while it holds the interpreter: a function that takes
//! time returns a `Task`.

mod bus;
mod errors;
mod field;
mod identity;
mod json;
mod mirror;
mod process;
mod service;
mod stream;
mod vibrator;
mod waiting;
mod wave;

use pyo3::prelude::*;

/// The module `aether._native`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::bus::{Bus, connect};
    #[pymodule_export]
    use super::field::Field;
    #[pymodule_export]
    use super::identity::{Certificate, Identity, verify};
    #[pymodule_export]
    use super::mirror::Mirror;
    #[pymodule_export]
    use super::process::{forked, shutdown};
    #[pymodule_export]
    use super::service::{Call, Service};
    #[pymodule_export]
    use super::stream::Stream;
    #[pymodule_export]
    use super::waiting::Task;
    #[pymodule_export]
    use super::wave::{Sender, Wave};

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("VERSION", env!("CARGO_PKG_VERSION"))
    }
}
