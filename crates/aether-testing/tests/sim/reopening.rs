//! Processes with stores: they open them again after a disk has failed.

use std::error::Error;

use aether_service::CancellationToken;
use tokio::time::sleep;
use tower::BoxError;

use crate::traffic::SECOND;

/// Does work with stores that are opened in it, again and again, until the process has to stop. Only a disk that fails
/// explains an error.
pub(crate) async fn reopened<F>(
    shutdown: &CancellationToken,
    mut work: impl FnMut() -> F + Send,
) -> Result<(), BoxError>
where
    F: Future<Output = Result<(), BoxError>> + Send,
{
    loop {
        match shutdown.run_until_cancelled(work()).await {
            None => return Ok(()),
            Some(Err(error)) if !is_of_disk(&*error) => return Err(error),
            Some(_) => {}
        }
        if shutdown.run_until_cancelled(sleep(SECOND)).await.is_none() {
            return Ok(());
        }
    }
}

fn is_of_disk(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if text.contains("no storage space") || text.contains("does not sync") {
            return true;
        }
        cause = error.source();
    }
    false
}
