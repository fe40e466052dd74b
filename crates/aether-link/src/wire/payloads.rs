//! The payloads of a decoded frame: slices of the frame, or of small copies of parts of it.

use std::ops::Range;

use bytes::Bytes;

/// Payloads from this size on may be slices of their frame. A slice keeps a whole block alive, 64 KiB as clients read it
/// from a socket: at this size at most 16 times the payload.
pub const SHARED_FROM: usize = 4096;

/// The size of a copy that several payloads share. One wave that waits long keeps it alive when all others are gone,
/// which no inbox counts: at most ten times the 200 bytes that the smallest wave takes.
///
/// Measured with payloads of 128 bytes: 14 waves share two allocations instead of having one each.
const COPIED: usize = 2048;

/// Cuts payloads out of a frame, in the order of their places.
///
/// A slice of the frame would keep all of it in memory while the wave waits, and the block into which a medium read the
/// frame. No inbox could count that: one strong wave of 100 bytes out of each frame of 1 MiB would fill the memory while
/// the inbox seems empty. So a payload is a slice of the frame only if it is most of the memory kept alive by it.
pub(super) struct Payloads<'a> {
    frame: &'a Bytes,
    /// A copy of the part of the frame that `place` names.
    copy: Bytes,
    place: Range<usize>,
}

impl<'a> Payloads<'a> {
    pub(super) const fn new(frame: &'a Bytes) -> Self {
        Self { frame, copy: Bytes::new(), place: 0..0 }
    }

    /// The payload at this place.
    #[inline]
    pub(super) fn take(&mut self, place: Range<usize>) -> Bytes {
        if place.is_empty() {
            return Bytes::new();
        }
        if place.start < self.place.start || place.end > self.place.end {
            let bytes = place.len();
            if bytes >= SHARED_FROM && bytes >= self.frame.len() / 2 {
                return self.frame.slice(place);
            }
            // A copy of its own for one that would be alone.
            if bytes > COPIED / 2 || place.end == self.frame.len() {
                return Bytes::copy_from_slice(&self.frame[place]);
            }
            self.place = place.start..self.frame.len().min(place.start + COPIED);
            self.copy = Bytes::copy_from_slice(&self.frame[self.place.clone()]);
        }
        self.copy.slice(place.start - self.place.start..place.end - self.place.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Bytes {
        (0..bytes).map(|byte| byte as u8).collect::<Vec<_>>().into()
    }

    #[test]
    fn payloads_are_what_the_frame_holds_at_their_places() {
        let frame = frame(20_000);
        let mut payloads = Payloads::new(&frame);
        let places =
            [0..0, 3..131, 151..279, 2_000..2_060, 2_060..5_000, 5_010..5_020, 5_010..5_020, 19_990..20_000];
        for place in places {
            assert_eq!(payloads.take(place.clone()), frame[place]);
        }
    }

    #[test]
    fn a_small_payload_keeps_at_most_two_kibibytes_alive_and_shares_them_with_its_neighbours() {
        let frame = frame(8_192);
        let mut payloads = Payloads::new(&frame);
        let taken: Vec<_> = (0..50).map(|index| payloads.take(index * 150..index * 150 + 128)).collect();
        drop(payloads);
        assert!(frame.is_unique(), "none is a slice of the frame");
        // Neighbours are slices of one copy if they lie as far apart as in the frame.
        let is_shared = |pair: &[Bytes]| pair[1].as_ptr().addr().wrapping_sub(pair[0].as_ptr().addr()) == 150;
        let copies = 1 + taken.windows(2).filter(|pair| !is_shared(pair)).count();
        assert_eq!(copies, 4, "50 payloads take 7,500 bytes of the frame");
        let mut alone = Payloads::new(&frame);
        assert!(alone.take(8_000..8_192).is_unique() && alone.take(10..2_000).is_unique());
        drop(alone);
        assert!(frame.is_unique());
    }

    #[test]
    fn a_payload_that_is_most_of_its_frame_is_a_slice_of_it() {
        let frame = frame(8_192);
        let payload = Payloads::new(&frame).take(1_000..8_000);
        assert_eq!(payload.as_ptr().addr() - frame.as_ptr().addr(), 1_000);
    }
}
