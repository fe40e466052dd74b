//! `cargo xtask modules`: checks each crate for import circles and for type names that it has twice, and draws the module
//! graph in ARCHITECTURE.md.
//!
//! An import is a `use` line or a path that begins with `crate`, `self` or `super`, outside of test code. A re-export
//! is not an import: a file that uses the name imports the file that defines it. The crate root is left out, because it
//! re-exports everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use syn::visit::{self, Visit};

use crate::workspace::Workspace;

/// The folder of the crate whose top-level modules are drawn.
const DRAWN: &str = "aether-core";
const PAGE: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- modules: begin -->";
const END: &str = "<!-- modules: end -->";

/// The crates that have type names twice, and how many at most. Lower a number when it has fallen.
const NAMES_TWICE: [(&str, usize); 9] = [
    ("aether-bus-cli", 3),
    ("aether-bus-field", 4),
    ("aether-bus-gateway", 20),
    ("aether-bus-lan", 2),
    ("aether-bus-log", 12),
    ("aether-bus-nats", 2),
    ("aether-bus-outbox", 3),
    ("aether-bus-physics", 4),
    ("aether-bus-service", 11),
];

/// A module by its path from the crate root: `medium::nats` is `["medium", "nats"]`.
type Module = Vec<String>;

/// The files of one crate and what they import from each other.
struct Imports(BTreeMap<Module, BTreeSet<Module>>);

/// Fails if files or top-level modules of a crate import each other in a circle, if a crate has type names twice, or if the
/// graph is outdated.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let mut found = Vec::new();
    // `examples/greeter` has its only file in the templates of the command.
    let crates = workspace.crates()?.into_iter().map(|(name, folder)| (name, folder.join("src")));
    for (name, src) in crates.filter(|(_, src)| src.is_dir()) {
        let files = read(&src)?;
        let twice = names_twice(&files);
        let allowed = NAMES_TWICE.iter().find(|(other, _)| *other == name).map_or(0, |(_, count)| *count);
        if twice.len() > allowed {
            found.push(format!(
                "{name}: {} type names twice, at most {allowed} are allowed: {}",
                twice.len(),
                twice.join(", ")
            ));
        }
        let imports = Imports::of(&files);
        for circle in imports.circles() {
            found.push(format!("{name}: files {circle}"));
        }
        for circle in imports.between_top_modules().circles() {
            found.push(format!("{name}: modules {circle}"));
        }
    }
    if !found.is_empty() {
        bail!("import circles and type names:\n  {}", found.join("\n  "));
    }
    let (page, drawn) = redrawn(workspace)?;
    if fs::read_to_string(&page)? != drawn {
        bail!("the module graph in {PAGE} is outdated: run cargo xtask modules");
    }
    Ok(())
}

/// Draws the module graph into ARCHITECTURE.md, and then runs [`check`].
pub(crate) fn draw(workspace: &Workspace) -> Result<()> {
    let (page, drawn) = redrawn(workspace)?;
    fs::write(page, drawn)?;
    check(workspace)
}

/// The path of the page, and its text with the current graph.
fn redrawn(workspace: &Workspace) -> Result<(PathBuf, String)> {
    let graph =
        Imports::of(&read(&workspace.root().join(DRAWN).join("src"))?).between_top_modules().mermaid();
    let page = workspace.root().join(PAGE);
    let text = fs::read_to_string(&page)?;
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("{PAGE} has no {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{PAGE} has no {END}"))?;
    let drawn = format!("{before}{BEGIN}\n\n```mermaid\n{graph}```\n\n{END}{after}");
    Ok((page, drawn))
}

impl Imports {
    fn of(files: &BTreeMap<Module, Uses>) -> Self {
        let mut imports = BTreeMap::new();
        for (module, uses) in files.iter().filter(|(module, _)| !module.is_empty()) {
            let targets = uses.paths.iter().filter_map(|path| resolve(files, module, path, 0));
            let targets = targets.filter(|target| target != module && !target.is_empty());
            imports.insert(module.clone(), targets.collect());
        }
        Self(imports)
    }

