//! The demos in a real browser, driven by playwright-core: `demos.test.mjs`.

use crate::page::tests_in_a_browser;

#[tokio::test]
async fn the_demos_work_in_a_real_browser() {
    let Some(mut command) = tests_in_a_browser("demo", "demos.test.mjs") else { return };
    let status = command.status().await.unwrap();
    assert!(status.success(), "{status}");
}
