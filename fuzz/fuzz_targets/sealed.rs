//! Any bytes are refused as a sealed message, and what is sealed opens to what it was. The input is a message, the frame of
//! one that is sealed, of one that is signed, and the text of a list of signers.

#![no_main]

use std::sync::LazyLock;

use aether::seal::{Refusal, Role, SIGNATURE_OVERHEAD, SealKeys, Sealer, Signers, SigningKey, is_sealed, overhead};
use libfuzzer_sys::fuzz_target;

const ADDRESS: &str = "aether.orders.created";

static SEALER: LazyLock<Sealer> =
    LazyLock::new(|| Sealer::new(SealKeys::from_secret([7; 32])).expect("random numbers"));

/// Of the same group, and believes only itself.
static SIGNER: LazyLock<Sealer> = LazyLock::new(|| {
    let key = SigningKey::from_secret([8; 32]);
    let signers = Signers::new().allow("*", key.public_key()).expect("a name");
    Sealer::signing(SealKeys::from_secret([7; 32]), Some(key), Some(&signers)).expect("random numbers")
});

/// As far as the key id, so that the rest is looked at.
static BEGIN: LazyLock<Vec<u8>> = LazyLock::new(|| sealed(b"")[..12].to_vec());

fn sealed(frame: &[u8]) -> Vec<u8> {
    SEALER.seal(Role::Waves, ADDRESS, "", frame).expect("random numbers").to_vec()
}

fuzz_target!(|data: &[u8]| {
    let open = |message: &[u8]| SEALER.open(Role::Waves, ADDRESS, message, &mut SEALER.guard());
    let refusal = open(data).expect_err("nobody has sealed it");
    assert_eq!(refusal == Refusal::Plain, !is_sealed(data));
    let message = [&BEGIN[..], data].concat();
    assert_eq!(open(&message).expect_err("nobody has sealed it"), Refusal::Tampered);
    let message = sealed(data);
    assert_eq!(message.len(), data.len() + overhead(0));
    assert_eq!(&open(&message).expect("it is sealed").frame[..], data);
    let believe = |message: &[u8]| SIGNER.open(Role::Waves, ADDRESS, message, &mut SIGNER.guard());
    assert_eq!(believe(&message).expect_err("nobody has signed it"), Refusal::Unsigned);
    let signed = SIGNER.seal(Role::Waves, ADDRESS, "", data).expect("random numbers");
    assert_eq!(signed.len(), data.len() + overhead(0) + SIGNATURE_OVERHEAD);
    let opened = believe(&signed).expect("it is signed");
    assert_eq!((&opened.frame[..], opened.proof.is_some()), (data, true));
    let message = [&signed[..12], data].concat();
    assert_eq!(believe(&message).expect_err("nobody has sealed it"), Refusal::Tampered);
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(signers) = Signers::parse(text)
    {
        assert_eq!(Signers::parse(&signers.to_string()), Ok(signers));
    }
});
