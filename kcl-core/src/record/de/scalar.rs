//! Values without parts, and the names of attributes.

use std::borrow::Cow;

use serde::de::value::SeqDeserializer;
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::Result;
use crate::record::codec::Tag;
use crate::record::error::{RecordError, RecordErrorKind};

/// A value without parts, or an element of a set.
pub(super) enum Scalar<'de> {
    S(Cow<'de, str>),
    N(Cow<'de, str>),
    B(Vec<u8>),
    Bool(bool),
    Null(bool),
}

impl<'de> Scalar<'de> {
    fn mismatch(&self, expected: &'static str) -> RecordError {
        mismatch(
            expected,
            match self {
                Self::S(_) => Tag::S,
                Self::N(_) => Tag::N,
                Self::B(_) => Tag::B,
                Self::Bool(_) => Tag::Bool,
                Self::Null(_) => Tag::Null,
            },
        )
    }

    fn number<T: std::str::FromStr>(&self, wanted: &'static str) -> Result<T> {
        match self {
            Self::N(text) => text.parse().map_err(|_unfit| RecordError::new(RecordErrorKind::Number(wanted))),
            _ => Err(self.mismatch("a number")),
        }
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:literal)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            visitor.$visit(self.number($type)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Scalar<'de> {
    type Error = RecordError;

    /// Numbers become `i64`, `u64` or `f64`, the first that fits.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self {
            Self::S(text) => visit_str(text, visitor),
            Self::N(text) => {
                if let Ok(number) = text.parse() {
                    visitor.visit_i64(number)
                } else if let Ok(number) = text.parse() {
                    visitor.visit_u64(number)
                } else {
                    visitor.visit_f64(Self::N(text).number("f64")?)
                }
            }
            Self::B(bytes) => visitor.visit_byte_buf(bytes),
            Self::Bool(flag) => visitor.visit_bool(flag),
            Self::Null(true) => visitor.visit_unit(),
            Self::Null(false) => Err(self.mismatch("a value")),
        }
    }

    numbers! {
        deserialize_i8 visit_i8 "i8"
        deserialize_i16 visit_i16 "i16"
        deserialize_i32 visit_i32 "i32"
        deserialize_i64 visit_i64 "i64"
        deserialize_i128 visit_i128 "i128"
        deserialize_u8 visit_u8 "u8"
        deserialize_u16 visit_u16 "u16"
        deserialize_u32 visit_u32 "u32"
        deserialize_u64 visit_u64 "u64"
        deserialize_u128 visit_u128 "u128"
        deserialize_f32 visit_f32 "f32"
        deserialize_f64 visit_f64 "f64"
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self {
            Self::Bool(flag) => visitor.visit_bool(flag),
            _ => Err(self.mismatch("a boolean")),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self {
            Self::S(text) => visit_str(text, visitor),
            _ => Err(self.mismatch("a string")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self {
            Self::B(bytes) => visitor.visit_byte_buf(bytes),
            _ => Err(self.mismatch("a binary")),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self {
            Self::Null(true) => visitor.visit_unit(),
            _ => Err(self.mismatch("a null")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self {
            Self::Null(true) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    /// Bytes one by one, for a plain `Vec<u8>`.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self {
            Self::B(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes.into_iter())),
            _ => Err(self.mismatch("a list or a set")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self {
            Self::S(text) => visit_name(text, visitor),
            _ => Err(self.mismatch("a string, for an enum")),
        }
    }

    forward_to_deserialize_any! { unit_struct tuple_struct map struct ignored_any }
}

pub(super) fn mismatch(expected: &'static str, found: Tag) -> RecordError {
    RecordError::new(RecordErrorKind::Type { expected, found: found.describe() })
}

fn visit_str<'de, V: Visitor<'de>>(text: Cow<'de, str>, visitor: V) -> Result<V::Value> {
    match text {
        Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
        Cow::Owned(text) => visitor.visit_string(text),
    }
}

/// A string as a unit variant.
pub(super) fn visit_name<'de, V: Visitor<'de>>(name: Cow<'de, str>, visitor: V) -> Result<V::Value> {
    visitor.visit_enum(IntoDeserializer::<RecordError>::into_deserializer(name))
}

/// The name of an attribute. Maps may have numbers and booleans for keys.
pub(super) struct Name<'de>(pub(super) Cow<'de, str>);

macro_rules! parsed_names {
    ($($method:ident $visit:ident $type:literal)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            let parsed = self.0.parse().map_err(|_unfit| RecordError::new(RecordErrorKind::Number($type)))?;
            visitor.$visit(parsed)
        }
    )*};
}

impl<'de> Deserializer<'de> for Name<'de> {
    type Error = RecordError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visit_str(self.0, visitor)
    }

    parsed_names! {
        deserialize_bool visit_bool "bool"
        deserialize_i8 visit_i8 "i8"
        deserialize_i16 visit_i16 "i16"
        deserialize_i32 visit_i32 "i32"
        deserialize_i64 visit_i64 "i64"
        deserialize_i128 visit_i128 "i128"
        deserialize_u8 visit_u8 "u8"
        deserialize_u16 visit_u16 "u16"
        deserialize_u32 visit_u32 "u32"
        deserialize_u64 visit_u64 "u64"
        deserialize_u128 visit_u128 "u128"
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visit_name(self.0, visitor)
    }

    forward_to_deserialize_any! {
        f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}
