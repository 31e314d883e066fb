//! Beginning with streams, and going on from one that was switched off with the one that follows it.

use std::sync::Arc;

use super::super::subscription::Subscription;
use super::super::take::Scan;
use super::Fleet;
use crate::model::StreamArn;
use crate::policy::succession;
use crate::surface::event::EventKind;

impl Fleet {
    pub(super) fn begin(&mut self, stream: StreamArn, subscription: Arc<Subscription>) {
        if self.begun.insert(stream.clone()) {
            self.jobs.push(Box::pin(self.session.clone().begin(stream, subscription)));
        }
    }

    /// A stream is read to its end as far as this worker sees: its slot goes, and what follows it, if anything does, is begun with.
    pub(super) fn drained(&mut self, old: &StreamArn, subscription: &Subscription, successor: Option<StreamArn>) {
        // The answer may be older than a rewind.
        let leases = self.seen.leases().values().map(|seen| &*seen.item);
        if succession::is_to_read(old, leases) {
            return;
        }
        if successor.is_some() {
            self.session.readers.leave(old);
        }
        self.follow(old, subscription, successor);
    }

    /// Goes on from a stream that is read to its end with the one that follows it, if there is one.
    pub(super) fn follow(&mut self, old: &StreamArn, subscription: &Subscription, successor: Option<StreamArn>) {
        let Some(new) = successor.filter(|new| !self.begun.contains(new)) else { return };
        self.session.events.of(old).tell(EventKind::StreamReplaced { old: old.clone(), new: new.clone() });
        self.session.readers.leave(old);
        self.session.board.slot_left(old);
        self.begin(new, subscription.at_the_beginning());
    }

    /// Other workers may have seen the end of a stream before this one: it does not wait until it sees that itself. And an operator may
    /// have rewound a stream that was left before this worker came: it is read beside the one that follows it.
    pub(super) fn follow_others(&mut self, scan: &Scan) {
        let runs: Vec<_> =
            self.streams.iter().map(|(stream, run)| (stream.clone(), run.setting.subscription.clone())).collect();
        for (stream, subscription) in runs {
            // What follows was begun with long ago where this one was rewound since.
            if !succession::is_to_read(&stream, scan.leases.iter().map(|lease| &**lease)) {
                let announced = subscription.announced(&stream, scan.markers.iter()).cloned();
                self.follow(&stream, &subscription, announced);
            }
            for rewound in subscription.taken_back(&stream, &scan.leases) {
                self.begin(rewound, subscription.clone());
            }
        }
    }
}
