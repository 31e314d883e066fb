//! What a write is in DynamoDB's expressions. Pure.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use kcl_core::{Change, Checkpoint, LeaseGuard, LeaseWrite};

use super::convert::{b, n, s, ss, to_millis};
use super::schema::*;

/// A condition and an update, with their names and values.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Expressions {
    pub(super) condition: String,
    pub(super) update: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
}

/// What happens to one attribute; a later decision replaces an earlier one.
enum Action {
    Set(AttributeValue),
    Remove,
    /// Adds one, from zero where there is none.
    Increment,
}

impl Expressions {
    fn value(&mut self, name: &'static str, value: AttributeValue) -> String {
        let placeholder = format!(":{name}");
        self.values.insert(placeholder.clone(), value);
        placeholder
    }

    fn name(&mut self, name: &'static str) -> String {
        let placeholder = format!("#{name}");
        self.names.insert(placeholder.clone(), name.to_owned());
        placeholder
    }

    /// The condition that a lease is still as `seen`.
    pub(super) fn guard(seen: &LeaseGuard) -> Self {
        let mut this = Self::default();
        let counter = this.name(LEASE_COUNTER);
        let owner = this.name(LEASE_OWNER);
        this.values.insert(":seenCounter".to_owned(), n(seen.counter.0));
        let owned = match &seen.owner {
            None => format!("attribute_not_exists({owner})"),
            Some(seen) => {
                this.values.insert(":seenOwner".to_owned(), s(seen.as_str()));
                format!("{owner} = :seenOwner")
            }
        };
        this.condition = format!("{counter} = :seenCounter AND {owned}");
        this
    }

    /// `write` on a lease that is still as `seen`: what `Lease::after` says, without having the lease.
    pub(super) fn write(seen: &LeaseGuard, write: &LeaseWrite) -> Self {
        let mut this = Self::guard(seen);
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        for (name, action) in actions(seen, write) {
            let target = this.name(name);
            match action {
                Action::Remove => remove.push(target),
                Action::Set(value) => {
                    let value = this.value(name, value);
                    set.push(format!("{target} = {value}"));
                }
                Action::Increment => {
                    this.values.insert(":zero".to_owned(), n(0));
                    this.values.insert(":one".to_owned(), n(1));
                    set.push(format!("{target} = if_not_exists({target}, :zero) + :one"));
                }
            }
        }
        this.update = format!("SET {}", set.join(", "));
        if !remove.is_empty() {
            this.update += &format!(" REMOVE {}", remove.join(", "));
        }
        this
    }
}

/// Follows `Lease::after` line by line.
fn actions(seen: &LeaseGuard, write: &LeaseWrite) -> BTreeMap<&'static str, Action> {
    let mut actions = BTreeMap::from([(LEASE_COUNTER, Action::Set(n(seen.counter.next().0)))]);
    match &write.owner {
        Change::Keep => {}
        Change::Clear => drop(actions.insert(LEASE_OWNER, Action::Remove)),
        Change::Set(owner) => {
            if seen.owner.as_ref().is_some_and(|seen| seen != owner) {
                actions.insert(OWNER_SWITCHES, Action::Increment);
            }
            actions.insert(LEASE_OWNER, Action::Set(s(owner.as_str())));
            for gone in [CHECKPOINT_OWNER, EVICTED, INTENDED_FOR] {
                actions.insert(gone, Action::Remove);
            }
        }
    }
    if let Some(checkpoint) = write.checkpoint {
        actions.extend(checkpointed(checkpoint));
    }
    match &write.pending {
        Change::Keep => {}
        Change::Clear => actions.extend(nothing_pending()),
        Change::Set(pending) => {
            let state = pending.state.as_ref().map_or(Action::Remove, |state| Action::Set(b(state)));
            actions.insert(PENDING, Action::Set(s(&pending.at.to_string())));
            actions.insert(PENDING_SUB_SEQUENCE, Action::Set(n(0)));
            actions.insert(PENDING_STATE, state);
        }
    }
    change(&mut actions, START_AT, &write.start_at, |at| n(to_millis(*at)));
    change(&mut actions, INTENDED_FOR, &write.intended_for, |owner| s(owner.as_str()));
    change(&mut actions, STOP_REASON, &write.stop, |reason| s(&reason.to_string()));
    match write.tip {
        Change::Keep => {}
        Change::Clear => actions.extend([TIP_AT, TIP_CHECKPOINT].map(|name| (name, Action::Remove))),
        Change::Set(tip) => {
            actions.insert(TIP_AT, Action::Set(n(to_millis(tip.at))));
            actions.insert(TIP_CHECKPOINT, Action::Set(s(&tip.checkpoint.to_string())));
        }
    }
    if let Some(load) = write.load {
        actions.insert(THROUGHPUT, Action::Set(n(load.into())));
    }
    if write.evict {
        actions.insert(EVICTED, Action::Set(AttributeValue::Bool(true)));
    }
    if let Some(children) = &write.children {
        actions.insert(CHILDREN, ss(children).map_or(Action::Remove, Action::Set));
    }
    if write.accept_loss {
        actions.insert(LOSS_ACCEPTED, Action::Set(AttributeValue::Bool(true)));
    }
    if write.strip {
        actions.extend(OUR_OWN.map(|name| (name, Action::Remove)));
    }
    actions
}

fn checkpointed(at: Checkpoint) -> impl Iterator<Item = (&'static str, Action)> {
    let set = [
        (CHECKPOINT, Action::Set(s(&at.to_string()))),
        (SUB_SEQUENCE, Action::Set(n(0))),
        (OWNER_SWITCHES, Action::Set(n(0))),
        (LOSS_ACCEPTED, Action::Remove),
    ];
    set.into_iter().chain(nothing_pending())
}

fn nothing_pending() -> impl Iterator<Item = (&'static str, Action)> {
    [PENDING, PENDING_SUB_SEQUENCE, PENDING_STATE].into_iter().map(|name| (name, Action::Remove))
}

fn change<T>(
    actions: &mut BTreeMap<&'static str, Action>,
    name: &'static str,
    change: &Change<T>,
    value: impl FnOnce(&T) -> AttributeValue,
) {
    match change {
        Change::Keep => {}
        Change::Clear => drop(actions.insert(name, Action::Remove)),
        Change::Set(to) => drop(actions.insert(name, Action::Set(value(to)))),
    }
}
