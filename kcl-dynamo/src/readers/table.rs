//! The registry's calls.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::types::ReturnValue;
use kcl_core::{
    LeaseError, LeaseErrorKind, ReaderRegistry, ReaderSlots, RegistryError, RegistryErrorKind, SlotClaim, StreamArn,
};

use super::ReaderRegistryOptions;
use super::convert::{Expressions, Item, STREAM_ARN, s, slots_of};
use crate::lease::{Call, Layout, OpenError, Place, once, open_table};

/// A [`ReaderRegistry`] in DynamoDB. Every write is conditional and sent once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DynamoReaderRegistry {
    client: Client,
    place: Place,
}

impl DynamoReaderRegistry {
    /// Finds the registry's table, or creates it, and returns once it is active.
    ///
    /// # Errors
    /// See [`OpenError`].
    ///
    /// # Cancel safety
    /// Dropping it may leave a table that is being created; opening again finds it.
    pub async fn open(client: &Client, options: ReaderRegistryOptions) -> Result<Self, OpenError> {
        open_table(client, &options.of_table(), Layout::READERS).await?;
        Ok(Self::unopened(client, &options))
    }

    /// The registry that [`Self::open`] with the same arguments opens. Nothing is called.
    pub(crate) fn unopened(client: &Client, options: &ReaderRegistryOptions) -> Self {
        let options = options.of_table();
        Self { client: once(client, &options), place: Place::of(client, &options) }
    }

    fn read(&self, item: &Item, call: Call) -> Result<ReaderSlots, RegistryError> {
        slots_of(item).map_err(|why| {
            let what = format!("an item of table {} does not hold reader slots: {why}", self.place.table);
            RegistryError::new(RegistryErrorKind::Invalid { what }, call.operation).with_source(why)
        })
    }
}

/// The same failure, in the registry's words.
fn failed(error: LeaseError, call: Call) -> RegistryError {
    let kind = match error.kind() {
        LeaseErrorKind::Conflict { .. } => RegistryErrorKind::Conflict,
        LeaseErrorKind::Throttled => RegistryErrorKind::Throttled,
        LeaseErrorKind::Unavailable { outcome } => RegistryErrorKind::Unavailable { outcome: *outcome },
        LeaseErrorKind::Denied { action } => RegistryErrorKind::Denied { action },
        LeaseErrorKind::Invalid { what } => RegistryErrorKind::Invalid { what: what.clone() },
        _ => RegistryErrorKind::Invalid { what: error.to_string() },
    };
    RegistryError::new(kind, call.operation).with_source(error)
}

#[async_trait]
impl ReaderRegistry for DynamoReaderRegistry {
    async fn slots(&self, stream: &StreamArn) -> Result<ReaderSlots, RegistryError> {
        let call = Call::read("slots", "GetItem");
        let key = s(stream.as_str());
        let get = self.client.get_item().table_name(&self.place.table).key(STREAM_ARN, key).consistent_read(true);
        let got = get.send().await.map_err(|error| failed(call.classify(error, &self.place), call))?;
        got.item.map_or_else(|| Ok(ReaderSlots::default()), |item| self.read(&item, call))
    }

    async fn write(
        &self,
        stream: &StreamArn,
        seen: &ReaderSlots,
        claim: &SlotClaim,
    ) -> Result<ReaderSlots, RegistryError> {
        let call = Call::write("write", "UpdateItem");
        let with = Expressions::of(seen, claim);
        let update = self
            .client
            .update_item()
            .table_name(&self.place.table)
            .key(STREAM_ARN, s(stream.as_str()))
            .condition_expression(with.condition)
            .update_expression(with.update)
            .set_expression_attribute_names(Some(with.names))
            .set_expression_attribute_values(Some(with.values))
            .return_values(ReturnValue::AllNew);
        match update.send().await {
            Ok(done) => self.read(&done.attributes.unwrap_or_default(), call),
            Err(SdkError::ServiceError(answer)) if answer.err().is_conditional_check_failed_exception() => {
                Err(RegistryError::new(RegistryErrorKind::Conflict, call.operation))
            }
            Err(error) => Err(failed(call.classify(error, &self.place), call)),
        }
    }
}
