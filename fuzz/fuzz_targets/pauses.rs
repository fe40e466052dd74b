//! Any message on the channel of pauses is refused or understood. The input is a message, and the payload of one.

#![no_main]

use std::time::Instant;

use aether_link::wire::{Sender, encode};
use aether_core::Wave;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    aether_link::fuzz_pauses(&Bytes::copy_from_slice(data));
    // A frame of any channel; the address names the one it was sent to.
    let wave = Wave::from_bytes("flow", data.to_vec()).expect("a wave");
    let sender = Sender { node: 1, sent_micros: 0 };
    let frame = encode(sender, None, &[wave], Instant::now()).expect("a frame");
    aether_link::fuzz_pauses(&frame);
});
