//! `--ca`, `--certificate` and `--key`: the certificates, for the commands that join the network or run a router.

use std::path::PathBuf;

use aether_core::medium::{LanError, LanOptions, LanRouter};

/// All three, or none.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Certificates")]
pub(super) struct CertificateArgs {
    /// Connect over QUIC and in no other way: trust the authorities in this file (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["certificate", "key"])]
    ca: Option<PathBuf>,

    /// The certificate of this machine (PEM), which has its name or address
    #[arg(long, value_name = "FILE", requires_all = ["ca", "key"])]
    certificate: Option<PathBuf>,

    /// The key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["ca", "certificate"])]
    key: Option<PathBuf>,
}

impl CertificateArgs {
    fn files(&self) -> Option<[&PathBuf; 3]> {
        Some([self.ca.as_ref()?, self.certificate.as_ref()?, self.key.as_ref()?])
    }

    pub(super) fn add_to(&self, options: LanOptions) -> LanOptions {
        match self.files() {
            Some([ca, certificate, key]) => options.certificates(ca, certificate, key),
            None => options,
        }
    }

    pub(super) async fn open_router(&self, address: &str) -> Result<LanRouter, LanError> {
        match self.files() {
            Some([ca, certificate, key]) => {
                LanRouter::open_with_certificates(address, ca, certificate, key).await
            }
            None => LanRouter::open(address).await,
        }
    }
}
