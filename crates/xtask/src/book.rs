//! The documents: `cargo xtask book` checks the links of all tracked Markdown files, and builds the book below the
//! build folder.
//!
//! A link to a file, a folder or a heading has to lead somewhere, offline. The pages of the book link to each other by
//! relative paths, and to other files by their address in the repository, so that a link works in both places.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::mdbook;
use crate::steps::check as succeed;
use crate::workspace::Workspace;

/// The folder of the book.
const BOOK: &str = "docs";

/// The address under which the files of this repository are read.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// Checks the links and builds the book.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    check(workspace)?;
    build(workspace, &mdbook::find_or_install(workspace)?)
}

/// Builds the book into `target/book`.
pub(crate) fn build(workspace: &Workspace, program: &str) -> Result<()> {
    let into = workspace.target().join("book");
    let mut command = Command::new(program);
    succeed(command.arg("build").arg(workspace.root().join(BOOK)).arg("--dest-dir").arg(&into))?;
    println!("{}", into.join("index.html").display());
    Ok(())
}

/// Fails with file, line and target of each broken link.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(workspace.root())
        .output()
        .context("cannot start git, which lists the documents")?;
    if !output.status.success() {
        bail!("git cannot list the documents: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let listed = String::from_utf8(output.stdout).context("a file has a name that is not UTF-8")?;
    let files = listed.split('\0').filter(|file| !file.is_empty()).map(PathBuf::from);
    let mut documents = Documents::default();
    for file in files.filter(|file| workspace.root().join(file).is_file()) {
        if file.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(workspace.root().join(&file))
                .with_context(|| format!("cannot read {}", file.display()))?;
            documents.pages.insert(file.clone(), Page::read(&text));
        }
        documents.files.insert(file);
    }
    let broken = documents.broken();
    if !broken.is_empty() {
        bail!("links that lead nowhere:\n  {}", broken.join("\n  "));
    }
    Ok(())
}

/// All tracked files, and the pages among them, by their path from the root.
#[derive(Default)]
struct Documents {
    files: BTreeSet<PathBuf>,
    pages: BTreeMap<PathBuf, Page>,
}

/// The targets of links in a page, and its own links.
struct Page {
    anchors: BTreeSet<String>,
    links: Vec<Link>,
}

struct Link {
    line: usize,
    target: String,
}

impl Documents {
    fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let summary = Path::new(BOOK).join("SUMMARY.md");
        for (path, page) in &self.pages {
            for link in &page.links {
                if let Err(why) = self.follow(path, &link.target) {
                    broken.push(format!("{}:{}: {}: {why}", path.display(), link.line, link.target));
                }
            }
            if path.starts_with(BOOK)
                && *path != summary
                && !self.is_chapter(path)
                && page.is_meant_for_the_book(path)
            {
                broken.push(format!("{}: the page is not in {}", path.display(), summary.display()));
            }
        }
        broken
    }

    /// Whether a page is in the summary of the book.
    fn is_chapter(&self, path: &Path) -> bool {
        let Some(summary) = self.pages.get(&Path::new(BOOK).join("SUMMARY.md")) else { return false };
        summary.links.iter().any(|link| Path::new(BOOK).join(&link.target) == path)
    }

    fn follow(&self, from: &Path, target: &str) -> Result<(), &'static str> {
        let address = ["blob", "tree"]
            .iter()
            .find_map(|kind| target.strip_prefix(&format!("{REPOSITORY}/{kind}/main/")));
        if address.is_none() && (target.contains("://") || target.starts_with("mailto:")) {
            return Ok(());
        }
        let (path, anchor) = match address.unwrap_or(target).split_once('#') {
            Some((path, anchor)) => (path, Some(anchor)),
            None => (address.unwrap_or(target), None),
        };
        let path = match (address, path) {
            (Some(_), path) => PathBuf::from(path),
            (None, "") => from.to_owned(),
            (None, path) => beside(from, path).ok_or("it leads out of the repository")?,
        };
        if !self.exists(&path) {
            return Err("there is no such file or folder");
        }
        if self.is_chapter(from) && address.is_none() {
            if !path.starts_with(BOOK) {
                return Err("a page of the book names it by its address in the repository");
            }
            if self.pages.contains_key(&path) && !self.is_chapter(&path) {
                return Err("the page is not in the book");
            }
        }
        match (anchor, self.pages.get(&path)) {
            (Some(anchor), Some(page)) if !page.anchors.contains(anchor) => Err("there is no such heading"),
            _ => Ok(()),
        }
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.contains(path) || self.files.iter().any(|file| file.starts_with(path))
    }
}

impl Page {
    /// Whether a page below the folder of the book is one of its pages: those beside borrowed files are not.
    fn is_meant_for_the_book(&self, path: &Path) -> bool {
        path.parent().is_none_or(|folder| folder.components().count() <= 2)
    }

