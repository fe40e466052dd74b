//! Files of keys and lists of signers that earlier versions wrote, and messages that those keys sealed and signed. The keys
//! are of no use elsewhere.

use std::fs;
use std::path::Path;

use super::*;

const FRAME: &[u8] = b"a frame";
const KEYS: &str = "keys";
const SIGNING: &str = "shop.key";
const SIGNERS: &str = "signers";

fn write(folder: &Path) {
    let mut keys = SealKeys::from_secret([7; 32]);
    keys.add().unwrap();
    keys.save_new(folder.join(KEYS)).unwrap();
    let key = SigningKey::from_secret([8; 32]);
    key.save_new(folder.join(SIGNING)).unwrap();
    let signers = Signers::default().allow("shop", key.public_key()).unwrap();
    fs::write(folder.join(SIGNERS), signers.to_string()).unwrap();
    let sealed = Sealer::new(keys).unwrap().seal(Role::Questions, ADDRESS, "reply", FRAME).unwrap();
    fs::write(folder.join("sealed"), sealed).unwrap();
}

#[test]
fn keys_and_signers_of_each_version_are_read() {
    for (version, folder) in aether_files::corpus::copies(env!("CARGO_MANIFEST_DIR"), write).unwrap() {
        let file = |name: &str| folder.path().join(name);
        let keys = SealKeys::from_file(file(KEYS)).unwrap();
        let uses: Vec<_> = keys.ids().map(|(_, key_use)| key_use).collect();
        assert_eq!(uses, [KeyUse::Seals, KeyUse::Opens], "{version}");
        assert_eq!(keys.ids().next(), SealKeys::from_secret([7; 32]).ids().next(), "{version}");
        let key = SigningKey::from_file(file(SIGNING)).unwrap();
        assert_eq!(key, SigningKey::from_secret([8; 32]), "{version}");
        let signers = Signers::from_file(file(SIGNERS)).unwrap();
        assert!(signers.permits("shop", key.id()) && !signers.permits("stock", key.id()), "{version}");
        let sealer = Sealer::new(keys).unwrap();
        let sealed = fs::read(file("sealed")).unwrap();
        let opened = sealer.open_again(Role::Questions, ADDRESS, &sealed).unwrap();
        assert_eq!((&opened.frame[..], opened.reply()), (FRAME, Some("reply")), "{version}");
    }
}

#[test]
fn keys_of_a_later_version_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (keys, signing) = (folder.path().join(KEYS), folder.path().join(SIGNING));
    SealKeys::from_secret([7; 32]).save_new(&keys).unwrap();
    SigningKey::from_secret([8; 32]).save_new(&signing).unwrap();
    for path in [&keys, &signing] {
        let later = fs::read_to_string(path).unwrap().replace("-1:", "-2:");
        assert!(later.contains("-key-2:"));
        fs::write(path, &later).unwrap();
        assert!(SealKeys::from_file(path).is_err() && SigningKey::from_file(path).is_err());
        assert_eq!(fs::read_to_string(path).unwrap(), later);
    }
}
