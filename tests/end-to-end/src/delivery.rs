//! What consumers write down, and what must be true of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;

/// One record, handed to one processor. Written as a line of values between tabs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The table that was written to.
    pub table: String,
    /// The shard.
    pub shard: String,
    /// The shard's epoch: another one after every change of owner, also where a worker has lost a shard and taken it again.
    pub epoch: u64,
    /// The record's sequence number.
    pub sequence: u128,
    /// The item's key.
    pub key: String,
    /// The key's version.
    pub version: u64,
    /// When, in milliseconds since the epoch.
    pub at: u128,
}

/// Milliseconds since the epoch. All processes are on one machine.
#[must_use]
pub fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, shard, epoch, sequence, key, version, at } = self;
        write!(f, "{table}\t{shard}\t{epoch}\t{sequence}\t{key}\t{version}\t{at}")
    }
}

impl FromStr for Delivery {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut values = line.split('\t');
        let mut next = || values.next().with_context(|| format!("the line is too short: {line:?}"));
        Ok(Self {
            table: next()?.to_owned(),
            shard: next()?.to_owned(),
            epoch: next()?.parse()?,
            sequence: next()?.parse()?,
            key: next()?.to_owned(),
            version: next()?.parse()?,
            at: next()?.parse()?,
        })
    }
}

/// The deliveries that one worker wrote down. A last line without its end is one whose write a crash cut short.
///
/// # Errors
/// The file cannot be read, or a whole line is not a delivery.
pub fn read(path: &Path) -> anyhow::Result<Vec<Delivery>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        // The worker has not come that far.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| path.display().to_string()),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::parse).collect()
}

/// What one worker writes down, read as it grows.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    read: u64,
    deliveries: Vec<Delivery>,
}

impl Tail {
    /// Of the worker with this output, which need not exist yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: 0, deliveries: Vec::new() }
    }

    /// Reads what was added.
    ///
    /// # Errors
    /// See [`read`].
    pub fn read_on(&mut self) -> anyhow::Result<()> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e).with_context(|| self.path.display().to_string()),
        };
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        for line in whole.lines() {
            self.deliveries.push(line.parse()?);
        }
        self.read += whole.len() as u64;
        Ok(())
    }

    /// All that was read so far.
    #[must_use]
    pub fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }
}

impl AsRef<[Delivery]> for Tail {
    fn as_ref(&self) -> &[Delivery] {
        &self.deliveries
    }
}

/// What a fleet delivered, all its workers together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Records that were delivered at least once.
    pub distinct: usize,
    /// Deliveries of records that had been delivered before.
    pub redelivered: usize,
    /// What was wrong, in words; empty if all was as promised.
    pub wrong: Vec<String>,
}

/// Judges the deliveries of a fleet, given for each worker in the order it wrote them down. `expected` writes went to each of `tables`.
///
/// Every write is delivered; a worker that holds a shard goes forward only; the first deliveries of a shard, over all
/// workers, follow its sequence numbers, and those of a key its versions.
#[must_use]
pub fn judge<W: AsRef<[Delivery]>>(workers: &[W], tables: &[String], expected: usize) -> Verdict {
    let mut verdict = Verdict::default();
    for (worker, deliveries) in workers.iter().enumerate() {
        let mut last = BTreeMap::new();
        for delivery in deliveries.as_ref() {
            let before = last.insert((&delivery.table, &delivery.shard, delivery.epoch), delivery.sequence);
            if before.is_some_and(|before| before >= delivery.sequence) {
                verdict.wrong.push(format!("worker {worker} went back: {delivery}"));
            }
        }
    }
    let mut all: Vec<&Delivery> = workers.iter().flat_map(AsRef::as_ref).collect();
    all.sort_by_key(|delivery| delivery.at);
    let mut seen = BTreeSet::new();
    let (mut furthest, mut versions, mut counts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for delivery in all {
        let shard = (&delivery.table, &delivery.shard);
        if !seen.insert((shard, delivery.sequence)) {
            verdict.redelivered += 1;
            continue;
        }
        let before = furthest.insert(shard, delivery.sequence);
        if before.is_some_and(|before| before >= delivery.sequence) {
            verdict.wrong.push(format!("a later record came first: {delivery}"));
        }
        let before = versions.insert((&delivery.table, &delivery.key), delivery.version).unwrap_or(0);
        if delivery.version != before + 1 {
            verdict.wrong.push(format!("version {before} of the key was before: {delivery}"));
        }
        *counts.entry(&delivery.table).or_insert(0) += 1;
    }
    verdict.distinct = seen.len();
    for table in tables {
        let count = counts.get(table).copied().unwrap_or(0);
        if count != expected {
            verdict.wrong.push(format!("{table} had {expected} writes, {count} were delivered"));
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(sequence: u128, version: u64, at: u128) -> Delivery {
        Delivery { table: "t".into(), shard: "s".into(), epoch: 1, sequence, key: "k".into(), version, at }
    }

    fn judged(workers: &[Vec<Delivery>], expected: usize) -> Verdict {
        judge(workers, &["t".to_owned()], expected)
    }

    #[test]
    fn a_delivery_survives_its_line() {
        let written = delivery(7, 3, 1_700_000_000_000);
        assert_eq!(written.to_string().parse::<Delivery>().expect("a delivery"), written);
    }

    #[test]
    fn a_growing_output_is_read_on_line_by_line() {
        let dir = crate::fleet::scratch("tail").expect("made");
        let (path, line) = (dir.join("w"), delivery(7, 3, 10).to_string());
        let mut tail = Tail::new(path.clone());
        tail.read_on().expect("not there yet");
        let (begun, rest) = line.split_at(5);
        for (text, count) in [(format!("{line}\n{begun}"), 1), (format!("{rest}\n"), 2), (String::new(), 2)] {
            let mut file = File::options().create(true).append(true).open(&path).expect("opened");
            std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
            tail.read_on().expect("read");
            assert_eq!(tail.deliveries(), vec![delivery(7, 3, 10); count]);
        }
        std::fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn a_successor_may_repeat_what_a_crash_left_unrecorded() {
        let victim = vec![delivery(1, 1, 10), delivery(2, 2, 11)];
        let successor = vec![delivery(2, 2, 20), delivery(3, 3, 21)];
        assert_eq!(judged(&[victim, successor], 3), Verdict { distinct: 3, redelivered: 1, wrong: Vec::new() });
    }

    #[test]
    fn what_is_missing_swapped_or_repeated_by_its_owner_is_told() {
        let skipped = vec![delivery(1, 1, 10), delivery(3, 3, 11)];
        assert_eq!(judged(&[skipped], 3).wrong.len(), 2);
        let swapped = [vec![delivery(2, 2, 10)], vec![delivery(1, 1, 11)]];
        assert_eq!(judged(&swapped, 2).wrong.len(), 3);
        let repeated = vec![delivery(1, 1, 10), delivery(1, 1, 11)];
        assert_eq!(judged(&[repeated], 1).wrong.len(), 1);
        let taken_again = vec![delivery(1, 1, 10), Delivery { epoch: 2, ..delivery(1, 1, 11) }];
        assert_eq!(judged(&[taken_again], 1), Verdict { distinct: 1, redelivered: 1, wrong: Vec::new() });
    }
}
