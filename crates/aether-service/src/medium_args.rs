//! How a program connects: the address of its medium, its login, its certificates and its keys.
//!
//! Every program that connects flattens them into its own arguments, so that they are spelt the same everywhere and
//! come from the same layers: [`config`](crate::config) reads them. Without the feature `nats`, all but the address and
//! the wait have no effect.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "lan")]
use aether::lan::LanOptions;
#[cfg(feature = "nats")]
use aether::nats::NatsOptions;
use aether_core::medium::Wire;
use aether_core::{Aether, AetherBuilder, ConnectError, medium::without_secrets};
use tokio_util::sync::CancellationToken;

use crate::login::{CertificateFiles, LoginFile};
use crate::{connecting, service_manager};

/// The medium to connect to. As arguments of a program they are the uppermost layer above the section `[medium]` of a
/// configuration: arguments, environment, files, built-in defaults. `Debug` does not show secrets.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MediumArgs {
    /// The address, or several separated by spaces.
    pub medium: String,
    /// NATS: the subject prefix of all channels.
    pub prefix: String,
    /// NATS: the wire format.
    pub wire: Wire,
    /// How long to retry an unreachable server.
    pub wait: Duration,
    /// NATS: the file with the secret of this program.
    pub login: Option<LoginFile>,
    /// NATS: the name whose inbox receives answers.
    pub inbox: Option<String>,
    /// NATS and lan: the authorities that are trusted instead of the system's.
    pub ca: Option<PathBuf>,
    /// NATS and lan: the certificate of this program and its key.
    pub certificate: Option<CertificateFiles>,
    /// NATS and lan: the file with the keys of sealed waves.
    pub keys: Option<PathBuf>,
    /// NATS: the file with the key that signs what this program sends.
    pub signing_key: Option<PathBuf>,
    /// NATS: the list of signers.
    pub signers: Option<PathBuf>,
}

impl fmt::Debug for MediumArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { medium, prefix, wire, wait, login, inbox, ca, certificate, keys, signing_key, signers } =
            self;
        f.debug_struct("MediumArgs")
            .field("medium", &without_secrets(medium))
            .field("prefix", prefix)
            .field("wire", wire)
            .field("wait", wait)
            .field("login", login)
            .field("inbox", inbox)
            .field("ca", ca)
            .field("certificate", certificate)
            .field("keys", keys)
            .field("signing_key", signing_key)
            .field("signers", signers)
            .finish()
    }
}

impl MediumArgs {
    const LOCAL: &str = "local:";
    const PREFIX: &str = "aether";

    /// The NATS options of the arguments: how this program logs in and what it trusts, with the default outbox. The
    /// server shows the client name for this connection.
    #[cfg(feature = "nats")]
    pub fn nats(&self, client_name: &str) -> NatsOptions {
        let mut options =
            NatsOptions::default().prefix(&self.prefix).wire(self.wire).client_name(client_name);
        if let Some(login) = &self.login {
            options = options.login(login.clone().into());
        }
        if let Some(name) = &self.inbox {
            options = options.inbox(name);
        }
        if let Some(path) = &self.ca {
            options = options.authorities(path);
        }
        if let Some(CertificateFiles { certificate, key }) = &self.certificate {
            options = options.certificate(certificate, key);
        }
        if let Some(keys) = &self.keys {
            options = options.keys(keys);
        }
        if let Some(key) = &self.signing_key {
            options = options.signing_key(key);
        }
        match &self.signers {
            Some(signers) => options.signers(signers),
            None => options,
        }
    }

    /// The options of the medium of a local network of the arguments, with the default outbox. Its peers see the name.
    /// Without keys, the secret comes from the environment. `ca` and `certificate` are for `quic/` endpoints, which
    /// need both.
    #[cfg(feature = "lan")]
    pub fn lan(&self, name: &str) -> LanOptions {
        let mut options = LanOptions::default().name(name);
        if let (Some(ca), Some(CertificateFiles { certificate, key })) = (&self.ca, &self.certificate) {
            options = options.certificates(ca, certificate, key);
        }
        match &self.keys {
            Some(keys) => options.keys(keys),
            None => options,
        }
    }

