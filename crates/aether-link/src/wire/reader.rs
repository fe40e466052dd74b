//! A cursor over part of a frame, which refuses to read past its end.

use bytes::Bytes;

use super::{FIXED_RECORD, FrameError};

/// A cursor over part of a frame.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a Bytes,
    pub(super) at: usize,
    pub(super) end: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], FrameError> {
        if length > self.end - self.at {
            return Err(FrameError::Truncated { field, at: self.end });
        }
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }

    /// The fixed start of every record, checked once.
    pub(super) fn fixed_part(&mut self) -> Result<[u8; FIXED_RECORD], FrameError> {
        const FIELDS: [(usize, &str); 6] = [
            (2, "source index"),
            (1, "kind"),
            (2, "loss"),
            (1, "half-life"),
            (1, "hops"),
            (1, "content type"),
        ];
        let given = &self.bytes[self.at..self.end];
        if let Some(fixed) = given.first_chunk() {
            self.at += FIXED_RECORD;
            return Ok(*fixed);
        }
        // Finds the first incomplete field.
        let mut left = given.len();
        let missing = FIELDS.iter().find(|(length, _)| match left.checked_sub(*length) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        Err(FrameError::Truncated { field: missing.map_or("record", |(_, name)| name), at: self.end })
    }

    /// Takes the next `length` bytes as a reader of their own.
    pub(super) fn part(&mut self, length: usize, field: &'static str) -> Result<Self, FrameError> {
        let at = self.at;
        self.take(length, field)?;
        Ok(Self { bytes: self.bytes, at, end: self.at })
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FrameError> {
        match self.bytes[self.at..self.end].first_chunk() {
            Some(array) => {
                self.at += N;
                Ok(*array)
            }
            None => Err(FrameError::Truncated { field, at: self.end }),
        }
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, FrameError> {
        Ok(u8::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, FrameError> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, FrameError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, FrameError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// LEB128, at most ten bytes, in its shortest form.
    #[inline]
    pub(super) fn varint(&mut self, field: &'static str) -> Result<u64, FrameError> {
        match self.bytes[self.at..self.end] {
            [byte, ..] if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            // Sequence numbers and ages are mostly of this length.
            [low, middle, high, ..] if low & middle & 0x80 != 0 && high.wrapping_sub(1) < 0x7F => {
                self.at += 3;
                Ok(u64::from(low & 0x7F) | u64::from(middle & 0x7F) << 7 | u64::from(high) << 14)
            }
            _ => self.longer_varint(field),
        }
    }

    fn longer_varint(&mut self, field: &'static str) -> Result<u64, FrameError> {
        const MOST: usize = 10;
        let (at, given) = (self.at, &self.bytes[self.at..self.end]);
        let mut value = 0_u64;
        for (index, byte) in given.iter().copied().take(MOST).enumerate() {
            let bits = u64::from(byte & 0x7F);
            if (index == MOST - 1 && bits > 1) || (byte == 0 && index > 0) {
                return Err(FrameError::Varint { field, at });
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        match given.len() < MOST {
            true => Err(FrameError::Truncated { field, at: self.end }),
            false => Err(FrameError::Varint { field, at }),
        }
    }

    /// A length. If it exceeds what is left, taking the bytes fails.
    pub(super) fn length(&mut self, field: &'static str) -> Result<usize, FrameError> {
        Ok(usize::try_from(self.varint(field)?).unwrap_or(usize::MAX))
    }

    /// The number of items that follow, if any, of which each takes at least `least_bytes` bytes. Bounds the memory
    /// allocated for them.
    pub(super) fn count(
        &mut self,
        what: &'static str,
        least_bytes: usize,
    ) -> Result<Option<usize>, FrameError> {
        match self.length(what)? {
            0 => Ok(None),
            count if count > (self.end - self.at) / least_bytes => {
                Err(FrameError::Truncated { field: what, at: self.end })
            }
            count => Ok(Some(count)),
        }
    }

    /// Text after its length. Text above the maximum is refused before it is copied into an error.
    pub(super) fn text(&mut self, field: &'static str, max_bytes: usize) -> Result<&'a str, FrameError> {
        let length = self.length(field)?;
        self.text_of(length, field, max_bytes)
    }

    /// Text up to the end.
    pub(super) fn rest_as_text(
        &mut self,
        field: &'static str,
        max_bytes: usize,
    ) -> Result<&'a str, FrameError> {
        self.text_of(self.end - self.at, field, max_bytes)
    }

    fn text_of(
        &mut self,
        bytes: usize,
        field: &'static str,
        max_bytes: usize,
    ) -> Result<&'a str, FrameError> {
        let at = self.at;
        if bytes > max_bytes {
            return Err(FrameError::TooLong { field, bytes, max_bytes, at });
        }
        std::str::from_utf8(self.take(bytes, field)?).map_err(|_| FrameError::Utf8 { field, at })
    }
}
