//! The field over WebSocket, seen from outside: real processes, and a client that knows neither server.

mod client;
mod own;
mod presence;
mod server;
mod surviving;
mod wire;

/// Each case of protocol 0.4 against the sync engine and against this gateway.
macro_rules! against_both {
    ($($name:ident: $case:ident with $token:expr, $handshake:expr;)*) => {
        mod the_sync_engine {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let server = crate::black_box::server::Server::sync_engine(&folder.path().join("ledger.jsonl"), $token, $handshake).await;
                if let Some(server) = server {
                    crate::black_box::wire::$case(&server).await;
                    server.kill().await;
                }
            })*
        }

        mod the_gateway {
            $(#[tokio::test]
            async fn $name() {
                let server = crate::black_box::server::Server::gateway().token($token).handshake($handshake).start().await;
                crate::black_box::wire::$case(&server).await;
                server.kill().await;
            })*
        }
    };
}

/// More seconds than any client needs to authenticate on a busy machine.
const LONG: &str = "60";

against_both! {
    hello_and_snapshot_come_first: greeting with "", super::LONG;
    writes_come_back_to_every_client: writes with "", super::LONG;
    cursors_reach_the_others: presence with "", super::LONG;
    bad_input_is_dropped_and_the_connection_stays: bad_input with "", super::LONG;
    a_frame_that_is_too_large_ends_the_connection: large_frame with "", super::LONG;
    too_many_connections_are_refused: connections with "", super::LONG;
    without_the_token_nothing_is_sent: tokens with crate::black_box::wire::TOKEN, super::LONG;
    a_client_that_does_not_authenticate_is_closed: slow_token with crate::black_box::wire::TOKEN, "1";
}

/// Here the two differ: a client of the sync engine whose connection ends forgets what it had not sent.
#[tokio::test]
async fn too_many_messages_end_a_connection_to_the_sync_engine() {
    let folder = tempfile::tempdir().unwrap();
    let server = server::Server::sync_engine(&folder.path().join("ledger.jsonl"), "", LONG).await;
    if let Some(server) = server {
        wire::too_fast(&server, wire::AtTheRate::Closed).await;
        server.kill().await;
    }
}

#[tokio::test]
async fn too_many_messages_are_read_later_by_the_gateway() {
    let server = server::Server::gateway().handshake(LONG).start().await;
    wire::too_fast(&server, wire::AtTheRate::ReadLater).await;
    server.kill().await;
}
