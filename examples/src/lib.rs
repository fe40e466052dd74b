//! Numbered examples, in reading order: each is one file in `examples/`, ends by itself and checks its results.
//!
//! `cargo run -p aether-examples --example 01_hello`. They share no code, so each file can be copied.

// The doc tests of this crate compile the Rust code of all pages, and run what can be run.
#[cfg(doctest)]
mod pages {
    macro_rules! pages {
        ($($name:ident: $path:literal,)*) => { $(#[doc = include_str!(concat!("../../", $path))] mod $name {})* };
    }

    pages! {
        readme: "README.md",
        service: "docs/start/service.md",
        overload: "docs/start/overload.md",
        durable: "docs/start/durable.md",
        jobs: "docs/start/jobs.md",
        which_log: "docs/start/which-log.md",
        nightly: "docs/start/nightly.md",
        http: "docs/start/http.md",
        saga: "docs/start/saga.md",
        shared_state: "docs/start/shared-state.md",
        coming_from: "docs/start/coming-from.md",
        coming_from_the_prototype: "docs/start/coming-from-the-prototype.md",
        testing: "docs/guide/testing.md",
        field: "docs/guide/field.md",
        folders: "docs/guide/folders.md",
        rules: "docs/guide/rules.md",
        sealing: "docs/guide/sealing.md",
        lan: "docs/guide/lan.md",
        paths: "docs/guide/paths.md",
        hopping: "docs/guide/hopping.md",
        configuration: "docs/operate/configuration.md",
    }
}
