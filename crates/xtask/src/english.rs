//! `cargo xtask english`: counts sentences in the patterns that CONTRIBUTING.md forbids, and comments that are too wide.
//!
//! `english.txt` records the numbers of each folder. A folder with more fails the check, so that old texts can be rewritten
//! one at a time and no new ones are added. A pattern is a few words, so it also hits an occasional good sentence: rewrite
//! that one, too.

mod prose;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use self::prose::Passage;
use crate::running::output;
use crate::workspace::Workspace;

/// The record, from the root of the workspace.
const FILE: &str = "crates/xtask/english.txt";

/// Options of `cargo xtask english`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct EnglishArgs {
    /// List each place in these folders or files as well.
    paths: Vec<String>,
    /// Write the counts into crates/xtask/english.txt. Their sums can only fall.
    #[arg(long)]
    record: bool,
}

/// The counts of a folder.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Counts {
    phrases: usize,
    wide: usize,
}

/// A place in a file.
struct Place {
    path: String,
    line: usize,
    /// The forbidden words; none where the line is too wide.
    phrase: Option<String>,
}

/// Lists what is asked for, and records or checks the counts.
pub(crate) fn run(workspace: &Workspace, args: &EnglishArgs) -> Result<()> {
    let places = places(workspace)?;
    let is_wanted = |place: &&Place| args.paths.iter().any(|path| Path::new(&place.path).starts_with(path));
    for Place { path, line, phrase } in places.iter().filter(is_wanted) {
        println!("{path}:{line}: {}", phrase.as_deref().unwrap_or("a wide comment"));
    }
    let found = by_folder(workspace.root(), &places);
    let file = workspace.root().join(FILE);
    let recorded = if file.exists() { Some(parse(&fs::read_to_string(&file)?)?) } else { None };
    if args.record {
        if let Some(recorded) = &recorded {
            let (old, new) = (sum(recorded), sum(&found));
            if new.phrases > old.phrases || new.wide > old.wide {
                bail!("the record only falls: {old} are recorded, and there are {new}");
            }
        }
        return fs::write(&file, written(&found)).context(FILE);
    }
    let recorded = recorded.unwrap_or_default();
    compare(&found, &recorded)?;
    let (old, new) = (sum(&recorded), sum(&found));
    println!("{new}");
    if old != new {
        println!("{old} are recorded: run cargo xtask english --record");
    }
    Ok(())
}

/// Fails if a folder has more than is recorded.
fn compare(found: &BTreeMap<String, Counts>, recorded: &BTreeMap<String, Counts>) -> Result<()> {
    let mut more = Vec::new();
    for (folder, counts) in found {
        let limit = recorded.get(folder).copied().unwrap_or_default();
        if counts.phrases > limit.phrases || counts.wide > limit.wide {
            more.push(format!("{folder}: {counts}; {limit} are recorded"));
        }
    }
    if !more.is_empty() {
        bail!(
            "more than {FILE} has:\n  {}\n`cargo xtask english FOLDER` lists them, and CONTRIBUTING.md has better words. After \
             a file moved, `cargo xtask english --record` accepts it if the sums have not grown",
            more.join("\n  ")
        );
    }
    Ok(())
}

/// Each place in the Rust and Markdown files that git knows or would add.
fn places(workspace: &Workspace) -> Result<Vec<Place>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "--", "*.rs", "*.md"]);
    let mut places = Vec::new();
    for path in output(git.current_dir(workspace.root()))?.lines() {
        // A file that is removed and not yet committed.
        let Ok(source) = fs::read_to_string(workspace.root().join(path)) else { continue };
        let prose = if path.ends_with(".md") { prose::of_markdown(&source) } else { prose::of_rust(&source) };
        let phrases = prose.passages.iter().flat_map(phrases);
        let phrases = phrases.map(|(line, phrase)| (line, Some(phrase)));
        let found = phrases.chain(prose.wide.iter().map(|line| (*line, None)));
        places.extend(found.map(|(line, phrase)| Place { path: path.to_owned(), line, phrase }));
    }
    places.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    Ok(places)
}

