//! Addresses of media are judged alike by `config check`, by `doctor` and by the programs.

use std::fs;

use crate::process::{run, run_all};

#[test]
fn an_address_that_programs_refuse_is_a_mistake_for_everybody() {
    for url in ["ws://h", "mqtt://x", "nats//x", "nats://h:70000", " nats://h ", "127.0.0.1:4222"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("default.toml"), format!("[medium]\nurl = {url:?}\n")).unwrap();
        let config = folder.path().to_str().unwrap();
        let [check, doctor, beta] = run_all([
            &["config", "check", "--config", config],
            &["doctor", "--config", config],
            &["beta", "--config", config],
        ]);
        assert_eq!(
            (check.code, doctor.code, beta.code),
            (Some(1), Some(1), Some(2)),
            "{url}: {check:?} {doctor:?} {beta:?}"
        );
        assert!(check.out.contains(url.trim()), "{url}: {check:?}");
        assert!(!doctor.out.contains("ok    medium"), "{url}: {doctor:?}");
    }
    let password = run(&["config", "check", "--set", "medium.url=nats://shop:s3cret@h:70000"]);
    assert!(password.code == Some(1) && !password.out.contains("s3cret"), "{password:?}");
}
