//! Hashes of files: one for each block, and one over them, so that each block is checked when it comes.

use std::fmt;
use std::io::{self, Read};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// The size of a block in bytes; the last one of a file is shorter. Four fit into the largest message of a NATS server.
pub(crate) const BLOCK: u64 = 256 << 10;

/// A SHA-256: hexadecimal in JSON, bytes elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hash([u8; 32]);

impl Hash {
    /// The hash of one block.
    pub(crate) fn of_block(block: &[u8]) -> Self {
        // The first byte tells a block from a list of hashes.
        Self(Sha256::new().chain_update([0]).chain_update(block).finalize().into())
    }

    /// The hash of a file, from its size and the hashes of its blocks.
    pub(crate) fn of_file(size: u64, blocks: &[Self]) -> Self {
        let mut hasher = Sha256::new().chain_update([1]).chain_update(size.to_be_bytes());
        for block in blocks {
            hasher.update(block.0);
        }
        Self(hasher.finalize().into())
    }

    /// The number of blocks of a file of this size.
    pub(crate) const fn blocks_of(size: u64) -> u64 {
        size.div_ceil(BLOCK)
    }
}

/// The hashes of what a reader has, at most `max_bytes` and one byte, and its bytes if there are at most `keep`.
pub(crate) fn hash(
    reader: &mut impl Read,
    max_bytes: u64,
    keep: usize,
) -> io::Result<(u64, Vec<Hash>, Option<Vec<u8>>)> {
    let (mut size, mut blocks, mut kept) = (0, Vec::new(), Vec::new());
    let mut block = Vec::new();
    while size <= max_bytes {
        block.clear();
        let bytes = reader.by_ref().take(BLOCK).read_to_end(&mut block)?;
        if bytes == 0 {
            break;
        }
        size += bytes as u64;
        blocks.push(Hash::of_block(&block));
        if size <= keep as u64 {
            kept.extend_from_slice(&block);
        }
    }
    let kept = (size <= keep as u64).then_some(kept);
    Ok((size, blocks, kept))
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return <[u8; 32]>::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        let wrong = || de::Error::custom("a hash has 64 hexadecimal digits");
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut hash = [0; 32];
        for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_file_depends_on_each_block_and_on_the_size() {
        let of = |bytes: &[u8]| {
            let (size, blocks, kept) = hash(&mut &*bytes, u64::MAX, 16).unwrap();
            assert_eq!((size, blocks.len() as u64), (bytes.len() as u64, Hash::blocks_of(size)));
            assert_eq!(kept.as_deref(), (bytes.len() <= 16).then_some(bytes));
            Hash::of_file(size, &blocks)
        };
        let block = BLOCK as usize;
        let mut bytes = vec![7; 2 * block + 1];
        let before = of(&bytes);
        bytes[block] = 8;
        let hashes = [before, of(&bytes), of(&bytes[..2 * block]), of(&bytes[..block]), of(b"a"), of(b"")];
        let different: std::collections::BTreeSet<_> = hashes.iter().collect();
        assert_eq!(different.len(), hashes.len());
        // Reading ends at the bound.
        assert!(hash(&mut std::io::repeat(0), 3 * BLOCK, 0).unwrap().0 <= 4 * BLOCK);
    }

    #[test]
    fn a_hash_is_hexadecimal_in_json_and_nothing_else_is_one() {
        let hash = Hash::of_block(b"a");
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(json, format!("\"{hash}\""));
        assert_eq!(serde_json::from_str::<Hash>(&json).unwrap(), hash);
        for wrong in ["\"\"", "\"+1\"", "7", &json.replace('a', "x"), &format!("\"{}\"", "ä".repeat(32))] {
            assert!(wrong == json || serde_json::from_str::<Hash>(wrong).is_err(), "{wrong}");
        }
    }
}
