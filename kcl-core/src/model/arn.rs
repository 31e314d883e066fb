//! Names of tables and streams, parsed once at the edge.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not the ARN of a DynamoDB stream, or not the name of a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}: {why}")]
pub struct ArnError {
    text: String,
    wanted: &'static str,
    why: &'static str,
}

/// The ARN of one stream: `arn:<partition>:dynamodb:<region>:<account>:table/<table>/stream/<label>`.
///
/// Any partition and any region is accepted, `ddblocal` too, which is what DynamoDB Local writes.
/// A stream that was disabled and enabled again has another label, and so is another stream.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamArn {
    text: Arc<str>,
    region: (usize, usize),
    account: (usize, usize),
    table: (usize, usize),
    label: usize,
}

impl StreamArn {
    /// The whole ARN.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The region the stream is in, as the ARN says it.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.text[self.region.0..self.region.1]
    }

    /// The account that owns the table.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.text[self.account.0..self.account.1]
    }

    /// The name of the table whose changes the stream carries.
    #[must_use]
    pub fn table_name(&self) -> &str {
        &self.text[self.table.0..self.table.1]
    }

    /// The stream's label: the instant at which it was enabled. Labels of one table sort by age.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.text[self.label..]
    }
}

impl StreamArn {
    /// Whether both are streams of one table, in one account and region.
    #[must_use]
    pub fn is_of_same_table(&self, other: &Self) -> bool {
        self.text[..self.label] == other.text[..other.label]
    }
}

impl FromStr for StreamArn {
    type Err = ArnError;

    fn from_str(text: &str) -> Result<Self, ArnError> {
        let error = |why| ArnError { text: shorten(text), wanted: "the ARN of a DynamoDB stream", why };
        let mut fields = text.splitn(6, ':');
        let mut next = || fields.next().ok_or_else(|| error("it has fewer than six fields separated by colons"));
        let (arn, partition, service) = (next()?, next()?, next()?);
        let (region, account, resource) = (next()?, next()?, next()?);
        if arn != "arn" || partition.is_empty() {
            return Err(error("it does not begin with \"arn:\" and a partition"));
        }
        if service != "dynamodb" {
            return Err(error("its service is not \"dynamodb\""));
        }
        if region.is_empty() {
            return Err(error("it has no region"));
        }
        if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error("its account is not twelve digits"));
        }
        let Some((table, label)) = resource.strip_prefix("table/").and_then(|rest| rest.split_once("/stream/")) else {
            return Err(error(
                "its resource is not \"table/<name>/stream/<label>\"; a table's ARN has no stream label",
            ));
        };
        if table.is_empty() || label.is_empty() || label.contains('/') {
            return Err(error("its table name or its stream label is empty or holds a slash"));
        }
        let region_at = arn.len() + partition.len() + service.len() + 3;
        let account_at = region_at + region.len() + 1;
        let table_at = account_at + account.len() + 1 + "table/".len();
        Ok(Self {
            text: Arc::from(text),
            region: (region_at, region_at + region.len()),
            account: (account_at, account_at + account.len()),
            table: (table_at, table_at + table.len()),
            label: text.len() - label.len(),
        })
    }
}

impl serde::Serialize for StreamArn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for StreamArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for StreamArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The name of a table, taken from a bare name or from a table's ARN.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName(Arc<str>);

impl TableName {
    /// The bare name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TableName {
    type Err = ArnError;

    /// Accepts a name (3 to 255 of `a-z A-Z 0-9 _ . -`, the service's rule) or the ARN of a table.
    fn from_str(text: &str) -> Result<Self, ArnError> {
        let error = |why| ArnError { text: shorten(text), wanted: "a DynamoDB table's name or ARN", why };
        let name = match text.strip_prefix("arn:") {
            None => text,
            Some(rest) => match rest.rsplit_once(":table/") {
                Some((_, name)) if !name.contains('/') => name,
                Some(_) => return Err(error("it is the ARN of a stream or an index; give a stream's ARN as a stream")),
                None => return Err(error("it is an ARN, but not of a table")),
            },
        };
        if !(3..=255).contains(&name.len()) {
            return Err(error("a table's name has 3 to 255 characters"));
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
            return Err(error("a table's name has only letters, digits, '_', '.' and '-'"));
        }
        Ok(Self(Arc::from(name)))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An error message must stay readable whatever a user passes in.
fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_is_taken_apart() {
        for (text, region, label) in [
            (
                "arn:aws:dynamodb:eu-west-1:123456789012:table/T.a-b_c/stream/2024-02-12T18:57:26.492",
                "eu-west-1",
                "2024-02-12T18:57:26.492",
            ),
            ("arn:aws-cn:dynamodb:cn-north-1:123456789012:table/T.a-b_c/stream/x", "cn-north-1", "x"),
            ("arn:aws:dynamodb:ddblocal:000000000000:table/T.a-b_c/stream/2024", "ddblocal", "2024"),
        ] {
            let arn: StreamArn = text.parse().expect(text);
            assert_eq!((arn.region(), arn.table_name(), arn.label()), (region, "T.a-b_c", label));
            assert_eq!(arn.account().len(), 12);
            assert_eq!(arn.to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_stream_arn_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "fewer than six"),
            ("orders", "fewer than six"),
            ("arn:aws:dynamodb:eu-west-1:123456789012:table/T", "stream label"),
            ("arn:aws:kinesis:eu-west-1:123456789012:stream/T", "service"),
            ("arn:aws:dynamodb::123456789012:table/T/stream/l", "region"),
            ("arn:aws:dynamodb:r:12345:table/T/stream/l", "twelve digits"),
            ("arn:aws:dynamodb:r:123456789012:table//stream/l", "empty"),
            ("urn:aws:dynamodb:r:123456789012:table/T/stream/l", "begin"),
        ] {
            let error = text.parse::<StreamArn>().expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_table_is_named_by_name_or_arn() {
        for text in ["orders", "arn:aws:dynamodb:eu-west-1:123456789012:table/orders"] {
            assert_eq!(text.parse::<TableName>().expect(text).as_str(), "orders");
        }
        for text in
            ["", "ab", "a b c", "arn:aws:sqs:r:1:q", "arn:aws:dynamodb:r:123456789012:table/T/stream/l", "ümlaut"]
        {
            assert!(text.parse::<TableName>().is_err(), "{text}");
        }
    }
}
