//! The promises of [`ReaderRegistry`], as cases that any implementation is run through.
//!
//! An implementation gives a [`ReaderRegistryBeds`], which makes an empty registry for each case. Times in the cases are whole
//! milliseconds: an implementation need not store finer ones.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::future::{BoxFuture, join_all};

use super::{SuiteReport, Tally, caught};
use crate::contract::{READER_SLOTS, Reader, ReaderRegistry, ReaderSlots, RegistryError, RegistryErrorKind, SlotClaim};
use crate::model::{LeaseCounter, StreamArn};

/// Makes registries.
#[async_trait]
pub trait ReaderRegistryBeds: Send + Sync {
    /// An empty registry of its own.
    async fn registry(&self) -> Arc<dyn ReaderRegistry>;
}

type Registry = Arc<dyn ReaderRegistry>;
type CaseResult = Result<(), RegistryError>;

/// One promise.
#[derive(Debug, Clone, Copy)]
pub struct ReaderRegistryCase {
    /// The promise.
    pub name: &'static str,
    run: fn(Registry) -> BoxFuture<'static, CaseResult>,
}

macro_rules! cases {
    ($($name:ident;)*) => {
        /// Every case.
        pub const READER_REGISTRY_CASES: &[ReaderRegistryCase] =
            &[$(ReaderRegistryCase { name: stringify!($name), run: |registry| Box::pin($name(registry)) },)*];
    };
}

cases! {
    a_stream_that_nobody_reads_has_empty_slots;
    a_claim_reads_back_as_it_was_made;
    a_renewal_moves_the_counter;
    holders_do_not_hinder_each_others_renewals;
    a_write_on_another_counter_is_refused;
    a_write_that_saw_another_holder_is_refused;
    a_slot_passes_to_another_holder_with_a_higher_counter;
    a_claim_is_refused_when_the_other_slot_was_taken_meanwhile;
    one_of_many_claimants_wins;
    the_slots_of_two_streams_are_apart;
}

/// Runs every case.
///
/// # Panics
/// A case failed. All others are run first; the panic names those that failed and why.
pub async fn reader_registry_suite(beds: &dyn ReaderRegistryBeds) -> SuiteReport {
    let mut tally = Tally::default();
    for case in READER_REGISTRY_CASES {
        tally.note(case.name, caught((case.run)(beds.registry().await)).await.map(|()| true));
    }
    tally.report()
}

fn stream(label: &str) -> StreamArn {
    match format!("arn:aws:dynamodb:eu-west-1:123456789012:table/T/stream/{label}").parse() {
        Ok(arn) => arn,
        Err(error) => panic!("{error}"),
    }
}

fn reader(name: &str) -> Reader {
    Reader { application: name.to_owned(), lease_table: format!("{name}-leases") }
}

fn claim(slot: usize, name: &str) -> SlotClaim {
    let renewed_at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    SlotClaim { slot, holder: reader(name), life: Duration::from_millis(180_001), renewed_at }
}

#[track_caller]
fn refused(result: Result<ReaderSlots, RegistryError>) {
    match result {
        Ok(slots) => panic!("it was to be refused, and left {slots:?}"),
        Err(error) => assert_eq!(*error.kind(), RegistryErrorKind::Conflict),
    }
}

/// Writes what must succeed, and checks that what the registry says and holds is [`ReaderSlots::after`].
async fn step(registry: &Registry, seen: &ReaderSlots, claim: &SlotClaim) -> Result<ReaderSlots, RegistryError> {
    let written = registry.write(&stream("a"), seen, claim).await?;
    assert_eq!(written, seen.after(claim), "the answer to {claim:?}");
    assert_eq!(registry.slots(&stream("a")).await?, written, "what is stored after {claim:?}");
    Ok(written)
}

async fn a_stream_that_nobody_reads_has_empty_slots(registry: Registry) -> CaseResult {
    assert_eq!(registry.slots(&stream("a")).await?, ReaderSlots::default());
    Ok(())
}

async fn a_claim_reads_back_as_it_was_made(registry: Registry) -> CaseResult {
    for (label, slot) in [("s0", 0), ("s1", 1)] {
        let empty = ReaderSlots::default();
        let written = registry.write(&stream(label), &empty, &claim(slot, "x")).await?;
        assert_eq!(written, empty.after(&claim(slot, "x")));
        assert_eq!(registry.slots(&stream(label)).await?, written);
    }
    Ok(())
}

async fn a_renewal_moves_the_counter(registry: Registry) -> CaseResult {
    let mut seen = ReaderSlots::default();
    for n in 0..3 {
        seen = step(&registry, &seen, &claim(1, "x")).await?;
        assert_eq!(seen.of(&reader("x")).map(|(index, slot)| (index, slot.counter)), Some((1, LeaseCounter(n))));
    }
    Ok(())
}

