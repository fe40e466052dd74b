//! Which settings a program has, derived from its types: names, defaults, and the check of one value.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::file::{Entry, Raw};
use super::mistake::{Mistake, Problem};
use super::settings::{LIVE, SECRETS, Settings};

/// The table that holds the sections of programs: `[service.beta]`.
pub(super) const SERVICE: &str = "service";

/// The settings of one program or service, in the section `[service.NAME]`.
///
/// Derive serde's traits with `#[serde(default, deny_unknown_fields)]`. Every field needs a default that can be written
/// in TOML: use [`OrOff`](super::OrOff) instead of `Option`.
///
/// ```
/// use aether_service::config::{Section, Time};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Default, Serialize, Deserialize)]
/// #[serde(default, deny_unknown_fields)]
/// struct Greeter {
///     greeting: String,
///     pause: Time,
/// }
///
/// impl Section for Greeter {
///     const NAME: &'static str = "greeter";
/// }
/// ```
pub trait Section: Serialize + DeserializeOwned + Default + 'static {
    /// The name of the section inside of `service`.
    const NAME: &'static str;
    /// The settings that are never shown.
    const SECRETS: &'static [&'static str] = &[];
    /// The settings that the program applies while it runs
    /// ([`Configuration::reloads`](super::Configuration::reloads)). A change of the others is reported to need a restart.
    const LIVE: &'static [&'static str] = &[];
}

/// A program without settings of its own.
#[derive(Debug, Clone, Copy, Default, Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoSection {}

impl Section for NoSection {
    const NAME: &'static str = "";
}

/// Checks a whole table against a type.
type Check = fn(toml::Table) -> Result<(), toml::de::Error>;

/// The settings of a program.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    defaults: toml::Table,
    /// The type of each section of a service.
    sections: Vec<(&'static str, Check)>,
    live: Vec<String>,
    secrets: Vec<String>,
}

impl Schema {
    /// The settings that all programs have.
    pub(super) fn new() -> Self {
        let mut defaults = table_of::<Settings>();
        defaults.insert(SERVICE.to_owned(), toml::Value::Table(toml::Table::new()));
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        Self { defaults, sections: Vec::new(), live: owned(LIVE), secrets: owned(SECRETS) }
    }

    /// Adds the section of a program.
    pub(super) fn with<S: Section>(mut self) -> Self {
        if S::NAME.is_empty() {
            return self;
        }
        if let Some(toml::Value::Table(services)) = self.defaults.get_mut(SERVICE) {
            services.insert(S::NAME.to_owned(), toml::Value::Table(table_of::<S>()));
        }
        self.sections.push((S::NAME, |table| toml::Value::Table(table).try_into::<S>().map(drop)));
        let key = |name: &&str| format!("{SERVICE}.{}.{name}", S::NAME);
        self.live.extend(S::LIVE.iter().map(key));
        self.secrets.extend(S::SECRETS.iter().map(key));
        self
    }

    pub(super) fn defaults(&self) -> &toml::Table {
        &self.defaults
    }

    /// Whether a change applies while the program runs.
    pub(super) fn is_live(&self, key: &str) -> bool {
        self.live.iter().any(|live| live == key)
    }

    pub(super) fn is_secret(&self, key: &str) -> bool {
        self.secrets.iter().any(|secret| secret == key)
    }

    /// All settings with their defaults, by name.
    pub(super) fn leaves(&self) -> Vec<(String, toml::Value)> {
        let mut leaves = Vec::new();
        flatten(&self.defaults, &mut Vec::new(), &mut leaves);
        leaves
    }

