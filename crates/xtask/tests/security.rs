//! The page on attacks names the tests that show the answers. This checks that each of them exists.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// All source files below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = match fs::read_dir(folder) {
        // A folder of another test may go meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        entries => entries.unwrap(),
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// The functions that are tests.
fn tests() -> HashSet<String> {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let mut tests = HashSet::new();
    for path in files {
        let text = fs::read_to_string(path).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            match name.and_then(|rest| rest.split_once('(')) {
                Some((name, _)) => {
                    if std::mem::take(&mut is_test) {
                        tests.insert(name.to_owned());
                    }
                }
                None => {
                    is_test |=
                        ["#[test]", "#[tokio::test", "proptest!"].iter().any(|mark| line.starts_with(mark))
                }
            }
        }
    }
    tests
}

/// What is between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A name of a test is a sentence.
fn is_name(word: &str) -> bool {
    word.split('_').count() > 3
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[test]
fn each_test_that_the_page_on_attacks_names_exists() {
    let (tests, page) = (tests(), fs::read_to_string(root().join("docs/internals/attacks.md")).unwrap());
    let (mut named, mut section) = (0, "");
    for (number, line) in (1..).zip(page.lines()) {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading;
        }
        for name in quoted(line).filter(|word| is_name(word)) {
            named += 1;
            assert!(tests.contains(name), "{number}: there is no test {name} ({section})");
        }
    }
    assert!(named >= 60, "{named} tests were found");
}
