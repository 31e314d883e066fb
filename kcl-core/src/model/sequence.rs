//! Sequence numbers: decimal texts that compare as numbers.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// A text that is not a sequence number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a sequence number: it must be 1 to 40 decimal digits")]
pub struct SequenceNumberError(String);

const MAX_DIGITS: usize = 40;

/// The place of a record in its shard.
///
/// The service writes 21 to 40 decimal digits, of varying length within one shard, some with leading zeros
/// (DynamoDB Local pads). Order and equality are those of the number (a `u128` is too small for it); the text
/// is kept as it came, because the service is asked with the text it gave. Copying one costs no allocation.
#[derive(Clone, Copy)]
pub struct SequenceNumber {
    digits: [u8; MAX_DIGITS],
    len: u8,
    leading_zeros: u8,
}

impl SequenceNumber {
    /// The digits as the service wrote them.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // The bytes were checked to be ASCII digits when this was made.
        std::str::from_utf8(&self.digits[..usize::from(self.len)]).unwrap_or_default()
    }

    /// The sequence number `number`, padded to the 21 digits of the service's shortest.
    #[must_use]
    pub fn from_u128(number: u128) -> Self {
        let text = format!("{number:021}");
        let mut digits = [0; MAX_DIGITS];
        digits[..text.len()].copy_from_slice(text.as_bytes());
        // 21 to 39 digits: `u128::MAX` has 39.
        #[expect(clippy::cast_possible_truncation, reason = "at most 39")]
        let len = text.len() as u8;
        Self { digits, len, leading_zeros: leading_zeros(&digits[..text.len()]) }
    }

    fn significant(&self) -> &[u8] {
        &self.digits[usize::from(self.leading_zeros)..usize::from(self.len)]
    }
}

fn leading_zeros(digits: &[u8]) -> u8 {
    // At most 40, so the count fits.
    digits.iter().take_while(|d| **d == b'0').fold(0, |n, _| n + 1)
}

impl FromStr for SequenceNumber {
    type Err = SequenceNumberError;

    fn from_str(text: &str) -> Result<Self, SequenceNumberError> {
        let bytes = text.as_bytes();
        match u8::try_from(bytes.len()) {
            Ok(len @ 1..=40) if bytes.iter().all(u8::is_ascii_digit) => {
                let mut digits = [0; MAX_DIGITS];
                digits[..bytes.len()].copy_from_slice(bytes);
                Ok(Self { digits, len, leading_zeros: leading_zeros(bytes) })
            }
            _ => Err(SequenceNumberError(text.chars().take(60).collect())),
        }
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.significant(), other.significant());
        a.len().cmp(&b.len()).then_with(|| a.cmp(b))
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SequenceNumber {
    fn eq(&self, other: &Self) -> bool {
        self.significant() == other.significant()
    }
}

impl Eq for SequenceNumber {}

impl Hash for SequenceNumber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.significant().hash(state);
    }
}

impl serde::Serialize for SequenceNumber {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn n(text: &str) -> SequenceNumber {
        text.parse().expect(text)
    }

    #[test]
    fn numbers_of_different_lengths_compare_as_numbers() {
        assert!(n("300000000000000499659") < n("24438822900000000000168706143"));
        assert!(n("9") < n("10"));
        assert_eq!(n("000000000000000000007"), n("7"));
        assert_eq!(n("000"), n("0"));
        let largest = n(&"9".repeat(40));
        assert!(largest > SequenceNumber::from_u128(u128::MAX));
    }

    #[test]
    fn the_text_is_kept_as_it_came() {
        assert_eq!(n("000000000000000000007").as_str(), "000000000000000000007");
        assert_eq!(SequenceNumber::from_u128(7).as_str(), "000000000000000000007");
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        for text in ["", "TRIM_HORIZON", "-1", "1.0", "１", " 1", &"1".repeat(41)] {
            assert!(text.parse::<SequenceNumber>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn order_is_the_order_of_u128(a: u128, b: u128) {
            prop_assert_eq!(n(&a.to_string()).cmp(&SequenceNumber::from_u128(b)), a.cmp(&b));
        }
    }
}
