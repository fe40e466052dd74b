//! A network in memory: what is put arrives at once and in order, unless the test loses it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aether_core::{Aether, AetherBuilder, ConnectError};
use aether_lan::{LanError, LanNetwork, LanOptions, LanProcess, LanSession, LanView};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;

/// One message on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent<'a> {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) lane: u8,
    pub(crate) bytes: &'a [u8],
}

type Loses = Box<dyn FnMut(Sent<'_>) -> bool + Send>;

#[derive(Default)]
struct State {
    processes: BTreeMap<u64, LanProcess>,
    loses: Option<Loses>,
}

#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

impl Memory {
    /// Looks at each message from now on, and loses it if `loses` returns true.
    pub(crate) fn lose(&self, loses: impl FnMut(Sent<'_>) -> bool + Send + 'static) {
        self.0.lock().loses = Some(Box::new(loses));
    }

    /// Loses nothing from now on.
    pub(crate) fn heal(&self) {
        self.0.lock().loses = None;
    }

    pub(crate) fn options(&self) -> LanOptions {
        LanOptions::default().insecure(true).network(Arc::new(self.clone()))
    }

    pub(crate) async fn connect(&self, name: &str) -> Aether {
        connect(self.options().name(name)).await.unwrap()
    }

    /// Connects with a view.
    pub(crate) async fn connect_with_view(&self, name: &str) -> (Aether, LanView) {
        let view = LanView::default();
        (connect(self.options().name(name).view(&view)).await.unwrap(), view)
    }
}

/// As a program registers the medium.
pub(crate) async fn connect(options: LanOptions) -> Result<Aether, ConnectError> {
    AetherBuilder::new().scheme("lan", aether_lan::connect).url("lan:").options(options).connect().await
}

impl LanNetwork for Memory {
    fn enter(&self, process: LanProcess) -> BoxFuture<'static, Result<Box<dyn LanSession>, LanError>> {
        let node = process.node();
        let others = {
            let mut state = self.0.lock();
            let others: Vec<_> = state.processes.values().cloned().collect();
            state.processes.insert(node, process.clone());
            others
        };
        for other in others {
            other.show(node, true);
            process.show(other.node(), true);
        }
        ready(Ok(Box::new(Session { network: self.clone(), node }) as Box<dyn LanSession>)).boxed()
    }
}

struct Session {
    network: Memory,
    node: u64,
}

impl LanSession for Session {
    fn nodes(&self) -> Vec<u64> {
        self.network.0.lock().processes.keys().copied().filter(|node| *node != self.node).collect()
    }

    fn put(&self, to: u64, lane: u8, bytes: Vec<u8>) -> BoxFuture<'_, bool> {
        ready(self.offer(to, lane, bytes)).boxed()
    }

    fn offer(&self, to: u64, lane: u8, bytes: Vec<u8>) -> bool {
        let mut state = self.network.0.lock();
        if !state.processes.contains_key(&self.node) {
            return false;
        }
        let sent = Sent { from: self.node, to, lane, bytes: &bytes };
        let is_lost = state.loses.as_mut().is_some_and(|loses| loses(sent));
        if let Some(process) = state.processes.get(&to).filter(|_| !is_lost) {
            process.bring(bytes.into());
        }
        true
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let others: Vec<_> = {
            let mut state = self.network.0.lock();
            state.processes.remove(&self.node);
            state.processes.values().cloned().collect()
        };
        others.iter().for_each(|other| other.show(self.node, false));
        ready(()).boxed()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.network.0.lock().processes.remove(&self.node);
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let processes: Vec<u64> = self.0.lock().processes.keys().copied().collect();
        f.debug_struct("Memory").field("processes", &processes).finish()
    }
}
