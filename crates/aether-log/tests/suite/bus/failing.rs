//! A full disk under a bus.

use aether_core::EmitError;
use nix::mount::{MsFlags, mount, umount};

use crate::bus::stage::{billing, connect, open, receive, text, texts, wave};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_hands_the_wave_back_and_the_service_goes_on_when_there_is_room() {
    let disk = tempfile::tempdir().unwrap();
    match mount(None::<&str>, disk.path(), Some("tmpfs"), MsFlags::empty(), Some("size=400k")) {
        Ok(()) => {}
        Err(nix::Error::EPERM) => {
            return eprintln!("this user may not mount a file system: the test needs root");
        }
        Err(error) => panic!("mount: {error}"),
    }
    let folder = disk.path().join("log");
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 200 << 10]).unwrap();
    {
        let log = open(&folder);
        let aether = connect(&log).await;
        let shop = aether.emitter("shop").unwrap();
        let consumer = billing(&log);
        let mut stored = 0;
        let refused = loop {
            match shop.emit(wave(stored, 0.5)).await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(stored > 100, "{stored}");
        assert!(matches!(&refused, EmitError::NotStored(_)) && refused.is_transient(), "{refused:?}");
        let wave = refused.into_wave().unwrap();
        assert_eq!(wave.text().unwrap(), stored.to_string());
        let delivery = receive(&consumer).await;
        let unwritten = delivery.ack().await;
        if let Err(error) = unwritten {
            assert!(error.source.is_transient(), "{error:?}");
        }
        assert!(log.ready().unwrap_err().is_transient(), "the service is not ready while the disk is full");
        std::fs::remove_file(&ballast).unwrap();
        shop.emit(wave).await.unwrap();
        log.ready().unwrap();
        let mut received = consumer.ledger().acknowledged;
        while received <= stored {
            let delivery = receive(&consumer).await;
            assert_eq!(text(&delivery), received.to_string());
            delivery.ack().await.unwrap();
            received += 1;
        }
        assert_eq!(texts(&log), (0..=stored).map(|number| number.to_string()).collect::<Vec<_>>());
        assert!(consumer.ledger().adds_up());
    }
    umount(disk.path()).unwrap();
}
