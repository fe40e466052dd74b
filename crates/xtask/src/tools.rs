//! The tools that tests need, and the environment that names them.

use std::ffi::OsString;
use std::fmt;
use std::process::Command;

use anyhow::Result;

use crate::node::Node;
use crate::workspace::Workspace;
use crate::{browser, mdbook, nats_server, node, postgres, promtool, python, sync_engine, tool};

/// The version that is installed where there is none.
const NEXTEST: &str = "0.9.143";

/// The tools of the tests: paths and versions.
pub(crate) struct Tools {
    nats_server: nats_server::Server,
    promtool: promtool::Promtool,
    sync_engine: String,
    browser: String,
    postgres: String,
    node: Node,
    mdbook: String,
    python: String,
    /// A `PATH` on which cargo finds nextest.
    path: OsString,
}

impl Tools {
    /// Finds each tool, or installs it below the build folder.
    pub(crate) fn find_or_install(workspace: &Workspace) -> Result<Self> {
        Ok(Self {
            nats_server: nats_server::find_or_install(workspace)?,
            promtool: promtool::find_or_install(workspace)?,
            sync_engine: sync_engine::find_or_install(workspace),
            browser: browser::find_or_install()?,
            postgres: postgres::find_or_install()?,
            node: node::find_or_install(workspace)?,
            mdbook: mdbook::find_or_install(workspace)?,
            python: python::find()?,
            path: tool::path_with_subcommand(workspace, "nextest", NEXTEST)?,
        })
    }

    /// A cargo command whose tests find the tools.
    pub(crate) fn cargo<'a>(
        &self,
        workspace: &Workspace,
        args: impl IntoIterator<Item = &'a str>,
    ) -> Command {
        let mut command = workspace.cargo(args);
        self.name_in(&mut command);
        command
    }

    /// Names the tools in the environment of a command.
    pub(crate) fn name_in(&self, command: &mut Command) {
        command.env("PATH", &self.path).env(nats_server::ENV, &self.nats_server.path);
        command.env(promtool::ENV, &self.promtool.path).env(sync_engine::ENV, &self.sync_engine);
        command.env(browser::ENV, &self.browser).env(node::ENV, &self.node.program);
        command.env(node::MODULES_ENV, &self.node.modules).env(postgres::ENV, &self.postgres);
    }

    /// The program that builds the book, unless it is switched off.
    pub(crate) fn mdbook(&self) -> Option<&str> {
        (self.mdbook != node::NONE).then_some(&self.mdbook)
    }

    /// The Python that tests the package, unless it is switched off.
    pub(crate) fn python(&self) -> Option<&str> {
        (self.python != python::NONE).then_some(&self.python)
    }

    /// Whether there is what the tests of the pages need.
    pub(crate) fn has_pages(&self) -> bool {
        self.browser != node::NONE && self.node.program != node::NONE
    }

    /// The tests that are left out without a tool, and whether that tool is switched off.
    pub(crate) fn skipped(&self) -> [(&'static str, bool); 6] {
        let no_browser = self.browser == node::NONE;
        [
            ("comparisons with the sync engine", self.sync_engine == node::NONE),
            ("the book", self.mdbook().is_none()),
            ("tests in a browser", no_browser),
            ("tests of the pages and of the browser client", !self.has_pages()),
            ("tests of the Python package", self.python().is_none()),
            ("tests of the outbox in Postgres", self.postgres == node::NONE),
        ]
    }
}

/// A line each.
impl fmt::Display for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "nats-server: {}", self.nats_server)?;
        writeln!(f, "promtool: {}", self.promtool)?;
        writeln!(f, "sync engine: {}", self.sync_engine)?;
        writeln!(f, "browser: {}", self.browser)?;
        writeln!(f, "postgres: {}", self.postgres)?;
        writeln!(f, "node: {}", self.node.program)?;
        writeln!(f, "mdbook: {}", self.mdbook)?;
        writeln!(f, "python: {}", self.python)?;
        write!(f, "packages of node ({}): {}", node::MODULES_ENV, self.node.modules)
    }
}
