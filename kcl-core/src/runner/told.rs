//! Errors, as the worker tells them.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::contract::{
    LeaseError, LeaseErrorKind, Mono, RegistryError, RegistryErrorKind, Rt, SourceError, SourceErrorKind,
};
use crate::model::ShardId;
use crate::surface::event::{EventKind, Events, Resource};
use crate::surface::lock;

/// An error with its causes, in a line.
pub(crate) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// That a call is tried again: one to the stream, or what was made of such calls and of some to the lease table; about `shard`, or the
/// stream as a whole. A permission that is missing is an event of its own, because only an operator mends it.
pub(super) fn tried_again(shard: Option<ShardId>, error: &(dyn Error + 'static)) -> EventKind {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<SourceError>()
            && let SourceErrorKind::Denied { action } = error.kind()
        {
            return EventKind::AccessDenied { resource: Resource::Stream, shard, call: error.operation(), action };
        }
        if let Some(denied) = error.downcast_ref::<LeaseError>().and_then(|error| denied(error, shard.clone())) {
            return denied;
        }
        cause = error.source();
    }
    EventKind::SourceRetried { shard, error: describe(error) }
}

/// That a call to the lease table, about `shard` or about more than one, was refused for want of a permission, if it was.
pub(super) fn denied(error: &LeaseError, shard: Option<ShardId>) -> Option<EventKind> {
    let LeaseErrorKind::Denied { action } = error.kind() else { return None };
    Some(EventKind::AccessDenied { resource: Resource::LeaseTable, shard, call: error.operation(), action })
}

/// That a call to the reader registry was refused for want of a permission, if it was.
pub(super) fn denied_by_registry(error: &RegistryError) -> Option<EventKind> {
    let RegistryErrorKind::Denied { action } = error.kind() else { return None };
    let (resource, call) = (Resource::ReaderRegistry, error.operation());
    Some(EventKind::AccessDenied { resource, shard: None, call, action })
}

/// How often a call is told to be denied. One missing permission may refuse a thousand takes at once.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Tells which of the single calls to the lease table are denied. Clones share what was told.
#[derive(Debug, Clone)]
pub(crate) struct Denials {
    events: Events,
    rt: Rt,
    told: Arc<Mutex<BTreeMap<&'static str, Mono>>>,
}

impl Denials {
    pub(crate) fn new(events: Events, rt: Rt) -> Self {
        Self { events, rt, told: Arc::default() }
    }

    /// Whether a permission is missing; tells it, if that was not told lately.
    pub(crate) fn heed(&self, error: &LeaseError) -> bool {
        let Some(event) = denied(error, None) else { return false };
        let (now, mut told) = (self.rt.now(), lock(&self.told));
        if told.get(error.operation()).is_none_or(|before| now.since(*before) >= TELL_EVERY) {
            told.insert(error.operation(), now);
            self.events.tell(event);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{run, virtual_rt};

    #[test]
    fn a_denied_permission_is_told_by_its_call_and_its_action() {
        let shard: Option<ShardId> = Some("shard".parse().expect("legal"));
        let error = SourceError::new(SourceErrorKind::Denied { action: "GetRecords" }, "GetRecords");
        let told = tried_again(shard.clone(), &error);
        assert_eq!(told.to_string(), "GetRecords is denied for shard: grant dynamodb:GetRecords on the stream");
        let of_all = tried_again(None, &error);
        assert_eq!(of_all.to_string(), "GetRecords is denied: grant dynamodb:GetRecords on the stream");
        let error = LeaseError::new(LeaseErrorKind::Denied { action: "UpdateItem" }, "write");
        let told = denied(&error, shard).expect("denied");
        assert_eq!(told.to_string(), "write is denied for shard: grant dynamodb:UpdateItem on the lease table");
        let told = tried_again(None, &error);
        assert!(matches!(told, EventKind::AccessDenied { resource: Resource::LeaseTable, call: "write", .. }));
        let error = RegistryError::new(RegistryErrorKind::Denied { action: "GetItem" }, "slots");
        let told = denied_by_registry(&error).expect("denied");
        assert_eq!(told.to_string(), "slots is denied: grant dynamodb:GetItem on the reader registry");
    }

    #[test]
    fn whatever_else_is_tried_again_is_told_with_its_causes() {
        let error = SourceError::new(SourceErrorKind::Unavailable, "GetRecords").with_source("no route");
        let EventKind::SourceRetried { shard: None, error } = tried_again(None, &error) else {
            panic!("not told as a call that is tried again")
        };
        assert!(error.ends_with("no route"), "{error}");
        assert!(denied(&LeaseError::new(LeaseErrorKind::Throttled, "scan"), None).is_none());
        assert!(denied_by_registry(&RegistryError::new(RegistryErrorKind::Throttled, "slots")).is_none());
    }

    #[test]
    fn one_missing_permission_is_told_once_a_minute_for_each_call_that_it_refuses() {
        run(async {
            let rt = virtual_rt();
            let events = Events::new(rt.clone());
            let mut listener = events.source().listen();
            let denials = Denials::new(events, rt.clone());
            let refused = |call| LeaseError::new(LeaseErrorKind::Denied { action: "UpdateItem" }, call);
            for pause in [0, 59, 2] {
                rt.sleep(Duration::from_secs(pause)).await;
                for call in ["write", "write", "ring"] {
                    assert!(denials.heed(&refused(call)));
                }
            }
            assert!(!denials.heed(&LeaseError::new(LeaseErrorKind::Throttled, "scan")));
            drop(denials);
            let mut told = Vec::new();
            while let Some(event) = listener.next().await {
                let EventKind::AccessDenied { call, .. } = event.kind else { panic!("{:?}", event.kind) };
                told.push(call);
            }
            assert_eq!(told, ["write", "ring", "write", "ring"]);
        });
    }
}
