//! Vibrators: the clients of the bus that Python drives.

use aether::{Aether, Vibrator};
use aether_service::{Asker, AskerOptions};
use futures_util::StreamExt as _;
use futures_util::stream::unfold;
use pyo3::prelude::*;

use crate::errors::Failure;
use crate::process::Process;
use crate::stream::{Item, Stream};
use crate::wave::{Sender, Wave};

/// A wave that was taken out of the inbox is not overtaken any more, so only one is.
const AHEAD: usize = 1;

/// Makes a vibrator that resonates on patterns, as a stream of waves and what emits.
pub(crate) async fn create(
    aether: &Aether,
    name: &str,
    patterns: &[String],
    group: Option<&str>,
    process: &Process,
) -> Result<(Stream, Sender), Failure> {
    let vibrator = Vibrator::create(name, aether).await?;
    for pattern in patterns {
        match group {
            Some(group) => vibrator.resonate_in_group(pattern.as_str(), group).await?,
            None => vibrator.resonate_on(pattern.as_str()).await?,
        }
    }
    let (emitter, receiver) = vibrator.split();
    let asker = Asker::new(emitter.clone(), AskerOptions::default());
    let sender = Sender::new(emitter.clone(), asker.clone(), process);
    let waves = unfold(receiver, async |mut receiver| receiver.receive().await.map(|wave| (wave, receiver)));
    let process = process.clone();
    let items = {
        let process = process.clone();
        waves.map(move |message| -> Item {
            let (emitter, asker) = (emitter.following(&message), asker.following(&message));
            let wave = Wave::new(message, emitter, asker, &process);
            Box::new(move |py| Ok(Py::new(py, wave)?.into_any()))
        })
    };
    Ok((Stream::new(items.boxed(), AHEAD, &process), sender))
}
