//! What an SDK error means for the caller. By code and type, never by text.

use std::error::Error;
use std::fmt;
use std::io;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use kcl_core::{LeaseError, LeaseErrorKind, Outcome};

/// A call: which of our operations it serves, which permission it needs, and whether it may have changed something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) operation: &'static str,
    pub(crate) action: &'static str,
    pub(crate) writes: bool,
}

/// Which table, for messages that tell what to change.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) table: String,
    pub(crate) region: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.table, self.region)
    }
}

impl Call {
    pub(crate) fn read(operation: &'static str, action: &'static str) -> Self {
        Self { operation, action, writes: false }
    }

    pub(crate) fn write(operation: &'static str, action: &'static str) -> Self {
        Self { operation, action, writes: true }
    }

    pub(crate) fn error(self, kind: LeaseErrorKind) -> LeaseError {
        LeaseError::new(kind, self.operation)
    }

    pub(crate) fn invalid(self, what: impl Into<String>) -> LeaseError {
        self.error(LeaseErrorKind::Invalid { what: what.into() })
    }

    /// Everything but a refused condition, which the caller has looked at before.
    pub(crate) fn classify<E>(self, error: SdkError<E, HttpResponse>, place: &Place) -> LeaseError
    where
        E: Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let kind = match &error {
            SdkError::ConstructionFailure(_) => unavailable(Outcome::NotApplied),
            SdkError::DispatchFailure(failure) => {
                let user = failure.is_user();
                let unsent = user || failure.as_connector_error().is_some_and(|error| never_connected(error));
                unavailable(if unsent { Outcome::NotApplied } else { Outcome::Unknown })
            }
            SdkError::ServiceError(answer) => {
                let status = answer.raw().status().as_u16();
                self.by_code(answer.err().code().unwrap_or_default(), status, place)
            }
            // A time-out, an answer that cannot be read, or a kind of failure that is newer than this.
            _ => unavailable(Outcome::Unknown),
        };
        let kind = match kind {
            // A read changes nothing.
            LeaseErrorKind::Unavailable { .. } if !self.writes => unavailable(Outcome::NotApplied),
            kind => kind,
        };
        self.error(kind).with_source(error)
    }

    /// Source: the common errors of the DynamoDB API reference.
    fn by_code(self, code: &str, status: u16, place: &Place) -> LeaseErrorKind {
        match code {
            "ConditionalCheckFailedException" => LeaseErrorKind::Conflict { current: None },
            "ProvisionedThroughputExceededException"
            | "ThrottlingException"
            | "Throttling"
            | "RequestLimitExceeded"
            | "TransactionConflictException"
            | "TransactionInProgressException"
            | "ReplicatedWriteConflictException" => LeaseErrorKind::Throttled,
            code if is_denied(code) => LeaseErrorKind::Denied { action: self.action },
            "ResourceNotFoundException" => LeaseErrorKind::Invalid {
                what: format!(
                    "there is no table {} in {}: create it, or correct the name or the region",
                    place.table, place.region
                ),
            },
            // Fresh credentials may be on their way.
            "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => unavailable(Outcome::NotApplied),
            "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "IncompleteSignatureException"
            | "MissingAuthenticationTokenException" => LeaseErrorKind::Invalid {
                what: format!(
                    "the service does not accept the credentials ({code}): check them, the region and the clock"
                ),
            },
            // A refusal whose code is not known, or is not the service's own: an endpoint policy, a proxy.
            _ if matches!(status, 401 | 403) => LeaseErrorKind::Denied { action: self.action },
            _ if (400..500).contains(&status) && status != 408 && status != 429 => LeaseErrorKind::Invalid {
                what: format!("the service refused the request on table {} ({code})", place.table),
            },
            _ => unavailable(Outcome::Unknown),
        }
    }

    /// Why a transaction was cancelled, conditions apart: the gravest of its reasons' codes.
    pub(crate) fn cancelled<'a>(self, codes: impl Iterator<Item = &'a str>, place: &Place) -> LeaseErrorKind {
        let mut codes = codes.filter(|code| !matches!(*code, "None" | "ConditionalCheckFailed"));
        match codes.find(|code| !is_throttle(code)) {
            Some(code) if is_denied(code) => LeaseErrorKind::Denied { action: self.action },
            Some(code) => LeaseErrorKind::Invalid {
                what: format!("the service refused the transaction on table {} ({code})", place.table),
            },
            None => LeaseErrorKind::Throttled,
        }
    }
}

/// Whether a code says that a permission is missing.
///
/// Source: the common errors in the DynamoDB API reference.
pub(crate) fn is_denied(code: &str) -> bool {
    matches!(
        code,
        "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" | "NotAuthorized" | "OptInRequired"
    )
}

fn is_throttle(code: &str) -> bool {
    matches!(code, "TransactionConflict" | "ProvisionedThroughputExceeded" | "ThrottlingError")
}

fn unavailable(outcome: Outcome) -> LeaseErrorKind {
    LeaseErrorKind::Unavailable { outcome }
}

/// Whether the chain of causes holds a fault that only occurs before anything was sent.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::AddrNotAvailable
            )
        }) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_what_the_caller_does_next() {
        let place = Place { table: "T".to_owned(), region: "eu-west-1".to_owned() };
        let call = Call::write("write", "UpdateItem");
        let throttled = LeaseErrorKind::Throttled;
        for (code, status, kind) in [
            ("ProvisionedThroughputExceededException", 400, throttled.clone()),
            ("ThrottlingException", 400, throttled.clone()),
            ("TransactionConflictException", 400, throttled.clone()),
            ("AccessDeniedException", 400, LeaseErrorKind::Denied { action: "UpdateItem" }),
            ("NotAuthorized", 400, LeaseErrorKind::Denied { action: "UpdateItem" }),
            ("", 403, LeaseErrorKind::Denied { action: "UpdateItem" }),
            ("InternalServerError", 500, unavailable(Outcome::Unknown)),
            ("", 503, unavailable(Outcome::Unknown)),
        ] {
            assert_eq!(call.by_code(code, status, &place), kind, "{code}");
        }
        for (code, says) in [("ResourceNotFoundException", "T in eu-west-1"), ("ValidationException", "Validation")] {
            let LeaseErrorKind::Invalid { what } = call.by_code(code, 400, &place) else { panic!("{code}") };
            assert!(what.contains(says), "{what}");
        }
        let codes = ["None", "ConditionalCheckFailed", "TransactionConflict"];
        assert_eq!(call.cancelled(codes.into_iter(), &place), throttled);
        let denied = LeaseErrorKind::Denied { action: "UpdateItem" };
        assert_eq!(call.cancelled(["None", "AccessDenied"].into_iter(), &place), denied);
        let codes = ["TransactionConflict", "ValidationError"];
        assert!(matches!(call.cancelled(codes.into_iter(), &place), LeaseErrorKind::Invalid { .. }));
    }

    #[test]
    fn a_refused_connection_was_never_sent_and_a_broken_one_may_have_been() {
        for (kind, unsent) in [(io::ErrorKind::ConnectionRefused, true), (io::ErrorKind::ConnectionReset, false)] {
            let wrapped = LeaseError::new(LeaseErrorKind::Throttled, "write").with_source(io::Error::from(kind));
            assert_eq!(never_connected(&wrapped), unsent, "{kind:?}");
        }
    }
}
