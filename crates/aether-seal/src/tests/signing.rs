//! Signed frames: who is believed, what a member of the group can forge, and in which order it is checked.

use bytes::Bytes;

use super::super::codec::{self, Envelope, SIGNATURE_OVERHEAD};
use super::super::key::SealKey;
use super::*;
use aether_core::clock::micros_since_1970;

/// All have the keys of sealed waves.
const GROUP: [u8; 32] = [9; 32];

fn key(number: u8) -> SigningKey {
    SigningKey::from_secret([number; 32])
}

fn sealer(signing_key: Option<SigningKey>, signers: Option<&Signers>) -> Sealer {
    Sealer::signing(SealKeys::from_secret(GROUP), signing_key, signers).unwrap()
}

/// `shop` with key 1, `billing` with key 2.
fn signers() -> Signers {
    let signers = Signers::new().allow("shop", key(1).public_key()).unwrap();
    signers.allow("billing", key(2).public_key()).unwrap()
}

fn seal(sealer: &Sealer, frame: &[u8]) -> Bytes {
    sealer.seal(Role::Waves, ADDRESS, "", frame).unwrap()
}

/// A forgery by a member of the group with the keys of sealed waves alone: the frame of another, sealed again with changes.
fn resealed(address: &str, message: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let key = SealKey::new(zeroize::Zeroizing::new(GROUP));
    let (header, rest) = message.split_at(12);
    let (nonce, encrypted) = rest.split_first_chunk::<24>().unwrap();
    let mut plain = encrypted.to_vec();
    let cipher = key.cipher(Role::Waves);
    let associated = [header, ADDRESS.as_bytes()].concat();
    cipher.decrypt(nonce, &associated, &mut plain).unwrap();
    change(&mut plain);
    let associated = [header, address.as_bytes()].concat();
    let tag = cipher.encrypt(nonce, &associated, &mut plain).unwrap();
    [header, nonce, &plain, &tag].concat().into()
}

#[test]
fn a_signer_of_the_list_is_proven_and_everybody_else_refused_by_reason() {
    let signers = signers();
    let there = sealer(Some(key(2)), Some(&signers));
    let mut guard = there.guard();
    let signed = seal(&sealer(Some(key(1)), None), b"x");
    let opened = there.open(Role::Waves, ADDRESS, &signed, &mut guard).unwrap();
    let proof = opened.proof.unwrap();
    assert_eq!((&opened.frame[..], proof.signer()), (&b"x"[..], key(1).id()));
    assert!(proof.permits("shop") && !proof.permits("billing"));
    assert_eq!(there.open(Role::Waves, ADDRESS, &signed, &mut guard).err(), Some(Refusal::Replayed));
    let unsigned = seal(&sealer(None, None), b"x");
    assert_eq!(there.open(Role::Waves, ADDRESS, &unsigned, &mut guard).err(), Some(Refusal::Unsigned));
    let stranger = seal(&sealer(Some(key(3)), None), b"x");
    let unknown = Refusal::UnknownSigner { signer: key(3).id() };
    assert_eq!(there.open(Role::Waves, ADDRESS, &stranger, &mut guard).err(), Some(unknown));
    let refused = there.refusals();
    assert_eq!((refused.unsigned, refused.unknown_signer, refused.replayed, refused.forged), (1, 1, 1, 0));
    assert_eq!(refused.unknown_signers, [(key(3).id(), 1)]);
    assert_eq!(guard.senders(), 1, "strangers have no window");
    // Without a list the signature is passed over, and nothing is proven.
    let trusting = sealer(None, None);
    let opened = trusting.open(Role::Waves, ADDRESS, &signed, &mut trusting.guard()).unwrap();
    assert_eq!((&opened.frame[..], opened.proof.is_none()), (&b"x"[..], true));
}

