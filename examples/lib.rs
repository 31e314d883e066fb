//! What the examples share.

use kcl_core::ShardId;

/// A shard's name, short enough to be told apart at a glance.
#[must_use]
pub fn short(shard: &ShardId) -> String {
    let tail = shard.as_str().rsplit('-').next().unwrap_or_default();
    format!("shard {}", tail.chars().take(4).collect::<String>())
}

/// The README's program compiles.
#[cfg(all(doctest, feature = "aws"))]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;

/// The tests of a consumer that the documents show compile and run.
#[cfg(all(doctest, feature = "wire"))]
#[doc = include_str!("../docs/testing-your-consumer.md")]
#[derive(Debug)]
pub struct TestingYourConsumer;