/// The forbidden patterns in a passage, with their lines.
fn phrases(passage: &Passage) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let word = |n: usize| passage.get(n).map_or("", |(_, word)| word.as_str());
    // A value in a format string is like a span of code.
    let bare = |n: usize| match word(n) {
        value if value.starts_with('{') => "`",
        word => word.trim_matches(|c: char| !c.is_alphanumeric() && c != '`'),
    };
    let is_after_there = |n: usize| n > 0 && matches!(bare(n - 1), "there" | "There");
    for (n, (line, _)) in passage.iter().enumerate() {
        let is_first = n == 0 || word(n - 1).ends_with(['.', ':', ';', '?', '!', '|', '#', '-']);
        let begins_clause = is_first
            && matches!(bare(n), "Who" | "Whoever" | "What")
            && word(n).ends_with(bare(n))
            && !matches!(bare(n + 1), "" | "is" | "are" | "does" | "do" | "can" | "happens");
        let lower = (bare(n).to_lowercase(), bare(n + 1).to_lowercase());
        let length = match (lower.0.as_str(), lower.1.as_str()) {
            _ if begins_clause => 2,
            ("says" | "stands" | "anew" | "shall", _) => 1,
            ("is" | "are", "told") | ("that" | "those", "of") | ("so", "many") => 2,
            ("is", "no") if !matches!(bare(n + 2), "" | "longer") && !is_after_there(n) => 3,
            _ => continue,
        };
        if length == 2 && !word(n).ends_with(bare(n)) {
            continue;
        }
        let words: Vec<_> = (n..n + length).map(bare).collect();
        found.push((*line, words.join(" ")));
    }
    found
}

/// The counts of each folder with a `Cargo.toml`.
fn by_folder(root: &Path, places: &[Place]) -> BTreeMap<String, Counts> {
    let mut folders: BTreeMap<String, Counts> = BTreeMap::new();
    for place in places {
        let above = Path::new(&place.path).ancestors().skip(1);
        let folder = above.into_iter().find(|folder| root.join(folder).join("Cargo.toml").is_file());
        let folder = folder.filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        let counts = folders.entry(folder.display().to_string()).or_default();
        match place.phrase {
            Some(_) => counts.phrases += 1,
            None => counts.wide += 1,
        }
    }
    folders
}

fn sum(folders: &BTreeMap<String, Counts>) -> Counts {
    folders.values().fold(Counts::default(), |sum, counts| Counts {
        phrases: sum.phrases + counts.phrases,
        wide: sum.wide + counts.wide,
    })
}

fn written(folders: &BTreeMap<String, Counts>) -> String {
    let header = "# Sentences in forbidden patterns, and wide comments, by folder. `cargo xtask english --record` lowers them.\n";
    let lines =
        folders.iter().map(|(folder, counts)| format!("{folder} {} {}\n", counts.phrases, counts.wide));
    std::iter::once(header.to_owned()).chain(lines).collect()
}

fn parse(record: &str) -> Result<BTreeMap<String, Counts>> {
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let folder = words.next()?.to_owned();
        let counts = Counts { phrases: words.next()?.parse().ok()?, wide: words.next()?.parse().ok()? };
        Some((folder, counts))
    };
    let lines = record.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| entry(line).with_context(|| format!("{FILE}: cannot read {line:?}"))).collect()
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} forbidden phrases and {} wide comments", self.phrases, self.wide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let prose = prose::of_markdown(text);
        prose.passages.iter().flat_map(phrases).map(|(_, phrase)| phrase).collect()
    }

    fn folders(phrases: usize, wide: usize) -> BTreeMap<String, Counts> {
        [("crates/log".to_owned(), Counts { phrases, wide })].into()
    }

    #[test]
    fn forbidden_patterns_are_found() {
        for (text, phrase) in [
            ("Who overflows it repeats itself.", "Who overflows"),
            ("A sentence. What `x` keeps", "What `"),
            ("- Whoever connects", "Whoever connects"),
            ("as the server\nsays.", "says"),
            ("the sender is told", "is told"),
            ("like those of others", "those of"),
            ("this is no list", "is no list"),
            ("at most so many", "so many"),
            ("it is made anew", "anew"),
            ("the connection stands", "stands"),
            ("it shall be", "shall"),
        ] {
            assert_eq!(found(text), [phrase], "{text}");
        }
    }

    #[test]
    fn ordinary_sentences_pass() {
        for text in [
            "What is it?",
            "Returns what is left.",
            "It is no longer open.",
            "Is that, of all?",
            "`that of` is code",
            "There is no server.",
            "{stands:?} is lost",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_folder_with_more_than_recorded_fails() {
        assert!(compare(&folders(2, 1), &folders(2, 1)).is_ok());
        assert!(compare(&folders(1, 0), &folders(2, 1)).is_ok());
        for recorded in [folders(1, 1), folders(2, 0), BTreeMap::new()] {
            let error = compare(&folders(2, 1), &recorded).unwrap_err().to_string();
            assert!(error.contains("crates/log: 2 forbidden phrases and 1 wide comments"), "{error}");
        }
    }

    #[test]
    fn the_record_is_read_as_written() {
        assert_eq!(parse(&written(&folders(2, 1))).unwrap(), folders(2, 1));
        assert!(parse("crates/log two 1").is_err());
    }
}
