//! The blocks of large files, between mirrors: who has a file, and one part of a block after another.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aether_core::wave::ChannelError;
use aether_core::{AskError, Channel, Emitter, FailureReason, Kind, Receiver, Wave, WaveError};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::account::Account;
use crate::disk::open;
use crate::hash::{BLOCK, Hash};
use crate::memory::Records;
use crate::path::FilePath;
use crate::place::Staged;
use crate::version::{Content, FolderId};

/// The version of the messages here.
const VERSION: u8 = 1;

/// The parts that one fetch asks for at the same time.
const AT_ONCE: usize = 4;

/// The questions that are answered at the same time.
const ANSWERS: usize = 8;

/// How long the mirrors may take to say who has a file.
const FIND: Duration = Duration::from_secs(2);

/// How long a part may take: at 1 Mbit/s four take 8 s.
const PART: Duration = Duration::from_secs(15);

/// How often a fetch looks for another machine that has the file.
const SOURCES: usize = 3;

#[derive(Debug, Serialize, Deserialize)]
struct Find {
    version: u8,
    hash: Hash,
}

#[derive(Debug, Serialize, Deserialize)]
struct FoundAt {
    version: u8,
    folder: u64,
    blocks: Vec<Hash>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Part {
    version: u8,
    hash: Hash,
    /// Where it begins in the file. It ends in the same block.
    at: u64,
    bytes: u32,
}

/// The channels of the mirrors of one field.
#[derive(Debug, Clone)]
pub(crate) struct Channels {
    find: Channel,
    parts: String,
}

impl Channels {
    pub(crate) fn of(field: &str) -> Result<Self, ChannelError> {
        Ok(Self {
            find: Channel::new(format!("field.{field}.mirror.find"))?,
            parts: format!("field.{field}.mirror.parts"),
        })
    }

    pub(crate) const fn find(&self) -> &Channel {
        &self.find
    }

