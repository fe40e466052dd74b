//! The page on attacks names a test for each line of its tables. This checks that each of them exists, in the file that
//! is named.

#![allow(clippy::unwrap_used, reason = "a failure here is a failure of the test")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// All source files below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// The functions of each source file that are tests.
fn tests() -> HashMap<String, Vec<PathBuf>> {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let mut tests = HashMap::<String, Vec<PathBuf>>::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            match name.and_then(|rest| rest.split_once('(')) {
                Some((name, _)) => {
                    if std::mem::take(&mut is_test) {
                        tests.entry(name.to_owned()).or_default().push(path.clone());
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
fn each_test_that_the_security_page_names_exists_where_it_says() {
    let (tests, page) = (tests(), fs::read_to_string(root().join("docs/internals/attacks.md")).unwrap());
    let (mut named, mut section, mut usual) = (0, "", "");
    for (number, line) in (1..).zip(page.lines()) {
        if let Some(heading) = line.strip_prefix("## ") {
            (section, usual) = (heading, "");
        }
        if line.contains("tests are in `") {
            usual = quoted(line.split_once("tests are in ").unwrap().1).next().unwrap();
        }
        let Some(cell) = line.strip_prefix('|').and_then(|row| row.trim_end_matches('|').rsplit('|').next())
        else {
            continue;
        };
        for part in cell.split(';') {
            let words: Vec<_> = quoted(part).collect();
            for (place, word) in words.iter().enumerate().filter(|(_, word)| is_name(word)) {
                named += 1;
                // A name belongs to the file that follows it, or else to the one that the section names.
                let is_file = |word: &&&str| word.contains('/') || word.ends_with(".rs");
                let file = words[place..].iter().find(is_file).copied().unwrap_or(usual);
                let found = tests
                    .get(*word)
                    .unwrap_or_else(|| panic!("{number}: there is no test {word} ({section})"));
                let is_there = found.iter().any(|path| {
                    path.to_str().unwrap().trim_end_matches(".rs").contains(file.trim_end_matches(".rs"))
                });
                assert!(is_there, "{number}: {word} is in {found:?} and not in {file}");
            }
        }
    }
    assert!(named >= 60, "{named} tests were found");
}
