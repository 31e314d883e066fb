//! A serde deserializer that reads DynamoDB JSON where it lies.

mod scalar;

use std::borrow::Cow;

use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use self::scalar::{Name, Scalar, mismatch, visit_name};
use super::codec::{Tag, binary, close, deeper, open};
use super::cursor::Cursor;
use super::error::RecordError;

type Result<T> = std::result::Result<T, RecordError>;

/// A whole item: a map of attributes without the `{"M": …}` around it.
pub(super) struct ItemDeserializer<'c, 'de> {
    cursor: &'c mut Cursor<'de>,
}

impl<'c, 'de> ItemDeserializer<'c, 'de> {
    pub(super) fn new(cursor: &'c mut Cursor<'de>) -> Self {
        Self { cursor }
    }
}

impl<'de> Deserializer<'de> for ItemDeserializer<'_, 'de> {
    type Error = RecordError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visit_map(self.cursor, 0, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_some(self)
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
        visit_enum(self.cursor, 0, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// One attribute value.
struct Attribute<'c, 'de> {
    cursor: &'c mut Cursor<'de>,
    /// The lists and maps around it.
    depth: u8,
}

impl<'de> Attribute<'_, 'de> {
    fn open(&mut self) -> Result<Tag> {
        open(self.cursor)
    }

    /// The type, without moving.
    fn tag(&self) -> Result<Tag> {
        open(&mut self.cursor.clone())
    }

    /// Reads a value that is no list, set or map.
    fn scalar(mut self) -> Result<Scalar<'de>> {
        let tag = self.open()?;
        let scalar = self.scalar_of(tag)?;
        close(self.cursor)?;
        Ok(scalar)
    }

    fn scalar_of(&mut self, tag: Tag) -> Result<Scalar<'de>> {
        Ok(match tag {
            Tag::S => Scalar::S(self.cursor.string()?),
            Tag::N => Scalar::N(self.cursor.string()?),
            Tag::B => Scalar::B(binary(self.cursor)?),
            Tag::Bool => Scalar::Bool(self.cursor.bool()?),
            Tag::Null => Scalar::Null(self.cursor.bool()?),
            Tag::M | Tag::L | Tag::Ss | Tag::Ns | Tag::Bs => return Err(mismatch("a single value", tag)),
        })
    }

    /// Reads a value that was opened, of any type, closes it, and lets `visitor` have it as what it is.
    fn visit<V: Visitor<'de>>(mut self, tag: Tag, visitor: V) -> Result<V::Value> {
        let value = match tag {
            Tag::S | Tag::N | Tag::B | Tag::Bool | Tag::Null => self.scalar_of(tag)?.deserialize_any(visitor)?,
            Tag::M => visit_map(self.cursor, deeper(self.cursor, self.depth)?, visitor)?,
            Tag::L => {
                let depth = deeper(self.cursor, self.depth)?;
                visit_list(self.cursor, Of::Values { depth }, visitor)?
            }
            Tag::Ss | Tag::Ns | Tag::Bs => visit_list(self.cursor, Of::Set(tag), visitor)?,
        };
        close(self.cursor)?;
        Ok(value)
    }
}

