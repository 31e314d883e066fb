//! A place in a JSON text, and the few steps that decoding needs.
//!
//! Pages are read where they lie: a step returns a part of the text, and only strings with escapes are copied. Nothing here recurses.

use std::borrow::Cow;

use super::error::{RecordError, RecordErrorKind};

/// The deepest nesting of brackets that is skipped over: a bit each.
const MAX_BRACKETS: u32 = u128::BITS;

/// A place in a JSON text.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'de> {
    text: &'de str,
    at: usize,
}

impl<'de> Cursor<'de> {
    pub(super) fn new(text: &'de str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn offset(&self) -> usize {
        self.at
    }

    #[cold]
    pub(super) fn error(&self, kind: RecordErrorKind) -> RecordError {
        RecordError::at(kind, self.at)
    }

    #[cold]
    fn expected(&self, expected: &'static str) -> RecordError {
        self.error(RecordErrorKind::Json { expected })
    }

    /// The next byte that is not white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    pub(super) fn take(&mut self, byte: u8, expected: &'static str) -> Result<(), RecordError> {
        if self.peek() != Some(byte) {
            return Err(self.expected(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Result<(), RecordError> {
        if self.peek().is_some() { Err(self.expected("the end of the text")) } else { Ok(()) }
    }

    /// The next key of the object that was opened, with its colon; `None` once the object is closed.
    pub(super) fn next_key(&mut self, first: &mut bool) -> Result<Option<Cow<'de, str>>, RecordError> {
        if self.next_in(b'}', first, "a comma or the end of an object")? {
            let key = self.string()?;
            self.take(b':', "a colon")?;
            Ok(Some(key))
        } else {
            Ok(None)
        }
    }

    /// Whether the array that was opened has another element; the array is closed if not.
    pub(super) fn next_element(&mut self, first: &mut bool) -> Result<bool, RecordError> {
        self.next_in(b']', first, "a comma or the end of an array")
    }

    fn next_in(&mut self, close: u8, first: &mut bool, expected: &'static str) -> Result<bool, RecordError> {
        let was_first = std::mem::replace(first, false);
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(_) if was_first => Ok(true),
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.expected(expected)),
        }
    }

    /// A string. Borrowed unless it has escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'de, str>, RecordError> {
        self.take(b'"', "a string")?;
        let start = self.at;
        let escaped = self.skip_string_rest()?;
        let end = self.at - 1;
        if !escaped {
            return Ok(Cow::Borrowed(&self.text[start..end]));
        }
        match serde_json::from_str(&self.text[start - 1..=end]) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(_malformed) => {
                Err(RecordError::at(RecordErrorKind::Json { expected: "a string with valid escapes" }, start))
            }
        }
    }

    /// A string, or nothing where the value is of another kind (the service's `null` above all).
    pub(super) fn string_or_skip(&mut self) -> Result<Option<Cow<'de, str>>, RecordError> {
        if self.peek() == Some(b'"') { self.string().map(Some) } else { self.skip().map(|_value| None) }
    }

    /// Goes past the closing quote. Whether there were escapes.
    #[inline]
    fn skip_string_rest(&mut self) -> Result<bool, RecordError> {
        let bytes = self.text.as_bytes();
        self.at = next_special(bytes, self.at);
        // Half of a page's time is spent here: what most strings need is kept apart from what few do.
        if bytes.get(self.at) == Some(&b'"') {
            self.at += 1;
            return Ok(false);
        }
        self.skip_escaped_rest()
    }

    /// Goes past the closing quote of a string whose next special byte is no quote. Whether there were escapes.
    #[cold]
    fn skip_escaped_rest(&mut self) -> Result<bool, RecordError> {
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                Some(_) => return Err(self.expected("an escaped control character")),
                None => {
                    self.at = bytes.len();
                    return Err(self.expected("the end of a string"));
                }
            }
            self.at = next_special(bytes, self.at);
        }
    }

    pub(super) fn bool(&mut self) -> Result<bool, RecordError> {
        match self.skip()? {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.expected("true or false")),
        }
    }

    /// Goes past one value, whatever it is, and returns its text. Brackets, commas and colons are checked; what escapes
    /// and numbers say is left to those who read them.
    pub(super) fn skip(&mut self) -> Result<&'de str, RecordError> {
        self.peek();
        let start = self.at;
        let mut brackets = Brackets::default();
        loop {
            let mut opened = false;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.skip_string_rest()?;
                }
                Some(open @ (b'{' | b'[')) => {
                    self.at += 1;
                    if !brackets.push(open == b'{') {
                        return Err(self.error(RecordErrorKind::TooDeep));
                    }
                    opened = true;
                }
                _ => self.skip_word()?,
            }
            loop {
                let Some(in_object) = brackets.top() else { return Ok(&self.text[start..self.at]) };
                let close = if in_object { b'}' } else { b']' };
                if self.next_in(close, &mut opened, "a comma or a closing bracket")? {
                    break;
                }
                brackets.pop();
            }
            if brackets.top() == Some(true) {
                self.take(b'"', "a string")?;
                self.skip_string_rest()?;
                self.take(b':', "a colon")?;
            }
        }
    }

    /// Goes past `true`, `false`, `null` or a number.
    fn skip_word(&mut self) -> Result<(), RecordError> {
        let rest = &self.text.as_bytes()[self.at..];
        let word = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')).count();
        match &rest[..word] {
            b"true" | b"false" | b"null" => {}
            [b'-' | b'0'..=b'9', ..] => {}
            _ => return Err(self.expected("a value")),
        }
        self.at += word;
        Ok(())
    }
}

/// The open brackets, a bit each: set for an object.
#[derive(Default)]
struct Brackets {
    objects: u128,
    depth: u32,
}

impl Brackets {
    fn push(&mut self, object: bool) -> bool {
        self.objects = self.objects << 1 | u128::from(object);
        self.depth += 1;
        self.depth <= MAX_BRACKETS
    }

    fn pop(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    fn top(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.objects & 1 == 1)
    }
}

/// The first quote, backslash or control character from `at` on, or the end: eight bytes at a time.
fn next_special(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // Sets the high bit of each zero byte. A byte above a zero one may be hit too, so only the lowest hit is sure.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let hits = zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5C)) | control;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1F)) {
        at += 1;
    }
    at
}
