//! Lists and maps that are read no further than they may be long. Whatever a body holds, entries
//! after the bound cost neither memory nor time. A key that is there twice counts twice.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, Error},
};

use crate::object::Object;

/// How the error begins that a list or a map is too long.
pub const TOO_MANY: &str = "too many entries";

/// For `#[serde(deserialize_with)]` on a list of structs.
pub(crate) fn objects<'de, const MAX: usize, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects: Vec<Object<T>> = list::<MAX, D, Object<T>>(deserializer)?;
    Ok(objects.into_iter().map(|object| object.0).collect())
}

/// The same on a list of other things.
pub(crate) fn list<'de, const MAX: usize, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(ListVisitor::<MAX, T>(PhantomData))
}

/// The same on one that may be null.
pub(crate) fn optional_list<'de, const MAX: usize, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    Ok(Option::<List<MAX, T>>::deserialize(deserializer)?.map(|list| list.0))
}

/// The same on a map.
pub(crate) fn map<'de, const MAX: usize, D: Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, V>, D::Error> {
    deserializer.deserialize_map(MapVisitor::<MAX, V>(PhantomData))
}

fn too_many<E: Error>(max: usize) -> E {
    E::custom(format_args!("{TOO_MANY}: at most {max}"))
}

struct List<const MAX: usize, T>(Vec<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Deserialize<'de> for List<MAX, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        list::<MAX, D, T>(deserializer).map(Self)
    }
}

struct ListVisitor<const MAX: usize, T>(PhantomData<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> de::Visitor<'de> for ListVisitor<MAX, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut kept = Vec::new();
        while let Some(entry) = list.next_element()? {
            if kept.len() == MAX {
                return Err(too_many(MAX));
            }
            kept.push(entry);
        }
        Ok(kept)
    }
}

struct MapVisitor<const MAX: usize, V>(PhantomData<V>);

impl<'de, const MAX: usize, V: Deserialize<'de>> de::Visitor<'de> for MapVisitor<MAX, V> {
    type Value = BTreeMap<String, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut kept = BTreeMap::new();
        for _ in 0..=MAX {
            match map.next_entry()? {
                Some((key, value)) => kept.insert(key, value),
                None => return Ok(kept),
            };
        }
        Err(too_many(MAX))
    }
}

#[cfg(test)]
mod tests {
    use crate::{FinishBatch, Grants, LeaseRequest, RenewRequest, TaskBatch, TaskRequest};

    /// Where reading ended: the column of the error.
    fn end<T: serde::de::DeserializeOwned>(text: &str) -> usize {
        let error = serde_json::from_str::<T>(text).map(drop).unwrap_err();
        assert!(error.to_string().starts_with(super::TOO_MANY), "{error}");
        error.column()
    }

    #[test]
    fn nothing_is_read_beyond_the_bound() {
        let many = |entry: &str| vec![entry; 100_000].join(",");
        let keys = many(r#""k":"v""#);
        let texts = many(r#""t""#);
        let empty = many("{}");
        let log = many(r#"{"message":""}"#);
        let task = many(r#"{"task_path":"t"}"#);
        let result = many(r#"{"token":"t"}"#);
        assert!(end::<TaskRequest>(&format!(r#"{{"labels":{{{keys}}}}}"#)) < 500);
        assert!(end::<Grants>(&format!(r#"{{"environment":{{{keys}}}}}"#)) < 1_500);
        assert!(end::<Grants>(&format!(r#"{{"http":[{texts}]}}"#)) < 1_500);
        assert!(end::<LeaseRequest>(&format!(r#"{{"queue_names":[{texts}]}}"#)) < 1_500);
        assert!(end::<RenewRequest>(&format!(r#"{{"logs":[{log}]}}"#)) < 20_000);
        assert!(end::<FinishBatch>(&format!(r#"{{"results":[{result}]}}"#)) < 20_000);
        assert!(end::<TaskBatch>(&format!(r#"{{"tasks":[{task}]}}"#)) < 200_000);
        assert!(serde_json::from_str::<RenewRequest>(&format!(r#"{{"logs":[{empty}]}}"#)).is_err());
    }
}