    pub(crate) fn parts(&self, folder: FolderId) -> Result<Channel, ChannelError> {
        Channel::new(format!("{}.{:016x}", self.parts, folder.0))
    }
}

/// Why a file was not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no mirror that is there has the file")]
    Nowhere(#[source] AskError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("the question cannot be made")]
    Wave(#[from] WaveError),
    #[error("the message cannot be written or read")]
    Message(#[from] postcard::Error),
    #[error("what was sent is not what the file has")]
    Wrong,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The state that fetching and serving share.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) root: PathBuf,
    pub(crate) folder: FolderId,
    pub(crate) channels: Channels,
    pub(crate) emitter: Emitter,
    /// The largest part that the medium takes, in bytes.
    pub(crate) max_part: u64,
    pub(crate) records: Arc<Mutex<Records>>,
    pub(crate) account: Arc<Account>,
}

impl Exchange {
    /// Fetches a file: from another file here, or from any mirror that has it. Each block is checked as it comes.
    pub(crate) async fn fetch(self: &Arc<Self>, content: Content) -> Result<Staged, FetchError> {
        let here = {
            let exchange = Arc::clone(self);
            blocking(move || exchange.copy(&content)).await?
        };
        if let Some(staged) = here {
            return Ok(staged);
        }
        let root = self.root.clone();
        let (staged, file) = blocking(move || {
            let staged = Staged::new(&root);
            let file = File::create_new(staged.path())?;
            Ok((staged, file))
        })
        .await?;
        let file = Arc::new(file);
        let mut next = 0;
        let mut sources = 0;
        while next < Hash::blocks_of(content.size) {
            let (folder, blocks) = self.find(&content).await?;
            sources += 1;
            match self.fetch_from(folder, &content, &blocks, &mut next, &file).await {
                // That machine is gone, or its file has changed.
                Err(FetchError::Ask(_) | FetchError::Wrong) if sources < SOURCES => {}
                fetched => fetched?,
            }
        }
        Ok(staged)
    }

    /// A copy of a file that is here already, such as one that was renamed elsewhere.
    fn copy(&self, content: &Content) -> io::Result<Option<Staged>> {
        let blocks = {
            let records = self.records.lock();
            let Some((path, record)) = records.with_hash(&content.hash) else { return Ok(None) };
            (path, record.blocks.clone())
        };
        let (path, blocks) = blocks;
        let staged = Staged::new(&self.root);
        let mut to = File::create_new(staged.path())?;
        for (at, hash) in (0..).step_by(BLOCK as usize).zip(&blocks) {
            match read_block(&self.root, &path, at, hash) {
                Ok(block) => to.write_all(&block)?,
                // It has changed by now.
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(staged))
    }

    async fn find(&self, content: &Content) -> Result<(FolderId, Vec<Hash>), FetchError> {
        let question = postcard::to_allocvec(&Find { version: VERSION, hash: content.hash })?;
        let wave = Wave::builder(self.channels.find.clone()).kind(Kind::Query).bytes(question).build()?;
        let answer = self.emitter.ask_within(wave, FIND).await.map_err(FetchError::Nowhere)?;
        let FoundAt { version, folder, blocks } = postcard::from_bytes(answer.payload())?;
        let is_right = version == VERSION
            && blocks.len() as u64 == Hash::blocks_of(content.size)
            && Hash::of_file(content.size, &blocks) == content.hash;
        if is_right { Ok((FolderId(folder), blocks)) } else { Err(self.wrong()) }
    }

    /// Fetches the blocks from `next` on, and counts it up.
    async fn fetch_from(
        &self,
        folder: FolderId,
        content: &Content,
        blocks: &[Hash],
        next: &mut u64,
        file: &Arc<File>,
    ) -> Result<(), FetchError> {
        let channel = self.channels.parts(folder)?;
        let rest = *next..blocks.len() as u64;
        let mut coming =
            stream::iter(rest).map(|block| self.fetch_block(&channel, content, block)).buffered(AT_ONCE);
        while let Some(block) = coming.next().await {
            let block = block?;
            let hash = usize::try_from(*next).ok().and_then(|at| blocks.get(at));
            if hash != Some(&Hash::of_block(&block)) {
                return Err(self.wrong());
            }
            let mut file = Arc::clone(file);
            let at = *next * BLOCK;
            blocking(move || {
                file.seek(SeekFrom::Start(at))?;
                file.write_all(&block)
            })
            .await?;
            *next += 1;
            self.account.count(|status| status.blocks_received += 1);
        }
        Ok(())
    }

    async fn fetch_block(
        &self,
        channel: &Channel,
        content: &Content,
        block: u64,
    ) -> Result<Vec<u8>, FetchError> {
        let (mut at, end) = (block * BLOCK, content.size.min((block + 1) * BLOCK));
        let mut bytes = Vec::new();
        while at < end {
            let size = self.max_part.min(end - at);
            let part = Part {
                version: VERSION,
                hash: content.hash,
                at,
                bytes: u32::try_from(size).unwrap_or(u32::MAX),
            };
            let wave = Wave::builder(channel.clone()).kind(Kind::Query).bytes(postcard::to_allocvec(&part)?);
            let answer = self.emitter.ask_within(wave.build()?, PART).await?;
            if answer.payload().len() as u64 != size {
                return Err(self.wrong());
            }
            bytes.extend_from_slice(answer.payload());
            at += size;
        }
        Ok(bytes)
    }

    fn wrong(&self) -> FetchError {
        self.account.count(|status| status.blocks_wrong += 1);
        FetchError::Wrong
    }

    /// Answers the questions of other mirrors until the receiver ends.
    pub(crate) async fn serve(self: Arc<Self>, mut receiver: Receiver) {
        let answers = Arc::new(Semaphore::new(ANSWERS));
        while let Some(question) = receiver.receive().await {
            // It is never closed.
            let Ok(permit) = Arc::clone(&answers).acquire_owned().await else { return };
            let exchange = Arc::clone(&self);
            tokio::spawn(async move {
                exchange.answer(question).await;
                drop(permit);
            });
        }
    }

    async fn answer(self: Arc<Self>, question: Wave) {
        if question.channel() == &self.channels.find {
            // Mirrors that do not have the file are silent: the first answer counts.
            if let Some(answer) = self.found(question.payload()) {
                let _ = question.reply_bytes(answer).await;
            }
            return;
        }
        let exchange = Arc::clone(&self);
        let asked = question.payload().clone();
        match blocking(move || exchange.part(&asked)).await {
            Ok(part) => {
                if question.reply_bytes(part).await.is_ok() {
                    self.account.count(|status| status.blocks_sent += 1);
                }
            }
            // The asker looks for another machine.
            Err(error) => {
                let _ = question.reply_failure(FailureReason::Rejected, &error.to_string()).await;
            }
        }
    }

    fn found(&self, question: &[u8]) -> Option<Vec<u8>> {
        let find: Find = postcard::from_bytes(question).ok()?;
        let records = self.records.lock();
        let (_, record) = records.with_hash(&find.hash).filter(|_| find.version == VERSION)?;
        let answer = FoundAt { version: VERSION, folder: self.folder.0, blocks: record.blocks.clone() };
        drop(records);
        postcard::to_allocvec(&answer).ok()
    }

    fn part(&self, question: &[u8]) -> io::Result<Bytes> {
        let wrong = |text: &str| io::Error::other(text.to_owned());
        let part: Part = postcard::from_bytes(question).map_err(io::Error::other)?;
        let block = part.at / BLOCK;
        let end = part.at.saturating_add(u64::from(part.bytes));
        if part.version != VERSION || part.bytes == 0 || end > (block + 1).saturating_mul(BLOCK) {
            return Err(wrong("this part is not inside one block"));
        }
        let (path, hash) = {
            let records = self.records.lock();
            let found = records.with_hash(&part.hash).and_then(|(path, record)| {
                let hash = *record.blocks.get(usize::try_from(block).ok()?)?;
                Some((path, hash))
            });
            found.ok_or_else(|| wrong("the file is not here any more"))?
        };
        let bytes = read_block(&self.root, &path, block * BLOCK, &hash)?;
        let from = usize::try_from(part.at % BLOCK).unwrap_or(usize::MAX);
        let bytes = Bytes::from(bytes);
        match from.checked_add(part.bytes as usize) {
            Some(to) if to <= bytes.len() => Ok(bytes.slice(from..to)),
            _ => Err(wrong("the file is shorter")),
        }
    }
}

/// Reads one block of a file, if it still has this hash.
fn read_block(root: &Path, path: &FilePath, at: u64, hash: &Hash) -> io::Result<Vec<u8>> {
    let place = path.below(root);
    let mut file = open(&place)?;
    file.seek(SeekFrom::Start(at))?;
    let mut block = Vec::new();
    file.take(BLOCK).read_to_end(&mut block)?;
    if Hash::of_block(&block) == *hash { Ok(block) } else { Err(io::Error::other("the file has changed")) }
}

/// Runs what blocks beside the tasks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
