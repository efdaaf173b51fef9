//! Gives a function what its task was called with, as a call in a program would.

use std::{borrow::Cow, collections::BTreeMap};

use nightshift_openapi::Task;
use serde::{
    Deserializer,
    de::{
        DeserializeOwned, Error as _, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
};
use serde_json::{Error, value::RawValue};

/// Reads the arguments of a task as `T`: positional ones are elements of a tuple or a list, or
/// fields of a struct in their order; keyword ones are fields of a struct or keys of a map.
pub(super) fn arguments<T: DeserializeOwned>(task: &Task) -> Result<T, Error> {
    T::deserialize(Arguments { args: task.args.parse_as()?, kwargs: task.kwargs.parse_as()? })
}

struct Arguments<'a> {
    args: Vec<&'a RawValue>,
    kwargs: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

impl<'a> Arguments<'a> {
    fn no_args(&self) -> Result<(), Error> {
        match self.args.len() {
            0 => Ok(()),
            count => Err(Error::custom(format!("{count} positional arguments too many"))),
        }
    }

    fn no_kwargs(&self) -> Result<(), Error> {
        match self.kwargs.first_key_value() {
            None => Ok(()),
            Some((name, _)) => Err(Error::custom(format!("no argument is called {name:?}"))),
        }
    }

    /// The one argument of a function that takes a plain value.
    fn only(self) -> Result<&'a RawValue, Error> {
        self.no_kwargs()?;
        match self.args.as_slice() {
            [only] => Ok(only),
            args => Err(Error::custom(format!("1 argument is needed, not {}", args.len()))),
        }
    }
}

/// Types that one argument is read as.
macro_rules! plain {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.only()?.$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Arguments<'de> {
    type Error = Error;

    plain! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_bytes deserialize_byte_buf deserialize_option
        deserialize_identifier
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.only()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.args.len() > fields.len() {
            let (given, taken) = (self.args.len(), fields.len());
            let reason = format!("{given} positional arguments where {taken} are taken");
            return Err(Error::custom(reason));
        }
        let by_place = fields.iter().map(|&field| Cow::Borrowed(field)).zip(self.args);
        visitor.visit_map(MapDeserializer::new(by_place.chain(self.kwargs)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.no_args()?;
        visitor.visit_map(MapDeserializer::new(self.kwargs.into_iter()))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.no_kwargs()?;
        let mut args = SeqDeserializer::new(self.args.into_iter());
        let value = visitor.visit_seq(&mut args)?;
        args.end()?;
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.no_args()?;
        self.no_kwargs()?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    /// Who ignores its arguments reads them from the task's record, if at all.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    /// For types that take what comes, such as `serde_json::Value`.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.kwargs.is_empty() {
            self.deserialize_seq(visitor)
        } else {
            self.deserialize_map(visitor)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fmt::Debug};

    use serde::{
        Deserialize,
        de::{DeserializeOwned, IgnoredAny},
    };
    use serde_json::{Value, json};

    use super::Arguments;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Extract {
        image: String,
        threshold: f64,
        #[serde(default)]
        limit: Option<u64>,
    }

    fn read<T: DeserializeOwned>(args: &str, kwargs: &str) -> Result<T, String> {
        let (args, kwargs) = (serde_json::from_str(args), serde_json::from_str(kwargs));
        T::deserialize(Arguments { args: args.unwrap(), kwargs: kwargs.unwrap() })
            .map_err(|error| error.to_string())
    }

    fn refused<T: DeserializeOwned + Debug>(args: &str, kwargs: &str, reason: &str) {
        let said = read::<T>(args, kwargs).unwrap_err();
        assert!(said.contains(reason), "{said}");
    }

    #[test]
    fn a_struct_is_called_by_place_and_by_name() {
        let wanted = Extract { image: "m31".into(), threshold: 5.0, limit: Some(7) };
        for (args, kwargs) in [
            (r#"["m31", 5, 7]"#, "{}"),
            (r#"["m31", 5.0]"#, r#"{"limit": 7}"#),
            ("[]", r#"{"threshold": 5, "limit": 7, "image": "m31"}"#),
        ] {
            assert_eq!(read::<Extract>(args, kwargs).as_ref(), Ok(&wanted));
        }
        assert_eq!(read::<Extract>(r#"["m31"]"#, r#"{"threshold": 5}"#).unwrap().limit, None);
        refused::<Extract>(r#"["m31"]"#, "{}", "missing field `threshold`");
        refused::<Extract>(r#"["m31", 5]"#, r#"{"image": "m33"}"#, "duplicate field `image`");
        refused::<Extract>(r#"["m31", 5]"#, r#"{"color": "b"}"#, "unknown field `color`");
        refused::<Extract>(r#"["m31", 5, 7, 8]"#, "{}", "4 positional arguments where 3");
        refused::<Extract>(r#"["m31", "five"]"#, "{}", "invalid type: string \"five\"");
    }

    #[test]
    fn tuples_lists_and_maps_are_what_they_say() {
        assert_eq!(read::<(i64, String)>(r#"[1, "b"]"#, "{}"), Ok((1, "b".into())));
        refused::<(i64, i64)>("[1]", "{}", "invalid length 1");
        refused::<(i64, i64)>("[1, 2, 3]", "{}", "invalid length 3");
        refused::<(i64, i64)>("[1, 2]", r#"{"c": 3}"#, "no argument is called \"c\"");
        assert_eq!(read::<Vec<u8>>("[1, 2, 3]", "{}"), Ok(vec![1, 2, 3]));
        let map = HashMap::from([("a".to_owned(), 1)]);
        assert_eq!(read::<HashMap<String, i64>>("[]", r#"{"a": 1}"#), Ok(map));
        refused::<HashMap<String, i64>>("[1]", r#"{"a": 1}"#, "1 positional arguments too many");
        assert_eq!(read::<Value>("[1]", "{}"), Ok(json!([1])));
        assert_eq!(read::<Value>("[]", r#"{"a": 1}"#), Ok(json!({"a": 1})));
    }

    #[test]
    fn a_plain_value_is_the_only_argument() {
        assert_eq!(read::<String>(r#"["m31"]"#, "{}"), Ok("m31".into()));
        assert_eq!(read::<Option<f64>>("[null]", "{}"), Ok(None));
        refused::<String>(r#"["a", "b"]"#, "{}", "1 argument is needed, not 2");
        assert_eq!(read::<()>("[]", "{}"), Ok(()));
        refused::<()>("[1]", "{}", "1 positional arguments too many");
        assert!(read::<IgnoredAny>("[1]", r#"{"a": 1}"#).is_ok());
    }
}