    /// The typed value of an entry. `None` if it belongs to a service that this program is not.
    pub(super) fn check(&self, entry: &Entry) -> Option<Result<toml::Value, Mistake>> {
        let key = entry.path.join(".");
        let refuse = |problem| Some(Err(Mistake { origin: entry.origin.clone(), problem }));
        if let [service, name, ..] = &entry.path[..]
            && service == SERVICE
            && !self.sections.iter().any(|(section, _)| section == name)
        {
            return None;
        }
        let default = match self.find(&entry.path) {
            Some(toml::Value::Table(section)) => {
                return match &entry.value {
                    // An empty section changes nothing.
                    Raw::Typed(toml::Value::Table(given)) if given.is_empty() => None,
                    _ => refuse(Problem::Section { key, settings: section.keys().cloned().collect() }),
                };
            }
            Some(default) => default,
            None => return refuse(Problem::Unknown { nearest: self.nearest(&key), key }),
        };
        let candidates = match &entry.value {
            Raw::Typed(value) => vec![value.clone()],
            Raw::Text(text) => typed(text, default),
        };
        let mut reason = String::new();
        for candidate in candidates {
            match self.fits(&entry.path, candidate.clone()) {
                Ok(()) => return Some(Ok(candidate)),
                Err(error) => reason = plain(error.message()),
            }
        }
        if self.is_secret(&key) {
            "the value is not allowed; it is secret and not shown here".clone_into(&mut reason);
        }
        refuse(Problem::Value { key, reason })
    }

    /// The default at a path: a value or a section.
    fn find(&self, path: &[String]) -> Option<&toml::Value> {
        let (last, sections) = path.split_last()?;
        let table = sections.iter().try_fold(&self.defaults, |table, name| table.get(name)?.as_table())?;
        table.get(last)
    }

    /// Whether the types take a value: the defaults with this one value in its place.
    fn fits(&self, path: &[String], value: toml::Value) -> Result<(), toml::de::Error> {
        let mut table = self.defaults.clone();
        put(&mut table, path, value);
        let services = table.remove(SERVICE);
        match path {
            [service, name, ..] if service == SERVICE => {
                let section = services.as_ref().and_then(|services| services.get(name)?.as_table().cloned());
                let check = self.sections.iter().find(|(section, _)| section == name).map(|(_, check)| check);
                check.zip(section).map_or(Ok(()), |(check, section)| check(section))
            }
            _ => toml::Value::Table(table).try_into::<Settings>().map(drop),
        }
    }

    /// The most similar name, if one is similar enough to be meant.
    fn nearest(&self, key: &str) -> Option<String> {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let leaves = self.leaves();
        // A name inside of a value.
        let is_inside = |known: &str| key.strip_prefix(known).is_some_and(|rest| rest.starts_with('.'));
        if let Some((outer, _)) = leaves.iter().find(|(known, _)| is_inside(known)) {
            return Some(outer.clone());
        }
        let rated = leaves.iter().map(|(known, _)| {
            let whole = strsim::damerau_levenshtein(key, known);
            // The right setting in the wrong section, or in none.
            let moved = 1 + strsim::damerau_levenshtein(&last(key), &last(known));
            (whole.min(moved), whole, known)
        });
        let (distance, _, nearest) = rated.min()?;
        (distance <= 1 + last(key).len() / 3).then(|| nearest.clone())
    }
}

/// The defaults of a type as TOML.
fn table_of<T: Serialize + Default>() -> toml::Table {
    // A field that TOML cannot express is a mistake of the type. The test of a program's sections finds it, because
    // its settings are then unknown.
    toml::Table::try_from(T::default()).unwrap_or_default()
}