    /// The groups of modules that import each other, each as one line of imports.
    fn circles(&self) -> Vec<String> {
        let names: Vec<_> = self.0.keys().map(|module| module.join("::")).collect();
        let place: BTreeMap<_, _> = self.0.keys().zip(0..).collect();
        let mut graph = DiGraphMap::<usize, ()>::new();
        for (module, targets) in &self.0 {
            for target in targets {
                graph.add_edge(place[module], place[target], ());
            }
        }
        let groups = tarjan_scc(&graph).into_iter().filter(|group| group.len() > 1);
        let line = |group: Vec<usize>| {
            let edges = graph.all_edges().filter(|(from, to, ())| group.contains(from) && group.contains(to));
            let mut edges: Vec<_> =
                edges.map(|(from, to, ())| format!("{} -> {}", names[from], names[to])).collect();
            edges.sort();
            edges.join(", ")
        };
        let mut circles: Vec<_> = groups.map(line).collect();
        circles.sort();
        circles
    }

    /// The same between the modules at the root of the crate.
    fn between_top_modules(&self) -> Self {
        let mut between = BTreeMap::<Module, BTreeSet<Module>>::new();
        for (module, targets) in &self.0 {
            let from = module[..1].to_vec();
            let targets = targets.iter().map(|target| target[..1].to_vec()).filter(|to| *to != from);
            let targets: Vec<_> = targets.collect();
            between.entry(from).or_default().extend(targets);
        }
        Self(between)
    }

    /// A Mermaid graph without arrows that a longer path implies. Without circles the result is unique.
    fn mermaid(&self) -> String {
        let reach: BTreeMap<_, _> = self.0.keys().map(|module| (module, self.reachable(module))).collect();
        let mut graph = "graph TD\n".to_owned();
        for (module, targets) in &self.0 {
            for target in targets {
                let has_detour = targets.iter().any(|other| other != target && reach[other].contains(target));
                if !has_detour {
                    graph += &format!("  {} --> {}\n", module.join("::"), target.join("::"));
                }
            }
        }
        graph
    }

    fn reachable<'a>(&'a self, from: &'a Module) -> BTreeSet<&'a Module> {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            next.extend(self.0.get(module).into_iter().flatten().filter(|target| seen.insert(*target)));
        }
        seen
    }
}

/// Reads all source files below `src`, without test files and the conformance suite, which uses everything.
fn read(src: &Path) -> Result<BTreeMap<Module, Uses>> {
    let mut files = BTreeMap::new();
    collect(src, &mut Vec::new(), &mut files)?;
    Ok(files)
}

/// The names that several types of a crate have.
fn names_twice(files: &BTreeMap<Module, Uses>) -> Vec<&str> {
    let mut names: Vec<_> = files.values().flat_map(|uses| &uses.types).map(String::as_str).collect();
    names.sort_unstable();
    names.chunk_by(|one, other| one == other).filter(|same| same.len() > 1).map(|same| same[0]).collect()
}

/// The imports and re-exports of one file.
#[derive(Default)]
struct Uses {
    /// Each path in full, such as `crate medium Medium`.
    paths: BTreeSet<Vec<String>>,
    /// Names that others can import from here: the name, and the path that it refers to.
    exported: BTreeMap<String, Vec<String>>,
    /// The names of its types.
    types: Vec<String>,
}

impl Uses {
    fn of(source: &str) -> Result<Self> {
        let mut uses = Self::default();
        uses.visit_file(&syn::parse_file(source)?);
        Ok(uses)
    }

    fn add_tree(&mut self, tree: &syn::UseTree, prefix: &[String], is_exported: bool) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&path.tree, &with(&path.ident), is_exported),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(tree, prefix, is_exported);
                }
            }
            syn::UseTree::Glob(_) => {
                self.paths.insert(prefix.to_vec());
            }
            syn::UseTree::Name(name) => self.add(with(&name.ident), &name.ident, is_exported),
            syn::UseTree::Rename(name) => self.add(with(&name.ident), &name.rename, is_exported),
        }
    }

    fn add(&mut self, path: Vec<String>, name: &syn::Ident, is_exported: bool) {
        if is_exported {
            self.exported.insert(name.to_string(), path);
        } else {
            self.paths.insert(path);
        }
    }
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        let named = match item {
            syn::Item::Struct(item) => Some((&item.attrs, &item.ident)),
            syn::Item::Enum(item) => Some((&item.attrs, &item.ident)),
            syn::Item::Trait(item) => Some((&item.attrs, &item.ident)),
            syn::Item::Type(item) => Some((&item.attrs, &item.ident)),
            syn::Item::Union(item) => Some((&item.attrs, &item.ident)),
            _ => None,
        };
        self.types.extend(named.filter(|(attrs, _)| !is_test(attrs)).map(|(_, name)| name.to_string()));
        visit::visit_item(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            let is_exported = !matches!(item.vis, syn::Visibility::Inherited);
            self.add_tree(&item.tree, &[], is_exported);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        // A single name is `pub(super)` or a receiver.
        if names.len() > 1 && matches!(names[0].as_str(), "crate" | "self" | "super") {
            self.paths.insert(names);
        }
        visit::visit_path(self, path);
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    let is_test = |attribute: &syn::Attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    };
    attributes.iter().any(is_test)
}

