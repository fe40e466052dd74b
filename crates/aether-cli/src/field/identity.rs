//! Owners of shared state: their identities, whom a command trusts, and certificates.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use aether_field::{Certificate, Field, FieldBuilder, Identity, PublicKey, Trust};

use crate::error::CommandError;
use crate::output::Output;

/// The identity of the command, and the owners whose state it takes.
#[derive(Debug, clap::Args)]
pub(crate) struct OwnerArgs {
    /// The identity to write owned state with, or for certify the identity of the root
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,

    /// An owner and its public key; can be repeated
    #[arg(long, value_name = "NAME=KEY", value_parser = pin)]
    trust: Vec<(String, PublicKey)>,

    /// The public key whose certificates are trusted
    #[arg(long, value_name = "KEY")]
    root: Option<PublicKey>,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum IdentityAction {
    /// Make an identity, and print its name and public key
    New {
        /// The name of the owner
        name: String,
        /// The file of the secret key; it must not exist
        file: PathBuf,
    },
    /// Print the name and the public key of an identity
    Show {
        /// The file
        file: PathBuf,
    },
}

/// An invalid pin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    #[error("use NAME=KEY, the name of an owner and its public key")]
    Form,
    #[error(transparent)]
    Key(#[from] aether_field::core::PublicKeyError),
}

fn pin(text: &str) -> Result<(String, PublicKey), PinError> {
    // A key has no equals sign; a name may.
    let (name, key) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or(PinError::Form)?;
    Ok((name.to_owned(), key.parse()?))
}

impl OwnerArgs {
    pub(crate) fn apply(&self, builder: FieldBuilder) -> Result<FieldBuilder, CommandError> {
        let mut trust = Trust::allow_list(self.trust.iter().map(|(name, key)| (name, *key)));
        if let Some(root) = self.root {
            trust = trust.with_root(root);
        }
        let builder = builder.trust(trust);
        Ok(match &self.identity {
            Some(path) => builder.identity(Identity::load(path)?),
            None => builder,
        })
    }

    /// The identity of the root.
    pub(crate) fn root(&self) -> Result<Identity, CommandError> {
        Ok(Identity::load(self.identity.as_ref().ok_or(CommandError::NoRoot)?)?)
    }
}

impl IdentityAction {
    pub(crate) fn run(self) -> Result<(), CommandError> {
        let identity = match self {
            Self::New { name, file } => {
                let identity = Identity::generate(&name)?;
                identity.save(&file)?;
                identity
            }
            Self::Show { file } => Identity::load(file)?,
        };
        let (name, key) = (identity.name(), identity.public_key());
        Ok(Output::stdout().line(format_args!("{name} {key}"))?)
    }
}

/// Binds a name to a key. The key before stays valid for what it signed until now, unless it was stolen.
pub(crate) fn certify(
    field: &Field,
    root: &Identity,
    (owner, key): (&str, PublicKey),
    void: bool,
) -> Result<(), CommandError> {
    let before = field.of(owner).key();
    if before.is_some_and(|(before, _)| before == key) {
        return Err(CommandError::Certified { owner: owner.to_owned() });
    }
    let serial = before.map_or(0, |(_, serial)| serial) + 1;
    let previous = before.map(|(before, _)| before).filter(|_| !void);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX);
    let certificate = Certificate::issue(root, field.name(), owner, key, serial, previous, at);
    Ok(field.publish(&certificate)?)
}
