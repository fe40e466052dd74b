//! The codec and the sealer together: what is bound, what is refused, and what tampering does.

mod corpus;
mod known_answers;
mod signing;

use proptest::prelude::*;

use super::*;
use aether_link::wire::{SEALED_VERSION, SIGNED_VERSION};

const ADDRESS: &str = "aether.orders.created";

fn pair() -> (Sealer, Sealer) {
    let keys = SealKeys::generate().unwrap();
    (Sealer::new(keys.clone()).unwrap(), Sealer::new(keys).unwrap())
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened_and_nothing_altered_cut_or_added_is(
        frame in prop::collection::vec(any::<u8>(), 0..600),
        reply in "[a-zA-Z0-9_.]{0,60}",
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
        more in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let (here, there) = pair();
        let sealed = here.seal(Role::Questions, ADDRESS, &reply, &frame).unwrap();
        prop_assert_eq!(sealed.len(), frame.len() + overhead(reply.len()));
        let open = |message: &[u8]| there.open(Role::Questions, ADDRESS, message, &mut there.guard());
        let opened = open(&sealed).unwrap();
        prop_assert_eq!((&opened.frame[..], opened.reply().unwrap_or_default()), (&frame[..], &reply[..]));
        let mut altered = sealed.to_vec();
        altered[at.index(sealed.len())] ^= flip;
        prop_assert!(open(&altered).is_err());
        prop_assert!(open(&sealed[..at.index(sealed.len())]).is_err());
        prop_assert!(open(&[&sealed[..], &more].concat()).is_err());
    }

    /// No input makes it panic, whatever it begins with.
    #[test]
    fn bytes_that_nobody_sealed_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), begin in 0..5_u8) {
        let (_, there) = pair();
        let (id, _) = there.seal(Role::Waves, "", "", b"").map(|sealed| (sealed[4..12].to_vec(), ())).unwrap();
        let message = match begin {
            0 => bytes,
            1 => [&aether_link::wire::MAGIC[..], &bytes].concat(),
            2 => [&aether_link::wire::MAGIC[..], &[SEALED_VERSION], &bytes].concat(),
            3 => [&aether_link::wire::MAGIC[..], &[SIGNED_VERSION], &id, &bytes].concat(),
            _ => [&aether_link::wire::MAGIC[..], &[SEALED_VERSION], &id, &bytes].concat(),
        };
        prop_assert!(there.open(Role::Waves, "", &message, &mut there.guard()).is_err());
        prop_assert!(there.open_again(Role::Waves, "", &message).is_err());
    }
}

#[test]
fn a_frame_is_bound_to_its_address_its_role_and_its_key() {
    let (here, there) = pair();
    for role in Role::ALL {
        let sealed = here.seal(role, ADDRESS, "", b"x").unwrap();
        for other in Role::ALL {
            let opened = there.open(other, ADDRESS, &sealed, &mut there.guard());
            assert_eq!(opened.err(), (other != role).then_some(Refusal::Tampered));
        }
        for address in ["", "aether.orders", "aether.orders.created2", "aether-ask.orders.created"] {
            assert_eq!(there.open_again(role, address, &sealed).err(), Some(Refusal::Tampered));
        }
        let stranger = Sealer::new(SealKeys::generate().unwrap()).unwrap();
        let refused = stranger.open_again(role, ADDRESS, &sealed).unwrap_err();
        let key = sealed_key(&sealed).unwrap();
        assert_eq!(refused, Refusal::UnknownKey { key });
        assert_eq!(stranger.refusals().missing_keys, [(key, 1)]);
        // The id of a key that is there does not help.
        let mut renamed = sealed.to_vec();
        let own = stranger.seal(role, ADDRESS, "", b"x").unwrap();
        renamed[4..12].copy_from_slice(&own[4..12]);
        assert_eq!(stranger.open_again(role, ADDRESS, &renamed).err(), Some(Refusal::Tampered));
    }
}

#[test]
fn no_two_frames_share_a_nonce_or_a_cipher_text() {
    let (here, _) = pair();
    let sealed: Vec<_> = (0..1000).map(|_| here.seal(Role::Waves, ADDRESS, "", b"same").unwrap()).collect();
    let mut nonces: Vec<_> = sealed.iter().map(|sealed| &sealed[12..36]).collect();
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), 1000);
}

#[test]
fn a_replay_is_refused_once_for_each_guard_also_after_the_sender_has_reconnected() {
    let (here, there) = pair();
    let mut guard = there.guard();
    let sealed: Vec<_> = (0..10).map(|_| here.seal(Role::Waves, ADDRESS, "", b"x").unwrap()).collect();
    for message in &sealed {
        assert!(there.open(Role::Waves, ADDRESS, message, &mut guard).is_ok());
    }
    here.renew().unwrap();
    let after = here.seal(Role::Waves, ADDRESS, "", b"x").unwrap();
    assert!(there.open(Role::Waves, ADDRESS, &after, &mut guard).is_ok());
    for message in sealed.iter().chain([&after]) {
        assert_eq!(there.open(Role::Waves, ADDRESS, message, &mut guard).err(), Some(Refusal::Replayed));
        assert!(there.open_again(Role::Waves, ADDRESS, message).is_ok());
    }
    assert_eq!((guard.senders(), there.refusals().replayed), (2, 11));
}

