//! Work beside a program: on threads, and in a simulation in tasks, whose order follows from the seed.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use parking_lot::Mutex;

use super::{Disk, is_simulated};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

thread_local! {
    /// A worker goes on in place, and no operation takes time.
    static HURRIES: Cell<bool> = const { Cell::new(false) };
}

/// A loop beside the program, on a thread of its own, or in a simulation a task. It waits by a [`Bell`](super::Bell) and
/// by [`pause`], and by nothing else.
#[derive(Debug)]
pub struct Worker(Kind);

#[derive(Debug)]
enum Kind {
    Thread(Option<thread::JoinHandle<()>>),
    Task(Arc<Task>, Arc<dyn Disk>),
}

#[derive(Default)]
struct Task {
    /// `None` once it has ended.
    work: Mutex<Option<Work>>,
    waker: Mutex<Option<Waker>>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

impl Task {
    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut work = self.work.lock();
        let Some(running) = &mut *work else { return Poll::Ready(()) };
        let polled = running.as_mut().poll(context);
        if polled.is_ready() {
            *work = None;
        }
        polled
    }
}

impl Worker {
    /// Starts a loop that writes on a disk.
    ///
    /// # Errors
    /// If the system starts no thread.
    ///
    /// # Panics
    /// In a simulation, outside of its runtimes.
    pub fn start(
        name: &str,
        disk: &Arc<dyn Disk>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Self> {
        if !is_simulated() {
            let running = move || {
                // A bell blocks on a thread, so it is ready at once.
                let _ = pin!(work).poll(&mut Context::from_waker(Waker::noop()));
            };
            return Ok(Self(Kind::Thread(Some(
                thread::Builder::new().name(name.to_owned()).spawn(running)?,
            ))));
        }
        let task = Arc::new(Task { work: Mutex::new(Some(Box::pin(work))), ..Task::default() });
        let running = Arc::clone(&task);
        tokio::spawn(poll_fn(move |context| {
            *running.waker.lock() = Some(context.waker().clone());
            running.poll(context)
        }));
        Ok(Self(Kind::Task(task, Arc::clone(disk))))
    }

    /// Lets a task do in place what it has to do, for a caller that blocks until that is done. A thread needs nothing.
    pub fn hurry(&self) {
        let Kind::Task(task, _) = &self.0 else { return };
        // Its own waker, so that it hears the next ring.
        let waker = task.waker.lock().clone();
        let before = HURRIES.replace(true);
        let _ = task.poll(&mut Context::from_waker(waker.as_ref().unwrap_or(Waker::noop())));
        HURRIES.set(before);
    }

    /// Waits for the end of the loop, which has to know that it ends.
    pub fn finish(&mut self) {
        match &mut self.0 {
            // A panic of the thread was printed.
            Kind::Thread(thread) => drop(thread.take().map(thread::JoinHandle::join)),
            Kind::Task(task, disk) if disk.is_gone() => drop(task.work.lock().take()),
            Kind::Task(..) => self.hurry(),
        }
    }
}

/// Lets the time pass that an operation of a simulated disk takes. Elsewhere it returns at once.
pub async fn pause(disk: &dyn Disk) {
    let Some(time) = disk.takes().filter(|_| !HURRIES.get()) else { return };
    let mut passed = pin!(tokio::time::sleep(time));
    poll_fn(|context| if HURRIES.get() { Poll::Ready(()) } else { passed.as_mut().poll(context) }).await;
}

/// Does work that blocks on files. In a simulation it is done by a task, and takes the time of two operations.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    if !is_simulated() {
        return tokio::task::spawn_blocking(work);
    }
    let disk = super::current();
    tokio::spawn(async move {
        pause(&*disk).await;
        let done = work();
        pause(&*disk).await;
        done
    })
}
