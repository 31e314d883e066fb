//! Keeps the bytes of a `GetRecords` answer away from the SDK, which would build a tree of maps out of every record.
//!
//! Measured against DynamoDB Local, the SDK spends two thirds of a consumer's time on that tree.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextMut;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use http_body::{Body, Frame};

/// Why a page that arrived cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PageDamage {
    #[error("the page is longer than {0} bytes: raise StreamOptions::max_page_bytes")]
    TooLong(usize),
    #[error("the page has not the checksum that came with it (x-amz-crc32)")]
    Checksum,
}

type Slot = Arc<Mutex<Result<Bytes, PageDamage>>>;

/// The page of one call: made before it, taken after it.
#[derive(Debug)]
pub(super) struct KeptPage {
    slot: Slot,
    limit: usize,
}

impl KeptPage {
    /// Keeps at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { slot: Arc::new(Mutex::new(Ok(Bytes::new()))), limit }
    }

    pub(super) fn interceptor(&self) -> KeepPage {
        KeepPage { slot: Arc::clone(&self.slot), limit: self.limit }
    }

    /// The bytes of the page. Empty when the call failed, or was answered with nothing.
    pub(super) fn take(self) -> Result<Bytes, PageDamage> {
        // Each write to the slot is one assignment, so a panic in between leaves nothing half done.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Swaps the body of a successful answer for one that keeps it. Errors pass untouched, so the SDK classifies them.
#[derive(Debug)]
pub(super) struct KeepPage {
    slot: Slot,
    limit: usize,
}

impl Intercept for KeepPage {
    fn name(&self) -> &'static str {
        "KeepPage"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        if response.status().as_u16() != 200 {
            return Ok(());
        }
        let headers = response.headers();
        let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0_usize);
        // A checksum that is no number matches no page.
        let checksum = headers.get("x-amz-crc32").map(|text| text.parse().ok());
        let inner = response.take_body();
        *response.body_mut() = SdkBody::from_body_1_x(KeepingBody {
            inner,
            kept: Vec::with_capacity(length.min(self.limit)),
            limit: self.limit,
            checksum,
            slot: Arc::clone(&self.slot),
            done: false,
        });
        Ok(())
    }
}

/// Reads `inner` to its end and then shows its own reader an empty document.
struct KeepingBody {
    inner: SdkBody,
    kept: Vec<u8>,
    limit: usize,
    checksum: Option<Option<u32>>,
    slot: Slot,
    done: bool,
}

impl KeepingBody {
    fn settle(&mut self, page: Result<Bytes, PageDamage>) {
        self.done = true;
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = page;
    }

    fn whole_page(&mut self) -> Result<Bytes, PageDamage> {
        let page = std::mem::take(&mut self.kept);
        match self.checksum {
            Some(sent) if sent != Some(crc32fast::hash(&page)) => Err(PageDamage::Checksum),
            Some(_) | None => Ok(Bytes::from(page)),
        }
    }
}

impl Body for KeepingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.done {
            return Poll::Ready(None);
        }
        loop {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers have no data.
                    let Ok(data) = frame.into_data() else { continue };
                    if self.kept.len() + data.len() > self.limit {
                        let damage = PageDamage::TooLong(self.limit);
                        self.settle(Err(damage));
                        return Poll::Ready(Some(Err(damage.into())));
                    }
                    self.kept.extend_from_slice(&data);
                }
                Some(Err(broken)) => {
                    self.done = true;
                    return Poll::Ready(Some(Err(broken)));
                }
                None => {
                    let page = self.whole_page();
                    self.settle(page);
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"{}")))));
                }
            }
        }
    }
}