macro_rules! forward_to_scalar {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            self.scalar()?.$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Attribute<'_, 'de> {
    type Error = RecordError;

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        let tag = self.open()?;
        self.visit(tag, visitor)
    }

    forward_to_scalar! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_identifier
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.tag()? == Tag::Null {
            return self.scalar()?.deserialize_option(visitor);
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        match self.open()? {
            tag @ (Tag::L | Tag::Ss | Tag::Ns | Tag::Bs) => self.visit(tag, visitor),
            Tag::B => {
                let bytes = binary(self.cursor)?;
                close(self.cursor)?;
                visitor.visit_seq(SeqDeserializer::new(bytes.into_iter()))
            }
            tag => Err(mismatch("a list or a set", tag)),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        match self.open()? {
            Tag::M => self.visit(Tag::M, visitor),
            tag => Err(mismatch("a map", tag)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.open()? {
            tag @ (Tag::M | Tag::L) => self.visit(tag, visitor),
            tag => Err(mismatch("a map", tag)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let value = match self.open()? {
            Tag::S => visit_name(self.cursor.string()?, visitor)?,
            Tag::M => visit_enum(self.cursor, deeper(self.cursor, self.depth)?, visitor)?,
            tag => return Err(mismatch("a string or a map, for an enum", tag)),
        };
        close(self.cursor)?;
        Ok(value)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.cursor.skip()?;
        visitor.visit_unit()
    }
}

fn visit_map<'de, V: Visitor<'de>>(cursor: &mut Cursor<'de>, depth: u8, visitor: V) -> Result<V::Value> {
    cursor.take(b'{', "a map of attributes")?;
    let mut members = Members { cursor, depth, first: true, key: Cow::Borrowed(""), done: false };
    let value = visitor.visit_map(&mut members)?;
    // A visitor may stop before the end.
    while !members.done {
        if members.next_key::<de::IgnoredAny>()?.is_some() {
            members.next_value::<de::IgnoredAny>()?;
        }
    }
    Ok(value)
}

/// A map with a single member, as a variant with content.
fn visit_enum<'de, V: Visitor<'de>>(cursor: &mut Cursor<'de>, depth: u8, visitor: V) -> Result<V::Value> {
    const ONE: &str = "an enum must be a map with a single member";
    cursor.take(b'{', "a map of attributes")?;
    let Some(name) = cursor.next_key(&mut true)? else { return Err(RecordError::custom(ONE)) };
    let value = visitor
        .visit_enum(Variant { name: name.clone(), value: Attribute { cursor: &mut *cursor, depth } })
        .map_err(|error| error.within(&name))?;
    match cursor.next_key(&mut false)? {
        None => Ok(value),
        Some(_another) => Err(RecordError::custom(ONE)),
    }
}

fn visit_list<'de, V: Visitor<'de>>(cursor: &mut Cursor<'de>, of: Of, visitor: V) -> Result<V::Value> {
    cursor.take(b'[', "a list")?;
    let mut elements = Elements { cursor, of, first: true, index: 0, done: false };
    let value = visitor.visit_seq(&mut elements)?;
    // A tuple stops before the end of a longer list.
    while elements.next_element::<de::IgnoredAny>()?.is_some() {}
    Ok(value)
}

/// The attributes of an item or a map.
struct Members<'c, 'de> {
    cursor: &'c mut Cursor<'de>,
    depth: u8,
    first: bool,
    key: Cow<'de, str>,
    done: bool,
}

impl<'de> MapAccess<'de> for Members<'_, 'de> {
    type Error = RecordError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        if self.done {
            return Ok(None);
        }
        let Some(key) = self.cursor.next_key(&mut self.first)? else {
            self.done = true;
            return Ok(None);
        };
        self.key = key.clone();
        seed.deserialize(Name(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        seed.deserialize(Attribute { cursor: self.cursor, depth: self.depth }).map_err(|error| error.within(&self.key))
    }
}

/// The elements of a list or a set.
struct Elements<'c, 'de> {
    cursor: &'c mut Cursor<'de>,
    of: Of,
    first: bool,
    index: usize,
    done: bool,
}

#[derive(Clone, Copy)]
enum Of {
    /// A list's values, which lie at this depth.
    Values { depth: u8 },
    /// A set's bare elements.
    Set(Tag),
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = RecordError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if self.done {
            return Ok(None);
        }
        if !self.cursor.next_element(&mut self.first)? {
            self.done = true;
            return Ok(None);
        }
        let element = match self.of {
            Of::Values { depth } => seed.deserialize(Attribute { cursor: self.cursor, depth }),
            Of::Set(Tag::Bs) => binary(self.cursor).and_then(|bytes| seed.deserialize(Scalar::B(bytes))),
            Of::Set(Tag::Ns) => self.cursor.string().and_then(|text| seed.deserialize(Scalar::N(text))),
            Of::Set(_) => self.cursor.string().and_then(|text| seed.deserialize(Scalar::S(text))),
        };
        let index = self.index;
        self.index += 1;
        element.map(Some).map_err(|error| error.within_index(index))
    }
}

/// A variant and its content.
struct Variant<'c, 'de> {
    name: Cow<'de, str>,
    value: Attribute<'c, 'de>,
}

impl<'c, 'de> EnumAccess<'de> for Variant<'c, 'de> {
    type Error = RecordError;
    type Variant = Attribute<'c, 'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self::Variant)> {
        let variant = match self.name {
            Cow::Borrowed(name) => seed.deserialize(BorrowedStrDeserializer::<RecordError>::new(name)),
            Cow::Owned(name) => seed.deserialize(StringDeserializer::<RecordError>::new(name)),
        }?;
        Ok((variant, self.value))
    }
}

impl<'de> VariantAccess<'de> for Attribute<'_, 'de> {
    type Error = RecordError;

    /// The content of a unit variant does not matter.
    fn unit_variant(self) -> Result<()> {
        self.cursor.skip().map(|_content| ())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _fields: &'static [&'static str], visitor: V) -> Result<V::Value> {
        self.deserialize_map(visitor)
    }
}
