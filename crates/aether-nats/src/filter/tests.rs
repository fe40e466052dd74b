//! The connections that get through the filter, and the ones that do not.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// A server that greets one connection.
async fn server() -> (ServerAddr, tokio::task::JoinHandle<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("nats://{}", listener.local_addr().unwrap()).parse().unwrap();
    let greeting = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"INFO {\"nonce\":\"n\",\"tls_required\":false}\r\n").await.unwrap();
        stream
    });
    (address, greeting)
}

async fn dial(filter: &MessageFilter) -> TcpStream {
    TcpStream::connect((filter.address().host(), filter.address().port())).await.unwrap()
}

async fn log_in(filter: &MessageFilter, token: &str) -> TcpStream {
    let mut stream = dial(filter).await;
    let login = format!("CONNECT {{\"auth_token\":\"{token}\"}}\r\nPING\r\n");
    // The filter may have closed the connection already.
    let _ = stream.write_all(login.as_bytes()).await;
    stream
}

/// The bytes that a stranger reads until the filter ends the connection.
async fn reads(mut stream: TcpStream) -> String {
    let mut read = Vec::new();
    // A connection that is closed with bytes that nobody has read ends with an error.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut read)).await.expect("it ends");
    String::from_utf8(read).unwrap()
}

fn filter() -> MessageFilter {
    MessageFilter::new(NatsTls::default(), Arc::default()).unwrap()
}

#[tokio::test]
async fn strangers_get_the_greeting_at_most_and_reach_no_server() {
    let filter = filter();
    let address = (filter.address().host().to_owned(), filter.address().port());
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens before it is needed");
    let (server, greeting) = server().await;
    filter.expect(&server, false, LONG).await.unwrap();
    let mut upstream = greeting.await.unwrap();
    let secret = filter.secret.0.as_str();
    let almost = [&secret[..secret.len() - 1], "!"].concat();
    for token in ["", "guess", &almost, &secret[..secret.len() - 1]] {
        assert_eq!(
            reads(log_in(&filter, token).await).await,
            "INFO {\"nonce\":\"n\",\"tls_required\":false}\r\n"
        );
    }
    assert!(!filter.has_come());
    let mut client = log_in(&filter, &format!("{secret}right")).await;
    let mut login = [0; 40];
    let expected = b"CONNECT {\"auth_token\":\"right\"}\r\nPING\r\n";
    tokio::time::timeout(LONG, upstream.read_exact(&mut login[..expected.len()])).await.unwrap().unwrap();
    assert_eq!(
        &login[..expected.len()],
        expected,
        "the first bytes that reach the server, without the secret"
    );
    assert!(filter.has_come());
    // Nobody is expected any more.
    assert_eq!(reads(log_in(&filter, secret).await).await, "");
    upstream.write_all(b"PONG\r\n").await.unwrap();
    let mut answer = vec![0; b"INFO {\"nonce\":\"n\",\"tls_required\":false}\r\nPONG\r\n".len()];
    client.read_exact(&mut answer).await.unwrap();
    assert!(answer.ends_with(b"PONG\r\n"));
    drop(client);
    assert_eq!(upstream.read(&mut login).await.unwrap(), 0, "the connection ends with the client's");
}

#[tokio::test]
async fn the_secret_is_shown_in_logins_through_the_filter_only() {
    let filter = filter();
    let mut auth = Auth::new();
    filter.show_in(&mut auth);
    assert_eq!(auth.token, None);
    let (server, _greeting) = server().await;
    filter.expect(&server, false, LONG).await.unwrap();
    filter.show_in(&mut auth);
    assert_eq!(auth.token.as_deref(), Some(filter.secret.0.as_str()));
    assert!(!format!("{filter:?}").contains(filter.secret.0.as_str()));
    filter.is_passed_by();
    let mut auth = Auth::new();
    filter.show_in(&mut auth);
    assert_eq!(auth.token, None);
}

#[tokio::test]
async fn a_server_that_is_away_or_says_nothing_is_an_error() {
    let filter = filter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: ServerAddr = format!("nats://{}", listener.local_addr().unwrap()).parse().unwrap();
    assert!(filter.expect(&address, false, Duration::from_millis(1)).await.is_err());
    drop(listener);
    assert!(filter.expect(&address, false, LONG).await.is_err());
    assert!(!filter.is_used());
}
