//! Faults on order: what a network, an overloaded service or an administrator does to calls.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::protocol::{Answer, Delivery, Operation, Refusal};

/// How many orders wait for one operation, at most.
const MOST: usize = 100;

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is not carried out, and answered with this error code of the service, such as `AccessDeniedException`.
    Error {
        /// The code.
        code: String,
    },
    /// It is carried out and answered after this time.
    Late(Duration),
    /// It is carried out and never answered.
    Silence,
    /// It is carried out, and the connection breaks within the answer.
    Broken,
    /// It is carried out, and the answer has not the checksum that comes with it.
    Checksum,
    /// It is carried out, and the answer is half of its text, with the right checksum for that.
    Garbage,
}

/// The faults that were ordered and have not happened yet.
#[derive(Debug, Default)]
pub(super) struct Orders(BTreeMap<Operation, VecDeque<(Fault, u32)>>);

impl Orders {
    /// Lets the next `times` calls of `operation` that have no order yet meet `fault`. False when too many wait already.
    pub(super) fn add(&mut self, operation: Operation, fault: Fault, times: u32) -> bool {
        let waiting = self.0.entry(operation).or_default();
        if times > 0 && waiting.len() < MOST {
            waiting.push_back((fault, times));
            return true;
        }
        times == 0
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault that this call meets.
    pub(super) fn take(&mut self, operation: Operation) -> Option<Fault> {
        let waiting = self.0.get_mut(&operation)?;
        let (fault, times) = waiting.front_mut()?;
        let fault = fault.clone();
        *times -= 1;
        if *times == 0 {
            waiting.pop_front();
        }
        Some(fault)
    }
}

impl Fault {
    /// The answer instead of carrying the call out.
    pub(super) fn instead(&self) -> Option<Refusal> {
        match self {
            Self::Error { code } => Some(Refusal::new(code.as_str(), "by order of the test")),
            Self::Late(_) | Self::Silence | Self::Broken | Self::Checksum | Self::Garbage => None,
        }
    }

    /// What becomes of the answer.
    pub(super) fn spoil(&self, answer: Answer) -> Answer {
        match self {
            Self::Error { .. } => answer,
            Self::Late(time) => Answer { delivery: Delivery::Late(*time), ..answer },
            Self::Silence => Answer { delivery: Delivery::Never, ..answer },
            Self::Broken => Answer { delivery: Delivery::Broken, ..answer },
            Self::Checksum => Answer { checksum: !answer.checksum, ..answer },
            Self::Garbage => {
                let body: Bytes = answer.body.slice(..answer.body.len() / 2);
                Answer { checksum: crc32fast::hash(&body), body, ..answer }
            }
        }
    }
}
