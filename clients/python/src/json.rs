//! Values of Python as JSON, and back.
//!
//! A value that JSON cannot keep is refused, with the place where it is. Bytes travel as `{"$bytes": "base64"}`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMemoryView, PyNone, PyString, PyTuple,
    PyType,
};
use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::errors::exceptions::{RefusedError, WrongTypeError};

/// How deep lists and dicts may be nested. Parsers of JSON in other languages have a bound, too.
const MAX_DEPTH: usize = 100;

/// How many steps into a value an error shows.
const MAX_PATH: usize = 8;

/// The only name in the object that means bytes.
const BYTES: &str = "$bytes";

/// The meaning of `None` as the whole value.
#[derive(Clone, Copy)]
pub(crate) enum Nothing {
    /// No value.
    IsRefused,
    /// A value like any other.
    IsAValue,
}

/// The JSON of a value.
///
/// # Errors
/// `WrongTypeError` for a type that JSON does not have, `RefusedError` for a value that it cannot keep.
pub(crate) fn json_of(value: &Bound<'_, PyAny>, nothing: Nothing) -> PyResult<Vec<u8>> {
    if matches!(nothing, Nothing::IsRefused) && value.is_none() {
        return Err(WrongTypeError::new_err(
            "a field holds no None: remove the key instead, with `del db[key]`",
        ));
    }
    let mut out = Vec::with_capacity(32);
    write(value, &mut out, 0).map_err(|unfit| unfit.into_error())?;
    Ok(out)
}

/// A value that JSON cannot keep.
struct Unfit {
    /// From the innermost place outwards.
    path: Vec<String>,
    is_type: bool,
    text: String,
}

impl Unfit {
    fn value(text: impl Into<String>) -> Self {
        Self { path: Vec::new(), is_type: false, text: text.into() }
    }

    fn of_type(text: impl Into<String>) -> Self {
        Self { path: Vec::new(), is_type: true, text: text.into() }
    }

    fn within(mut self, place: impl FnOnce() -> String) -> Self {
        self.path.push(place());
        self
    }

    fn into_error(self) -> PyErr {
        let (is_long, path) = (self.path.len() > MAX_PATH, self.path.into_iter().rev().take(MAX_PATH));
        let text = match path.collect::<String>() {
            path if path.is_empty() => self.text,
            path => format!("{} (at value{path}{})", self.text, if is_long { "..." } else { "" }),
        };
        if self.is_type { WrongTypeError::new_err(text) } else { RefusedError::new_err(text) }
    }
}

impl From<PyErr> for Unfit {
    fn from(error: PyErr) -> Self {
        Self::value(error.to_string())
    }
}

fn write(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Result<(), Unfit> {
    if let Ok(text) = value.cast::<PyString>() {
        put(out, text_of(text)?)
    } else if let Ok(value) = value.cast::<PyBool>() {
        put(out, &value.is_true())
    } else if let Ok(number) = value.cast::<PyInt>() {
        write_int(number, out)
    } else if let Ok(number) = value.cast::<PyFloat>() {
        match number.value() {
            number if number.is_finite() => put(out, &number),
            number => Err(Unfit::value(format!("JSON has no {number}: leave the value out, or write text"))),
        }
    } else if value.is_none() {
        put(out, &())
    } else if depth == MAX_DEPTH {
        Err(Unfit::value(format!("the value is nested more than {MAX_DEPTH} deep, or contains itself")))
    } else if let Ok(list) = value.cast::<PyList>() {
        write_list(list.iter(), out, depth)
    } else if let Ok(tuple) = value.cast::<PyTuple>() {
        write_list(tuple.iter(), out, depth)
    } else if let Ok(dict) = value.cast::<PyDict>() {
        write_dict(dict, out, depth)
    } else if let Some(bytes) = bytes_of(value)? {
        put(out, &std::collections::BTreeMap::from([(BYTES, STANDARD.encode(bytes))]))
    } else {
        Err(foreign(value))
    }
}

fn foreign(value: &Bound<'_, PyAny>) -> Unfit {
    let is_bytes = value.is_instance_of::<PyBytes>()
        || value.is_instance_of::<PyByteArray>()
        || value.is_instance_of::<PyMemoryView>();
    let name = value.get_type().qualname().map_or_else(|_| "it".to_owned(), |name| name.to_string());
    Unfit::of_type(if is_bytes {
        format!("{name} is not JSON: wrap it with aether.Bytes(...)")
    } else {
        format!("{name} is not JSON: use None, bool, int, float, str, list, tuple, dict or aether.Bytes")
    })
}

fn put(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) -> Result<(), Unfit> {
    serde_json::to_writer(out, value).map_err(|error| Unfit::value(error.to_string()))
}

fn text_of<'a>(text: &'a Bound<'_, PyString>) -> Result<&'a str, Unfit> {
    text.to_str()
        .map_err(|_| Unfit::value("the text has half of a surrogate pair, which Unicode does not allow"))
}

fn write_int(number: &Bound<'_, PyInt>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    if let Ok(number) = number.extract::<i64>() {
        return put(out, &number);
    }
    match number.extract::<u64>() {
        Ok(number) => put(out, &number),
        Err(_) => {
            Err(Unfit::value("the int has more than 64 bits, which other programs would round: write text"))
        }
    }
}