fn collect(folder: &Path, module: &mut Module, files: &mut BTreeMap<Module, Uses>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
        if name == "tests" || name == "conformance" {
            continue;
        }
        let is_root = module.is_empty() && (name == "lib" || name == "main");
        let depth = module.len();
        if !is_root && name != "mod" {
            module.push(name);
        }
        if path.is_dir() {
            collect(&path, module, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let uses = Uses::of(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
            files.insert(module.clone(), uses);
        }
        module.truncate(depth);
    }
    Ok(())
}

/// Re-exports of re-exports are followed this far.
const MOST_RE_EXPORTS: usize = 8;

/// The file that defines what `path` names, as seen from `module`; `None` for other crates and for the own items.
fn resolve(files: &BTreeMap<Module, Uses>, module: &Module, path: &[String], depth: usize) -> Option<Module> {
    let mut names = path.iter().peekable();
    let mut current = module.clone();
    match path.first()?.as_str() {
        "crate" => {
            names.next();
            current.clear();
        }
        "self" => {
            names.next();
        }
        "super" => {
            while names.next_if(|name| *name == "super").is_some() {
                current.pop();
            }
        }
        first => {
            current.push(first.to_owned());
            let is_child = files.contains_key(&current);
            current.pop();
            if !is_child {
                return None;
            }
        }
    }
    while let Some(name) = names.next_if(|name| {
        current.push((*name).clone());
        let is_module = files.contains_key(&current);
        current.pop();
        is_module
    }) {
        current.push(name.clone());
    }
    let exported = names.peek().and_then(|name| files.get(&current)?.exported.get(*name));
    match exported {
        Some(target) if depth < MOST_RE_EXPORTS => {
            resolve(files, &current, target, depth + 1).or(Some(current))
        }
        _ => Some(current),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(files: &[(&str, &str)]) -> Imports {
        let module =
            |name: &str| name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let files = files.iter().map(|(name, source)| (module(name), Uses::of(source).unwrap()));
        Imports::of(&files.collect())
    }

    #[test]
    fn files_that_import_each_other_are_a_circle() {
        let imports = imports(&[
            ("a", "use crate::b::{C, D as E};"),
            ("b", "fn f() { super::a::g(); }"),
            ("c", "use std::fmt; use crate::a::g;"),
        ]);
        assert_eq!(imports.circles(), ["a -> b, b -> a"]);
    }

    #[test]
    fn a_name_counts_for_the_file_that_defines_it() {
        let imports = imports(&[
            ("", "mod a; mod b; pub use a::One;"),
            ("a", "mod one; pub use one::One;"),
            ("a::one", "use crate::b::Two; pub struct One(Two);"),
            ("b", "use crate::One;"),
        ]);
        assert_eq!(imports.circles(), ["a::one -> b, b -> a::one"]);
        assert_eq!(imports.between_top_modules().circles(), ["a -> b, b -> a"]);
    }

    #[test]
    fn a_type_name_that_two_files_have_is_found() {
        let files = [
            ("a", "struct One; enum Two {} trait Three { type One; }"),
            ("b", "pub type Two = u8; #[cfg(test)] mod tests { struct Three; } fn One() {}"),
        ];
        let files = files.map(|(name, source)| (vec![name.to_owned()], Uses::of(source).unwrap()));
        assert_eq!(names_twice(&files.into()), ["Two"]);
    }

    #[test]
    fn test_code_may_import_anything() {
        let imports =
            imports(&[("a", "#[cfg(test)] mod tests { use crate::b::B; }"), ("b", "use crate::a::A;")]);
        assert!(imports.circles().is_empty());
    }

    #[test]
    fn an_arrow_that_a_longer_way_implies_is_not_drawn() {
        let imports = imports(&[("a", "use crate::{b::B, c::C};"), ("b", "use crate::c::C;"), ("c", "")]);
        assert_eq!(imports.mermaid(), "graph TD\n  a --> b\n  b --> c\n");
    }
}
