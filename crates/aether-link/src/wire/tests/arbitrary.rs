//! Frames of arbitrary waves, arbitrary bytes, and frames with arbitrary changes.

use super::*;

/// Whatever was decoded can be encoded and decodes to the same; the second encoding equals the first.
fn check_stable(frame: &Frame) {
    let write = |frame: &Frame| {
        encode_at(frame.sender, frame.position, Some(&frame.channel), &frame.waves, now()).unwrap()
    };
    let written = write(frame);
    let again = read(written.clone(), None).unwrap();
    assert_eq!((again.sender, &again.channel), (frame.sender, &frame.channel));
    assert_eq!(again.position, frame.position);
    assert!(again.waves.iter().map(facts).eq(frame.waves.iter().map(facts)));
    assert_eq!(write(&again), written);
}

proptest! {
    #[test]
    fn encoded_frames_are_read_back_within_their_bounds(
        waves in any_waves(), named: bool, addressed: bool, place: Option<[u64; 3]>,
    ) {
        let channel = channel();
        let position = place.map(|[stream, first, age_micros]| Position { stream, first, age_micros });
        let frame = encode_at(SENDER, position, named.then_some(&channel), &waves, now()).unwrap();
        let bound = frame_bound(named.then_some(&channel)) + waves.iter().map(record_bound).sum::<usize>();
        prop_assert!(frame.len() <= bound, "{} bytes, bound {bound}", frame.len());

        let read = read(frame, (addressed || !named).then_some(&channel)).unwrap();
        prop_assert_eq!((read.sender, read.position, read.channel), (SENDER, position, channel));
        prop_assert_eq!(read.waves.len(), waves.len());
        for (read, written) in read.waves.iter().zip(&waves) {
            prop_assert_eq!(facts(read), facts(written));
        }
    }

    #[test]
    fn random_bytes_are_rejected_without_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300), like_a_frame: bool,
    ) {
        if like_a_frame {
            bytes.splice(..bytes.len().min(4), *b"\xAETH\x01");
        }
        if let Ok(frame) = read(bytes, Some(&channel())) {
            check_stable(&frame);
        }
    }

    #[test]
    fn a_tampered_frame_is_read_or_rejected_without_panic(
        waves in any_wave(vec![alpha()]).prop_map(|wave| vec![wave.clone(), wave]),
        changes in prop::collection::vec((0..4, any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let at = Position { stream: 1, first: 300, age_micros: 7 };
        let mut frame = encode_at(SENDER, Some(at), Some(&channel()), &waves, now()).unwrap().to_vec();
        for (change, place, byte) in changes {
            let at = place.index(frame.len());
            match change {
                0 => frame[at] ^= 1 << (byte % 8),
                1 => frame[at] = byte,
                2 => frame.insert(at, byte),
                _ if frame.len() > 1 => { frame.remove(at); }
                _ => {}
            }
        }
        if let Ok(frame) = read(frame, None) {
            check_stable(&frame);
        }
    }
}
