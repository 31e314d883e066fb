//! Errors, as the worker tells them.

use std::error::Error;

use crate::contract::{SourceError, SourceErrorKind};
use crate::model::ShardId;
use crate::surface::event::EventKind;

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

/// That a call to the stream is tried again: of `shard`, or of the stream as a whole. A permission that is missing is an event of its
/// own, because only an operator mends it.
pub(super) fn tried_again(shard: Option<ShardId>, error: &(dyn Error + 'static)) -> EventKind {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(SourceErrorKind::Denied { action }) = error.downcast_ref::<SourceError>().map(SourceError::kind) {
            return EventKind::AccessDenied { shard, action };
        }
        cause = error.source();
    }
    EventKind::SourceRetried { shard, error: describe(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_permission_is_told_by_its_action() {
        let denied = SourceError::new(SourceErrorKind::Denied { action: "GetRecords" }, "GetRecords");
        let told = tried_again(Some("shard".parse().expect("legal")), &denied);
        assert!(matches!(told, EventKind::AccessDenied { shard: Some(_), action: "GetRecords" }), "{told:?}");
        assert_eq!(told.to_string(), "reading shard is denied: grant dynamodb:GetRecords");
        let of_all = tried_again(None, &denied);
        assert_eq!(of_all.to_string(), "access to the stream is denied: grant dynamodb:GetRecords");
    }

    #[test]
    fn whatever_else_is_tried_again_is_told_with_its_causes() {
        let error = SourceError::new(SourceErrorKind::Unavailable, "GetRecords").with_source("no route");
        let EventKind::SourceRetried { shard: None, error } = tried_again(None, &error) else {
            panic!("not told as a call that is tried again")
        };
        assert!(error.ends_with("no route"), "{error}");
    }
}
