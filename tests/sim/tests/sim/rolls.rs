//! Shards that end at the same time.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kcl_core::SourceOp;
use kcl_core::wrap::CountingSource;
use sim::fleet::Setup;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn many_shards_that_end_at_once_share_one_listing_to_find_their_children() {
    const SHARDS: usize = 400;
    sim::run(1, |sim| async move {
        let counted: Arc<OnceLock<CountingSource>> = Arc::default();
        let given = counted.clone();
        let mut setup = Setup::new(SHARDS);
        setup.source = Arc::new(move |source| Arc::new(given.get_or_init(|| CountingSource::new(source)).clone()));
        let fleet = setup.build(&sim);
        let _a = fleet.join("a");
        fleet.write(4 * SHARDS, SHARDS);
        let _all = fleet.drained(60 * SECOND).await;
        let describes = || counted.get().expect("built").count(SourceOp::DescribeStream);
        let before = describes();
        fleet.service.roll_all(&fleet.stream).expect("a stream");
        fleet.write(4 * SHARDS, SHARDS);
        // One call a shard would take 50 s at 8 a second.
        let _all = fleet.drained(15 * SECOND).await;
        let asked = describes() - before;
        assert!(asked < 100, "{asked} calls for {SHARDS} shards");
    });
}
