//! `aether keys`: makes, shows and rotates the keys of sealed waves, and makes and shows those that sign. Nothing is sent
//! anywhere.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use aether::seal::{KeyUse, PublicKey, SealKeys, Signers, SigningKey};

use crate::error::{CommandError, KeysError};
use crate::output::Output;

/// Make, show and rotate the keys of sealed waves, which the broker can neither read nor forge, and keys that sign
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aether keys new aether.keys           a file that only you can read
  AETHER_KEYS=aether.keys aether beta   a program that seals
  aether keys show aether.keys          the ids of its keys, no secrets

  A rotation that loses nothing; hand the file to all programs
  after each step, which read it within a second of the next message:
  aether keys rotate aether.keys          adds a key that opens only
  aether keys rotate aether.keys --seal   seals with the newest key
  aether keys rotate aether.keys --drop   removes all other keys

  A key by which receivers know who emitted; its public key goes on
  the list of signers of every program, with the name of yours:
  aether keys new --signing shop.key      prints the line for the list
  AETHER_SIGNING_KEY=shop.key AETHER_SIGNERS=signers shop-service
  aether keys show shop.key               the public key again
  aether keys show signers                the ids of a list, by name")]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Write a new key to a new file, which only its owner can read (mode 0600)
    New {
        /// The file; it must not exist
        file: PathBuf,
        /// A key that signs, in place of one that seals
        #[arg(long)]
        signing: bool,
    },
    /// Print the ids of the keys of a file and what each is for, or the ids of a list of signers
    Show {
        /// The file
        file: PathBuf,
    },
    /// Take one step of a rotation: add a key that opens only
    Rotate {
        /// The file, which is replaced at once
        file: PathBuf,
        /// Seal with the newest key, once all programs have it
        #[arg(long, conflicts_with = "drop")]
        seal: bool,
        /// Remove all keys but the one that seals, once all programs seal with it
        #[arg(long)]
        drop: bool,
    },
}

pub(crate) fn keys(args: KeysArgs) -> Result<(), CommandError> {
    let text = done(args.command)?;
    Ok(Output::stdout().bytes(text.as_bytes())?)
}

fn done(action: Action) -> Result<String, KeysError> {
    match action {
        Action::New { file, signing: true } => {
            let key = SigningKey::generate()?;
            key.save_new(&file)?;
            let shown = file.display();
            Ok(signing(key.public_key())
                + &format!(
                    "Set AETHER_SIGNING_KEY={shown} or medium.signing_key for the program, and add a line NAME and the public key to the list \
                     of signers of every program (medium.signers).\n"
                ))
        }
        Action::New { file, signing: false } => {
            let keys = SealKeys::generate()?;
            keys.save_new(&file)?;
            let shown = file.display();
            Ok(listed(&keys)
                + &format!(
                    "Set AETHER_KEYS={shown} or medium.keys for every program; who has the file can read and send everything.\n"
                ))
        }
        Action::Show { file } => show(&file),
        Action::Rotate { file, seal, drop } => rotate(&file, seal, drop),
    }
}

/// Shows what the file is, which its lines say.
fn show(file: &Path) -> Result<String, KeysError> {
    // A list is public, so it is tried first: its mode may be one that keys must not have.
    if let Ok(signers) = Signers::from_file(file) {
        let line = |(name, key): (String, PublicKey)| format!("{}  {name}\n", key.id());
        return Ok(signers.entries().map(line).collect());
    }
    match SealKeys::from_file(file) {
        Ok(keys) => Ok(listed(&keys)),
        Err(error) => match SigningKey::from_file(file) {
            Ok(key) => Ok(signing(key.public_key())),
            // What is wrong with it as the usual kind of file.
            Err(_) => Err(error.into()),
        },
    }
}

fn signing(key: PublicKey) -> String {
    format!("{}  signs, as\n{key}\n", key.id())
}

fn rotate(file: &Path, seal: bool, drop: bool) -> Result<String, KeysError> {
    let mut keys = SealKeys::from_file(file)?;
    let last = keys.ids().last();
    let is_newest = last.is_some_and(|(_, key_use)| key_use == KeyUse::Seals);
    let path = || file.to_owned();
    let text = match (seal, drop) {
        (true, _) if keys.ids().count() == 1 => return Err(KeysError::OneKey { path: path() }),
        (true, _) if is_newest => return Err(KeysError::Sealing { path: path() }),
        (true, _) => {
            let id = keys.seal_with_newest();
            format!("{id} seals now. Hand the file to all programs, then use --drop.\n")
        }
        (_, true) => match &keys.drop_others()[..] {
            [] => return Err(KeysError::OneKey { path: path() }),
            gone => {
                let gone: Vec<_> = gone.iter().map(ToString::to_string).collect();
                format!("removed {}. Hand the file to all programs.\n", gone.join(", "))
            }
        },
        _ => {
            let id = keys.add()?;
            format!("{id} opens now. Hand the file to all programs, then use --seal.\n")
        }
    };
    keys.replace(file)?;
    Ok(listed(&keys) + &text)
}

fn listed(keys: &SealKeys) -> String {
    let mut text = String::new();
    for (id, key_use) in keys.ids() {
        let key_use = match key_use {
            KeyUse::Seals => "seals and opens",
            KeyUse::Opens => "opens",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{id}  {key_use}");
    }
    text
}