    /// A builder for the medium, with default options otherwise. To change the options of NATS, pass the result of
    /// `nats` to the builder again. The client name is also the name of the program in its
    /// [account](aether_core::account).
    pub fn builder(&self, client_name: &str) -> AetherBuilder {
        let builder = aether::builder().url(&self.medium).program(client_name);
        #[cfg(feature = "nats")]
        let builder = builder.options(self.nats(client_name));
        #[cfg(feature = "lan")]
        let builder = builder.options(self.lan(client_name));
        builder
    }

    /// Connects once.
    ///
    /// # Errors
    /// [`ConnectError`] if the address is not valid or the server cannot be reached.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing stays connected.
    pub async fn connect(&self, client_name: &str) -> Result<Aether, ConnectError> {
        self.builder(client_name).connect().await
    }

    /// Like [`connect_with_until`](Self::connect_with_until), with default options.
    ///
    /// # Errors
    /// As [`connect_with_until`](Self::connect_with_until).
    ///
    /// # Cancel safety
    /// As [`connect_with_until`](Self::connect_with_until).
    pub async fn connect_until(
        &self,
        shutdown: &CancellationToken,
        client_name: &str,
    ) -> Result<Option<Aether>, ConnectError> {
        self.connect_with_until(shutdown, self.builder(client_name)).await
    }

    /// Connects. Returns `None` if `shutdown` is cancelled first. Retries an unreachable server for the time in the
    /// arguments, and logs that. Afterwards it logs when the connection breaks and when it is back.
    ///
    /// # Errors
    /// [`ConnectError`] at once if the address is not valid or the server refuses the connection; after the wait if the
    /// server did not answer.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing stays connected.
    pub async fn connect_with_until(
        &self,
        shutdown: &CancellationToken,
        builder: AetherBuilder,
    ) -> Result<Option<Aether>, ConnectError> {
        if self.has_secret_in(std::env::args_os()) {
            tracing::warn!(
                "the address on the command line has a password or a token, and other users of this machine can read command \
                 lines: set AETHER_MEDIUM instead, or medium.login to a file"
            );
        }
        if self.shows_secret_to_the_network() {
            tracing::warn!(
                "a password or a token goes to a server of another machine without TLS, so everybody on the way can read it: use \
                 tls://, or set medium.ca"
            );
        }
        let connecting = connecting::patiently(&builder, self.wait);
        let connected = shutdown.run_until_cancelled(connecting).await.transpose()?;
        connected.iter().for_each(connecting::log_changes);
        Ok(connected)
    }

    /// Whether the address has a secret and is one of these arguments.
    fn has_secret_in(&self, mut args: impl Iterator<Item = OsString>) -> bool {
        without_secrets(&self.medium) != self.medium
            && args.any(|arg| arg.to_string_lossy().contains(&*self.medium))
    }