async fn holders_do_not_hinder_each_others_renewals(registry: Registry) -> CaseResult {
    let one = step(&registry, &ReaderSlots::default(), &claim(0, "x")).await?;
    let both = step(&registry, &one, &claim(1, "y")).await?;
    step(&registry, &both, &claim(0, "x")).await?;
    // Seen before the renewal of the other slot.
    let left = registry.write(&stream("a"), &both, &claim(1, "y")).await?;
    let counters: Vec<_> = left.0.iter().flatten().map(|slot| slot.counter).collect();
    assert_eq!(counters, [LeaseCounter(1); READER_SLOTS]);
    Ok(())
}

async fn a_write_on_another_counter_is_refused(registry: Registry) -> CaseResult {
    let old = step(&registry, &ReaderSlots::default(), &claim(0, "x")).await?;
    let now = step(&registry, &old, &claim(0, "x")).await?;
    refused(registry.write(&stream("a"), &old, &claim(0, "x")).await);
    refused(registry.write(&stream("a"), &old, &claim(0, "y")).await);
    refused(registry.write(&stream("a"), &ReaderSlots::default(), &claim(0, "y")).await);
    assert_eq!(registry.slots(&stream("a")).await?, now);
    Ok(())
}

async fn a_write_that_saw_another_holder_is_refused(registry: Registry) -> CaseResult {
    let now = step(&registry, &ReaderSlots::default(), &claim(0, "x")).await?;
    let strange = ReaderSlots::default().after(&claim(0, "y"));
    refused(registry.write(&stream("a"), &strange, &claim(0, "y")).await);
    // The same name with another lease table is another application.
    let mut other = claim(0, "x");
    other.holder.lease_table = "other".to_owned();
    refused(registry.write(&stream("a"), &ReaderSlots::default().after(&other), &other).await);
    assert_eq!(registry.slots(&stream("a")).await?, now);
    Ok(())
}

async fn a_slot_passes_to_another_holder_with_a_higher_counter(registry: Registry) -> CaseResult {
    let old = step(&registry, &ReaderSlots::default(), &claim(0, "x")).await?;
    let now = step(&registry, &old, &claim(0, "y")).await?;
    assert_eq!(now.of(&reader("y")).map(|(_, slot)| slot.counter), Some(LeaseCounter(1)));
    refused(registry.write(&stream("a"), &old, &claim(0, "x")).await);
    Ok(())
}

async fn a_claim_is_refused_when_the_other_slot_was_taken_meanwhile(registry: Registry) -> CaseResult {
    let empty = ReaderSlots::default();
    let one = step(&registry, &empty, &claim(0, "x")).await?;
    refused(registry.write(&stream("a"), &empty, &claim(1, "y")).await);
    let both = step(&registry, &one, &claim(1, "y")).await?;
    step(&registry, &both, &claim(0, "z")).await?;
    // A renewal, too, must have seen who reads beside it.
    refused(registry.write(&stream("a"), &both, &claim(1, "y")).await);
    Ok(())
}

async fn one_of_many_claimants_wins(registry: Registry) -> CaseResult {
    let claims: Vec<SlotClaim> = ["v", "w", "x", "y"].iter().zip([0, 1, 0, 1]).map(|(n, s)| claim(s, n)).collect();
    let (arn, empty) = (stream("a"), ReaderSlots::default());
    let results = join_all(claims.iter().map(|claim| registry.write(&arn, &empty, claim))).await;
    let mut won = Vec::new();
    for result in results {
        match result {
            Ok(slots) => won.push(slots),
            // Racing calls may be throttled instead of refused: nothing was written by either.
            Err(error) => {
                assert!(matches!(error.kind(), RegistryErrorKind::Conflict | RegistryErrorKind::Throttled), "{error}")
            }
        }
    }
    assert_eq!(won, [registry.slots(&arn).await?], "exactly one may win");
    Ok(())
}

async fn the_slots_of_two_streams_are_apart(registry: Registry) -> CaseResult {
    step(&registry, &ReaderSlots::default(), &claim(0, "x")).await?;
    assert_eq!(registry.slots(&stream("b")).await?, ReaderSlots::default());
    registry.write(&stream("b"), &ReaderSlots::default(), &claim(0, "y")).await?;
    assert_eq!(registry.slots(&stream("a")).await?, ReaderSlots::default().after(&claim(0, "x")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::MemoryReaderRegistry;

    struct Beds;

    #[async_trait]
    impl ReaderRegistryBeds for Beds {
        async fn registry(&self) -> Arc<dyn ReaderRegistry> {
            Arc::new(MemoryReaderRegistry::new())
        }
    }

    #[tokio::test]
    async fn the_registry_in_memory_keeps_every_promise() {
        assert_eq!(reader_registry_suite(&Beds).await.passed.len(), READER_REGISTRY_CASES.len());
    }
}