#[test]
fn a_rotation_in_three_steps_loses_nothing() {
    let old = SealKeys::generate().unwrap();
    let mut added = old.clone();
    let new = added.add().unwrap();
    let mut sealing = added.clone();
    assert_eq!(sealing.seal_with_newest(), new);
    let mut done = sealing.clone();
    assert_eq!(done.drop_others().len(), 1);
    let done_keys = done.clone();
    let steps = [old, added, sealing, done].map(|keys| Sealer::new(keys).unwrap());
    for pair in steps.windows(2) {
        for (here, there) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            let sealed = here.seal(Role::Waves, ADDRESS, "", b"x").unwrap();
            assert!(there.open_again(Role::Waves, ADDRESS, &sealed).is_ok());
        }
    }
    let (first, last) = (&steps[0], &steps[3]);
    let sealed = last.seal(Role::Waves, ADDRESS, "", b"x").unwrap();
    assert!(
        matches!(first.open_again(Role::Waves, ADDRESS, &sealed), Err(Refusal::UnknownKey { key }) if key == new)
    );
    // A step forgotten: the sealer is given the keys while it runs.
    first.change(done_keys, None, None);
    assert!(first.open_again(Role::Waves, ADDRESS, &sealed).is_ok());
}

#[test]
fn a_set_has_one_sealing_key_at_most_sixteen_and_hides_them() {
    let mut keys = SealKeys::generate().unwrap();
    let sealing = keys.ids().next().unwrap().0;
    for _ in 0..40 {
        keys.add().unwrap();
    }
    assert_eq!(keys.ids().count(), 16);
    assert_eq!(
        keys.ids().filter(|(_, key_use)| *key_use == KeyUse::Seals).collect::<Vec<_>>(),
        [(sealing, KeyUse::Seals)]
    );
    // `[7; 32]` in hexadecimal digits, as bytes, or in the text form.
    let shown = format!("{:?}", SealKeys::from_secret([7; 32]));
    assert!(!shown.contains("0707") && !shown.contains("7, 7") && !shown.contains("BwcH"), "{shown}");
}

#[cfg(unix)]
mod files {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn keys_survive_a_file_that_only_its_owner_may_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let mut keys = SealKeys::generate().unwrap();
        keys.save_new(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SealKeys::from_file(&path).unwrap(), keys);
        assert!(matches!(keys.save_new(&path), Err(SealKeysError::File { .. })), "never overwritten");
        keys.add().unwrap();
        keys.seal_with_newest();
        keys.replace(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = SealKeys::from_file(&path).unwrap();
        assert_eq!(read.ids().collect::<Vec<_>>(), keys.ids().collect::<Vec<_>>());
        // A service in the group, or of another user, can still read what root has rotated.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let is_root = std::os::unix::fs::chown(&path, Some(4242), Some(4242)).is_ok();
        keys.replace(&path).unwrap();
        let kept = std::fs::metadata(&path).unwrap();
        assert_eq!(kept.permissions().mode() & 0o777, 0o640);
        assert!(!is_root || (kept.uid(), kept.gid()) == (4242, 4242));
        assert!(matches!(keys.replace(folder.path().join("none")), Err(SealKeysError::File { .. })));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no copy stays behind");
        // The two files of the rotation open what the other seals.
        let (here, there) = (Sealer::new(keys).unwrap(), Sealer::new(read).unwrap());
        let sealed = here.seal(Role::Waves, ADDRESS, "", b"x").unwrap();
        assert!(there.open_again(Role::Waves, ADDRESS, &sealed).is_ok());
    }

    #[test]
    fn a_thread_outside_of_tokio_reads_a_changed_file_itself_and_a_look_ahead_counts_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let mut keys = SealKeys::generate().unwrap();
        keys.save_new(&path).unwrap();
        let followed = Arc::new(FollowedSealer::new(SealOptions::new(&path)).unwrap());
        keys.add().unwrap();
        keys.seal_with_newest();
        let sealed = Sealer::new(keys.clone()).unwrap().seal(Role::Stored, ADDRESS, "", b"x").unwrap();
        let sealer = followed.sealer();
        assert!(matches!(sealer.peek(Role::Stored, ADDRESS, &sealed), Err(Refusal::UnknownKey { .. })));
        assert_eq!(sealer.refusals().unknown_key, 0);
        keys.replace(&path).unwrap();
        followed.follow();
        assert_eq!(&sealer.peek(Role::Stored, ADDRESS, &sealed).unwrap().frame[..], b"x");
    }

    #[test]
    fn a_file_that_is_no_set_of_keys_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let refused = |text: &str| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            SealKeys::from_file(&path).unwrap_err().to_string()
        };
        assert!(
            SealKeys::from_file(folder.path().join("none")).unwrap_err().to_string().contains("cannot use")
        );
        let key = "aether-key-1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
        for (text, says) in [
            (String::new(), "needs one key that seals"),
            (format!("open {key}\n"), "needs one key that seals"),
            (format!("seal {key}\nopen {key}\n"), "different keys"),
            (format!("# a\n\nseal {key}\nkey {key}\n"), "line 4"),
            (format!("seal {}\n", &key[..40]), "line 1"),
            (format!("seal {key}AAAA\n"), "line 1"),
            ("hunter2\n".to_owned(), "line 1"),
            // A key behind the part that is read would be missing without a word.
            (format!("seal {key}\n{}", "# long\n".repeat(10_000)), "needs one key that seals"),
        ] {
            let error = refused(&text);
            assert!(error.contains(says) && !error.contains("hunter2") && !error.contains("BwcH"), "{error}");
        }
        std::fs::write(&path, format!("seal {key}\n")).unwrap();
        assert_eq!(SealKeys::from_file(&path).unwrap(), SealKeys::from_secret([7; 32]));
        for mode in [0o644, 0o604, 0o660, 0o602] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = SealKeys::from_file(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
    }
}
