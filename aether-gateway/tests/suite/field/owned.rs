//! Owned state through a gateway: read by those who ask for owners, and written by a client that has the key.

use aether_core::Aether;
use aether_field::Field;
use aether_field::core::{Entry, Identity, Key, Trust};
use aether_gateway::{FieldOptions, GatewayOptions};
use base64::Engine as _;
use serde_json::{Value, json};

use crate::field::client::Client;
use crate::field::server::Server;

/// A gateway that trusts the key of `pi-1`, and a replica elsewhere that has it and reaches nobody.
async fn with_owner() -> (Aether, Server, Field) {
    let identity = Identity::generate("pi-1").unwrap();
    let aether = Aether::local();
    let trust = Trust::allow_list([("pi-1", identity.public_key())]);
    let field = Field::builder("home").replica("gateway").trust(trust.clone()).join(&aether).await.unwrap();
    let server = Server::serving(&aether, FieldOptions::default(), GatewayOptions::default(), field).await;
    let alone = Aether::local();
    let owner = Field::builder("home").identity(identity).trust(trust).join(&alone).await.unwrap();
    (aether, server, owner)
}

/// The last entry that the owner signed for a name.
fn signed(owner: &Field, name: &str) -> Entry {
    owner.entry(&Key::Owned("pi-1".into(), name.into())).expect("it was written")
}

fn own(op: u64, name: &str, entry: &Entry) -> Value {
    let bytes = base64::engine::general_purpose::STANDARD.encode(entry.value.as_ref().expect("bytes"));
    let version = entry.stamp.to_string();
    json!({ "type": "own", "op": op, "owner": "pi-1", "key": name, "version": version, "entry": bytes })
}

#[tokio::test]
async fn what_an_owner_signs_goes_through_a_gateway_and_comes_to_those_who_ask_for_owners() {
    let (_aether, server, owner) = with_owner().await;
    let mut client = Client::connect(server.address, "home", "the owner").await;
    let mut reader = Client::connect(server.address, "home", "reader").await;
    reader.tab.send(&json!({ "type": "subscribe", "owners": ["pi-*"] })).await;
    reader.until(|client| client.snapshots == 1).await;
    let mut other = Client::following(server.address, "home", "other").await;

    owner.own().unwrap().set("temperature", &21.5).unwrap();
    let first = signed(&owner, "temperature");
    client.write(&own(1, "temperature", &first)).await;
    reader.until(|client| client.value("pi-1 temperature") == Some(&json!(21.5))).await;
    // The same again has no effect, and is acknowledged.
    client.write(&own(1, "temperature", &first)).await;

    owner.own().unwrap().set("temperature", &22).unwrap();
    client.write(&own(2, "temperature", &signed(&owner, "temperature"))).await;
    reader.until(|client| client.value("pi-1 temperature") == Some(&json!(22))).await;
    let mut late = Client::connect(server.address, "home", "late").await;
    late.tab.send(&json!({ "type": "subscribe", "patterns": ["*"], "owners": ["pi-1"] })).await;
    late.until(|client| client.snapshots == 1).await;
    assert_eq!(late.value("pi-1 temperature"), Some(&json!(22)));
    let listed = server.get("/field/home/entries?owner=pi-1").await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        (&listed["owner"], &listed["key"], &listed["value"]),
        (&json!("pi-1"), &json!("temperature"), &json!(22))
    );

    owner.own().unwrap().remove("temperature").unwrap();
    client.write(&own(3, "temperature", &signed(&owner, "temperature"))).await;
    reader.until(|client| client.value("pi-1 temperature").is_none()).await;
    // An older one does not bring it back, and its sender learns it.
    client.tab.send(&own(4, "temperature", &first)).await;
    client.until(|client| client.refused.contains_key(&4)).await;
    assert_eq!(client.refused[&4]["code"], "version");
    other.settle().await;
    assert_eq!(other.state.len(), 0, "nobody gets owned state without asking for it");
    server.stop().await;
}

#[tokio::test]
async fn what_another_key_signs_is_refused_and_nothing_of_it_is_seen() {
    let (_aether, server, owner) = with_owner().await;
    let alone = Aether::local();
    let identity = Identity::generate("pi-1").unwrap();
    let trust = Trust::none().with_self(&identity);
    let thief = Field::builder("home").identity(identity).trust(trust).join(&alone).await.unwrap();
    thief.own().unwrap().set("temperature", &99).unwrap();
    let mut client = Client::connect(server.address, "home", "thief").await;
    owner.own().unwrap().set("temperature", &21.5).unwrap();
    let good = signed(&owner, "temperature");
    let mut forged = vec![good.clone(), signed(&thief, "temperature")];
    let mut bytes = good.value.clone().unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    forged.push(Entry { value: Some(bytes.into()), ..good.clone() });
    forged.push(Entry { value: Some(vec![1; 40].into()), ..good.clone() });
    let mut moved = good.clone();
    moved.stamp.micros += 1;
    forged.push(moved);
    // A right entry under another name comes first.
    for (op, entry) in (1..).zip(&forged) {
        client.tab.send(&own(op, if op == 1 { "humidity" } else { "temperature" }, entry)).await;
        client.until(|client| client.refused.contains_key(&op)).await;
        assert_eq!(client.refused[&op]["code"], "field", "{op}");
    }
    assert_eq!(server.field.of("pi-1").get::<f64>("temperature").unwrap(), None);
    client.write(&self::own(9, "temperature", &good)).await;
    assert_eq!(server.field.of("pi-1").get::<f64>("temperature").unwrap(), Some(21.5));
    server.stop().await;
}
