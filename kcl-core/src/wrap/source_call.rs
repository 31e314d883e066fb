//! What the wrappers of a stream have in common: the forwarding.

/// Implements [`StreamSource`](crate::StreamSource) for a wrapper with a field `inner` and the methods
/// `async fn before(&self, SourceOp) -> Result<T, SourceError>`, which may refuse the call, and
/// `async fn after(&self, SourceOp, T) -> Result<(), SourceError>`, which may withhold its answer.
macro_rules! around_source {
    ($wrapper:ty) => {
        #[async_trait::async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl $crate::contract::StreamSource for $wrapper {
            async fn list_streams(
                &self,
                table: &$crate::model::TableName,
            ) -> Result<Vec<$crate::model::StreamSummary>, $crate::contract::SourceError> {
                let op = $crate::contract::SourceOp::ListStreams;
                let state = self.before(op).await?;
                let answer = self.inner.list_streams(table).await;
                self.after(op, state).await?;
                answer
            }

            async fn describe_stream(
                &self,
                stream: &$crate::model::StreamArn,
                page: &$crate::contract::DescribePage,
            ) -> Result<$crate::model::StreamDescription, $crate::contract::SourceError> {
                let op = $crate::contract::SourceOp::DescribeStream;
                let state = self.before(op).await?;
                let answer = self.inner.describe_stream(stream, page).await;
                self.after(op, state).await?;
                answer
            }

            async fn shard_iterator(
                &self,
                stream: &$crate::model::StreamArn,
                shard: &$crate::model::ShardId,
                position: $crate::model::IteratorPosition,
            ) -> Result<$crate::contract::ShardIterator, $crate::contract::SourceError> {
                let op = $crate::contract::SourceOp::GetShardIterator;
                let state = self.before(op).await?;
                let answer = self.inner.shard_iterator(stream, shard, position).await;
                self.after(op, state).await?;
                answer
            }

            async fn get_records(
                &self,
                iterator: &$crate::contract::ShardIterator,
                limit: usize,
            ) -> Result<$crate::contract::RecordsPage, $crate::contract::SourceError> {
                let op = $crate::contract::SourceOp::GetRecords;
                let state = self.before(op).await?;
                let answer = self.inner.get_records(iterator, limit).await;
                self.after(op, state).await?;
                answer
            }
        }
    };
}
