//! Iterator tokens. They hold their whole state, so asking one again gives the same answer.

use std::time::Duration;

use super::error::{ServiceError, ServiceErrorCode};
use crate::contract::{Mono, ShardIterator};
use crate::model::{ShardId, StreamArn};

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) stream: StreamArn,
    pub(super) shard: ShardId,
    /// How many records of the shard lie before it, counted from the shard's first.
    pub(super) index: u64,
    /// How many pages its chain has given.
    pub(super) pages: u32,
    /// The chain: who reads, as far as the service can tell.
    pub(super) reader: u64,
    /// Which of the commands to expire all iterators came before it.
    pub(super) generation: u64,
    /// When it was given.
    pub(super) issued: Mono,
}

impl Cursor {
    pub(super) fn token(&self) -> ShardIterator {
        let Self { stream, shard, index, pages, reader, generation, issued } = self;
        let since = issued.since_origin();
        let (seconds, nanos) = (since.as_secs(), since.subsec_nanos());
        let (shard, stream) = (shard.as_str(), stream.as_str());
        // Not by `format!`: a simulated shard that is idle does little else than to be given tokens.
        let mut token = String::with_capacity(64 + shard.len() + stream.len());
        for number in [*index, u64::from(*pages), *reader, *generation, seconds, u64::from(nanos)] {
            push_decimal(&mut token, number);
            token.push('|');
        }
        token.push_str(shard);
        token.push('|');
        token.push_str(stream);
        ShardIterator::new(token)
    }

    pub(super) fn parse(token: &ShardIterator) -> Result<Self, ServiceError> {
        decode(token.as_str()).ok_or_else(|| ServiceError::new(ServiceErrorCode::Validation, "Invalid ShardIterator"))
    }

    pub(super) fn is_expired(&self, now: Mono, life: Duration, generation: u64) -> bool {
        self.generation < generation || now.since(self.issued) >= life
    }
}

fn push_decimal(text: &mut String, number: u64) {
    if number >= 10 {
        push_decimal(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}

fn decode(token: &str) -> Option<Cursor> {
    let mut fields = token.splitn(8, '|');
    let index = fields.next()?.parse().ok()?;
    let pages = fields.next()?.parse().ok()?;
    let reader = fields.next()?.parse().ok()?;
    let generation = fields.next()?.parse().ok()?;
    let (seconds, nanos) = (fields.next()?.parse().ok()?, fields.next()?.parse::<u32>().ok()?);
    let shard = fields.next()?.parse().ok()?;
    let stream = fields.next()?.parse().ok()?;
    let since_origin = Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanos.into()))?;
    Some(Cursor { stream, shard, index, pages, reader, generation, issued: Mono::new(since_origin) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_garbage_is_refused() {
        let cursor = Cursor {
            stream: "arn:aws:dynamodb:r:123456789012:table/T/stream/l".parse().expect("legal"),
            shard: "shardId-1".parse().expect("legal"),
            index: 5,
            pages: 2,
            reader: 3,
            generation: 1,
            issued: Mono::new(Duration::new(7, 9)),
        };
        assert_eq!(Cursor::parse(&cursor.token()), Ok(cursor));
        for garbage in ["", "x", "AAAA", "not base64!"] {
            assert!(Cursor::parse(&ShardIterator::new(garbage)).is_err(), "{garbage}");
        }
    }
}
