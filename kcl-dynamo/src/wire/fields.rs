//! The members of a request, and the checks that the service makes before it looks at anything.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde_json::value::RawValue;

use super::protocol::Refusal;

/// A structure of a request. Unknown members are skipped, `null` counts as absent, of a member given twice the last counts.
#[derive(Debug)]
pub(super) struct Fields<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    /// Reads the body of a request.
    pub(super) fn of_body(body: &'a [u8]) -> Result<Self, Refusal> {
        // The service names no reason for what is not JSON at all.
        let whole: &RawValue = serde_json::from_slice(body).map_err(|_garbage| Refusal::serialization(""))?;
        Self::of(whole)
    }

    /// Reads a structure.
    pub(super) fn of(value: &'a RawValue) -> Result<Self, Refusal> {
        match Token::of(value) {
            Token::Structure => {}
            Token::List => return Err(Refusal::serialization("Unrecognized collection type class java.lang.Object")),
            Token::Scalar(_) => return Err(Refusal::serialization("Unexpected field type")),
        }
        serde_json::from_str(value.get()).map(Self).map_err(|_garbage| Refusal::serialization(""))
    }

    /// The member as it stands in the request.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|value| value.get() != "null")
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        match Token::of(value) {
            Token::Scalar("STRING_VALUE") => {
                serde_json::from_str(value.get()).map(Some).map_err(|_garbage| Refusal::serialization(""))
            }
            other => Err(other.refused("String")),
        }
    }

    /// A whole number; the service cuts off what stands behind a point.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        match Token::of(value) {
            Token::Scalar("NUMBER_VALUE") => {}
            other => return Err(other.refused("Integer")),
        }
        let number: f64 = serde_json::from_str(value.get()).map_err(|_garbage| Refusal::serialization(""))?;
        // A cast that saturates: what is too large for the type is out of every range.
        #[expect(clippy::cast_possible_truncation, reason = "cut off, as the service does")]
        Ok(Some(number as i64))
    }

    pub(super) fn structure(&self, name: &str) -> Result<Option<Self>, Refusal> {
        self.raw(name).map(Self::of).transpose()
    }

    /// The members, in the order of their names.
    pub(super) fn members(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

/// Reads a list.
pub(super) fn list(value: &RawValue) -> Result<Vec<&RawValue>, Refusal> {
    match Token::of(value) {
        Token::List => serde_json::from_str(value.get()).map_err(|_garbage| Refusal::serialization("")),
        Token::Structure => Err(Refusal::serialization("Start of structure or map found where not expected")),
        Token::Scalar(_) => Err(Refusal::serialization("Unexpected field type")),
    }
}

/// What a value looks like from its first character.
enum Token {
    Structure,
    List,
    /// The service's name of it.
    Scalar(&'static str),
}

impl Token {
    fn of(value: &RawValue) -> Self {
        match value.get().as_bytes().first() {
            Some(b'{') => Self::Structure,
            Some(b'[') => Self::List,
            Some(b'"') => Self::Scalar("STRING_VALUE"),
            Some(b't') => Self::Scalar("TRUE_VALUE"),
            Some(b'f') => Self::Scalar("FALSE_VALUE"),
            Some(b'n') => Self::Scalar("NULL_VALUE"),
            _ => Self::Scalar("NUMBER_VALUE"),
        }
    }

    fn refused(&self, wanted: &str) -> Refusal {
        Refusal::serialization(match self {
            Self::Structure => "Start of structure or map found where not expected".to_owned(),
            Self::List => format!("Unrecognized collection type class java.lang.{wanted}"),
            Self::Scalar(found) => format!("{found} cannot be converted to {wanted}"),
        })
    }
}

/// The constraints of the service's model. All that are broken are told at once.
#[derive(Debug, Default)]
pub(super) struct Checks(Vec<String>);

impl Checks {
    /// A text between `min` and `max` characters long.
    pub(super) fn length(&mut self, field: &str, value: Option<&String>, (min, max): (usize, usize)) {
        let Some(text) = value else { return };
        let length = text.chars().count();
        let must = match length {
            _ if length < min => format!("have length greater than or equal to {min}"),
            _ if length > max => format!("have length less than or equal to {max}"),
            _ => return,
        };
        self.broken(field, format!("'{}'", shown(text)), must);
    }

    pub(super) fn range(&mut self, field: &str, value: Option<i64>, (min, max): (i64, i64)) {
        let Some(number) = value else { return };
        let must = match number {
            _ if number < min => format!("have value greater than or equal to {min}"),
            _ if number > max => format!("have value less than or equal to {max}"),
            _ => return,
        };
        self.broken(field, format!("'{number}'"), must);
    }

    pub(super) fn one_of(&mut self, field: &str, value: Option<&String>, allowed: &[&str]) {
        let Some(text) = value else { return };
        if !allowed.contains(&text.as_str()) {
            self.broken(
                field,
                format!("'{}'", shown(text)),
                format!("satisfy enum value set: [{}]", allowed.join(", ")),
            );
        }
    }

    pub(super) fn required<T>(&mut self, field: &str, value: Option<&T>) {
        if value.is_none() {
            self.broken(field, "null", "not be null");
        }
    }

    pub(super) fn broken(&mut self, field: &str, value: impl Display, must: impl Display) {
        self.0.push(format!("Value {value} at '{field}' failed to satisfy constraint: Member must {must}"));
    }

    pub(super) fn finish(self) -> Result<(), Refusal> {
        let plural = match self.0.len() {
            0 => return Ok(()),
            1 => "",
            _ => "s",
        };
        let texts = self.0.join("; ");
        Err(Refusal::validation(format!("{} validation error{plural} detected: {texts}", self.0.len())))
    }
}

/// The value of a required member whose presence was checked.
pub(super) fn checked<T>(value: Option<T>) -> Result<T, Refusal> {
    value.ok_or_else(|| Refusal::validation("1 validation error detected: a required member is missing"))
}

/// As much of a text as an answer should repeat.
fn shown(text: &str) -> String {
    text.chars().take(2048).collect()
}
