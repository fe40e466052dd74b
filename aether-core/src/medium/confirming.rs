//! Confirmed emits: a wave is accepted, and the emitter waits until the broker has it.
//!
//! [`Emitter::emit_confirmed`](crate::Emitter::emit_confirmed) calls [`Medium::carry_confirmed`]. This file has its
//! error, and what a medium does that has no better way.

use super::{EmitError, FlushError, Medium};
use crate::channel::Channel;
use crate::inbox::ShedReason;
use crate::router::{Carried, Settled};
use crate::source::WaveId;
use crate::wave::Wave;

/// Why a wave is not known to have reached the broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfirmError {
    /// The wave was not emitted.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The wave was emitted, but it has not left this process and will not: the outbox shed it.
    #[error("wave {id} was shed before it left the outbox")]
    Shed {
        /// The wave.
        id: WaveId,
        /// Why it was shed. `None` if the medium only knows that its outbox shed a wave meanwhile.
        reason: Option<ShedReason>,
    },
    /// The server refused the wave, because it does not permit this program to publish on its channel.
    #[error("the server does not permit to publish on {channel}, where wave {id} was emitted")]
    NotPermitted {
        /// The wave.
        id: WaveId,
        /// Its channel.
        channel: Channel,
    },
    /// The wave was emitted, and nobody knows whether it has reached the broker. It may still be sent.
    #[error("wave {id} was not confirmed")]
    Unconfirmed {
        /// The wave.
        id: WaveId,
        /// How the wait ended.
        source: FlushError,
    },
}

/// The default of [`Medium::carry_confirmed`].
pub(super) async fn carry_and_flush<M: Medium + ?Sized>(
    medium: &M,
    wave: Wave,
) -> Result<Settled, ConfirmError> {
    let (id, lost_before) = (wave.id(), medium.status().outbox.lost());
    let settled = match medium.carry(wave)? {
        Carried::Done(offered) => offered.into(),
        Carried::Waiting(waiting) => waiting.finish().await.map_err(EmitError::from)?,
    };
    let flushed = medium.flush().await;
    if medium.status().outbox.lost() > lost_before {
        return Err(ConfirmError::Shed { id, reason: None });
    }
    flushed.map(|()| settled).map_err(|source| ConfirmError::Unconfirmed { id, source })
}
