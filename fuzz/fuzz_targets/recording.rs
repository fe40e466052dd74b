//! Any file is refused as a recording, or read to its end or its first error, in bounded memory. The input is a file,
//! and the uncompressed bytes of one.

#![no_main]

use std::io::Write as _;

use aether::physics::RecordingReader;
use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    read(data);
    let mut file = GzEncoder::new(Vec::new(), Compression::fast());
    file.write_all(data).expect("memory");
    read(&file.finish().expect("memory"));
});

fn read(file: &[u8]) {
    if let Ok(mut reader) = RecordingReader::new(file) {
        let mut last = std::time::Duration::ZERO;
        for entry in &mut reader {
            let Ok((at, entry)) = entry else { break };
            assert!(at >= last && !format!("{entry:?}").is_empty());
            last = at;
        }
        assert!(reader.next().is_none(), "after an error it ends");
    }
}
