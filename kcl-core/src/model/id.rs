//! Identifiers: shards, lease keys, workers and the counter that orders a lease's writes.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use super::StreamArn;

/// Why a text cannot be an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {why}")]
pub struct IdError {
    what: &'static str,
    why: &'static str,
}

/// A shard's name. Opaque: its age is not read from it, and names do not sort by age.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(Arc<str>);

/// The primary key of a lease item.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseKey(Arc<str>);

/// Who a lease item says owns it: our workers write `name/incarnation`, the Java library a bare worker name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(Arc<str>);

macro_rules! text_id {
    ($type:ident, $what:literal) => {
        impl $type {
            /// The identifier as the service and the lease table spell it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                match text.len() {
                    0 => Err(IdError { what: $what, why: "is empty" }),
                    1..=1024 => Ok(Self(Arc::from(text))),
                    _ => Err(IdError { what: $what, why: "is longer than 1024 bytes" }),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

text_id!(ShardId, "a shard id");
text_id!(LeaseKey, "a lease key");
text_id!(Owner, "a lease owner");

/// How lease keys of a table are formed. One form per table, fixed when the table is first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyForm {
    /// `account:region$account$table$label:1:shard`, as the Java library writes for several streams.
    Qualified,
    /// The bare shard id, as the Java library writes for a single stream.
    Bare,
}

impl LeaseKey {
    /// The key of `shard`'s lease in a table whose keys have the form `form`.
    ///
    /// Source: `MultiStreamLease.getLeaseKey` of the Java library, and `KinesisMapperUtil` of the DynamoDB
    /// Streams adapter, which writes the colons of the label as underscores.
    #[must_use]
    pub fn of(form: KeyForm, stream: &StreamArn, shard: &ShardId) -> Self {
        match form {
            KeyForm::Bare => Self(shard.0.clone()),
            KeyForm::Qualified => Self(Arc::from(format!("{}:{shard}", Self::stream_identifier(stream)))),
        }
    }

    /// The Java library's serialised identifier of `stream`: the attribute `streamName` of qualified leases.
    #[must_use]
    pub fn stream_identifier(stream: &StreamArn) -> String {
        let (account, region, table) = (stream.account(), stream.region(), stream.table_name());
        format!("{account}:{region}${account}${table}${}:1", stream.label().replace(':', "_"))
    }

    /// Whether this key has the qualified form.
    #[must_use]
    pub fn is_qualified(&self) -> bool {
        self.0.contains('$')
    }
}

/// One run of one worker: a name that outlives restarts and an incarnation that does not.
///
/// Two processes that are given the same name are still two workers.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WorkerId {
    /// Name and incarnation as they are written: asked for at every lease of a scan.
    owner: Owner,
    /// The bytes of the name, so that nobody looks for its end: ids are compared all the time.
    name: usize,
    incarnation: u64,
}

impl WorkerId {
    /// A worker named `name` in the run `incarnation`, a number drawn at random at each start.
    ///
    /// # Errors
    /// The name is empty, longer than 255 bytes, or holds a slash, which separates name and incarnation.
    pub fn new(name: &str, incarnation: u64) -> Result<Self, IdError> {
        let what = "a worker's name";
        match name.len() {
            0 => Err(IdError { what, why: "is empty" }),
            256.. => Err(IdError { what, why: "is longer than 255 bytes" }),
            _ if name.contains('/') => Err(IdError { what, why: "holds a slash" }),
            bytes => {
                let owner = Owner(Arc::from(format!("{name}/{incarnation:016x}")));
                Ok(Self { owner, name: bytes, incarnation })
            }
        }
    }

    /// The name, the same in every run.
    #[must_use]
    pub fn name(&self) -> &str {
        self.owner.0.get(..self.name).unwrap_or_default()
    }

    /// The number of this run.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Whether an owner is a run of one of this library's workers.
    #[must_use]
    pub fn is_written_as(owner: &Owner) -> bool {
        Self::parts(&owner.0).is_some_and(|(name, _)| (1..=255).contains(&name.len()))
    }

    /// Name and incarnation, apart.
    fn parts(text: &str) -> Option<(&str, u64)> {
        let (name, incarnation) = text.split_at_checked(text.len().checked_sub(17)?)?;
        let incarnation = incarnation.strip_prefix('/').filter(|_| !name.contains('/'))?;
        Some((name, u64::from_str_radix(incarnation, 16).ok()?))
    }

    /// What this worker writes as the owner of its leases.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner.clone()
    }
}

/// By name, then by incarnation.
impl Ord for WorkerId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name()).then(self.incarnation.cmp(&other.incarnation))
    }
}

impl PartialOrd for WorkerId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.owner.0)
    }
}

impl Serialize for WorkerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for WorkerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error =
            IdError { what: "a worker id", why: "is not name/incarnation, the incarnation 16 hexadecimal digits" };
        let (name, incarnation) = Self::parts(text).ok_or(error)?;
        Self::new(name, incarnation)
    }
}

/// The version of an item: every write names the one it saw and moves it on by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LeaseCounter(pub i64);

impl LeaseCounter {
    /// Where the counter of a lease begins that is created at this instant of its creator's clock.
    ///
    /// A lease may be deleted and created again under its key. Beginning later each time, it never has a counter that it had before, so
    /// that no write and no look from its former life fits it, and the epoch goes on rising. For that, fewer than 1024 writes a
    /// millisecond must have been made, and the creators' clocks must not differ by more than the time in between. Other libraries
    /// compare counters for equality alone, so they may begin anywhere; below 2^53 no tool loses digits.
    #[must_use]
    pub fn beginning(at: SystemTime) -> Self {
        let millis = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        Self(i64::try_from(millis).unwrap_or(0) << 10)
    }

    /// Whether nobody has written the lease since it was created; after each 1024 writes it looks so, too.
    #[must_use]
    pub(crate) fn is_beginning(self) -> bool {
        self.0 & 1023 == 0
    }

    /// The counter after one more write. Wraps at the end of the number's range, where equality is still exact.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl fmt::Display for LeaseCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_id_is_read_back_from_the_owner_it_writes() {
        let id = WorkerId::new("host-7", 0xfeed).expect("legal");
        assert_eq!(id.to_string(), "host-7/000000000000feed");
        assert_eq!(id.owner().as_str().parse::<WorkerId>(), Ok(id));
        for text in ["", "w-2311", "a/b", "/000000000000feed", "a/zz00000000000000", "a/b/000000000000feed"] {
            assert!(text.parse::<WorkerId>().is_err(), "{text}");
            assert!(text.parse().map_or(true, |owner| !WorkerId::is_written_as(&owner)), "{text}");
        }
        assert!(WorkerId::new("a/b", 1).is_err());
    }

    #[test]
    fn a_qualified_key_is_the_one_the_java_library_writes() {
        let arn =
            "arn:aws:dynamodb:us-east-1:123456789012:table/T/stream/2024-02-12T18:57:26.492".parse().expect("legal");
        let shard = "shardId-A".parse().expect("legal");
        assert_eq!(
            LeaseKey::of(KeyForm::Qualified, &arn, &shard).as_str(),
            "123456789012:us-east-1$123456789012$T$2024-02-12T18_57_26.492:1:shardId-A"
        );
        assert!(LeaseKey::of(KeyForm::Qualified, &arn, &shard).is_qualified());
        assert_eq!(LeaseKey::of(KeyForm::Bare, &arn, &shard).as_str(), "shardId-A");
    }
}
