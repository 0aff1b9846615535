//! Parses JSON from strangers: bounded in size, depth and number of members, without duplicate
//! members.
//!
//! Readers disagree about what a duplicate member means; `serde_json` alone keeps the last one.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

#[derive(Clone, Copy)]
pub(crate) struct JsonLimits {
    pub(crate) bytes: usize,
    /// With 1, the object contains no other object and no list.
    pub(crate) depth: usize,
    /// The most members of one object.
    pub(crate) members: usize,
    /// The most bytes of a string or of a member's name.
    pub(crate) text: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum InvalidJson {
    #[error("not a JSON object")]
    NotAnObject,
    #[error("a member occurs twice")]
    Duplicate,
    #[error("it has more than {0} bytes")]
    TooLarge(usize),
    #[error("it is nested deeper than {0} levels")]
    TooDeep(usize),
    #[error("an object in it has more than {0} members")]
    TooManyMembers(usize),
    #[error("a text in it has more than {0} bytes")]
    LongText(usize),
}

pub(crate) fn object(bytes: &[u8], limits: JsonLimits) -> Result<Map<String, Value>, InvalidJson> {
    if bytes.len() > limits.bytes {
        return Err(InvalidJson::TooLarge(limits.bytes));
    }
    let broken = Cell::new(InvalidJson::NotAnObject);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value =
        BoundedJson { limits, depth: limits.depth, broken: &broken }.deserialize(&mut deserializer);
    match (value, deserializer.end()) {
        (Ok(Value::Object(object)), Ok(())) => Ok(object),
        (Ok(_), _) => Err(InvalidJson::NotAnObject),
        (Err(_), _) => Err(broken.get()),
    }
}

/// Parses one value. `broken` carries the kind of failure past serde, whose errors are only text.
#[derive(Clone, Copy)]
struct BoundedJson<'a> {
    limits: JsonLimits,
    /// How many levels are left.
    depth: usize,
    broken: &'a Cell<InvalidJson>,
}

impl BoundedJson<'_> {
    fn reject<E: Error>(self, kind: InvalidJson) -> E {
        self.broken.set(kind);
        E::custom(kind)
    }

    fn inside<E: Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(self.reject(InvalidJson::TooDeep(self.limits.depth))),
        }
    }

    fn text<E: Error>(self, text: String) -> Result<String, E> {
        if text.len() > self.limits.text {
            Err(self.reject(InvalidJson::LongText(self.limits.text)))
        } else {
            Ok(text)
        }
    }
}

impl<'de> DeserializeSeed<'de> for BoundedJson<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for BoundedJson<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.text(text.to_owned()).map(Value::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(inside)? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let name = self.text(name)?;
            if object.len() == self.limits.members {
                return Err(self.reject(InvalidJson::TooManyMembers(self.limits.members)));
            }
            let value = members.next_value_seed(inside)?;
            if object.insert(name, value).is_some() {
                return Err(self.reject(InvalidJson::Duplicate));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: JsonLimits = JsonLimits { bytes: 100, depth: 2, members: 3, text: 5 };

    #[test]
    fn what_is_read_is_what_was_written() {
        let text = r#"{"a":[1,-2,1.5],"b":{"c":null},"d":"\u0041x"}"#;
        let read = object(text.as_bytes(), LIMITS).unwrap();
        assert_eq!(Value::Object(read), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn each_bound_is_kept() {
        for (text, problem) in [
            ("", InvalidJson::NotAnObject),
            ("[]", InvalidJson::NotAnObject),
            ("1", InvalidJson::NotAnObject),
            ("{}x", InvalidJson::NotAnObject),
            ("{} {}", InvalidJson::NotAnObject),
            ("{\"a\":1,}", InvalidJson::NotAnObject),
            ("{\"a\":\"\u{1}\"}", InvalidJson::NotAnObject),
            (r#"{"a":1,"a":1}"#, InvalidJson::Duplicate),
            (r#"{"a":1,"\u0061":2}"#, InvalidJson::Duplicate),
            (r#"{"x":{"a":1,"b":2,"a":3}}"#, InvalidJson::Duplicate),
            (r#"{"a":{"b":{}}}"#, InvalidJson::TooDeep(2)),
            (r#"{"a":[[]]}"#, InvalidJson::TooDeep(2)),
            (r#"{"a":1,"b":1,"c":1,"d":1}"#, InvalidJson::TooManyMembers(3)),
            (r#"{"abcdef":1}"#, InvalidJson::LongText(5)),
            (r#"{"a":"abcdef"}"#, InvalidJson::LongText(5)),
            (&format!("{{\"a\":1}}{}", " ".repeat(100)), InvalidJson::TooLarge(100)),
            (&format!("{{\"a\":{}", "[".repeat(90)), InvalidJson::TooDeep(2)),
        ] {
            assert_eq!(object(text.as_bytes(), LIMITS), Err(problem), "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}", LIMITS), Err(InvalidJson::NotAnObject));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = object(&bytes, LIMITS);
        }
    }
}
