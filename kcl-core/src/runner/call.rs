//! One call of user code: bounded by the lease, by the configured deadline, and by its own panics.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use super::consumer::StreamSetting;
use super::deliver::Exit;
use super::holding::Holding;
use crate::contract::rt::panic_text;
use crate::contract::{LeaseLost, ProcessError};
use crate::planted::{self, Bug};

/// How a call of user code failed.
#[derive(Debug)]
pub(crate) enum CallFailure {
    /// It said so.
    Failed(ProcessError),
    /// The instance must be discarded: it panicked, or was dropped at its deadline.
    Broken(ProcessError),
    /// The lease was lost; the call was dropped.
    Lost,
}

impl CallFailure {
    /// The error, unless the lease was lost.
    pub(crate) fn into_error(self) -> Result<ProcessError, Exit> {
        match self {
            Self::Failed(error) | Self::Broken(error) => Ok(error),
            Self::Lost => Err(Exit::Lost),
        }
    }
}

/// How often in a lease duration the validity is looked at while a call runs.
const WATCHES: u32 = 40;

/// Runs `call` while the lease is valid.
pub(crate) async fn guarded<T>(
    holding: &Holding,
    setting: &StreamSetting,
    call: impl Future<Output = Result<T, ProcessError>> + Send,
) -> Result<T, CallFailure> {
    let may_go_on = || holding.is_valid() || planted::is(Bug::NoCheckBeforeDelivery);
    if !may_go_on() {
        return Err(CallFailure::Lost);
    }
    let mut call = std::pin::pin!(AssertUnwindSafe(call).catch_unwind());
    // Asked before every poll: a machine that was frozen or suspended may come to here before its keeper has noticed.
    let call = std::future::poll_fn(|cx| match may_go_on() {
        true => call.as_mut().poll(cx).map(Some),
        false => std::task::Poll::Ready(None),
    });
    let bounded = async {
        match setting.config.process_timeout {
            Some(limit) => setting.rt.timeout(limit, call).await,
            None => Some(call.await),
        }
    };
    // A machine that was suspended knows it by its wall clock alone, which wakes nobody.
    let watch = async {
        while may_go_on() {
            setting.rt.sleep(setting.config.lease_duration / WATCHES).await;
        }
    };
    let expired = || {
        holding.lose(LeaseLost::Expired);
        Err(CallFailure::Lost)
    };
    tokio::select! {
        biased;
        () = holding.lost().cancelled() => Err(CallFailure::Lost),
        // Before the watch, which needs a timer: most calls return at once.
        ended = bounded => match ended {
            Some(None) => expired(),
            Some(Some(Ok(Ok(value)))) => Ok(value),
            Some(Some(Ok(Err(error)))) => Err(CallFailure::Failed(error)),
            Some(Some(Err(panic))) => Err(CallFailure::Broken(ProcessError::msg(format!("the processor panicked: {}", panic_text(&*panic))))),
            None => Err(CallFailure::Broken(ProcessError::msg("the processor did not return within process_timeout"))),
        },
        () = watch => expired(),
    }
}

/// Runs the last call of an instance, whose outcome changes nothing any more, for at most one lease duration.
pub(crate) async fn last_word(setting: &StreamSetting, call: impl Future<Output = ()> + Send) {
    let limit = setting.config.lease_duration;
    match setting.rt.timeout(limit, AssertUnwindSafe(call).catch_unwind()).await {
        Some(Ok(())) => {}
        Some(Err(panic)) => tracing::warn!(panic = panic_text(&*panic), "lease_lost panicked"),
        None => tracing::warn!(?limit, "lease_lost did not return in time"),
    }
}