    fn read(text: &str) -> Self {
        let (mut anchors, mut links) = (BTreeSet::new(), Vec::new());
        let mut fence: Option<&str> = None;
        for (line, text) in (1..).zip(text.lines()) {
            let start = text.trim_start();
            let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
            match (fence, mark) {
                (Some(open), Some(mark)) if open == mark => fence = None,
                (Some(_), _) => {}
                (None, Some(mark)) => fence = Some(mark),
                (None, None) => {
                    if let Some(heading) = heading(text) {
                        let anchor = anchor(heading);
                        let copies = (1..).map(|copy| format!("{anchor}-{copy}"));
                        let free = std::iter::once(anchor.clone())
                            .chain(copies)
                            .find(|name| !anchors.contains(name));
                        anchors.extend(free);
                    }
                    links.extend(targets(text).into_iter().map(|target| Link { line, target }));
                }
            }
        }
        Self { anchors, links }
    }
}

/// The file to which a relative link leads; `None` above the root.
fn beside(from: &Path, target: &str) -> Option<PathBuf> {
    let mut path = from.parent()?.to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// The text of a heading of any level.
fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    (1..=6).contains(&level).then(|| text.strip_prefix(' ')).flatten()
}

/// The anchor of a heading, as GitHub and the book make it: in lower case, blanks as hyphens, without other marks.
fn anchor(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading.trim();
    // Of a link its text counts.
    while let Some((before, after)) = rest.split_once("](") {
        let _ = write!(text, "{before}");
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    text.chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ => letter.is_alphanumeric().then_some(letter),
        })
        .flat_map(char::to_lowercase)
        .collect()
}

/// The targets of all links and pictures of a line, outside of code.
fn targets(line: &str) -> Vec<String> {
    let prose = without_code(line);
    let mut found = Vec::new();
    for (start, end) in [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"'), ("href=\"", '"')] {
        let parts = prose.split(start).skip(1).filter_map(|part| part.split_once(end));
        found.extend(parts.map(|(target, _)| target.split(' ').next().unwrap_or_default().to_owned()));
    }
    // `[name]: target` on a line of its own.
    if let Some((name, target)) = prose.split_once("]: ")
        && name.starts_with('[')
    {
        found.extend(target.split(' ').next().map(str::to_owned));
    }
    found
}

/// A line without what is between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(pages: &[(&str, &str)], files: &[&str]) -> Documents {
        let mut documents = Documents::default();
        documents.files.extend(files.iter().map(PathBuf::from));
        for (path, text) in pages {
            documents.files.insert(path.into());
            documents.pages.insert(path.into(), Page::read(text));
        }
        documents
    }

    #[test]
    fn anchors_are_those_of_github_and_of_the_book() {
        assert_eq!(anchor("Over NATS: `cargo xtask bench nats`"), "over-nats-cargo-xtask-bench-nats");
        assert_eq!(anchor("Where [rules](rules.md) apply"), "where-rules-apply");
        assert_eq!(anchor("max_payload, `JetStream`"), "max_payload-jetstream");
        let page = Page::read("# A\n## B\n```text\n# no heading\n```\n## B\n#no heading");
        assert_eq!(page.anchors.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "b-1"]);
    }

    #[test]
    fn links_in_code_are_none() {
        let page = Page::read(
            "[a](b.md) and `[c](d.md)`\n```rust\n#[doc](e.md)\n```\n<img src=\"f.svg\">\n[g]: h.md",
        );
        let found: Vec<_> = page.links.iter().map(|link| (link.line, link.target.as_str())).collect();
        assert_eq!(found, [(1, "b.md"), (5, "f.svg"), (6, "h.md")]);
    }

    #[test]
    fn a_broken_link_is_named_with_its_file_its_line_and_its_target() {
        let readme =
            "[a](docs/a.md#one)\n[b](docs/b.md)\n[c](docs/a.md#two) [d](src) [e](https://example.com/x)";
        let documents = documents(
            &[("README.md", readme), ("docs/a.md", "# One"), ("docs/SUMMARY.md", "- [A](a.md)")],
            &["src/lib.rs"],
        );
        assert_eq!(
            documents.broken(),
            [
                "README.md:2: docs/b.md: there is no such file or folder",
                "README.md:3: docs/a.md#two: there is no such heading",
            ]
        );
    }

    #[test]
    fn a_page_of_the_book_links_to_pages_of_the_book_and_by_address_to_other_files() {
        let address = format!("{REPOSITORY}/blob/main/src/lib.rs");
        let page =
            format!("[a](../src/lib.rs) [b]({address}) [c]({address}x) [d](data/README.md) [e](../../etc)");
        let mut documents = documents(
            &[
                ("docs/a.md", &page),
                ("docs/lost.md", ""),
                ("docs/data/deep/README.md", ""),
                ("docs/data/README.md", ""),
            ],
            &["src/lib.rs"],
        );
        documents.pages.insert("docs/SUMMARY.md".into(), Page::read("[A](a.md)"));
        assert_eq!(
            documents.broken(),
            [
                "docs/a.md:1: ../src/lib.rs: a page of the book names it by its address in the repository"
                    .to_owned(),
                format!("docs/a.md:1: {address}x: there is no such file or folder"),
                "docs/a.md:1: data/README.md: the page is not in the book".to_owned(),
                "docs/a.md:1: ../../etc: it leads out of the repository".to_owned(),
                "docs/data/README.md: the page is not in docs/SUMMARY.md".to_owned(),
                "docs/lost.md: the page is not in docs/SUMMARY.md".to_owned(),
            ]
        );
    }
}
