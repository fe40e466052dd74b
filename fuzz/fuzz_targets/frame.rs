//! Any bytes are a frame or are refused; what was read is written again and reads the same.

#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use aether_link::wire::{self, Frame};
use aether_core::{Channel, Wave};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// Where frames without a channel of their own were sent.
static ADDRESS: LazyLock<Channel> = LazyLock::new(|| Channel::new("orders.created").expect("a channel"));

/// A moment to come: seen from before it, waves have just the age in their frame.
static NOW: LazyLock<Instant> = LazyLock::new(|| Instant::now() + Duration::from_secs(1 << 30));

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    for address in [None, Some(&*ADDRESS)] {
        match read(&bytes, address) {
            Ok(frame) => check(&frame, bytes.len()),
            // An error is shown, and holds no more than a few names.
            Err(error) => assert!(error.to_string().len() < 100_000),
        }
    }
});

fn read(bytes: &Bytes, address: Option<&Channel>) -> Result<Frame, wire::FrameError> {
    wire::decode(bytes, address, *NOW, |_| Duration::ZERO)
}

fn check(frame: &Frame, bytes: usize) {
    assert!(!frame.waves.is_empty() || frame.position.is_some());
    assert!(frame.waves.iter().map(|wave| wave.payload().len()).sum::<usize>() <= bytes);
    for channel in [None, Some(&frame.channel)] {
        let write = |frame: &Frame| wire::encode_at(frame.sender, frame.position, channel, &frame.waves, *NOW);
        let written = write(frame).expect("what was read is a frame");
        let again = read(&written, Some(&frame.channel)).expect("what was written is a frame");
        assert_eq!(again.sender, frame.sender);
        assert_eq!(again.channel, frame.channel);
        assert_eq!(again.position, frame.position);
        assert_eq!(again.waves.len(), frame.waves.len());
        for (again, wave) in again.waves.iter().zip(&frame.waves) {
            check_same(again, wave);
        }
        let rewritten = write(&again).expect("it was a frame before");
        assert_eq!(rewritten, written, "there is one way to write waves");
    }
}

fn check_same(a: &Wave, b: &Wave) {
    assert_eq!((a.id(), a.channel(), a.kind(), a.signal()), (b.id(), b.channel(), b.kind(), b.signal()));
    assert_eq!((a.age(), a.phase(), a.key(), a.cause()), (b.age(), b.phase(), b.key(), b.cause()));
    assert_eq!((a.root(), a.baggage()), (b.root(), b.baggage()));
    assert_eq!((a.metadata(), a.content_type(), a.payload()), (b.metadata(), b.content_type(), b.payload()));
    // The readers of a wave compute from any values without overflow.
    assert!((0.0..=1.0).contains(&a.amplitude_now()));
    assert!(a.signal().level() < 64);
}
