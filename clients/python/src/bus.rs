//! The connection with a medium.

use std::path::PathBuf;

use aether::field::Field as Replica;
use aether::lan::{LanOptions, LanView};
use aether::nats::NatsOptions;
use aether::{Aether, AetherBuilder, ConnectError};
use aether_service::{Received, Sent, close_with_account};
use pyo3::prelude::*;

use crate::errors::Failure;
use crate::field::Field;
use crate::identity::{Identity, trust_of};
use crate::process::{Owned, Process};
use crate::waiting::Task;
use crate::{mirror, service, vibrator};

/// A machine listens on this port, so that others need no more than its address.
const FIRST: &str = "lan:?listen=[::]:7447";

/// Another process of the machine has the port. It is found there also without a network.
const NEXT: &str = "lan:?peer=127.0.0.1:7447";

/// The secret of a medium: a text that all machines share, or a file with it.
#[derive(FromPyObject)]
pub(crate) enum Secret {
    Text(String),
    File(PathBuf),
}

/// The connection of this process with a medium.
#[pyclass(frozen)]
pub(crate) struct Bus {
    process: Process,
    aether: Owned<Aether>,
    view: LanView,
}

/// Connects to a medium by its address, as the program `program`. Returns the task of a [`Bus`].
#[pyfunction]
#[pyo3(signature = (url, secret, program))]
pub(crate) fn connect(url: String, secret: Option<Secret>, program: String) -> PyResult<Task> {
    let process = Process::of_now()?;
    let bus = process.clone();
    let mut builder = aether::builder().program(&program);
    let view = LanView::default();
    let is_lan = scheme_of(&url) == "lan";
    let mut lan = LanOptions::default().name(program).view(&view);
    match secret {
        None => {}
        Some(Secret::Text(text)) if is_lan => lan = lan.secret(text),
        Some(Secret::File(path)) if is_lan => lan = lan.secret_file(path),
        // A broker needs keys, which can be rotated.
        Some(Secret::File(path)) => builder = builder.options(NatsOptions::default().keys(path)),
        Some(Secret::Text(_)) => {
            let text = "a secret in the program is for the local network: name a file of `aether keys new` with secret=pathlib.Path(...)";
            return Err(Failure::refused(text).into());
        }
    }
    let builder = builder.options(lan);
    Ok(Task::spawn(&process, async move {
        let aether = connect_to(builder, &url).await.map_err(Failure::from)?;
        Ok(Bus { aether: Owned::new(aether, &bus), process: bus, view })
    }))
}

async fn connect_to(builder: AetherBuilder, url: &str) -> Result<Aether, ConnectError> {
    if url != "lan:" {
        return builder.url(url).connect().await;
    }
    match builder.clone().url(FIRST).connect().await {
        Ok(aether) => Ok(aether),
        Err(_) => builder.url(NEXT).connect().await,
    }
}

fn scheme_of(url: &str) -> String {
    url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase()).unwrap_or_default()
}

#[pymethods]
impl Bus {
    /// Joins the field `name` as `replica`. Returns the task of a `Field`.
    fn join(
        &self,
        names: (String, String),
        store: Option<PathBuf>,
        identity: Option<Py<Identity>>,
        trust: (Vec<(String, String)>, Option<String>),
    ) -> PyResult<Task> {
        let ((name, replica), (owners, root)) = (names, trust);
        let trust = trust_of(owners, root.as_deref())?;
        let mut builder = Replica::builder(&name).replica(&replica).trust(trust);
        if let Some(path) = store {
            builder = builder.store(path);
        }
        if let Some(identity) = identity {
            builder = builder.identity(identity.get().0.clone());
        }
        let (aether, process) = (self.aether.get()?.clone(), self.process.clone());
        Ok(Task::spawn(&self.process, async move {
            // Opening a store reads a file.
            let joined = builder.join(&aether).await.map_err(Failure::from)?;
            Ok(Field::new(joined, replica, &process))
        }))
    }

    /// Mirrors a folder on a field. Returns the task of a `Mirror`.
    fn mirror(&self, field: &Field, folder: PathBuf, options: mirror::FolderOptions) -> PyResult<Task> {
        let (aether, replica) = (self.aether.get()?.clone(), field.replica()?);
        let process = self.process.clone();
        Ok(Task::spawn(&self.process, async move {
            Ok(mirror::start(aether, replica, folder, options, process).await?)
        }))
    }

    /// The other programs of the local network, as a task of `(found, same_secret, other_secret, no_secret,
    /// other_version)`; the result is `None` on other media.
    fn surroundings(&self) -> PyResult<Task> {
        self.aether.get()?;
        let view = self.view.clone();
        Ok(Task::spawn(&self.process, async move {
            let seen = view.surroundings().await;
            Ok(seen.map(|seen| {
                let found = view.peers().len();
                (
                    found,
                    seen.same_secret.saturating_sub(1),
                    seen.other_secret,
                    seen.no_secret,
                    seen.other_version,
                )
            }))
        }))
    }

    /// Makes a vibrator that resonates on patterns. Returns the task of `(Stream, Sender)`.
    fn vibrator(&self, name: String, patterns: Vec<String>, group: Option<String>) -> PyResult<Task> {
        let (aether, process) = (self.aether.get()?.clone(), self.process.clone());
        Ok(Task::spawn(&self.process, async move {
            Ok(vibrator::create(&aether, &name, &patterns, group.as_deref(), &process).await?)
        }))
    }

    /// Starts a service, whose handlers are called by `call`. Returns the task of a `Service`.
    fn serve(
        &self,
        options: service::Options,
        handlers: Vec<service::Handler>,
        call: Py<PyAny>,
    ) -> PyResult<Task> {
        let (aether, process) = (self.aether.get()?.clone(), self.process.clone());
        Ok(Task::spawn(&self.process, async move {
            Ok(service::start(&aether, options, handlers, call, process).await?)
        }))
    }

    /// The accounts of what was sent and received, as two texts.
    fn account(&self) -> PyResult<(String, String)> {
        let aether = self.aether.get()?;
        Ok((Sent::of(aether.status()).to_string(), Received::of(aether.ledger()).to_string()))
    }

    /// Leaves the medium. Returns the task of the text of what may be lost, or of `None`.
    fn close(&self) -> PyResult<Task> {
        let aether = self.aether.get()?.clone();
        Ok(Task::spawn(&self.process, async move {
            Ok(close_with_account(&aether).await.err().map(|lost| lost.to_string()))
        }))
    }
}