fn write_list<'py>(
    items: impl Iterator<Item = Bound<'py, PyAny>>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Unfit> {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(&item, out, depth + 1).map_err(|unfit| unfit.within(|| format!("[{index}]")))?;
    }
    out.push(b']');
    Ok(())
}

fn write_dict(dict: &Bound<'_, PyDict>, out: &mut Vec<u8>, depth: usize) -> Result<(), Unfit> {
    out.push(b'{');
    let mut is_first = true;
    for (key, item) in dict.iter() {
        let Ok(key) = key.cast::<PyString>() else {
            return Err(Unfit::of_type(format!(
                "the key {key:?} of a dict is not text, and JSON has no other keys"
            )));
        };
        let key = text_of(key)?;
        if key == BYTES && dict.len() == 1 {
            return Err(Unfit::value(format!(
                "a dict with nothing but {BYTES:?} means bytes: use aether.Bytes(...)"
            )));
        }
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        put(out, key)?;
        out.push(b':');
        write(&item, out, depth + 1).map_err(|unfit| unfit.within(|| format!("[{key:?}]")))?;
    }
    out.push(b'}');
    Ok(())
}

fn bytes_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "aether._values", "Bytes")
}

/// The content of `aether.Bytes`; `None` for another value.
pub(crate) fn bytes_of(value: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    if !value.is_instance(bytes_type(value.py())?)? {
        return Ok(None);
    }
    Ok(Some(value.cast::<PyBytes>()?.as_bytes().to_vec()))
}

/// `aether.Bytes` with this content.
pub(crate) fn to_bytes(py: Python<'_>, bytes: &[u8]) -> PyResult<Py<PyAny>> {
    Ok(bytes_type(py)?.call1((PyBytes::new(py, bytes),))?.unbind())
}

/// The value of a JSON text, which is a new object each time.
///
/// # Errors
/// `RefusedError` if another program has written something that is not JSON, or too deep.
pub(crate) fn value_of(py: Python<'_>, json: &[u8]) -> PyResult<Py<PyAny>> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value =
        Reader(py).deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    value
        .map(Bound::unbind)
        .map_err(|error| RefusedError::new_err(format!("the value cannot be read as JSON: {error}")))
}

/// Makes values of Python from what a parser finds.
#[derive(Clone, Copy)]
struct Reader<'py>(Python<'py>);

impl<'de, 'py> DeserializeSeed<'de> for Reader<'py> {
    type Value = Bound<'py, PyAny>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, 'py> Visitor<'de> for Reader<'py> {
    type Value = Bound<'py, PyAny>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(PyNone::get(self.0).to_owned().into_any())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(PyBool::new(self.0, value).to_owned().into_any())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(PyInt::new(self.0, value).into_any())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(PyInt::new(self.0, value).into_any())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(PyFloat::new(self.0, value).into_any())
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(PyString::new(self.0, value).into_any())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let list = PyList::empty(self.0);
        while let Some(item) = items.next_element_seed(self)? {
            list.append(item).map_err(A::Error::custom)?;
        }
        Ok(list.into_any())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let dict = PyDict::new(self.0);
        let mut bytes = None;
        while let Some(key) = items.next_key::<String>()? {
            let item = items.next_value_seed(self)?;
            if key == BYTES {
                bytes =
                    item.cast::<PyString>().ok().and_then(|text| STANDARD.decode(text.to_str().ok()?).ok());
            }
            dict.set_item(key, item).map_err(A::Error::custom)?;
        }
        match bytes {
            Some(bytes) if dict.len() == 1 => {
                let bytes = to_bytes(self.0, &bytes).map_err(A::Error::custom)?;
                Ok(bytes.into_bound(self.0))
            }
            _ => Ok(dict.into_any()),
        }
    }
}
