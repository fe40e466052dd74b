//! Programs that do not compile, and the errors of the compiler: one error each, which names the mistake.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The name of a program, its text after the imports, and the text of its only error. Everything else is left out of
/// the comparison, because it depends on the version of the compiler.
const MISTAKES: [(&str, &str, &str); 9] = [
    (
        "no_extractor",
        r#"async fn handler(number: u32) {}
           fn main() { let _ = Service::builder("s").on("a", handler); }"#,
        "`u32` cannot be an argument of a handler in a service with the state `()`",
    ),
    (
        "the_second_of_three",
        r#"async fn handler(wave: Wave, number: u32, emitter: Emitter) {}
           fn main() { let _ = Service::builder("s").on("a", handler); }"#,
        "`u32` cannot be an argument of a handler in a service with the state `()`",
    ),
    (
        "no_deserialize",
        r#"struct Order;
           async fn handler(Json(order): Json<Order>) {}
           fn main() { let _ = Service::builder("s").on("a", handler); }"#,
        "the trait bound `Order: serde::Deserialize<'de>` is not satisfied",
    ),
    (
        "no_serialize",
        r#"struct Order;
           async fn handler() -> Json<Order> { Json(Order) }
           fn main() { let _ = Service::builder("s").on_query("a", handler); }"#,
        "the trait bound `Order: serde::Serialize` is not satisfied",
    ),
    (
        "no_state",
        r#"async fn handler(State(number): State<u32>) {}
           fn main() { let _ = Service::builder("s").on("a", handler); }"#,
        "`State<u32>` cannot be an argument of a handler in a service with the state `()`",
    ),
    (
        "a_value_is_returned",
        r#"async fn handler() -> u32 { 1 }
           fn main() { let _ = Service::builder("s").on("a", handler); }"#,
        "a handler of `.on(..)` cannot return `u32`",
    ),
    (
        "no_answer",
        r#"async fn handler() -> u32 { 1 }
           fn main() { let _ = Service::builder("s").on_query("a", handler); }"#,
        "`u32` is not an answer",
    ),
    (
        "not_async",
        r#"fn handler(wave: Wave) {}
           fn main() { let _ = Service::builder("s").on("a", handler); }"#,
        "`fn(aether_core::Wave) {handler}` is not a handler",
    ),
    (
        "not_send",
        r#"async fn handler() { let rc = std::rc::Rc::new(1); std::future::ready(()).await; drop(rc); }
           fn main() { let _ = Service::builder("s").on("a", handler); }"#,
        "future cannot be sent between threads safely",
    ),
];

const IMPORTS: &str = "use aether_service::{Json, Service, State};\nuse aether_core::{Emitter, Wave};\n";

/// Compiled libraries of a crate beside this program, the newest first. There are several if it was built with other
/// features before; the newest has the sources of now.
fn libraries(name: &str) -> Vec<PathBuf> {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let is_wanted = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hash = file.strip_prefix("lib").and_then(|rest| rest.strip_prefix(name));
        hash.is_some_and(|hash| hash.starts_with('-') && hash.ends_with(".rlib"))
    };
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(is_wanted).collect();
    found.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().modified().unwrap()));
    found
}

/// Compiles a program with the libraries of this workspace as far as types are checked. Returns the messages of the
/// compiler, a JSON value a line.
fn compile(program: &Path, externs: &[(&str, PathBuf)]) -> Output {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(compiler);
    command.args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--error-format=json"]);
    command.args(["--cap-lints=allow", "-L"]).arg(externs[0].1.parent().unwrap());
    for (name, path) in externs {
        command.arg("--extern").arg(format!("{name}={}", path.display()));
    }
    command.arg("--out-dir").arg(program.parent().unwrap()).arg(program).output().unwrap()
}

#[test]
fn each_mistake_has_one_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    // All of them are modules of one library, so that the compiler runs once.
    let root = folder.path().join("mistakes.rs");
    let correct = folder.path().join("correct.rs");
    // Libraries of two builds have two types `Wave`: the compiler refuses the handler, and the loop tries the next pair.
    let handles =
        r#"async fn handler(_: Wave) {} fn main() { let _ = Service::builder("s").on("a", handler); }"#;
    std::fs::write(&correct, format!("{IMPORTS}{handles}\n")).unwrap();
    std::fs::write(&root, MISTAKES.map(|(name, ..)| format!("mod {name};\n")).concat()).unwrap();
    for (name, program, _) in MISTAKES {
        std::fs::write(folder.path().join(format!("{name}.rs")), format!("{IMPORTS}{program}\n")).unwrap();
    }
    let serde = libraries("serde");
    let externs = libraries("aether_service")
        .into_iter()
        .flat_map(|chassis| libraries("aether_core").into_iter().map(move |core| (chassis.clone(), core)))
        .flat_map(|(chassis, core)| {
            serde.iter().map(move |serde| (chassis.clone(), core.clone(), serde.clone()))
        })
        .map(|(chassis, core, serde)| [("aether_service", chassis), ("aether_core", core), ("serde", serde)])
        .find(|externs| compile(&correct, externs).status.success())
        .expect("the libraries of this program fit each other");
    let output = compile(&root, &externs);
    let mut errors: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        let error: Value = serde_json::from_str(line).unwrap();
        // The last error only counts the others, and has no place.
        let spans = error["spans"].as_array().map_or(&[][..], Vec::as_slice);
        let Some(span) = spans.iter().find(|span| span["is_primary"] == true) else { continue };
        if error["level"] == "error" {
            let file = Path::new(span["file_name"].as_str().unwrap()).file_stem().unwrap();
            let program = file.to_string_lossy().into_owned();
            // The path is written out if a dependency, or another of these programs, has a type of the same name.
            let text = error["message"].as_str().unwrap().replace("aether_service::State", "State");
            let text = text.replace(&format!("{program}::"), "");
            errors.entry(program).or_default().push(text);
        }
    }
    let expected = MISTAKES.map(|(name, _, error)| (name.to_owned(), vec![error.to_owned()]));
    assert_eq!(errors, BTreeMap::from(expected));
}
