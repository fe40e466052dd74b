//! Any bytes are refused as a sealed message, and what is sealed opens to what it was. The input is a message, and also
//! the frame of one that is sealed.

#![no_main]

use std::sync::LazyLock;

use aether_core::seal::{Refusal, Role, SealKeys, Sealer, is_sealed, overhead};
use libfuzzer_sys::fuzz_target;

const ADDRESS: &str = "aether.orders.created";

static SEALER: LazyLock<Sealer> =
    LazyLock::new(|| Sealer::new(SealKeys::from_secret([7; 32])).expect("random numbers"));

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
});
