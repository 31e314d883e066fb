//! Slots to attributes and back. Pure.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::types::AttributeValue;
use kcl_core::{LeaseCounter, READER_SLOTS, Reader, ReaderSlot, ReaderSlots, SlotClaim};

/// The key: the stream's ARN.
pub(crate) const STREAM_ARN: &str = "streamArn";

pub(super) type Item = HashMap<String, AttributeValue>;

const APPLICATION: &str = "Application";
const LEASE_TABLE: &str = "LeaseTable";
const COUNTER: &str = "Counter";
const LIFE: &str = "LifeMillis";
const RENEWED_AT: &str = "RenewedAt";

/// Why an item does not hold slots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its attribute {0} is missing or not of its kind")]
pub(super) struct Damaged(String);

/// `reader0Counter`, for instance.
fn attribute(slot: usize, name: &str) -> String {
    format!("reader{slot}{name}")
}

pub(super) fn slots_of(item: &Item) -> Result<ReaderSlots, Damaged> {
    let mut slots = ReaderSlots::default();
    for (index, slot) in slots.0.iter_mut().enumerate() {
        if item.contains_key(&attribute(index, COUNTER)) {
            *slot = Some(slot_of(item, index)?);
        }
    }
    Ok(slots)
}

fn slot_of(item: &Item, slot: usize) -> Result<ReaderSlot, Damaged> {
    let damaged = |name| Damaged(attribute(slot, name));
    let text = |name| match item.get(&attribute(slot, name)) {
        Some(AttributeValue::S(text)) => Ok(text.clone()),
        _ => Err(damaged(name)),
    };
    let number = |name| match item.get(&attribute(slot, name)) {
        Some(AttributeValue::N(text)) => text.parse::<i64>().map_err(|_| damaged(name)),
        _ => Err(damaged(name)),
    };
    let millis = |name| number(name).and_then(|millis| u64::try_from(millis).map_err(|_| damaged(name)));
    Ok(ReaderSlot {
        holder: Reader { application: text(APPLICATION)?, lease_table: text(LEASE_TABLE)? },
        counter: LeaseCounter(number(COUNTER)?),
        life: Duration::from_millis(millis(LIFE)?),
        renewed_at: SystemTime::UNIX_EPOCH + Duration::from_millis(millis(RENEWED_AT)?),
    })
}

/// A condition and an update, with their names and values.
#[derive(Debug, Default)]
pub(super) struct Expressions {
    pub(super) condition: String,
    pub(super) update: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
}

impl Expressions {
    fn name(&mut self, slot: usize, name: &str) -> String {
        let placeholder = format!("#{}", attribute(slot, name));
        self.names.insert(placeholder.clone(), attribute(slot, name));
        placeholder
    }

    /// `role` tells what was seen from what is written.
    fn value(&mut self, role: &str, slot: usize, name: &str, value: AttributeValue) -> String {
        let placeholder = format!(":{role}{}", attribute(slot, name));
        self.values.insert(placeholder.clone(), value);
        placeholder
    }

    fn is(&mut self, slot: usize, name: &str, value: AttributeValue) -> String {
        let (name, value) = (self.name(slot, name), self.value("seen", slot, name, value));
        format!("{name} = {value}")
    }

    /// What [`ReaderSlots::admits`] and [`ReaderSlots::after`] say.
    pub(super) fn of(seen: &ReaderSlots, claim: &SlotClaim) -> Self {
        let mut this = Self::default();
        let mut conditions = Vec::new();
        for slot in 0..READER_SLOTS {
            match &seen.0[slot] {
                None => conditions.push(format!("attribute_not_exists({})", this.name(slot, COUNTER))),
                Some(seen) => {
                    conditions.push(this.is(slot, APPLICATION, s(&seen.holder.application)));
                    conditions.push(this.is(slot, LEASE_TABLE, s(&seen.holder.lease_table)));
                    if slot == claim.slot {
                        conditions.push(this.is(slot, COUNTER, n(seen.counter.0)));
                    }
                }
            }
        }
        this.condition = conditions.join(" AND ");
        let after = seen.after(claim);
        let counter = after.0.get(claim.slot).and_then(Option::as_ref).map_or(0, |slot| slot.counter.0);
        let set = [
            (APPLICATION, s(&claim.holder.application)),
            (LEASE_TABLE, s(&claim.holder.lease_table)),
            (COUNTER, n(counter)),
            (LIFE, millis(claim.life)),
            (RENEWED_AT, millis(claim.renewed_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())),
        ];
        let set = set.map(|(name, value)| {
            let target = this.name(claim.slot, name);
            format!("{target} = {}", this.value("new", claim.slot, name, value))
        });
        this.update = format!("SET {}", set.join(", "));
        this
    }
}

pub(super) fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn n(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn millis(time: Duration) -> AttributeValue {
    AttributeValue::N(time.as_millis().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_slot_is_named_and_an_empty_item_has_none() {
        assert_eq!(slots_of(&Item::new()), Ok(ReaderSlots::default()));
        let item = Item::from([("reader1Counter".to_owned(), n(3))]);
        let error = slots_of(&item).expect_err("the rest is missing");
        assert!(error.to_string().contains("reader1Application"), "{error}");
    }
}
