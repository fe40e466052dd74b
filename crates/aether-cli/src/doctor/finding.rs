//! The findings of a check, and how they are printed.

use std::fmt::Write as _;

use serde::Serialize;

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    Warn,
    Fail,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) status: Status,
    pub(super) text: String,
    /// The remedy, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, text: text.into(), remedy: None }
    }

    pub(super) fn warn(check: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, status: Status::Warn, text: text.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn fail(check: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, status: Status::Fail, text: text.into(), remedy: Some(remedy.into()) }
    }
}

/// One line for each finding, and one below it with what to do.
pub(super) fn lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { check, status, text: found, remedy } in findings {
        let status = match status {
            Status::Ok => "ok  ",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{status}  {check:<13}  {found}");
        if let Some(remedy) = remedy {
            let _ = writeln!(text, "{:21}-> {remedy}", "");
        }
    }
    text
}

/// All findings with their numbers.
pub(super) fn json(findings: &[Finding]) -> String {
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    let (ok, warn, fail) = (count(Status::Ok), count(Status::Warn), count(Status::Fail));
    let document = serde_json::json!({ "checks": findings, "ok": ok, "warn": warn, "fail": fail });
    format!("{document:#}\n")
}
