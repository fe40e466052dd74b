//! Files of registers: JSON lines as `aether field export` prints them, and the ledger and the snapshot of aether-zta 0.4.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::error::LedgerError;

/// The final state of a file.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Import {
    pub(crate) registers: BTreeMap<String, Value>,
    pub(crate) removed: Vec<String>,
    /// Lines that are no records, and values that a field does not hold.
    pub(crate) skipped: u64,
}

/// One record of a ledger, or one entry of a snapshot.
#[derive(Debug, Deserialize)]
struct Record {
    kind: Option<String>,
    key: String,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    tombstone: bool,
    #[serde(default)]
    stamp: FileStamp,
}

#[derive(Debug, Deserialize, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct FileStamp {
    p: u128,
    l: u64,
    n: String,
}

#[derive(Debug, Deserialize)]
struct Snapshot {
    entries: Vec<Record>,
}

/// A register as a line of a ledger, without a stamp.
pub(crate) fn line(name: &str, value: &Bytes) -> String {
    let name = Value::from(name);
    format!("{{\"kind\":\"set\",\"key\":{name},\"value\":{}}}", String::from_utf8_lossy(value))
}

/// Reads a file. Of several records of one key the one with the greatest stamp counts, of equal ones the last.
pub(crate) fn read(path: &Path) -> Result<Import, LedgerError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| LedgerError::File { path: path.to_owned(), source })?;
    parse(&text).ok_or_else(|| LedgerError::Foreign { path: path.to_owned() })
}

fn parse(text: &str) -> Option<Import> {
    let mut import = Import::default();
    let records: Vec<Record> = match serde_json::from_str::<Snapshot>(text) {
        Ok(snapshot) => snapshot.entries,
        Err(_) => {
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            let records: Vec<_> = lines.map(serde_json::from_str::<Record>).collect();
            import.skipped = records.iter().filter(|record| record.is_err()).count() as u64;
            if !records.is_empty() && records.iter().all(Result::is_err) {
                return None;
            }
            records.into_iter().flatten().collect()
        }
    };
    let mut newest: BTreeMap<String, (FileStamp, Option<Value>)> = BTreeMap::new();
    for Record { kind, key, value, tombstone, stamp } in records {
        let is_removal = tombstone || kind.as_deref() == Some("del");
        let is_older = newest.get(&key).is_some_and(|(newest, _)| *newest > stamp);
        if !is_older {
            newest.insert(key, (stamp, (!is_removal).then_some(value)));
        }
    }
    for (key, (_, value)) in newest {
        match value {
            Some(Value::Null) => import.skipped += 1,
            Some(value) => drop(import.registers.insert(key, value)),
            None => import.removed.push(key),
        }
    }
    Some(import)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_ledger_the_newest_record_of_each_key_counts() {
        let ledger = r#"
{"kind":"set","key":"a","value":1,"stamp":{"p":20,"l":0,"n":"x"}}
{"kind":"set","key":"a","value":2,"stamp":{"p":10,"l":0,"n":"x"}}
{"kind":"set","key":"b","value":3,"stamp":{"p":10,"l":0,"n":"x"}}
{"kind":"del","key":"b","value":null,"stamp":{"p":10,"l":1,"n":"x"}}
{"kind":"set","key":"c","value":null,"stamp":{"p":10,"l":2,"n":"x"}}
{"kind":"set","key":"d","val"#;
        let import = parse(ledger).unwrap();
        let registers = BTreeMap::from([("a".to_owned(), Value::from(1))]);
        assert_eq!(import, Import { registers, removed: vec!["b".to_owned()], skipped: 2 });
    }

    #[test]
    fn a_snapshot_is_read_as_well() {
        let snapshot = r#"{"version":1,"entries":[
            {"key":"a","value":{"x":[1]},"tombstone":false,"stamp":{"p":1,"l":0,"n":"x"}},
            {"key":"b","value":null,"tombstone":true,"stamp":{"p":1,"l":1,"n":"x"}}]}"#;
        let import = parse(snapshot).unwrap();
        assert_eq!((import.registers.len(), import.removed, import.skipped), (1, vec!["b".to_owned()], 0));
    }

    #[test]
    fn what_is_exported_is_imported_as_it_was() {
        let value = Bytes::from_static(b"{\"x\":\"\\u0000\\\"\"}");
        let import = parse(&line("a\"b", &value)).unwrap();
        assert_eq!(import.registers["a\"b"], serde_json::from_slice::<Value>(&value).unwrap());
    }

    #[test]
    fn another_file_is_refused_as_a_whole() {
        assert_eq!(parse("hello\nworld\n"), None);
        assert_eq!(parse(""), Some(Import::default()));
    }
}
