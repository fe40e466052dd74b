//! Logging in to NATS servers: TLS, client certificates, passwords, tokens, NKeys and credentials files.

pub(crate) mod authority;
mod rotation;

use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use aether::nats::NatsOptions;
use aether::nats::{NatsError, NatsLogin, NatsLoginError, TlsFailure};
use aether_conformance::{NatsServer, ServerOptions};
use aether_core::{Aether, ConnectError, Vibrator};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair as Nkey;
use rcgen::{CertificateParams, date_time_ymd};
use serde_json::json;
use tempfile::TempDir;

use authority::{Authority, secret};

/// A bound for what takes milliseconds on an idle machine. No test waits for it to elapse.
const LONG: Duration = Duration::from_secs(60);

async fn connect(url: &str, options: NatsOptions) -> Result<Aether, ConnectError> {
    let connecting = aether::builder().url(url).options(options).connect();
    tokio::time::timeout(LONG, connecting).await.expect("an answer")
}

async fn carries(aether: &Aether) {
    let mut stock = Vibrator::create("stock", aether).await.unwrap();
    stock.resonate_on("orders.*").await.unwrap();
    let shop = Vibrator::create("shop", aether).await.unwrap();
    shop.emit_wave("orders.created", &17).await.unwrap();
    let wave = tokio::time::timeout(LONG, stock.receive()).await.unwrap().unwrap();
    assert_eq!(wave.json::<u32>().unwrap(), 17);
}

async fn tls_failure(url: &str, options: NatsOptions) -> TlsFailure {
    let error = connect(url, options).await.unwrap_err();
    let Some(NatsError::Tls { failure, .. }) = error.of_medium() else { panic!("{error:?}") };
    assert!(!error.is_transient());
    assert!(error.to_string().contains(&failure.to_string()), "{error}");
    *failure
}

#[tokio::test]
async fn waves_travel_over_tls_with_certificates_on_both_sides() {
    let authority = Authority::new();
    let server = NatsServer::start_with(authority.tls("verify: true")).await.unwrap();
    carries(&connect(&server.url(), authority.certified()).await.unwrap()).await;
    assert_eq!(tls_failure(&server.url(), authority.trusted()).await, TlsFailure::ClientRefused);
    let stranger = Authority::new();
    let options =
        authority.trusted().certificate(stranger.path("client.pem"), stranger.path("client-key.pem"));
    assert_eq!(tls_failure(&server.url(), options).await, TlsFailure::ClientRefused);
}

