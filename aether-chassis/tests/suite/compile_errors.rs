//! Programs that do not compile, and what the compiler says about them: one error each, which names the mistake.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;

/// The name of a program, its text after the imports, and what its only error says. Everything else is left out of the
/// comparison, because it depends on the version of the compiler.
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

/// Cargo compiles the dependencies anew where their features differ.
const LIMIT: Duration = Duration::from_secs(20 * 60);

const IMPORTS: &str =
    "#![allow(unused)]\nuse aether_chassis::{Json, Service, State};\nuse aether_core::{Emitter, Wave};\n";

#[test]
fn each_mistake_has_one_error_that_names_it() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mistakes");
    let programs = folder.join("src/bin");
    std::fs::create_dir_all(&programs).unwrap();
    for (name, program, _) in MISTAKES {
        std::fs::write(programs.join(format!("{name}.rs")), format!("{IMPORTS}{program}\n")).unwrap();
    }
    std::fs::write(programs.join("correct.rs"), format!("{IMPORTS}fn main() {{}}\n")).unwrap();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let manifest = std::fs::read_to_string(workspace.join("Cargo.toml")).unwrap();
    // The same profile, so that cargo takes what is compiled already.
    let profiles = manifest.find("[profile.dev]").unwrap()..manifest.find("[profile.release]").unwrap();
    let manifest = format!(
        "[package]\nname = \"mistakes\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
         aether-chassis.path = {:?}\naether-core.path = {:?}\nserde = \"1\"\n{}",
        workspace.join("aether-chassis"),
        workspace.join("aether-core"),
        &manifest[profiles],
    );
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    // The same versions, and no network.
    std::fs::copy(workspace.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--keep-going", "--bins", "--message-format=json", "--target-dir"])
        .arg(target)
        .current_dir(&folder)
        .timeout(LIMIT)
        .output()
        .unwrap();
    let mut errors: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut compiled = false;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        let program = message["target"]["name"].as_str().unwrap_or_default();
        compiled |= message["reason"] == "compiler-artifact" && program == "correct";
        // The last error only counts the others, and has no place.
        let error = &message["message"];
        if error["level"] == "error" && error["spans"].as_array().is_some_and(|spans| !spans.is_empty()) {
            // The path is written out if a dependency has a type of the same name.
            let text = error["message"].as_str().unwrap().replace("aether_chassis::State", "State");
            errors.entry(program.to_owned()).or_default().push(text);
        }
    }
    assert!(compiled, "{}", String::from_utf8_lossy(&output.stderr));
    let expected = MISTAKES.map(|(name, _, error)| (name.to_owned(), vec![error.to_owned()]));
    assert_eq!(errors, BTreeMap::from(expected));
}