    /// Whether a secret of the address or of the login goes over a network in the clear. A server on this machine does
    /// not count as a network, and with certificates of any kind a connection without TLS is refused.
    fn shows_secret_to_the_network(&self) -> bool {
        if self.ca.is_some() || self.certificate.is_some() {
            return false;
        }
        let sends_login = self.login.as_ref().is_some_and(LoginFile::is_sent);
        let of_nats = self.addresses().filter(|address| has_scheme(address, "nats:"));
        of_nats.flat_map(|address| address.split(',')).any(|server| {
            let server = server.rsplit_once("//").map_or(server, |(_, server)| server);
            let (has_secret, host) = match server.rsplit_once('@') {
                Some((_, host)) => (true, host),
                None => (sends_login, server),
            };
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']', '/']);
            let is_here = name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
            has_secret && !is_here && !name.eq_ignore_ascii_case("localhost")
        })
    }

    /// Logs one line with the program, its version, the medium, and what the program does. Tells the service manager that
    /// the program is [ready](service_manager::ready).
    pub fn announce(&self, program: &str, version: &str, does: impl fmt::Display) {
        tracing::info!("{program} {version} on {self}: {does}");
        service_manager::ready();
    }

    /// Whether the medium is local to this process.
    #[must_use]
    pub fn is_local(&self) -> bool {
        has_scheme(&self.medium, Self::LOCAL)
    }

    /// The addresses of the paths, or the one address.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.medium.split_whitespace()
    }

    /// The first address of NATS servers, if there is any.
    #[must_use]
    pub fn nats_address(&self) -> Option<&str> {
        self.addresses()
            .find(|address| ["nats:", "tls:"].into_iter().any(|scheme| has_scheme(address, scheme)))
    }

    /// The first address of a local network, if there is any.
    #[must_use]
    pub fn lan_address(&self) -> Option<&str> {
        self.addresses().find(|address| Self::is_lan(address))
    }

    /// Whether an address belongs to a local network.
    #[must_use]
    pub fn is_lan(address: &str) -> bool {
        has_scheme(address, "lan:")
    }
}

/// Whether an address has a scheme. Schemes are case-insensitive.
fn has_scheme(address: &str, scheme: &str) -> bool {
    address.get(..scheme.len()).is_some_and(|of_address| of_address.eq_ignore_ascii_case(scheme))
}

/// The local medium without waiting. The environment is not read.
impl Default for MediumArgs {
    fn default() -> Self {
        Self {
            medium: Self::LOCAL.to_owned(),
            prefix: Self::PREFIX.to_owned(),
            wire: Wire::Frames,
            wait: Duration::ZERO,
            login: None,
            inbox: None,
            ca: None,
            certificate: None,
            keys: None,
            signing_key: None,
            signers: None,
        }
    }
}

