//! Runs each example as a test: it must end with success within a minute.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::steps::Steps;
use crate::tools::Tools;
use crate::workspace::Workspace;

/// The time limit of an example. Examples take seconds, so after a minute it hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// The package whose examples are programs that end by themselves.
const PACKAGE: &str = "aether-examples";

/// Runs each example, as it was built with the tests.
///
/// The programs are started directly and not by `cargo run`, which would count a wait for the build folder's lock
/// against the time limit and put cargo between us and the process to be killed.
pub(crate) fn run(workspace: &Workspace, steps: &mut Steps, tools: &Tools, features: &str) -> Result<()> {
    let built = steps.run("examples: build", || {
        let output = workspace
            .cargo(["build", "--workspace", "--examples", "--locked", "--features", features])
            .arg("--message-format=json-render-diagnostics")
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo build")?;
        if !output.status.success() {
            bail!("cargo build --examples: {}", output.status);
        }
        Ok(executables(&String::from_utf8_lossy(&output.stdout)))
    })?;
    for name in workspace.examples(PACKAGE) {
        steps.run(&format!("example {name}"), || {
            let (_, path) = built
                .iter()
                .find(|(built, _)| *built == name)
                .with_context(|| format!("cargo did not build the example {name}"))?;
            let mut command = Command::new(path);
            tools.name_in(&mut command);
            within(command.current_dir(workspace.root()).stdin(Stdio::null()), LIMIT)
        })?;
    }
    Ok(())
}

/// The example programs named in cargo's build messages.
fn executables(messages: &str) -> Vec<(String, PathBuf)> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .filter(|message| message["target"]["kind"] == serde_json::json!(["example"]))
        .filter_map(|message| {
            let path = message["executable"].as_str()?.into();
            Some((message["target"]["name"].as_str()?.to_owned(), path))
        })
        .collect()
}

/// Runs `command`. If it does not end within `limit`, kills the process and returns an error.
fn within(command: &mut Command, limit: Duration) -> Result<()> {
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let deadline = Instant::now() + limit;
    // std has no wait with a time limit. 10 ms is far below the resolution of the duration table.
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!("did not end within {} s; killed process {}", limit.as_secs_f64(), child.id());
        }
        sleep(Duration::from_millis(10));
    };
    if !status.success() {
        bail!("ended with {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_read_from_the_build_messages() {
        let messages = concat!(
            "not json\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"a"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["example"],"name":"01_a"},"executable":"/t/01_a"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executables(messages), [("01_a".to_owned(), PathBuf::from("/t/01_a"))]);
    }

    #[cfg(unix)]
    #[test]
    fn success_failure_and_hanging_are_distinguished() {
        let minute = Duration::from_secs(60);
        within(&mut Command::new("true"), minute).unwrap();
        let failed = within(&mut Command::new("false"), minute).unwrap_err().to_string();
        assert!(failed.starts_with("ended with"), "{failed}");
        let start = Instant::now();
        let hung =
            within(Command::new("sleep").arg("60"), Duration::from_millis(50)).unwrap_err().to_string();
        assert!(hung.starts_with("did not end within 0.05 s"), "{hung}");
        assert!(start.elapsed() < minute / 2);
    }
}