/// Puts a value into nested tables, which are made as needed.
pub(super) fn put(table: &mut toml::Table, path: &[String], value: toml::Value) {
    match path {
        [] => {}
        [last] => {
            table.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

fn flatten(table: &toml::Table, path: &mut Vec<String>, leaves: &mut Vec<(String, toml::Value)>) {
    for (name, value) in table {
        path.push(name.clone());
        match value {
            toml::Value::Table(inner) => flatten(inner, path, leaves),
            value => leaves.push((path.join("."), value.clone())),
        }
        path.pop();
    }
}

/// The possible meanings of a text, the likeliest last, because its error is the one that is reported: the plain text,
/// or a TOML value.
fn typed(text: &str, default: &toml::Value) -> Vec<toml::Value> {
    let as_text = toml::Value::String(text.to_owned());
    let as_value =
        format!("value = {text}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
    match (as_value, default) {
        (None, _) => vec![as_text],
        (Some(value), toml::Value::String(_)) => vec![value, as_text],
        (Some(value), _) => vec![as_text, value],
    }
}

/// An error of serde in words for somebody who does not write Rust.
fn plain(message: &str) -> String {
    const WORDS: [(&str, &str); 16] = [
        ("expected u64", "expected a whole number from 0"),
        ("expected u32", "expected a whole number from 0 to 4294967295"),
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u8", "expected a whole number from 0 to 255"),
        ("expected usize", "expected a whole number from 0"),
        ("expected i64", "expected a whole number"),
        ("expected i32", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected f32", "expected a number"),
        ("expected a boolean", "expected true or false"),
        ("expected a string", "expected a text in quotes"),
        ("invalid type: string", "this is the text"),
        ("invalid type: integer", "this is the number"),
        ("invalid type: floating point", "this is the number"),
        ("invalid type: boolean", "this is"),
        ("invalid value: integer", "this is the number"),
    ];
    let line = message.lines().next().unwrap_or_default();
    WORDS.iter().fold(line.to_owned(), |line, (jargon, words)| line.replace(jargon, words))
}

#[cfg(test)]
mod tests {
    use super::super::mistake::Origin;
    use super::*;

    #[derive(Default, Serialize, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Greeter {
        greeting: String,
        guests: u32,
        is_loud: bool,
        token: String,
        volume: f64,
    }

    impl Section for Greeter {
        const NAME: &'static str = "greeter";
        const SECRETS: &'static [&'static str] = &["token", "guests"];
    }

    fn check(key: &str, value: Raw) -> Option<Result<toml::Value, String>> {
        let path = key.split('.').map(str::to_owned).collect();
        let entry = Entry { path, value, origin: Origin::BuiltIn };
        Schema::new()
            .with::<Greeter>()
            .check(&entry)
            .map(|checked| checked.map_err(|mistake| mistake.to_string()))
    }

    #[test]
    fn text_takes_the_type_of_its_setting() {
        let text = |key, text: &str| check(key, Raw::Text(text.to_owned())).unwrap();
        assert_eq!(text("service.greeter.greeting", "5"), Ok("5".into()));
        assert_eq!(text("inbox.max_waves", "5"), Ok(5.into()));
        assert_eq!(text("service.greeter.is_loud", "true"), Ok(true.into()));
        assert_eq!(text("service.greeter.volume", "1"), Ok(1.into()));
        assert_eq!(text("medium.wait", "5s"), Ok("5s".into()));
        assert!(text("inbox.max_waves", "many").unwrap_err().contains("a whole number from 1 to 4294967294"));
        assert!(text("inbox.max_waves", "1.5").unwrap_err().contains("a whole number from 1 to 4294967294"));
    }

    #[test]
    fn values_of_files_keep_their_type() {
        let typed = |key, value: toml::Value| check(key, Raw::Typed(value)).unwrap();
        for (key, wrong, reason) in [
            ("service.greeter.is_loud", "true".into(), "this is the text \"true\", expected true or false"),
            ("service.greeter.greeting", 5.into(), "this is the number `5`, expected a text in quotes"),
            ("inbox.max_waves", 1.5.into(), "a whole number from 1"),
            ("inbox.order", "fast".into(), "`strength` or `arrival`"),
            ("inbox", 5.into(), "inbox is a section: its settings are floor, max_bytes"),
        ] {
            let refused = typed(key, wrong).unwrap_err();
            assert!(refused.contains(reason), "{key}: {refused}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        for (wrong, right) in [
            ("inbox.max_wave", "inbox.max_waves"),
            ("inbx.max_waves", "inbox.max_waves"),
            ("max_waves", "inbox.max_waves"),
            ("service.greeter.greting", "service.greeter.greeting"),
            ("inbox.floor.low", "inbox.floor"),
        ] {
            let refused = check(wrong, Raw::Typed(5.into())).unwrap().unwrap_err();
            assert!(refused.contains(&format!("did you mean {right}?")), "{wrong}: {refused}");
        }
        let refused = check("inbox.colour_of_the_envelope", Raw::Typed(5.into())).unwrap().unwrap_err();
        assert!(refused.contains("aether config show"), "{refused}");
        assert!(check("service.shop.units", Raw::Typed(5.into())).is_none(), "another program's");
    }

    #[test]
    fn a_refused_secret_is_not_shown() {
        let refused = check("service.greeter.guests", Raw::Text("hunter2".to_owned())).unwrap().unwrap_err();
        assert!(refused.contains("not shown") && !refused.contains("hunter2"), "{refused}");
    }
}