#[test]
fn a_member_of_the_group_changes_moves_and_renumbers_no_signed_frame() {
    let there = sealer(Some(key(2)), Some(&signers()));
    let here = sealer(Some(key(1)), None);
    let forged = Some(Refusal::Forged { signer: key(1).id() });
    let open = |address: &str, message: &[u8]| there.open(Role::Waves, address, message, &mut there.guard());
    let signed = here.seal(Role::Waves, ADDRESS, "answer.here", b"a frame").unwrap();
    assert!(open(ADDRESS, &resealed(ADDRESS, &signed, |_| {})).is_ok(), "the tools of the forger work");
    let inner = signed.len() - 12 - 24 - 16;
    assert_eq!(inner, 26 + 11 + 7 + SIGNATURE_OVERHEAD);
    for at in 0..inner {
        let message = resealed(ADDRESS, &signed, |plain| plain[at] ^= 1);
        let refused = open(ADDRESS, &message).err();
        let signer_at = inner - SIGNATURE_OVERHEAD;
        match at {
            // The time of sealing: a microsecond more or less is fresh. The length of the reply address: it is cut
            // elsewhere.
            0..16 | 24..37 => assert!(refused.is_some(), "{at}"),
            _ if (signer_at..signer_at + 8).contains(&at) => {
                assert!(matches!(refused, Some(Refusal::UnknownSigner { .. })), "{at}: {refused:?}");
            }
            16..24 => {
                assert!(matches!(refused, Some(Refusal::Forged { .. } | Refusal::Stale { .. })), "{at}")
            }
            _ => assert_eq!(refused, forged, "{at}"),
        }
    }
    let elsewhere = "aether.orders.deleted";
    assert_eq!(open(elsewhere, &resealed(elsewhere, &signed, |_| {})).err(), forged, "moved");
    assert_eq!(there.open_again(Role::Waves, elsewhere, &resealed(elsewhere, &signed, |_| {})).err(), forged);
    let longer = resealed(ADDRESS, &signed, |plain| plain.insert(0, 0));
    assert!(open(ADDRESS, &longer).is_err());
    // A signature of the forger's own in the place of the true one.
    let own = sealer(Some(key(2)), None).seal(Role::Waves, ADDRESS, "answer.here", b"a frame").unwrap();
    let mut signature = Vec::new();
    resealed(ADDRESS, &own, |plain| signature = plain[plain.len() - 64..].to_vec());
    let swapped = resealed(ADDRESS, &signed, |plain| {
        let at = plain.len() - 64;
        plain[at..].copy_from_slice(&signature);
    });
    assert_eq!(open(ADDRESS, &swapped).err(), forged);
    // The signature taken off: an unsigned frame.
    let cut = codec::seal(
        (&SealKey::new(zeroize::Zeroizing::new(GROUP)), None),
        Role::Waves,
        ADDRESS,
        Envelope { sender: 1, counter: 1, sealed_micros: micros_since_1970(), reply: "" },
        b"a frame",
        |_| Ok(()),
    );
    assert_eq!(open(ADDRESS, &cut.unwrap()).err(), Some(Refusal::Unsigned));
}

#[test]
fn a_signature_of_one_role_is_none_of_another() {
    let there = sealer(Some(key(2)), Some(&signers()));
    for role in Role::ALL {
        let signed = sealer(Some(key(1)), None).seal(role, ADDRESS, "", b"x").unwrap();
        for other in Role::ALL {
            let opened = there.open_again(other, ADDRESS, &signed);
            assert_eq!(opened.err(), (other != role).then_some(Refusal::Tampered));
        }
    }
    // Somebody with the keys seals it for another role: the keys of roles are derived, so the statement differs alone.
    let key_of_group = SealKey::new(zeroize::Zeroizing::new(GROUP));
    let envelope = Envelope { sender: 1, counter: 1, sealed_micros: 1, reply: "" };
    let signed_for = |role| {
        let key = key(1);
        codec::seal((&key_of_group, Some(&key)), role, ADDRESS, envelope, b"x", |_| Ok(())).unwrap()
    };
    let (waves, control) = (signed_for(Role::Waves), signed_for(Role::Control));
    let signature =
        |message: &[u8], role| codec::open(&key_of_group, role, ADDRESS, message).unwrap().signature.unwrap();
    assert_ne!(signature(&waves, Role::Waves).bytes, signature(&control, Role::Control).bytes);
}

#[test]
fn a_forged_frame_moves_no_window_and_a_member_none_of_another() {
    let there = sealer(Some(key(2)), Some(&signers()));
    let mut guard = there.guard();
    let here = sealer(Some(key(1)), None);
    let first = seal(&here, b"1");
    assert!(there.open(Role::Waves, ADDRESS, &first, &mut guard).is_ok());
    // The forger counts far ahead in the name of the sender, with the signature of another frame.
    let ahead = resealed(ADDRESS, &first, |plain| plain[8..16].copy_from_slice(&u64::MAX.to_le_bytes()));
    let refused = there.open(Role::Waves, ADDRESS, &ahead, &mut guard);
    assert_eq!(refused.err(), Some(Refusal::Forged { signer: key(1).id() }));
    // And with a signature of its own, under the number of the sender.
    let mut sender = [0; 8];
    resealed(ADDRESS, &first, |plain| sender.copy_from_slice(&plain[..8]));
    let envelope = Envelope {
        sender: u64::from_le_bytes(sender),
        counter: u64::MAX,
        sealed_micros: micros_since_1970(),
        reply: "",
    };
    let group = SealKey::new(zeroize::Zeroizing::new(GROUP));
    let own = codec::seal((&group, Some(&key(2))), Role::Waves, ADDRESS, envelope, b"x", |_| Ok(())).unwrap();
    assert!(there.open(Role::Waves, ADDRESS, &own, &mut guard).is_ok());
    assert!(
        there.open(Role::Waves, ADDRESS, &seal(&here, b"2"), &mut guard).is_ok(),
        "the sender is heard as before"
    );
}