/// The address without its secrets, and the prefix if it is not the default.
impl fmt::Display for MediumArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_secrets(&self.medium))?;
        if self.prefix != Self::PREFIX && !self.is_local() {
            write!(f, " (prefix {})", self.prefix)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_default_is_the_local_medium() {
        let args = MediumArgs::default();
        assert!(args.is_local());
        let aether = args.connect("test").await.unwrap();
        assert!(!aether.promises().crosses_processes);
    }

    #[tokio::test]
    async fn what_is_local_is_what_connects_in_process() {
        for (medium, local) in
            [("local:", true), ("LOCAL:", true), ("Local:x", true), ("loca", false), ("ü:", false)]
        {
            let args = MediumArgs { medium: medium.to_owned(), ..MediumArgs::default() };
            assert_eq!(args.is_local(), local, "{medium}");
            assert_eq!(args.connect("test").await.is_ok(), local, "{medium}");
        }
    }

    #[test]
    fn a_secret_that_goes_over_a_network_in_the_clear_is_noticed() {
        for (medium, is_shown) in [
            ("nats://shop:s3cret@bus.example:4222", true),
            ("nats://bus.example:4222,nats://t0ken@10.0.0.7", true),
            ("lan: nats://shop:s3cret@[2001:db8::1]:4222", true),
            ("tls://shop:s3cret@bus.example", false),
            ("nats://bus.example:4222", false),
            ("nats://shop:s3cret@localhost:4222", false),
            ("nats://shop:s3cret@127.0.0.1", false),
            ("nats://shop:s3cret@[::1]:4222", false),
        ] {
            let args = MediumArgs { medium: medium.to_owned(), ..MediumArgs::default() };
            assert_eq!(args.shows_secret_to_the_network(), is_shown, "{medium}");
        }
        for (login, medium, ca, is_shown) in [
            ("password:shop:a", "nats://bus.example", None, true),
            ("token:a", "nats://127.0.0.1:4222,nats://bus.example", None, true),
            ("token:a", "tls://bus.example", None, false),
            ("token:a", "nats://bus.example", Some("ca.pem"), false),
            ("token:a", "nats://127.0.0.1:4222", None, false),
            ("nkey:a", "nats://bus.example", None, false),
            ("credentials:a", "nats://bus.example", None, false),
        ] {
            let (medium, ca) = (medium.to_owned(), ca.map(PathBuf::from));
            let args = MediumArgs { medium, login: login.parse().ok(), ca, ..MediumArgs::default() };
            assert_eq!(args.shows_secret_to_the_network(), is_shown, "{login}, {args:?}");
        }
    }

    #[test]
    fn a_medium_is_shown_without_its_secrets() {
        let mut args = MediumArgs { medium: "nats://shop:secret@a:4222".to_owned(), ..MediumArgs::default() };
        assert_eq!(args.to_string(), "nats://***@a:4222");
        args.prefix = "shop".to_owned();
        assert_eq!(args.to_string(), "nats://***@a:4222 (prefix shop)");
    }

    #[test]
    fn a_secret_on_the_command_line_is_noticed_and_one_of_the_environment_is_not() {
        let has_secret = |medium: &str, args: &[&str]| {
            let of = MediumArgs { medium: medium.to_owned(), ..MediumArgs::default() };
            of.has_secret_in(args.iter().map(OsString::from))
        };
        let (secret, plain) = ("nats://shop:secret@a:4222", "nats://a:4222");
        assert!(has_secret(secret, &["aether", "listen", "--medium", secret, ">"]));
        assert!(has_secret(secret, &["aether", "--medium=nats://shop:secret@a:4222"]));
        assert!(!has_secret(secret, &["aether", "listen", ">"]));
        assert!(!has_secret(plain, &["aether", "--medium", plain]));
    }

    /// Without the shutdown it would wait for the server's greeting.
    #[tokio::test]
    async fn connecting_to_a_silent_server_ends_with_the_shutdown() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let medium = format!("nats://{}", silent.local_addr().unwrap());
        let args = MediumArgs { medium, ..MediumArgs::default() };
        let shutdown = CancellationToken::new();
        let told = async {
            // The TCP connection is up; the server sends nothing.
            let accepted = tokio::task::spawn_blocking(move || silent.accept()).await.unwrap().unwrap();
            shutdown.cancel();
            accepted
        };
        let (connected, _accepted) = tokio::join!(args.connect_until(&shutdown, "test"), told);
        assert!(connected.unwrap().is_none());
        assert!(args.connect_until(&shutdown, "test").await.unwrap().is_none());
    }

    #[cfg(feature = "lan")]
    #[test]
    fn the_options_of_a_local_network_have_the_name_of_the_program_and_the_keys_of_the_arguments() {
        let args = MediumArgs {
            medium: "lan:".to_owned(),
            keys: Some("own-keys".into()),
            ca: Some("ca.pem".into()),
            ..MediumArgs::default()
        };
        assert_eq!(args.lan_address(), Some("lan:"));
        let options = format!("{:?}", args.lan("shop"));
        assert!(options.contains("name: Some(\"shop\")") && options.contains("\"own-keys\""), "{options}");
        assert!(options.contains("certificates: None"), "authorities alone make no TLS: {options}");
        let certificate = Some("own.pem,own.key".parse().unwrap());
        let with = format!("{:?}", MediumArgs { certificate, ..args.clone() }.lan("shop"));
        assert!(["ca.pem", "own.pem", "own.key"].iter().all(|file| with.contains(file)), "{with}");
        let without = MediumArgs { keys: None, ..args };
        assert!(format!("{:?}", without.lan("shop")).contains("secret: None"));
    }

    #[tokio::test]
    async fn an_unknown_scheme_is_refused_with_the_allowed_ones() {
        let args = MediumArgs { medium: "amqp://a".to_owned(), ..MediumArgs::default() };
        let error = args.connect("test").await.unwrap_err();
        assert!(error.to_string().contains("local:"), "{error}");
    }
}
