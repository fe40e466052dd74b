//! The arguments that say which medium a process uses: `--medium`, `--prefix` and `--wire`.
//!
//! Flattened into the arguments of every program that connects, so that all of them spell these the same.

use aether_core::{Aether, ConnectError, Wire};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tokio_util::sync::CancellationToken;

/// Which medium to connect to. Each argument can be given in the environment as well; the argument goes first.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Medium")]
#[non_exhaustive]
pub struct MediumArgs {
    /// Where: local: inside this process, or nats://host:port
    #[arg(long, value_name = "URL", env = "AETHER_MEDIUM", default_value = Self::LOCAL)]
    pub medium: String,

    /// NATS: what stands before each channel in the subject; systems with different prefixes do not hear each other
    #[arg(long, value_name = "NAME", env = "AETHER_PREFIX", default_value = "aether")]
    pub prefix: String,

    /// NATS: how waves are written
    #[arg(
        long,
        value_name = "FORMAT",
        env = "AETHER_WIRE",
        default_value = "frames",
        value_parser = PossibleValuesParser::new(["frames", "cloudevents"]).try_map(|text| text.parse::<Wire>()),
    )]
    pub wire: Wire,
}

impl MediumArgs {
    const LOCAL: &str = "local:";

    /// Connects. The client's name is what the NATS server shows of this connection.
    ///
    /// # Errors
    /// [`ConnectError`] if the address is not valid or the server cannot be reached.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing stays connected.
    pub async fn connect(&self, client_name: &str) -> Result<Aether, ConnectError> {
        Aether::builder()
            .url(&self.medium)
            .prefix(&self.prefix)
            .wire(self.wire)
            .client_name(client_name)
            .connect()
            .await
    }

    /// The same, unless `shutdown` is cancelled before it has connected; then there is nothing. A server that is there and
    /// says nothing is waited for for seconds.
    ///
    /// # Errors
    /// [`ConnectError`] if the address is not valid or the server cannot be reached.
    ///
    /// # Cancel safety
    /// Cancelled before completion, nothing stays connected.
    pub async fn connect_until(
        &self,
        shutdown: &CancellationToken,
        client_name: &str,
    ) -> Result<Option<Aether>, ConnectError> {
        shutdown.run_until_cancelled(self.connect(client_name)).await.transpose()
    }

    /// Whether the medium lives inside this process, so that no other process hears it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        // A scheme is not case-sensitive.
        self.medium.get(..Self::LOCAL.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(Self::LOCAL))
    }
}

/// What is used when nothing is given: the medium inside this process. The environment is not read.
impl Default for MediumArgs {
    fn default() -> Self {
        Self { medium: Self::LOCAL.to_owned(), prefix: "aether".to_owned(), wire: Wire::Frames }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        medium: MediumArgs,
    }

    fn parse(args: &[&str]) -> Result<MediumArgs, clap::Error> {
        Program::try_parse_from([&["program"], args].concat()).map(|program| program.medium)
    }

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
    fn arguments_are_read_and_a_wrong_wire_names_the_right_ones() {
        let args =
            parse(&["--medium", "nats://a:4222", "--prefix", "shop", "--wire", "cloudevents"]).unwrap();
        assert_eq!((args.medium.as_str(), args.prefix.as_str()), ("nats://a:4222", "shop"));
        assert_eq!(args.wire, Wire::CloudEvents);
        assert!(!args.is_local());

        let error = parse(&["--wire", "smoke"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains("frames") && text.contains("cloudevents"), "{text}");
    }

    /// It would otherwise wait for what the server says first.
    #[tokio::test]
    async fn connecting_to_a_server_that_says_nothing_ends_with_the_shutdown() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let medium = format!("nats://{}", silent.local_addr().unwrap());
        let args = MediumArgs { medium, ..MediumArgs::default() };
        let shutdown = CancellationToken::new();
        let told = async {
            // The system has connected; nobody answers.
            let accepted = tokio::task::spawn_blocking(move || silent.accept()).await.unwrap().unwrap();
            shutdown.cancel();
            accepted
        };
        let (connected, _accepted) = tokio::join!(args.connect_until(&shutdown, "test"), told);
        assert!(connected.unwrap().is_none());
        assert!(args.connect_until(&shutdown, "test").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_address_that_is_no_medium_is_refused_with_what_is_allowed() {
        let args = MediumArgs { medium: "amqp://a".to_owned(), ..MediumArgs::default() };
        let error = args.connect("test").await.unwrap_err();
        assert!(error.to_string().contains("local:"), "{error}");
    }
}
