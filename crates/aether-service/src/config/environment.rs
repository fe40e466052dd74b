//! The layers above the files: variables of the environment and arguments.

use std::ffi::OsString;

use super::file::{Entry, Layer, Raw};
use super::mistake::{Mistake, Origin, Problem};

/// The beginning of the variables for any setting: `AETHER__INBOX__FLOOR`.
const PREFIX: &str = "AETHER__";

/// The short variables, which every program of Aether reads.
const SHORT: [(&str, &str); 8] = [
    ("AETHER_MEDIUM", "medium.url"),
    ("AETHER_PREFIX", "medium.prefix"),
    ("AETHER_WIRE", "medium.wire"),
    ("AETHER_WAIT", "medium.wait"),
    ("AETHER_KEYS", "medium.keys"),
    ("AETHER_SIGNING_KEY", "medium.signing_key"),
    ("AETHER_SIGNERS", "medium.signers"),
    ("AETHER_LOG", "log.filter"),
];

/// A value that was given as an argument.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) key: String,
    /// The argument, for messages.
    pub(super) name: String,
    pub(super) text: String,
}

/// The settings among variables. Of a short and a long name for one setting, the long one counts.
pub(super) fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Layer {
    let (mut short, mut long, mut mistakes) = (Vec::new(), Vec::new(), Vec::new());
    let mut variables: Vec<_> =
        variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
    variables.sort();
    for (variable, value) in variables {
        let alias = SHORT.iter().find(|(name, _)| *name == variable).map(|(_, key)| *key);
        let path: Vec<String> = match (alias, variable.strip_prefix(PREFIX)) {
            (Some(key), _) => key.split('.').map(str::to_owned).collect(),
            (None, Some(rest)) => rest.split("__").map(str::to_ascii_lowercase).collect(),
            (None, None) => continue,
        };
        let origin = Origin::Environment { variable };
        match value.into_string() {
            // An empty short variable is one that is not set: shells cannot unset a variable for one command.
            Ok(text) if alias.is_some() && text.is_empty() => {}
            Ok(text) => {
                let entry = Entry { path, value: Raw::Text(text), origin };
                if alias.is_some() { short.push(entry) } else { long.push(entry) }
            }
            Err(_) => mistakes.push(Mistake { origin, problem: Problem::NotText }),
        }
    }
    short.extend(long);
    Layer { entries: short, mistakes }
}

/// The settings among arguments: first from `--set`, then from arguments with names of their own.
pub(super) fn arguments(set: &[String], given: &[Given]) -> Layer {
    let mut layer = Layer::default();
    let path = |key: &str| key.trim().split('.').map(str::to_owned).collect();
    for pair in set {
        let origin = Origin::Argument { name: "--set".to_owned() };
        match pair.split_once('=') {
            Some((key, text)) if !key.trim().is_empty() => {
                layer.entries.push(Entry {
                    path: path(key),
                    value: Raw::Text(text.trim().to_owned()),
                    origin,
                });
            }
            _ => layer.mistakes.push(Mistake { origin, problem: Problem::NotPair { given: pair.clone() } }),
        }
    }
    layer.entries.extend(given.iter().map(|Given { key, name, text }| Entry {
        path: path(key),
        value: Raw::Text(text.clone()),
        origin: Origin::Argument { name: name.clone() },
    }));
    layer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Vec<(String, String)> {
        let layer = environment(variables.iter().map(|(name, value)| (name.into(), value.into())));
        let text = |value: &Raw| if let Raw::Text(text) = value { text.clone() } else { String::new() };
        layer.entries.iter().map(|entry| (entry.path.join("."), text(&entry.value))).collect()
    }

    #[test]
    fn variables_name_settings_and_the_long_name_counts() {
        let read = read(&[
            ("AETHER__INBOX__MAX_WAVES", "5"),
            ("AETHER_MEDIUM", "short"),
            ("AETHER__MEDIUM__URL", "long"),
            ("AETHER_LOG", ""),
            ("AETHER_NATS_SERVER", "/bin/nats"),
            ("PATH", "/bin"),
        ]);
        let expected = [("medium.url", "short"), ("inbox.max_waves", "5"), ("medium.url", "long")];
        assert_eq!(read, expected.map(|(key, text)| (key.to_owned(), text.to_owned())));
    }

    #[test]
    fn an_argument_that_is_no_pair_is_named() {
        let layer =
            arguments(&["inbox.floor = 0.5".to_owned(), "inbox.floor".to_owned(), "=1".to_owned()], &[]);
        assert_eq!(layer.entries[0].path, ["inbox", "floor"]);
        assert!(matches!(&layer.entries[0].value, Raw::Text(text) if text == "0.5"));
        assert_eq!(layer.mistakes.len(), 2);
        assert!(layer.mistakes[0].to_string().contains("NAME=VALUE"), "{:?}", layer.mistakes);
    }
}