#[test]
fn a_key_is_rotated_with_two_on_the_list_and_loses_nothing() {
    let (old, new) = (key(1), key(4));
    let both = signers().allow("shop", new.public_key()).unwrap();
    let only_new = Signers::new().allow("shop", new.public_key()).unwrap();
    let keys = || SealKeys::from_secret(GROUP);
    let (here, there) = (sealer(Some(old.clone()), None), sealer(None, Some(&signers())));
    let mut guard = there.guard();
    let mut is_heard =
        |here: &Sealer| there.open(Role::Waves, ADDRESS, &seal(here, b"x"), &mut guard).is_ok();
    assert!(is_heard(&here));
    there.change(keys(), None, Some(&both));
    assert!(is_heard(&here));
    here.change(keys(), Some(new), None);
    assert!(is_heard(&here));
    there.change(keys(), None, Some(&only_new));
    assert!(is_heard(&here));
    here.change(keys(), Some(old.clone()), None);
    let refused = there.open_again(Role::Waves, ADDRESS, &seal(&here, b"x"));
    assert_eq!(refused.err(), Some(Refusal::UnknownSigner { signer: old.id() }));
}

#[test]
fn the_keys_that_sign_must_be_on_the_own_list() {
    let options = || SealOptions::new(SealKeys::from_secret(GROUP));
    let refused = |options: SealOptions| options.sealer().unwrap_err().to_string();
    assert!(refused(options().signers(signers())).contains("signing key of its own"));
    let unlisted = refused(options().signers(signers()).signing_key(key(7)));
    assert!(unlisted.contains(&key(7).id().to_string()), "{unlisted}");
    let sealer = options().signers(signers()).signing_key(key(1)).sealer().unwrap();
    assert_eq!(sealer.overhead(3), overhead(3) + SIGNATURE_OVERHEAD);
    // A list without the own key leaves everything as it was.
    let worse = options().signers(Signers::new()).signing_key(key(1));
    assert!(worse.renew(&sealer).is_err());
    assert!(sealer.open_again(Role::Waves, ADDRESS, &seal(&sealer, b"x")).is_ok());
    assert!(!format!("{:?}", options().signing_key(key(1))).contains("1, 1"));
}

proptest! {
    #[test]
    fn what_is_signed_is_opened_and_nothing_altered_or_cut_is(
        frame in prop::collection::vec(any::<u8>(), 0..600),
        reply in "[a-zA-Z0-9_.]{0,60}",
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let (here, there) = (sealer(Some(key(1)), None), sealer(Some(key(2)), Some(&signers())));
        let sealed = here.seal(Role::Questions, ADDRESS, &reply, &frame).unwrap();
        prop_assert_eq!(sealed.len(), frame.len() + here.overhead(reply.len()));
        let open = |message: &[u8]| there.open(Role::Questions, ADDRESS, message, &mut there.guard());
        let opened = open(&sealed).unwrap();
        prop_assert_eq!((&opened.frame[..], opened.reply().unwrap_or_default()), (&frame[..], &reply[..]));
        let mut altered = sealed.to_vec();
        altered[at.index(sealed.len())] ^= flip;
        prop_assert!(open(&altered).is_err());
        prop_assert!(open(&sealed[..at.index(sealed.len())]).is_err());
    }

    /// Whatever somebody with the keys puts inside: refused, and no panic.
    #[test]
    fn an_inner_part_that_nobody_signed_is_refused(inner in prop::collection::vec(any::<u8>(), 0..200)) {
        let there = sealer(Some(key(2)), Some(&signers()));
        let base = seal(&sealer(Some(key(1)), None), b"");
        let message = resealed(ADDRESS, &base, |plain| *plain = inner);
        prop_assert!(there.open(Role::Waves, ADDRESS, &message, &mut there.guard()).is_err());
        prop_assert!(sealer(None, None).open(Role::Questions, ADDRESS, &message, &mut there.guard()).is_err());
    }
}
