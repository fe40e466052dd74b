//! Stores and identities that earlier versions wrote, and a store of a later one.

use std::path::Path;

use aether_core::Aether;
use aether_field::{Field, Identity, StoreError, check_store};
use aether_files::corpus;

const STORE: &str = "home.field";
const IDENTITY: &str = "hall.identity";

async fn open(folder: &Path) -> Field {
    let identity = Identity::load(folder.join(IDENTITY)).unwrap();
    let field = Field::builder("home").replica("hall").identity(identity).store(folder.join(STORE));
    field.join(&Aether::local()).await.unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn write(folder: &Path) {
    Identity::generate("hall").unwrap().save(folder.join(IDENTITY)).unwrap();
    let field = open(folder).await;
    field.set("lamp", "on").unwrap();
    field.set("gone", "1").unwrap();
    field.remove("gone").unwrap();
    field.add("visits", 3).unwrap();
    field.add("visits", -1).unwrap();
    for member in ["x", "y"] {
        field.insert("tags", member).unwrap();
    }
    field.discard("tags", "x").unwrap();
    field.own().unwrap().set("temperature", &21).unwrap();
    field.durable().await.unwrap();
    field.close().await.unwrap();
}

#[test]
fn a_store_of_each_version_is_read() {
    for (version, folder) in corpus::copies(env!("CARGO_MANIFEST_DIR"), write).unwrap() {
        read(&version, folder.path());
    }
}

#[tokio::main(flavor = "current_thread")]
async fn read(version: &str, folder: &Path) {
    let check = check_store(folder.join(STORE)).unwrap();
    assert!(check.is_intact, "{version}: {check:?}");
    let field = open(folder).await;
    assert_eq!(field.get::<String>("lamp").unwrap().as_deref(), Some("on"), "{version}");
    assert_eq!((field.get_json("gone"), field.count("visits")), (None, 2), "{version}");
    assert_eq!(field.members("tags"), ["y"], "{version}");
    assert_eq!(field.of("hall").get::<u8>("temperature").unwrap(), Some(21), "{version}");
    // The same identity may go on.
    field.own().unwrap().set("temperature", &22).unwrap();
    field.durable().await.unwrap();
    field.close().await.unwrap();
}

/// Sets the number of a store.
fn number(path: &Path, version: u8) {
    let database = redb::Database::open(path).unwrap();
    let change = database.begin_write().unwrap();
    let about: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("about");
    change.open_table(about).unwrap().insert("version", [version].as_slice()).unwrap();
    change.commit().unwrap();
}

#[tokio::test]
async fn a_store_of_a_later_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(STORE);
    let aether = Aether::local();
    let join = || Field::builder("home").store(&path).join(&aether);
    let field = join().await.unwrap();
    field.set("lamp", "on").unwrap();
    field.close().await.unwrap();
    number(&path, 3);
    let error = join().await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().downcast_ref::<StoreError>();
    assert!(matches!(cause, Some(StoreError::Version { version: 3, .. })), "{error:?}");
    assert!(matches!(check_store(&path), Err(StoreError::Version { version: 3, .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "not set aside");
    number(&path, 2);
    assert_eq!(join().await.unwrap().get::<String>("lamp").unwrap().as_deref(), Some("on"));
}