#[tokio::test]
async fn certificates_that_do_not_fit_are_refused_with_what_is_wrong() {
    let authority = Authority::new();
    let server = NatsServer::start_with(authority.tls("")).await.unwrap();
    let stranger = Authority::new();
    assert_eq!(tls_failure(&server.url(), stranger.trusted()).await, TlsFailure::UnknownIssuer);
    drop(server);
    type Change = fn(&mut CertificateParams);
    let changes: [(Change, TlsFailure); 3] = [
        (|params| params.not_after = date_time_ymd(2001, 1, 1), TlsFailure::Expired),
        (|params| params.not_before = date_time_ymd(3001, 1, 1), TlsFailure::NotYetValid),
        (
            |params| *params = CertificateParams::new(["elsewhere.example".to_owned()]).unwrap(),
            TlsFailure::WrongHost,
        ),
    ];
    for (change, failure) in changes {
        authority.sign("server", change);
        let server = NatsServer::start_with(authority.tls("")).await.unwrap();
        assert_eq!(tls_failure(&server.url(), authority.trusted()).await, failure);
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_used_if_it_is_trusted_and_no_authority() {
    let authority = Authority::new();
    let itself = || NatsOptions::default().authorities(authority.path("server.pem"));
    authority.sign_itself(true);
    let server = NatsServer::start_with(authority.tls("")).await.unwrap();
    for options in [authority.trusted(), itself()] {
        assert_eq!(tls_failure(&server.url(), options).await, TlsFailure::SelfSigned);
    }
    drop(server);
    authority.sign_itself(false);
    let server = NatsServer::start_with(authority.tls("")).await.unwrap();
    assert_eq!(tls_failure(&server.url(), authority.trusted()).await, TlsFailure::UnknownIssuer);
    carries(&connect(&server.url(), itself()).await.unwrap()).await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let authority = Authority::new();
    let server = NatsServer::start().await.unwrap();
    assert_eq!(tls_failure(&server.url(), authority.trusted()).await, TlsFailure::NoTls);
    let url = server.url().replace("nats:", "tls:");
    assert_eq!(tls_failure(&url, NatsOptions::default()).await, TlsFailure::NoTls);
}

#[tokio::test]
async fn certificates_are_read_again_for_each_connection() {
    let mut authority = Authority::new();
    let mut server = NatsServer::start_with(authority.tls("verify: true")).await.unwrap();
    let aether = connect(&server.url(), authority.certified()).await.unwrap();
    let mut connection = aether.connection();
    authority.replace();
    carries(&aether).await;
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    let back = async { while connection.changed().await.unwrap().connects < 2 {} };
    tokio::time::timeout(LONG, back).await.unwrap();
    carries(&aether).await;
}

#[tokio::test]
async fn a_program_logs_in_with_a_password_a_token_or_an_nkey_of_a_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("secret");
    let keys = Nkey::new_user();
    let password = NatsLogin::PasswordFile { user: "shop".to_owned(), file: file.clone() };
    let nkey = keys.seed().unwrap();
    let cases = [
        ("{ users: [{ user: shop, password: right }] }".to_owned(), "right", password),
        ("{ token: right }".to_owned(), "right", NatsLogin::TokenFile(file.clone())),
        (
            format!("{{ users: [{{ nkey: {} }}] }}", keys.public_key()),
            &*nkey,
            NatsLogin::NkeyFile(file.clone()),
        ),
    ];
    for (authorization, right, login) in cases {
        let options = ServerOptions::default().setting("authorization", authorization);
        let server = NatsServer::start_with(options).await.unwrap();
        let options = NatsOptions::default().login(login.clone());
        secret(&file, &format!("{right}\n"));
        carries(&connect(&server.url(), options.clone()).await.unwrap()).await;
        secret(&file, &Nkey::new_user().seed().unwrap());
        let refused = connect(&server.url(), options.clone()).await;
        let refused = refused.unwrap_err();
        assert!(matches!(refused.of_medium(), Some(NatsError::Unauthorized { .. })), "{refused:?}");
        assert!(!refused.is_transient());
        let refused = connect(&server.url(), NatsOptions::default()).await.unwrap_err();
        assert!(matches!(refused.of_medium(), Some(NatsError::Unauthorized { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_changed_secret_is_used_at_the_next_connection() {
    let folder = TempDir::new().unwrap();
    let (own, servers) = (folder.path().join("own"), folder.path().join("servers"));
    let change = |token: &str| {
        secret(&own, token);
        secret(&servers, &format!("token: {token}\n"));
    };
    change("before");
    // The server takes paths as relative to /dev, where its configuration comes from.
    let include = format!("{{ include '..{}' }}", servers.display());
    let options = ServerOptions::default().setting("authorization", include);
    let mut server = NatsServer::start_with(options).await.unwrap();
    let login = NatsOptions::default().login(NatsLogin::TokenFile(own.clone()));
    let aether = connect(&server.url(), login).await.unwrap();
    let mut connection = aether.connection();
    server.kill().await.unwrap();
    change("after");
    server.restart().await.unwrap();
    let back = async { while connection.changed().await.unwrap().connects < 2 {} };
    tokio::time::timeout(LONG, back).await.unwrap();
    carries(&aether).await;
}

/// A JWT of NATS, signed by the issuer.
fn jwt(issuer: &Nkey, subject: &Nkey, kind: &str) -> String {
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "jti": "1", "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(), "name": kind,
        "nats": { "type": kind, "version": 2, "subs": -1, "data": -1, "payload": -1, "limits": {
            "subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "wildcards": true
        } },
    });
    let signed = format!("{}.{}", part(json!({ "typ": "JWT", "alg": "ed25519-nkey" })), part(claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

#[tokio::test]
async fn a_program_logs_in_with_a_credentials_file() {
    let folder = TempDir::new().unwrap();
    let (operator, account, user) = (Nkey::new_operator(), Nkey::new_account(), Nkey::new_user());
    let preload = format!("{{ {}: \"{}\" }}", account.public_key(), jwt(&operator, &account, "account"));
    let options = ServerOptions::default()
        .setting("operator", format!("\"{}\"", jwt(&operator, &operator, "operator")))
        .setting("resolver", "MEMORY")
        .setting("resolver_preload", preload);
    let server = NatsServer::start_with(options).await.unwrap();
    let file = folder.path().join("shop.creds");
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        jwt(&account, &user, "user"),
        user.seed().unwrap()
    );
    secret(&file, &text);
    let options = NatsOptions::default().login(NatsLogin::CredentialsFile(file));
    carries(&connect(&server.url(), options).await.unwrap()).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("secret");
    let of = |login| NatsOptions::default().login(login);
    let refused = async |options, expected: &str| {
        let error = connect("nats://127.0.0.1:1", options).await.unwrap_err();
        let Some(NatsError::Login(source)) = error.of_medium() else { panic!("{error:?}") };
        let text = source.to_string();
        assert!(text.contains(expected) && text.contains(folder.path().to_str().unwrap()), "{text}");
        assert!(error.source().is_some() && !error.is_transient());
    };
    refused(of(NatsLogin::TokenFile(file.clone())), "cannot read").await;
    secret(&file, "");
    refused(of(NatsLogin::TokenFile(file.clone())), "has no token in its first line").await;
    refused(of(NatsLogin::NkeyFile(file.clone())), "has no seed of an NKey").await;
    refused(of(NatsLogin::CredentialsFile(file.clone())), "has no NATS USER JWT").await;
    secret(&file, "a secret");
    refused(of(NatsLogin::NkeyFile(file.clone())), "has no seed of an NKey").await;
    for mode in [0o644, 0o602, 0o660] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        refused(of(NatsLogin::TokenFile(file.clone())), "chmod 600").await;
    }
    let authority = Authority::new();
    let absent = folder.path().join("absent.pem");
    refused(NatsOptions::default().authorities(&absent), "cannot read").await;
    refused(authority.trusted().certificate(&absent, &file), "cannot read").await;
    refused(authority.trusted().certificate(authority.path("client.pem"), &file), "chmod 600").await;
    let debug = format!("{:?}", NatsLoginError::Public { path: file, mode: 0o644 });
    assert!(!debug.contains("a secret"));
}
