//! The known answers in `docs/protocol/vectors/sealed`, which a program wrote that was made from
//! `docs/protocol/sealed.md` alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::super::codec::{self, Envelope};
use super::super::key::SealKey;
use super::*;

#[derive(Deserialize)]
struct Answer {
    name: String,
    secret: String,
    role: String,
    address: String,
    nonce: String,
    signing_secret: Option<String>,
    public_key: Option<String>,
    opened: Fields,
    sealed: String,
}

#[derive(Deserialize)]
struct Fields {
    key: String,
    sender: String,
    counter: String,
    sealed_micros: String,
    reply: String,
    frame_hex: String,
    signer: Option<String>,
}

fn protocol() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol")
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn frames_are_sealed_and_opened_as_the_description_says() {
    let text = std::fs::read_to_string(protocol().join("vectors/sealed/known_answers.json")).unwrap();
    let answers: Vec<Answer> = serde_json::from_str(&text).unwrap();
    assert!(answers.len() >= Role::ALL.len());
    assert_eq!(answers.iter().filter(|answer| answer.signing_secret.is_some()).count(), 3);
    for answer in &answers {
        let Answer { name, address, opened, .. } = answer;
        let key = SealKey::new(Zeroizing::new(bytes(&answer.secret).try_into().unwrap()));
        assert_eq!(key.id().to_string(), opened.key, "{name}");
        let role = Role::ALL.into_iter().find(|role| role.label() == answer.role.as_bytes()).unwrap();
        let (sender, counter) =
            (u64::from_str_radix(&opened.sender, 16).unwrap(), opened.counter.parse().unwrap());
        let sealed_micros = opened.sealed_micros.parse().unwrap();
        let envelope = Envelope { sender, counter, sealed_micros, reply: &opened.reply };
        let frame = bytes(&opened.frame_hex);
        let secret = answer.signing_secret.as_deref();
        let signing_key = secret.map(|secret| SigningKey::from_secret(bytes(secret).try_into().unwrap()));
        let keys = (&key, signing_key.as_ref());
        let sealed = codec::seal(keys, role, address, envelope, &frame, |nonce| {
            nonce.copy_from_slice(&bytes(&answer.nonce));
            Ok(())
        });
        let sealed = sealed.unwrap();
        assert!(sealed[..] == bytes(&answer.sealed), "{name}");
        if let Some(signing_key) = &signing_key {
            let public_key = signing_key.public_key();
            assert_eq!(public_key.as_bytes()[..], bytes(answer.public_key.as_ref().unwrap()), "{name}");
            assert_eq!(Some(public_key.id().to_string()), opened.signer, "{name}");
            let signers = Signers::new().allow("*", public_key).unwrap();
            let keys = SealKeys::from_secret(bytes(&answer.secret).try_into().unwrap());
            let sealer = Sealer::signing(keys, None, Some(&signers)).unwrap();
            let proven = sealer.open_again(role, address, &sealed).unwrap();
            assert_eq!(proven.proof.unwrap().signer(), public_key.id(), "{name}");
        }
        let read = codec::open(&key, role, address, &sealed).unwrap();
        assert_eq!(
            (read.sender, read.counter, read.sealed_micros),
            (sender, counter, sealed_micros),
            "{name}"
        );
        assert_eq!((&read.frame()[..], &read.reply()[..]), (&frame[..], opened.reply.as_bytes()), "{name}");
    }
}

#[test]
fn a_program_written_from_the_description_agrees() {
    let said = Command::new("python3")
        .arg("-B")
        .arg(protocol().join("sealed.py"))
        .arg(protocol().join("vectors/sealed/known_answers.json"))
        .output()
        .expect("python3 must be installed");
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && text.contains("11 known answers"), "{text}");
}

/// The program opens a frame down to the waves that this code seals now, with its own nonce and a key from a file.
#[test]
fn the_program_opens_what_is_sealed_now() {
    let folder = tempfile::tempdir().unwrap();
    let (file, message) = (folder.path().join("keys"), folder.path().join("message"));
    let mut keys = SealKeys::generate().unwrap();
    keys.add().unwrap();
    keys.seal_with_newest();
    keys.save_new(&file).unwrap();
    let frame = std::fs::read(protocol().join("vectors/single.bin")).unwrap();
    let sealed = Sealer::new(keys).unwrap().seal(Role::Waves, "aether.orders.created", "", &frame).unwrap();
    std::fs::write(&message, &sealed).unwrap();
    let open = |address: &str| {
        let mut python = Command::new("python3");
        python.arg("-B").arg(protocol().join("sealed.py")).arg("--keys").arg(&file);
        let said = python.args(["--role", "waves", "--address", address]).arg(&message).output().unwrap();
        (
            String::from_utf8_lossy(&said.stdout).into_owned(),
            String::from_utf8_lossy(&said.stderr).into_owned(),
        )
    };
    let (said, errors) = open("aether.orders.created");
    assert!(said.contains("\"waves\": [{") && errors.is_empty(), "{said}{errors}");
    let (said, _) = open("aether.orders.deleted");
    assert_eq!(said, "{\"refused\": \"tampered\"}\n");
}

/// And what is signed now it verifies, down to the names.
#[test]
fn the_program_believes_what_is_signed_now_by_somebody_on_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let (file, list, message) =
        (folder.path().join("keys"), folder.path().join("signers"), folder.path().join("message"));
    let (keys, key) = (SealKeys::generate().unwrap(), SigningKey::generate().unwrap());
    keys.save_new(&file).unwrap();
    // A frame with a wave of `alpha`.
    let frame = std::fs::read(protocol().join("vectors/single.bin")).unwrap();
    let sealer = Sealer::signing(keys, Some(key.clone()), None).unwrap();
    let sealed = sealer.seal(Role::Waves, "aether.orders.created", "", &frame).unwrap();
    std::fs::write(&message, &sealed).unwrap();
    let said = |name: &str, key: &SigningKey| {
        std::fs::write(&list, format!("# ours\n{name} {}\n", key.public_key())).unwrap();
        let mut python = Command::new("python3");
        python
            .arg("-B")
            .arg(protocol().join("sealed.py"))
            .arg("--keys")
            .arg(&file)
            .arg("--signers")
            .arg(&list);
        python.args(["--role", "waves", "--address", "aether.orders.created"]).arg(&message);
        String::from_utf8(python.output().unwrap().stdout).unwrap()
    };
    let id = key.id();
    for name in ["alpha", "alp*", "*"] {
        let text = said(name, &key);
        assert!(text.contains(&format!("\"signer\": \"{id}\"")) && text.contains("\"waves\": [{"), "{text}");
    }
    assert_eq!(said("beta", &key), format!("{{\"refused\": \"misnamed\", \"signer\": \"{id}\"}}\n"));
    let other = SigningKey::generate().unwrap();
    assert_eq!(said("alpha", &other), format!("{{\"refused\": \"unknown signer\", \"signer\": \"{id}\"}}\n"));
}
